"""Public sets: a real server that breaks off, refuses and lies; published layouts in small; no network at all."""

from __future__ import annotations

import gzip
import hashlib
import io
import random
import struct
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command import handlens
from handlens.data import open_dataset
from handlens.data.check import audit
from handlens.data.download import DownloadError, download, has_digest
from handlens.data.public import SETS, PublicFile, get_set
from handlens.errors import InputError
from label_images import of_level
from served import Server


def md5(content: bytes) -> str:
    return f"md5:{hashlib.md5(content).hexdigest()}"


def idx(array: np.ndarray) -> bytes:
    header = struct.pack(">BBBB", 0, 0, 8, array.ndim) + b"".join(struct.pack(">I", size) for size in array.shape)
    return gzip.compress(
        header + array.astype(np.uint8).tobytes(), mtime=0
    )  # else names of tests change with the clock


@pytest.fixture(autouse=True)
def cache_of_its_own(tmp_path, monkeypatch):
    """What one test fetched is not found by the next."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache of its own"))


def mnist_files() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    files = {}
    for part, count in (("train", 40), ("t10k", 20)):
        files[f"{part}-images-idx3-ubyte.gz"] = idx(rng.integers(0, 256, (count, 28, 28)))
        files[f"{part}-labels-idx1-ubyte.gz"] = idx(np.arange(count) % 10)
    return files


def published(monkeypatch: pytest.MonkeyPatch, name: str, contents: dict[str, bytes], server: Server | None) -> None:
    """The catalogue's set with these small files in place of the published ones."""
    files = tuple(
        PublicFile(file.name, md5(contents[file.name]), (server.url(file.name),) if server else ())
        for file in SETS[name].files
    )
    monkeypatch.setitem(SETS, name, replace(SETS[name], files=files, installed=None))
    if server:
        server.files = dict(contents)


def on_disk(folder: Path, contents: dict[str, bytes]) -> Path:
    folder.mkdir()
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder


def packed(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def image(seed: int, kind: str = "JPEG", mask: bool = False) -> bytes:
    rng = np.random.default_rng(seed)
    values = rng.integers(1, 4, (48, 48)) if mask else rng.integers(0, 256, (48, 48, 3))
    buffer = io.BytesIO()
    Image.fromarray(values.astype(np.uint8)).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("name", SETS)
def test_nothing_is_fetched_that_cannot_be_verified(name):
    for file in SETS[name].files:
        assert (file.digest is not None) == bool(file.urls)
    assert SETS[name].by_hand or all(file.urls for file in SETS[name].files)


def test_the_addresses_are_torchvisions():
    from torchvision.datasets import MNIST, FashionMNIST, OxfordIIITPet
    from torchvision.datasets.voc import DATASET_YEAR_DICT

    for name, theirs in (("mnist", MNIST), ("fashion_mnist", FashionMNIST)):
        ours = [(file.name, file.digest, file.urls) for file in SETS[name].files]
        expected = [
            (file, f"md5:{digest}", tuple(mirror + file for mirror in theirs.mirrors))
            for file, digest in theirs.resources
        ]
        assert sorted(ours) == sorted(expected)
    pets = {(file.urls[0], file.digest) for file in SETS["oxford_pets"].files}
    assert pets == {(url, f"md5:{digest}") for url, digest in OxfordIIITPet._RESOURCES}
    (voc,) = SETS["voc2012"].files
    assert (voc.urls[0], voc.digest) == (DATASET_YEAR_DICT["2012"]["url"], f"md5:{DATASET_YEAR_DICT['2012']['md5']}")


def test_what_is_fetched_is_laid_out_and_kept(server, tmp_path, monkeypatch):
    contents = mnist_files()
    published(monkeypatch, "mnist", contents, server)
    seen: list[tuple[str, int, int | None]] = []
    made = get_set("mnist", tmp_path / "mnist", progress=lambda *step: seen.append(step))
    found = open_dataset(made)
    assert found.class_names == tuple("0123456789")
    assert {split: len(found.part(split)) for split in found.splits()} == {"train": 40, "test": 20}
    pixels = np.frombuffer(gzip.decompress(contents["t10k-images-idx3-ubyte.gz"]), np.uint8, offset=16)
    with Image.open(made / "test/3/00013.png") as image:
        np.testing.assert_array_equal(np.asarray(image).ravel(), pixels.reshape(20, -1)[13])
    assert {what for what, _, _ in seen} == {"unpacking", *(f"fetching {name}" for name in contents)}
    assert seen[-1] == ("unpacking", 60, 60)
    server.files = {}
    get_set("mnist", tmp_path / "again")  # from the cache
    assert len(server.asked) == 4
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_broken_line_goes_on_where_it_stopped(server, tmp_path):
    content = np.random.default_rng(0).bytes(3_000_000)
    server.files, server.breaks = {"a.bin": content}, {"a.bin": 2_000_000}
    target = tmp_path / "a.bin"
    with pytest.raises(DownloadError):
        download(server.url("a.bin"), target)
    assert not target.exists()
    have = (tmp_path / "a.bin.part").stat().st_size
    assert 0 < have <= 2_000_000
    steps: list[tuple[int, int | None]] = []
    download(server.url("a.bin"), target, progress=lambda *step: steps.append(step))
    assert target.read_bytes() == content
    assert server.asked[-1] == ("a.bin", f"bytes={have}-")
    assert steps[-1] == (len(content), len(content))
    assert not (tmp_path / "a.bin.part").exists()


def test_a_part_of_something_longer_is_thrown_away(server, tmp_path):
    server.files = {"a.bin": b"short"}
    (tmp_path / "a.bin.part").write_bytes(b"much longer than that")
    with pytest.raises(DownloadError, match="try again"):
        download(server.url("a.bin"), tmp_path / "a.bin")
    download(server.url("a.bin"), tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == b"short"


def test_another_file_than_the_published_one_is_refused(server, tmp_path, monkeypatch):
    published(monkeypatch, "mnist", mnist_files(), server)
    server.files["train-images-idx3-ubyte.gz"] = b"<html>please log in</html>"
    with pytest.raises(InputError, match="a different file than the published one"):
        get_set("mnist", tmp_path / "mnist")
    assert not (tmp_path / "mnist").exists()


def test_a_second_address_is_asked(server, tmp_path, monkeypatch):
    contents = mnist_files()
    published(monkeypatch, "mnist", contents, server)
    files = tuple(replace(file, urls=(server.url("gone"), *file.urls)) for file in SETS["mnist"].files)
    monkeypatch.setitem(SETS, "mnist", replace(SETS["mnist"], files=files))
    assert len(open_dataset(get_set("mnist", tmp_path / "mnist")).records) == 60


@pytest.mark.parametrize("offline", [True, False])
def test_without_a_network_it_says_what_to_do(tmp_path, monkeypatch, offline):
    monkeypatch.setenv("HANDLENS_OFFLINE", "1" if offline else "0")
    files = tuple(replace(file, urls=("http://127.0.0.1:9/" + file.name,)) for file in SETS["mnist"].files)
    monkeypatch.setitem(SETS, "mnist", replace(SETS["mnist"], files=files))
    reason = "HANDLENS_OFFLINE=1" if offline else "the server did not provide it"
    with pytest.raises(InputError, match=f"cannot be downloaded: .*{reason}.*--from"):
        get_set("mnist", tmp_path / "mnist")


def test_files_of_the_users_own_are_left_as_they_are(tmp_path, monkeypatch):
    contents = mnist_files()
    published(monkeypatch, "mnist", contents, None)
    folder = on_disk(tmp_path / "files", contents)
    plain = folder / "train-labels-idx1-ubyte.gz"
    (folder / "train-labels-idx1-ubyte").write_bytes(gzip.decompress(plain.read_bytes()))
    plain.unlink()
    said: list[str] = []
    made = get_set("mnist", tmp_path / "mnist", source=folder, say=said.append)
    assert len(open_dataset(made).records) == 60
    assert any("train-labels-idx1-ubyte does not match the published checksum" in text for text in said)
    assert sorted(path.name for path in folder.iterdir()) == sorted({*contents} - {plain.name} | {plain.stem})
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(InputError, match=r"has no t10k-labels-idx1-ubyte\.gz; mnist needs"):
        get_set("mnist", tmp_path / "other", source=folder)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("train-images-idx3-ubyte.gz", b"no", "is not in MNIST's form"),
        ("train-labels-idx1-ubyte.gz", idx(np.arange(39) % 10), "40 images, and labels that do not fit"),
        ("train-labels-idx1-ubyte.gz", idx(np.full(40, 10)), "labels that do not fit"),
        (
            "t10k-images-idx3-ubyte.gz",
            gzip.compress(gzip.decompress(idx(np.zeros((20, 28, 28))))[:-5], mtime=0),
            "is cut off",
        ),
    ],
)
def test_damaged_files_are_named_and_leave_nothing(tmp_path, file, content, message):
    folder = on_disk(tmp_path / "files", mnist_files() | {file: content})
    with pytest.raises(InputError, match=message):
        get_set("mnist", tmp_path / "mnist", source=folder)
    assert [path.name for path in tmp_path.iterdir()] == ["files"]


def test_cifar(tmp_path):
    rng = np.random.default_rng(0)
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    batches = {f"data_batch_{n}.bin": rng.integers(0, 256, (4, 3072)) for n in range(1, 6)}
    batches["test_batch.bin"] = rng.integers(0, 256, (4, 3072))
    members = {"batches.meta.txt": "\n".join(names).encode()} | {
        name: np.concatenate([np.arange(4)[:, None], values], axis=1).astype(np.uint8).tobytes()
        for name, values in batches.items()
    }
    archive = packed({f"cifar-10-batches-bin/{name}": content for name, content in members.items()})
    folder = on_disk(tmp_path / "files", {"cifar-10-binary.tar.gz": archive})
    made = get_set("cifar10", tmp_path / "cifar", source=folder / "cifar-10-binary.tar.gz")
    assert open_dataset(made).class_counts()["bird"] == 6
    with Image.open(made / "test/cat/00003.png") as image:  # stored as planes, red first
        expected = batches["test_batch.bin"][3].reshape(3, 32, 32).transpose(1, 2, 0)
        np.testing.assert_array_equal(np.asarray(image), expected)


def test_pets_are_split_as_the_published_example_splits_them(tmp_path, monkeypatch):
    monkeypatch.setattr("handlens.data.public.unpack.PETS_VALIDATION", 2)
    names = [f"{breed}_{number}" for breed in ("Abyssinian", "pug", "beagle") for number in (1, 2)]
    images = packed({f"images/{name}.jpg": image(place) for place, name in enumerate(names)})
    masks = packed(
        {f"annotations/trimaps/{name}.png": image(place, "PNG", mask=True) for place, name in enumerate(names)}
        | {f"annotations/trimaps/._{names[0]}.png": b"rubbish"}
    )
    folder = on_disk(tmp_path / "files", {"images.tar.gz": images, "annotations.tar.gz": masks})
    found = open_dataset(get_set("oxford_pets", tmp_path / "pets", source=folder))
    order = sorted(names)
    random.Random(1337).shuffle(order)
    assert {record.path.stem for record in found.part("validation")} == set(order[-2:])
    assert (found.task, found.class_names) == ("segment", ("pet", "background", "border"))
    assert not of_level(audit(found), "error")
    record = found.records[0]
    with Image.open(record.label) as stored:
        np.testing.assert_array_equal(found.kind.read(record.label, size=(48, 48)), np.asarray(stored) - 1)


def test_cats_and_dogs_are_taken_by_their_numbers(tmp_path, monkeypatch):
    splits = {"train": range(2), "validation": range(2, 3), "test": range(3, 5)}
    monkeypatch.setattr("handlens.data.public.unpack.CATS_DOGS_SPLITS", splits)
    members = {
        f"PetImages/{kind}/{n}.jpg": image(10 * n + place)
        for n in range(9)
        for place, kind in enumerate(("Cat", "Dog"))
    }
    folder = on_disk(tmp_path / "files", {"kagglecatsanddogs_5340.zip": zipped(members)})
    made = get_set("cats_vs_dogs", tmp_path / "pets", source=folder)
    found = open_dataset(made)
    assert found.class_names == ("cat", "dog")
    assert {split: len(found.part(split)) for split in found.splits()} == {"train": 4, "validation": 2, "test": 4}
    assert (made / "test/dog/4.jpg").read_bytes() == members["PetImages/Dog/4.jpg"]


def test_an_archive_of_ones_own_becomes_what_is_in_it(tmp_path):
    members = {f"seg_train/seg_train/{kind}/{n}.jpg": image(n) for kind in ("sea", "forest") for n in range(3)}
    folder = on_disk(tmp_path / "files", {"scenes.zip": zipped(members)})
    made = get_set("intel_scenes", tmp_path / "scenes", source=folder / "scenes.zip")
    assert open_dataset(made).class_names == ("forest", "sea")
    with pytest.raises(InputError, match="cannot be downloaded automatically: download the archive"):
        get_set("intel_scenes", tmp_path / "other")


def test_an_archive_that_leads_outside_writes_nothing_there(tmp_path):
    folder = on_disk(tmp_path / "files", {"a.tar": packed({"../../escaped.jpg": image(0)})})
    with pytest.raises(InputError, match="cannot be unpacked"):
        get_set("intel_scenes", tmp_path / "scenes", source=folder / "a.tar")
    assert not list(tmp_path.rglob("escaped.jpg"))
    assert not (tmp_path.parent / "escaped.jpg").exists()


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: data[:-9] + b"x" * 9])
@pytest.mark.parametrize("middle", [False, True])
def test_a_damaged_archive_is_named_and_leaves_nothing(tmp_path, damage, middle):
    data = bytearray(packed({f"seg_train/{name}/{n}.jpg": image(n) for n in range(20) for name in ("a", "b")}))
    if middle:
        data[len(data) // 2 : len(data) // 2 + 50] = b"x" * 50
    folder = on_disk(tmp_path / "files", {"a.tar.gz": damage(bytes(data))})
    with pytest.raises(InputError, match=r"a\.tar\.gz cannot be unpacked"):
        get_set("intel_scenes", tmp_path / "scenes", source=folder / "a.tar.gz")
    assert [path.name for path in tmp_path.iterdir()] == ["files"]


def test_a_link_in_an_archive_leads_nowhere(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        link = tarfile.TarInfo("seg_train")
        link.type, link.linkname = tarfile.SYMTYPE, str(outside)
        archive.addfile(link)
        entry = tarfile.TarInfo("seg_train/escaped.jpg")
        entry.size = len(image(0))
        archive.addfile(entry, io.BytesIO(image(0)))
    folder = on_disk(tmp_path / "files", {"a.tar": buffer.getvalue()})
    found = open_dataset(get_set("intel_scenes", tmp_path / "scenes", source=folder / "a.tar"))
    assert [record.path.name for record in found.records] == ["escaped.jpg"]
    assert not list(outside.iterdir())


def test_fashion_mnist_of_the_operating_system(tmp_path):
    installed = SETS["fashion_mnist"].installed
    if not installed.is_dir():
        pytest.skip("Debian's package dataset-fashion-mnist is not installed")
    found = open_dataset(get_set("fashion_mnist", tmp_path / "clothes"))
    assert {split: len(found.part(split)) for split in found.splits()} == {"train": 60_000, "test": 10_000}
    assert set(found.class_counts().values()) == {7_000}


def test_the_command(tmp_path):
    folder = on_disk(tmp_path / "files", mnist_files())
    done = handlens("data", "get", "mnist", tmp_path / "mnist", "--from", folder)
    assert done.stdout.strip() == str(tmp_path / "mnist")
    again = handlens("data", "get", "mnist", tmp_path / "mnist", "--from", folder, check=False)
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
    assert "is not empty; choose a new folder" in again.stderr
    wrong = handlens("data", "get", "minst", tmp_path / "x", check=False)
    assert "the closest match is 'mnist'" in wrong.stderr
    assert "fashion_mnist" in handlens("data", "list").stdout
    assert has_digest(folder / "t10k-labels-idx1-ubyte.gz", md5((folder / "t10k-labels-idx1-ubyte.gz").read_bytes()))

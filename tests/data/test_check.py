from __future__ import annotations

import io
import json
import os
import tempfile
import threading
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from handlens.data import check as check_module
from handlens.data import open_dataset
from handlens.data.check import audit
from handlens.data.findings import Audit, Finding
from handlens.data.record import Dataset, Record
from handlens.data.split import split_dataset
from label_images import of_level


def photograph(seed: int, *, size: tuple[int, int] = (60, 48)) -> Image.Image:
    """(width, height): random shapes at two scales, so that no two seeds look alike."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize(size)
    fine = Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).resize(size)
    return Image.blend(coarse, fine, 0.4)


def save(path: Path, seed: int, *, format: str | None = None, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    photograph(seed).save(path, format=format, **options)  # type: ignore[arg-type]
    return path


def bakery(root: Path, *, per_class: int = 12, classes: tuple[str, ...] = ("bun", "rye")) -> Path:
    for number, name in enumerate(classes):
        for i in range(per_class):
            save(root / name / f"{i:02}.png", 1000 * number + i)
    return root


def found(result: Audit) -> dict[str, Finding]:
    codes = [finding.code for finding in result.findings if finding.code != "layout"]
    assert len(codes) == len(set(codes))
    return {finding.code: finding for finding in result.findings}


def test_good_images_have_no_findings(tmp_path: Path) -> None:
    result = audit(open_dataset(bakery(tmp_path)))
    assert result.findings == ()
    assert result.class_counts == {"all": {"bun": 12, "rye": 12}}
    assert result.sizes is not None
    assert (result.sizes.most_common, result.sizes.most_common_count) == ((60, 48), 24)
    assert result.imbalance == 1.0
    assert result.usable() == result.dataset


def test_unreadable_files_are_named_with_their_reason(tmp_path: Path) -> None:
    root = bakery(tmp_path)
    (root / "bun" / "text.jpg").write_text("no image at all")
    (root / "bun" / "zero.png").write_bytes(b"")
    (root / "rye" / "gone.jpg").symlink_to(root / "nowhere")
    stream = io.BytesIO()
    photograph(77, size=(400, 300)).save(stream, "JPEG")
    (root / "rye" / "cut.jpg").write_bytes(stream.getvalue()[: stream.tell() // 2])
    result = audit(open_dataset(root))
    assert [id for id, _ in result.unreadable] == ["bun/text.jpg", "bun/zero.png", "rye/cut.jpg", "rye/gone.jpg"]
    assert all(reason.endswith(".") and Path(id).name in reason for id, reason in result.unreadable)
    assert found(result)["unreadable"].level == "warning"
    assert found(result)["unreadable"].files == tuple(id for id, _ in result.unreadable)
    assert len(result.usable().records) == 24
    assert result.class_counts == {"all": {"bun": 12, "rye": 12}}  # only what can be read counts
    assert "rye/gone.jpg" not in result.digests


def test_a_file_without_permission_is_unreadable() -> None:
    with tempfile.TemporaryDirectory() as name:  # another user may enter it, unlike pytest's
        root = bakery(Path(name))
        root.chmod(0o755)
        (root / "rye" / "00.png").chmod(0o000)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)  # root reads everything
        try:
            result = audit(open_dataset(root), workers=1)
        finally:
            os.seteuid(user)
    assert result.unreadable == (("rye/00.png", "00.png cannot be read: permission is denied."),)


def test_true_types_orientation_and_frames(tmp_path: Path) -> None:
    root = bakery(tmp_path)
    save(root / "bun" / "png.jpg", 50, format="PNG")
    save(root / "bun" / "gif.jpg", 51, format="GIF")
    save(root / "bun" / "right.JPEG", 52, format="JPEG")
    exif = Image.Exif()
    exif[0x0112] = 6
    for suffix in (".jpg", ".webp"):
        photograph(53 + len(suffix), size=(200, 100)).save(root / "rye" / f"turned{suffix}", exif=exif)
    photograph(60).save(root / "rye" / "moving.gif", save_all=True, append_images=[photograph(61), photograph(62)])
    result = audit(open_dataset(root))
    assert result.wrong_extension == (("bun/gif.jpg", "gif"), ("bun/png.jpg", "png"))
    assert result.rotated == ("rye/turned.jpg", "rye/turned.webp")
    assert result.animated == ("rye/moving.gif",)
    assert result.sizes is not None
    assert result.sizes.largest == (100, 200)  # upright
    assert {found(result)[code].level for code in ("wrong_extension", "rotated", "animated")} == {"note"}
    assert result.unreadable == ()


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    root = bakery(tmp_path)
    result = audit(open_dataset(root), max_pixels=60 * 48 - 1)
    assert len(result.unreadable) == 24
    assert [f.code for f in of_level(result, "error")] == ["nothing_readable"]


def test_the_same_photograph_in_train_and_test(tmp_path: Path) -> None:
    for part, start in (("train", 0), ("test", 5000)):
        for number, name in enumerate(("bun", "rye")):
            for i in range(12):
                save(tmp_path / part / name / f"{i:02}.png", start + 100 * number + i)
    save(tmp_path / "test" / "bun" / "bytes.png", 3)
    save(tmp_path / "test" / "rye" / "again.jpg", 104, quality=60)
    photograph(5).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "train" / "bun" / "mirror.png")
    result = audit(open_dataset(tmp_path))
    assert result.exact_duplicates == (("test/bun/bytes.png", "train/bun/03.png"),)
    assert result.across_splits == (
        ("test/bun/bytes.png", "train/bun/03.png"),
        ("test/rye/again.jpg", "train/rye/04.png"),
    )
    assert result.duplicates == (*result.across_splits, ("train/bun/05.png", "train/bun/mirror.png"))
    warning = found(result)["duplicates_across_splits"]
    assert (warning.level, len(warning.files)) == ("warning", 4)
    assert found(result)["duplicates"].files == ("train/bun/05.png", "train/bun/mirror.png")
    assert result.conflicting == ()
    split = split_dataset(result.usable(), together=result.duplicates)
    side = {r.id: r.split for r in split.records}
    assert side["train/bun/05.png"] == side["train/bun/mirror.png"]
    assert side["test/bun/bytes.png"] == "test"


def test_one_photograph_under_two_labels(tmp_path: Path) -> None:
    root = bakery(tmp_path)
    save(root / "rye" / "copy.jpg", 4, quality=70)  # the fifth bun
    result = audit(open_dataset(root))
    assert result.conflicting == (("bun/04.png", "rye/copy.jpg"),)
    assert found(result)["conflicting_labels"].level == "warning"


def test_nothing_readable_one_class_and_no_images(tmp_path: Path) -> None:
    one = audit(open_dataset(bakery(tmp_path / "one", classes=("bun",))))
    assert [f.code for f in of_level(one, "error")] == ["one_class"]
    (tmp_path / "bad" / "a").mkdir(parents=True)
    (tmp_path / "bad" / "a" / "1.jpg").write_text("x")
    bad = audit(open_dataset(tmp_path / "bad"))
    assert [f.code for f in of_level(bad, "error")] == ["nothing_readable"]
    assert bad.sizes is None
    empty = audit(Dataset(root=tmp_path, format="flat", class_names=(), records=()))
    assert [f.code for f in of_level(empty, "error")] == ["empty"]
    json.dumps([bad.to_dict(), empty.to_dict()])


def test_a_class_whose_images_are_all_broken_stops_training(tmp_path: Path) -> None:
    root = bakery(tmp_path, classes=("bun", "oat", "rye"))
    for file in (root / "oat").iterdir():
        file.write_bytes(b"")
    error = found(audit(open_dataset(root)))["class_without_images"]
    assert error.level == "error"
    assert "oat" in error.message


def test_few_one_and_unbalanced(tmp_path: Path) -> None:
    root = bakery(tmp_path, per_class=31)
    save(root / "oat" / "only.png", 9000)
    for i in range(9):
        save(root / "spelt" / f"{i}.png", 9100 + i)
    result = audit(open_dataset(root))
    assert result.imbalance == 31
    codes = found(result)
    assert "oat" in codes["single_image"].message
    assert "spelt 9" in codes["few_images"].message
    assert "bun" in codes["imbalance"].message
    assert {codes[c].level for c in ("single_image", "few_images", "imbalance")} == {"warning"}


def test_ten_to_one_is_still_balanced(tmp_path: Path) -> None:
    root = bakery(tmp_path, per_class=10)
    for i in range(90):
        save(root / "bun" / f"more{i}.png", 20_000 + i)
    result = audit(open_dataset(root))
    assert result.imbalance == 10
    assert not of_level(result, "warning")


def test_very_small_images(tmp_path: Path) -> None:
    root = bakery(tmp_path)
    photograph(99, size=(31, 100)).save(root / "bun" / "thin.png")
    photograph(98, size=(32, 32)).save(root / "bun" / "square.png")
    result = audit(open_dataset(root))
    assert result.small == ("bun/thin.png",)
    assert found(result)["small"].level == "note"


def test_one_image_and_no_labels(tmp_path: Path) -> None:
    save(tmp_path / "a.png", 1)
    result = audit(open_dataset(tmp_path))
    assert found(result)["no_labels"].level == "note"
    assert result.class_counts == {"all": {}}
    assert not of_level(result, "error")


def test_nothing_is_written_and_each_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = bakery(tmp_path)
    dataset = open_dataset(root)
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in sorted(root.rglob("*")) if p.is_file()}
    for folder in (root, root / "bun", root / "rye"):
        folder.chmod(0o555)
    read: list[Path] = []
    lock = threading.Lock()
    real = check_module.read_bytes

    def counted(path: Path, kind: Any) -> bytes:
        with lock:
            read.append(path)
        return real(path, kind)

    monkeypatch.setattr(check_module, "read_bytes", counted)
    audit(dataset)
    monkeypatch.undo()
    assert sorted(read) == sorted(r.path for r in dataset.records)
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in sorted(root.rglob("*")) if p.is_file()} == before


def test_progress_and_any_number_of_workers(tmp_path: Path) -> None:
    dataset = open_dataset(bakery(tmp_path))
    steps: list[tuple[int, int]] = []
    one = audit(dataset, workers=1, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(i, 24) for i in range(1, 25)]
    assert audit(dataset, workers=5) == one


def test_a_broken_progress_ends_the_audit(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    before = set(threading.enumerate())  # libraries that other tests import have threads of their own
    with pytest.raises(KeyboardInterrupt):
        audit(open_dataset(bakery(tmp_path)), progress=stop)
    assert set(threading.enumerate()) <= before


def test_few_files_are_read_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = open_dataset(bakery(tmp_path, per_class=40))
    looked: list[str] = []
    real = check_module._look

    def counted(record: Record, dataset: Dataset, *, max_pixels: int) -> check_module.Seen:
        looked.append(record.id)
        return real(record, dataset, max_pixels=max_pixels)

    monkeypatch.setattr(check_module, "_look", counted)
    ahead: list[int] = []
    audit(dataset, workers=2, progress=lambda done, total: ahead.append(len(looked) - done))
    assert len(looked) == 80
    assert max(ahead) <= 9


def test_the_fingerprint_is_of_content_labels_and_splits(tmp_path: Path) -> None:
    first = audit(open_dataset(bakery(tmp_path / "a"))).fingerprint()
    assert audit(open_dataset(bakery(tmp_path / "b"))).fingerprint() == first  # wherever it lies
    save(tmp_path / "b" / "rye" / "00.png", 4242)
    assert audit(open_dataset(tmp_path / "b")).fingerprint() != first
    (tmp_path / "a" / "rye").rename(tmp_path / "a" / "oat")
    assert audit(open_dataset(tmp_path / "a")).fingerprint() != first


def test_korean_names_with_spaces_in_both_forms(tmp_path: Path) -> None:
    marks = []
    for form in ("NFC", "NFD"):
        root = tmp_path / form
        bakery(root, classes=tuple(unicodedata.normalize(form, c) for c in ("식빵 한 조각", "호밀빵")))  # type: ignore[arg-type]
        result = audit(open_dataset(root))
        assert list(result.class_counts["all"]) == ["식빵 한 조각", "호밀빵"]
        assert not result.unreadable
        marks.append(result.fingerprint())
    assert marks[0] == marks[1]


def test_a_name_that_is_not_unicode(tmp_path: Path) -> None:
    root = bakery(tmp_path)
    save(root / "bun" / "x.png", 70).rename(Path(os.fsdecode(os.fsencode(root / "bun") + b"/\xff.png")))
    result = audit(open_dataset(root))
    assert len(result.digests) == 25
    json.dumps(result.to_dict())
    assert len(result.fingerprint()) == 64


def test_the_json_form_holds_all(tmp_path: Path) -> None:
    root = bakery(tmp_path)
    (root / "bun" / "zero.png").write_bytes(b"")
    value = json.loads(json.dumps(audit(open_dataset(root)).to_dict()))
    assert value["class_counts"] == {"all": {"bun": 12, "rye": 12}}
    assert value["unreadable"][0]["file"] == "bun/zero.png"
    assert value["sizes"]["median"] == [60, 48]
    assert {f["code"] for f in value["findings"]} == {"unreadable"}
    assert len(value["fingerprint"]) == 64


def test_a_symlink_loop_ends(tmp_path: Path) -> None:
    root = bakery(tmp_path)
    (root / "bun" / "up").symlink_to(root, target_is_directory=True)
    assert len(audit(open_dataset(root)).digests) == 24


def test_records_may_come_from_anywhere(tmp_path: Path) -> None:
    records = tuple(
        Record(path=save(tmp_path / f"{i}.png", i), id=f"x/{i}", label=i % 2, split="train") for i in range(4)
    )
    result = audit(Dataset(root=tmp_path, format="csv", class_names=("a", "b"), records=records))
    assert result.class_counts == {"train": {"a": 2, "b": 2}}
    assert list(result.digests) == ["x/0", "x/1", "x/2", "x/3"]


@pytest.mark.slow
def test_flowers(shared_data: Path) -> None:
    """Counted with our thresholds; the copies across the split were looked at by eye, as were all 30 groups."""
    result = audit(open_dataset(shared_data / "flowers"))
    assert result.unreadable == ()
    assert result.class_counts["test"] == {"daisy": 149, "dandelion": 204, "rose": 152, "sunflower": 139, "tulip": 170}
    assert ("test/tulip/2333321040_3960b9d67e_n.jpg", "train/tulip/2344751399_71620039f2_n.jpg") in result.across_splits
    assert 28 <= len(result.duplicates) <= 32
    assert result.conflicting == ()


def test_boxes_that_are_none_are_warned_of_by_kind(tmp_path: Path) -> None:
    (tmp_path / "Annotations").mkdir()
    for name, (left, top, right, bottom) in {"a": (3, 3, 9, 9), "b": (9, 3, 3, 9), "c": (4, 2, 4, 2)}.items():
        Image.new("RGB", (40, 30)).save(tmp_path / f"{name}.png")
        (tmp_path / "Annotations" / f"{name}.xml").write_text(
            f"<annotation><object><name>cell</name><bndbox><xmin>{left}</xmin><ymin>{top}</ymin><xmax>{right}</xmax>"
            f"<ymax>{bottom}</ymax></bndbox></object></annotation>"
        )
    result = audit(open_dataset(tmp_path))
    warned = {finding.code: finding.files for finding in of_level(result, "warning")}
    assert (warned["box_inverted"], warned["box_empty"]) == (("b.png",), ("c.png",))
    assert [len(record.label or ()) for record in result.usable().records] == [1, 0, 0]


def test_what_nobody_thought_of_is_the_finding_of_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = check_module.decode

    def failing(content: bytes, **options: Any) -> Any:
        if options["name"] == "01.png":
            raise KeyError("a decoder's own mistake")
        return real(content, **options)

    monkeypatch.setattr(check_module, "decode", failing)
    result = audit(open_dataset(bakery(tmp_path)))
    assert {id.rsplit("/", 1)[1] for id, _ in result.unreadable} == {"01.png"}
    assert "01.png: an unexpected KeyError" in result.unreadable[0][1]

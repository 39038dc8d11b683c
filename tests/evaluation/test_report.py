"""The page is parsed as HTML and searched: what must be there, and what must never be."""

from __future__ import annotations

import base64
import json
import re
import shutil
import unicodedata
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from fontTools.ttLib import TTFont
from PIL import Image

import handlens
from handlens.evaluation.contact_sheet import jpeg_bytes
from handlens.evaluation.metrics import classification_metrics
from handlens.evaluation.plots import confusion_plot, curves, reliability_plot
from handlens.evaluation.report import About, Example, Picture, data_uri, write_report
from handlens.figures import percent
from handlens.files import write_json
from handlens.preprocess import Preprocess
from handlens.reading.parsed import read_json
from handlens.tasks import classify
from handlens.tasks.classify.measure import most_confused, shown_beside
from handlens.tasks.classify.shown import Cell

TEMPLATE = Path(classify.__file__).with_name("report.html.jinja")

VOID = {"meta", "img", "br", "link", "hr", "input"}
HOSTILE = "<script>alert('x')</script>"
MISTAKES = [{"file": f"a/{HOSTILE}.jpg", "truth": HOSTILE, "predicted": "b", "confidence": 0.75}]


class Page(HTMLParser):
    """Collects elements and text; every element that opens must close, in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> without a start"
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.texts))


def parts(names: list[str]) -> dict:
    """Arguments of a full report on 40 images of which 36 are named right."""
    classes = len(names)
    labels = np.arange(40) % classes
    answers = labels.copy()
    answers[:4] = (answers[:4] + 1) % classes
    probabilities = np.full((40, classes), 0.1 / (classes - 1), dtype=np.float32)
    probabilities[np.arange(40), answers] = 0.9
    metrics = classification_metrics(probabilities, labels, names)
    rows = [{"epoch": i, "validation_loss": 1 / (i + 1), "validation_top1": 0.9} for i in range(3)]
    small = Picture(jpeg_bytes(np.zeros((20, 30, 3), dtype=np.uint8)), f"the image {names[0]}, as a test has it")
    return {
        "title": "flowers",
        "model": {
            "task": "classify",
            "architecture": {"name": "mobilenet_v2", "arguments": {"num_classes": classes, "width": 0.35}},
            "preprocess": Preprocess(short_side=256).to_dict(),
            "recipe": {"mode": "head", "epochs": None},
            "validation": {"top1": 0.9, "count": 50, "how": "5-fold cross-validation"},
            "class_names": list(names),
            "data": {"root": "/home/someone/photos", "unreadable": 2, "counts": {"train": dict.fromkeys(names, 17)}},
            "machine": {"threads": 2, "versions": {"numpy": "2.0"}},
        },
        "metrics": metrics,
        "images": {
            "curves": curves(rows),
            "confusion": confusion_plot(metrics["confusion"], names),
            "reliability": reliability_plot(metrics["calibration"]["bins"]),
        },
        "examples": {"wrong": [Example("a.jpg", (names[0], "is b"), (small, small), True)], "right": []},
        "about": about(names),
    }


def about(names: list[str]) -> About:
    return About(
        dataset={"root": "/home/someone/photos", "split": "test", "images": 40},
        findings=[{"level": "warning", "message": "3 images are twice here."}],
        provenance=[f"It was trained on {names[0]}."],
        cost=[("Parameters", "2,230,277", names[0])],
        commands=[f"handlens train {names[0]}"],
        intervals={
            "value": "90.0 %",
            "interval": "80.0 % to 97.5 %",
            "draws": 2000,
            "of_class": "recall",
            "rows": [{"class": name, "value": "90.0 %", "interval": "70.0 % to 100.0 %"} for name in names],
        },
        exports=[
            {
                "file": "flowers.onnx",
                "task": "classify",
                "passed": False,
                "tolerance": 1e-4,
                "rows": [
                    {
                        "engine": "onnxruntime 1.20",
                        "precision": "fp32",
                        "pixels": "OpenCV",
                        "images": 40,
                        "equal": 0.975,
                        "largest_difference": 0.25,
                        "mean_difference": 0.02,
                        "excused": [],
                        "differing": ["a.jpg"],
                        "score": None,
                        "reference_score": 0.9,
                        "score_interval": [-0.02, 0.01],
                        "passed": False,
                        "size_mb": 8.87,
                        "latency_ms": 4.2,
                        "peak_mb": 90.0,
                    }
                ],
                "resizers": [{"pixels": "OpenCV", "changed": 0.1, "score": 0.8}],
                "max_drop": None,
                "delegation": {"to": "XNNPACK", "operators": 73, "delegated": 72, "left": {"CAST": 1}},
                "tried": [],
                "kernels": [{"name": "reference kernels", "images": 48, "changed": 0.05, "passed": True, "most": 0.18}],
            }
        ],
        notes=["There is no validation split."],
        words={
            "counted": "Images",
            "total": "all",
            "compared": "labels",
            "differs": "probabilities",
            "tolerated": "Probabilities",
            "metric": "right",
        },
    )


def page(path, **changes) -> tuple[Page, str]:
    cells = [Cell(0, 1, 5, changes["examples"]["wrong"])]
    more = shown_beside(changes["model"], changes["metrics"], mistakes=MISTAKES, cells=cells, before=None)
    write_report(path, template=TEMPLATE, more=more, **changes)
    text = path.read_text(encoding="utf-8")
    return Page(text), text


def test_the_page_says_what_must_be_said(tmp_path):
    shown, _ = page(tmp_path / "report.html", **parts(["장미", "튤립", "daisy"]))
    for words in (
        "90.0 % accuracy",
        "36 of 40",
        "76.9 % to 96.0 %",
        "Always predicting the most frequent class, “장미”, would reach 35.0 %",
        "장미 predicted as 튤립: 2 images",
        "mobilenet_v2",
        "resized to 256 pixels",
        "0.485, 0.456, 0.406",
        "90.0 % accuracy on 50 images (5-fold cross-validation), 95 % interval 78.6 % to 95.7 %",
        "3 images are twice here.",
        "2 unreadable files were left out",
        "Differs from PyTorch",
        "2.5e-01",
        "97.50 %",
        "There is no validation split.",
        "photos, its test split",
        "95 % interval 80.0 % to 97.5 %: percentiles of 2,000 bootstrap samples of the 40 images",
        "It was trained on 장미.",
        "2,230,277",
        "handlens train 장미",
        "장미 predicted as 튤립: 5 images",
        "4 more are not shown.",
    ):
        assert words in shown.text, words
    assert "/home/someone" not in shown.text


def test_the_page_is_complete_in_itself(tmp_path):
    shown, text = page(tmp_path / "report.html", **parts(["a", "b"]))
    assert "http" not in text.replace("http-equiv", "")
    assert not {tag for tag, _ in shown.elements} & {"script", "link", "iframe", "object", "form", "base"}
    assert "url(" not in text
    assert "@import" not in text
    policy = next(meta["content"] for meta in shown.all("meta") if meta.get("http-equiv"))
    assert "default-src 'none'" in policy
    images = shown.all("img")
    assert len(images) == 2 + 2 * 2  # curves and reliability; an example with two pictures, twice
    for image in images:
        head, encoded = image["src"].split(",", 1)
        Image.open(BytesIO(base64.b64decode(encoded))).load()
        assert head in ("data:image/png;base64", "data:image/jpeg;base64")


def test_the_page_can_be_read_without_eyes_on_a_phone_and_at_night(tmp_path):
    shown, text = page(tmp_path / "report.html", **parts(["a", "b", "c"]))
    assert shown.all("html") == [{"lang": "en"}]
    assert all(len(image["alt"]) > 20 for image in shown.all("img"))
    assert len(shown.all("table")) == len(shown.all("caption")) == 8
    assert all(header.get("scope") in ("col", "row") for header in shown.all("th"))
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in shown.all("meta")
    assert "prefers-color-scheme: dark" in text
    assert [tag for tag, _ in shown.elements if tag in ("h1", "h2", "h3")][:2] == ["h1", "h2"]
    assert len(shown.all("h1")) == 1


def test_wrong_images_stand_in_a_table_by_their_names(tmp_path):
    shown, text = page(tmp_path / "report.html", **parts(["a", "b", "c"]))
    assert f"a/{HOSTILE}.jpg" in shown.texts
    assert "75.0 %" in shown.texts
    assert "<script" not in text


def test_a_page_with_hangul_carries_the_letters_it_needs(tmp_path):
    changes = parts(["장미", "튤립"])
    changes["about"] = replace(changes["about"], notes=[unicodedata.normalize("NFD", "해바라기")])
    _, text = page(tmp_path / "report.html", **changes)
    addresses = re.findall(r"url\((.*?)\)", text)
    assert len(addresses) == 1
    head, encoded = addresses[0].split(",", 1)
    assert head == "data:font/woff;base64"
    with TTFont(BytesIO(base64.b64decode(encoded))) as font:
        assert set(map(ord, "장미튤립해바라기")) <= set(font.getBestCmap())
    assert len(encoded) < 30_000


def test_text_of_the_user_is_escaped_everywhere(tmp_path):
    changes = parts([HOSTILE, '" onload="alert(1)', "b"])
    changes["title"] = HOSTILE
    changes["about"] = replace(
        changes["about"],
        findings=[{"level": HOSTILE, "message": HOSTILE}],
        notes=[HOSTILE],
        dataset=changes["about"].dataset | {"root": HOSTILE},
    )
    changes["model"]["architecture"] = {"name": HOSTILE, "arguments": {HOSTILE: HOSTILE}}
    changes["model"]["data"]["counts"] = {HOSTILE: {HOSTILE: 3}}
    changes["model"]["class_names"] = [HOSTILE]
    changes["model"]["recipe"] = {HOSTILE: HOSTILE}
    changes["about"].exports[0]["rows"][0]["pixels"] = HOSTILE
    changes["about"].exports[0]["file"] = HOSTILE
    shown, text = page(tmp_path / "report.html", **changes)
    assert "<script" not in text
    assert not shown.all("script")
    assert not any(name.startswith("on") for _, attributes in shown.elements for name in attributes)
    assert shown.text.count(HOSTILE) > 10  # and it is shown as it is


def test_a_bare_report_of_a_pretrained_net(tmp_path):
    changes = parts([f"class {i}" for i in range(50)])
    changes["model"] = {
        "task": "classify",
        "architecture": {"name": "mobilenet_v2", "arguments": {}},
        "preprocess": Preprocess(resize="stretch").to_dict(),
        "pretrained": {"sha256": "0", "license": "BSD-3-Clause"},
    }
    changes |= {"images": {"curves": None, "confusion": b"", "reliability": None}}
    changes["about"] = About(dataset={"root": "photos", "split": "all", "images": 40})
    changes["examples"] = {"wrong": [], "right": []}
    shown, _ = page(tmp_path / "report.html", **changes)
    assert not shown.all("img")
    assert "BSD-3-Clause" in shown.text
    assert "Top-5 accuracy" in shown.text
    assert "not defined: a class without images" in shown.text  # ten classes have no image here
    assert len(shown.all("table")) == 1  # 50 columns of confusion are no table


def test_the_old_page_stays_when_the_new_one_fails(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old", encoding="utf-8")
    changes = parts(["a", "b"])
    changes["images"]["reliability"] = b"GIF89a"
    with pytest.raises(ValueError, match="GIF89a"):
        page(path, **changes)
    assert path.read_text(encoding="utf-8") == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_shares_are_of_the_true_class():
    per_class = [{"class": name, "count": count} for name, count in (("a", 10), ("b", 4), ("c", 0))]
    pair = {"truth": "b", "predicted": "a", "count": 3}
    assert most_confused({"per_class": per_class, "confused": [pair]}) == [pair | {"share": 0.75, "place": (1, 0)}]


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0.9164, "91.6 %"), (1, "100.0 %"), (0, "0.0 %"), (None, "–"), (0.99999, "99.9 %"), (0.00001, "0.1 %")],
)
def test_percent_never_rounds_to_certainty(share, shown):
    assert percent(share) == shown


def test_only_png_and_jpeg_go_into_the_page():
    with pytest.raises(ValueError, match="PNG or JPEG"):
        data_uri(b"<svg onload=alert(1)>")


def test_reports_of_exports_that_cannot_be_shown_are_named(exported_run: Path, tmp_path: Path):
    run = shutil.copytree(exported_run, tmp_path / "run")
    whole = read_json(run / "exports" / "run.xml.parity.json")
    row = {key: value for key, value in whole["rows"][0].items() if key != "peak_mb"}
    for name, value in {"earlier": whole | {"rows": [row]}, "bare": {"passed": True}, "list": []}.items():
        write_json(run / "exports" / f"{name}.parity.json", value)
    (run / "exports" / "cut.parity.json").write_text(json.dumps(whole)[:50], encoding="utf-8")
    page = Path(handlens.evaluate(run)["report"]).read_text(encoding="utf-8")
    for name in ("earlier", "bare", "list", "cut"):
        assert f"{name}.parity.json is damaged or of an earlier version" in page
    assert "Export: run.xml" in page and "run.xml.parity.json is" not in page


def test_headings_are_an_index_and_cells_are_found(tmp_path):
    shown, _ = page(tmp_path / "report.html", **parts(["a", "b", "c"]))
    ids = [attributes["id"] for _, attributes in shown.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    links = [link["href"] for link in shown.all("a")]
    headings = [attributes["id"] for tag, attributes in shown.elements if tag == "h2"]
    assert links[: len(headings)] == [f"#{place}" for place in headings]
    assert "#cell-0-1" in links and "cell-0-1" in ids

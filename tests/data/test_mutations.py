"""Images and labels with bytes changed at random are read or refused, nothing else; benchmarks/fuzz.py does more."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path

import pytest

from attack.make import coco_content, photo, voc_object, voc_xml
from attack.mutate import image_seeds, mutations
from handlens.data import open_dataset
from handlens.data.decode import UnreadableImageError, decode, probe
from handlens.errors import InputError

IMAGES, LABELS = 2000, 300


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of metadata
def test_mutated_images_are_decoded_or_refused(heic_rotated: bytes, heic_alpha: bytes) -> None:
    seeds = image_seeds(heic_rotated, heic_alpha)
    outcomes: Counter[str] = Counter()
    for number, content in mutations(list(seeds.values()), IMAGES):
        begin = time.process_time()
        for read in (decode, lambda content: probe(content, "image")):
            try:
                read(content)
                outcomes["read"] += 1
            except UnreadableImageError as error:
                assert "\n" not in str(error), number
                outcomes["refused"] += 1
        assert time.process_time() - begin < 5, number
    assert min(outcomes["read"], outcomes["refused"]) > IMAGES / 10  # else they would test nothing


LABEL_SEEDS = {
    "annotations.json": json.dumps(coco_content()).encode(),
    "good0.xml": voc_xml(voc_object("a"), voc_object("b", 1, 1, 9, 9)).encode(),
    "good0.txt": b"0 0.5 0.5 0.25 0.25\n1 0.1 0.1 0.1 0.1\n",
    "labels.csv": b"file,label\ngood0.png,a\ngood1.png,b\n",
    "boxes.csv": b"filename,class,xmin,ymin,xmax,ymax\ngood0.png,a,1,2,30,30\ngood1.png,b,3,4,20,20\n",
    "handlens.yaml": b"format: flat\nignore: ['old/*']\nclass_names: {a: b}\ngroups: '(?P<group>g)'\n",
    "data.yaml": b"names: [a, b]\ntrain: images\npath: .\n",
}


@pytest.mark.parametrize("name", LABEL_SEEDS)
def test_mutated_labels_are_read_or_refused(name: str, tmp_path: Path) -> None:
    for number in range(2):
        photo(number).save(tmp_path / f"good{number}.png")
    if name == "data.yaml":
        (tmp_path / "good0.txt").write_bytes(LABEL_SEEDS["good0.txt"])
    outcomes: Counter[str] = Counter()
    for number, content in mutations([LABEL_SEEDS[name]], LABELS):
        (tmp_path / name).write_bytes(content)
        try:
            open_dataset(tmp_path)
            outcomes["read"] += 1
        except InputError as error:
            assert len(str(error)) < 5000, number
            outcomes["refused"] += 1
    assert outcomes["read"]

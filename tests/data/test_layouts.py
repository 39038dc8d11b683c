"""Public data sets and tools' exports as they are, rebuilt in small: read right, or refused with what to do."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attack.make import photo, voc_object, voc_xml
from handlens.data import open_dataset
from handlens.data.record import Dataset
from handlens.errors import InputError


def images(folder: Path, *names: str) -> None:
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        photo(number).save(path)


def text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def mask(path: Path, values: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(values, dtype=np.uint8)).resize((48, 40), Image.Resampling.NEAREST).save(path)


def corners_of(dataset: Dataset, id: str) -> list[tuple[str, float, float, float, float]]:
    record = next(record for record in dataset.records if record.id == id)
    return [(dataset.class_names[b.label], b.left, b.top, b.right, b.bottom) for b in record.label]


def refusal(folder: Path, **options: object) -> str:
    with pytest.raises(InputError) as caught:
        open_dataset(folder, **options)  # type: ignore[arg-type]
    return str(caught.value)


def test_tensorflow_tables_per_split_beside_a_folder_of_images(tmp_path: Path) -> None:
    images(tmp_path / "images", "a.png", "b.png", "c.png", "left.png")
    head = "filename,width,height,class,xmin,ymin,xmax,ymax\n"
    text(tmp_path / "data" / "train_labels.csv", f"{head}a.png,48,40,raccoon,1,2,20,30\na.png,48,40,fox,5,5,9,9\n")
    text(tmp_path / "data" / "test_labels.csv", f"{head}b.png,48,40,raccoon,3,4,10,11\nc.png,48,40,raccoon,3,4,9,9\n")
    dataset = open_dataset(tmp_path)
    assert (dataset.format, dataset.task, dataset.class_names) == ("boxes-csv", "detect", ("fox", "raccoon"))
    assert corners_of(dataset, "images/a.png") == [("raccoon", 1, 2, 20, 30), ("fox", 5, 5, 9, 9)]
    assert {record.id: record.split for record in dataset.records} == {
        "images/a.png": "train",
        "images/b.png": "test",
        "images/c.png": "test",
    }
    [left] = [remark for remark in dataset.remarks if remark.code == "without_row"]
    assert left.files == ("images/left.png",)
    assert dataset.summary() == ("detect from boxes-csv: 3 images (train 1, test 2), 2 classes; 1 file left out")


def test_kaggle_boxes_in_one_cell_and_ids_without_extension(tmp_path: Path) -> None:
    images(tmp_path / "train", "b6ab77fd7.jpg", "b53afdf5c.jpg")
    text(
        tmp_path / "train.csv",
        "image_id,width,height,bbox,source\n"
        'b6ab77fd7,48,40,"[4.0, 2.0, 16.0, 6.0]",usask_1\nb6ab77fd7,48,40,"[6.0, 8.0, 10.0, 10.0]",usask_1\n'
        'b53afdf5c,48,40,"[1.0, 1.0, 2.0, 2.0]",usask_1\n',
    )
    dataset = open_dataset(tmp_path)
    assert dataset.format == "boxes-csv"
    assert corners_of(dataset, "train/b6ab77fd7.jpg") == [("object", 4, 2, 20, 8), ("object", 6, 8, 16, 18)]


def test_open_images_in_fractions(tmp_path: Path) -> None:
    images(tmp_path / "images", "000a.jpg", "000b.jpg")
    text(
        tmp_path / "train-annotations-bbox.csv",
        "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded\n"
        "000a,xclick,/m/01g317,1,0.25,0.5,0.1,0.9,0\n000b,xclick,/m/0199g,1,0,1,0,0.5,0\n",
    )
    dataset = open_dataset(tmp_path)
    assert dataset.class_names == ("/m/0199g", "/m/01g317")
    assert corners_of(dataset, "images/000a.jpg") == [("/m/01g317", 12, 4, 24, 36)]


def test_retinanet_without_header_and_with_an_empty_image(tmp_path: Path) -> None:
    images(tmp_path, "img/a.jpg", "img/b.jpg")
    text(tmp_path / "annotations.csv", "img/a.jpg,1,2,30,32,cow\nimg/a.jpg,3,4,10,12,dog\nimg/b.jpg,,,,,\n")
    dataset = open_dataset(tmp_path)
    assert dataset.format == "boxes-csv"
    assert corners_of(dataset, "img/a.jpg") == [("cow", 1, 2, 30, 32), ("dog", 3, 4, 10, 12)]
    assert corners_of(dataset, "img/b.jpg") == []


def test_roboflow_for_tensorflow(tmp_path: Path) -> None:
    """The same name in two splits is two images."""
    for part in ("train", "valid"):
        images(tmp_path / part, "a.jpg", "b.jpg")
        text(
            tmp_path / part / "_annotations.csv",
            "filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,48,40,x,1,1,9,9\nb.jpg,48,40,y,1,1,9,9\n",
        )
    dataset = open_dataset(tmp_path)
    assert {record.id: record.split for record in dataset.records} == {
        "train/a.jpg": "train",
        "train/b.jpg": "train",
        "valid/a.jpg": "validation",
        "valid/b.jpg": "validation",
    }


def test_roboflow_for_coco_and_yolo(tmp_path: Path) -> None:
    for part in ("train", "test"):
        images(tmp_path / "coco" / part, f"{part}.jpg")
        content = {
            "images": [{"id": 0, "file_name": f"{part}.jpg", "width": 48, "height": 40}],
            "annotations": [{"id": 0, "image_id": 0, "category_id": 1, "bbox": [1, 2, 3, 4]}],
            "categories": [{"id": 0, "name": "things"}, {"id": 1, "name": "thing"}],
        }
        text(tmp_path / "coco" / part / "_annotations.coco.json", json.dumps(content))
        images(tmp_path / "yolo" / part / "images", f"{part}.jpg")
        text(tmp_path / "yolo" / part / "labels" / f"{part}.txt", "0 0.5 0.5 0.5 0.5\n")
    text(tmp_path / "yolo" / "data.yaml", "train: ../train/images\ntest: ../test/images\nnc: 1\nnames: ['thing']\n")
    text(tmp_path / "yolo" / "README.roboflow.txt", "Provided by a user\n")
    coco, yolo = open_dataset(tmp_path / "coco"), open_dataset(tmp_path / "yolo")
    assert (coco.format, coco.task, len(coco.records)) == ("coco", "detect", 2)
    assert (yolo.format, yolo.class_names, yolo.splits()) == ("yolo", ("thing",), ("train", "test"))


def test_kaggle_classes_by_id(tmp_path: Path) -> None:
    images(tmp_path / "train", "000bec18.jpg", "001513df.jpg", "unlisted.jpg")
    text(tmp_path / "labels.csv", "id,breed\n000bec18,boston_bull\n001513df,dingo\n")
    dataset = open_dataset(tmp_path)
    assert (dataset.format, dataset.task, dataset.class_names) == ("csv", "classify", ("boston_bull", "dingo"))
    assert [remark.files for remark in dataset.remarks] == [("train/unlisted.jpg",)]


def test_label_studio_yolo_and_its_own_json(tmp_path: Path) -> None:
    images(tmp_path / "yolo" / "images", "a.jpg", "b.jpg")
    for name in ("a", "b"):
        text(tmp_path / "yolo" / "labels" / f"{name}.txt", "1 0.5 0.5 0.5 0.5\n")
    text(tmp_path / "yolo" / "classes.txt", "cat\ndog\n")
    text(tmp_path / "yolo" / "notes.json", '{"categories": [{"id": 0, "name": "cat"}]}')
    dataset = open_dataset(tmp_path / "yolo")
    assert (dataset.format, dataset.class_names) == ("yolo", ("cat", "dog"))
    images(tmp_path / "own", "a.jpg")
    text(tmp_path / "own" / "project.json", '[{"id": 1, "annotations": [{"result": [{"from_name": "label"}]}]}]')
    assert "looks like labels of Label Studio" in refusal(tmp_path / "own")


def test_cvat_voc_and_its_own_xml(tmp_path: Path) -> None:
    images(tmp_path / "voc" / "JPEGImages", "a.jpg", "b.jpg")
    for name in ("a", "b"):
        text(tmp_path / "voc" / "Annotations" / f"{name}.xml", voc_xml(voc_object("cat")))
    text(tmp_path / "voc" / "ImageSets" / "Main" / "default.txt", "a\nb\n")
    text(tmp_path / "voc" / "labelmap.txt", "# label:color_rgb:parts:actions\ncat:128,0,0::\n")
    dataset = open_dataset(tmp_path / "voc")
    assert (dataset.format, dataset.class_names, len(dataset.records)) == ("voc", ("cat",), 2)
    images(tmp_path / "own" / "images", "a.jpg")
    text(
        tmp_path / "own" / "annotations.xml",
        '<?xml version="1.0"?><annotations><image id="0" name="a.jpg"/></annotations>',
    )
    assert "looks like labels of CVAT" in refusal(tmp_path / "own")


@pytest.mark.parametrize(
    ("tool", "file", "content"),
    [
        ("LabelMe", "a.json", '{"version": "5", "shapes": [{"label": "cat", "points": []}], "imagePath": "a.jpg"}'),
        (
            "Supervisely",
            "ds/ann/a.jpg.json",
            '{"tags": [], "size": {"height": 40}, "objects": [{"classTitle": "cat"}]}',
        ),
        ("VGG Image Annotator", "via.json", '{"a.jpg": {"regions": [{"shape_attributes": {"name": "rect"}}]}}'),
        ("CreateML", "a.json", '[{"image": "a.jpg", "annotations": [{"label": "cat", "coordinates": {"x": 1}}]}]'),
    ],
)
def test_other_tools_are_named_with_the_way_out(tmp_path: Path, tool: str, file: str, content: str) -> None:
    images(tmp_path, "cats/a.jpg", "dogs/b.jpg")
    text(tmp_path / file, content)
    said = refusal(tmp_path)
    assert f"looks like labels of {tool}" in said
    assert "--format flat" in said
    assert len(open_dataset(tmp_path, format="flat").records) == 2


def test_pascal_voc_for_segmentation(tmp_path: Path) -> None:
    root = tmp_path / "VOCdevkit" / "VOC2012"
    images(root / "JPEGImages", "2007_000032.jpg", "2007_000033.jpg")
    for name in ("2007_000032", "2007_000033"):
        mask(root / "SegmentationClass" / f"{name}.png", [[0, 15], [1, 255]])
    text(root / "ImageSets" / "Segmentation" / "train.txt", "2007_000032\n2007_000033\n")
    dataset = open_dataset(tmp_path)
    assert (dataset.format, dataset.task, len(dataset.class_names)) == ("voc-masks", "segment", 21)


def test_cityscapes_is_told_the_line(tmp_path: Path) -> None:
    name = "aachen_000000_000019"
    images(tmp_path / "leftImg8bit" / "train" / "aachen", f"{name}_leftImg8bit.png")
    for kind in ("labelIds", "instanceIds", "color"):
        mask(tmp_path / "gtFine" / "train" / "aachen" / f"{name}_gtFine_{kind}.png", [[7, 8], [0, 11]])
    assert "image_suffix: _leftImg8bit" in refusal(tmp_path)
    text(
        tmp_path / "handlens.yaml",
        "masks: {images: leftImg8bit, image_suffix: _leftImg8bit, masks: gtFine, suffix: _gtFine_labelIds, "
        "values: {0: ignore, 7: road, 8: sidewalk, 11: building}}\n",
    )
    dataset = open_dataset(tmp_path)
    assert dataset.class_names == ("road", "sidewalk", "building")
    [record] = dataset.records
    assert (record.split, record.label.name) == ("train", f"{name}_gtFine_labelIds.png")


def test_ade20k(tmp_path: Path) -> None:
    for part in ("training", "validation"):
        images(tmp_path / "images" / part, f"ADE_{part}_1.jpg", f"ADE_{part}_2.jpg")
        for number in (1, 2):
            mask(tmp_path / "annotations" / part / f"ADE_{part}_{number}.png", [[0, 5 * number], [3, 3]])
    dataset = open_dataset(tmp_path)
    assert (dataset.format, dataset.class_names) == ("masks", ("0", "3", "5", "10"))
    assert dataset.splits() == ("train", "validation")


def test_oxford_pets_can_be_read_in_two_ways(tmp_path: Path) -> None:
    for name in ("Abyssinian_1", "beagle_1"):
        images(tmp_path / "images", f"{name}.jpg")
        mask(tmp_path / "annotations" / "trimaps" / f"{name}.png", [[1, 2], [3, 1]])
        text(tmp_path / "annotations" / "xmls" / f"{name}.xml", voc_xml(voc_object("cat")))
    text(tmp_path / "annotations" / "list.txt", "#Image CLASS-ID\nAbyssinian_1 1\n")
    said = refusal(tmp_path)
    assert "--format masks (segment from masks: 2 images, 3 classes" in said
    assert "--format voc (detect from voc: 2 images, 1 class" in said
    dataset = open_dataset(tmp_path, format="masks")
    assert any("look like a trimap" in remark.message for remark in dataset.remarks)
    text(tmp_path / "handlens.yaml", "masks: {values: {1: pet, 2: background, 3: ignore}}\n")
    assert open_dataset(tmp_path).class_names == ("pet", "background")


def test_masks_that_number_objects_are_no_classes(tmp_path: Path) -> None:
    """As the Data Science Bowl's cells or Penn-Fudan's pedestrians."""
    for number, count in enumerate((2, 5, 3)):
        images(tmp_path / "images", f"{number}.png")
        values = np.zeros((40, 48), dtype=np.uint8)
        for object in range(count):
            values[5:20, 8 * object + 2 : 8 * object + 8] = object + 1
        mask(tmp_path / "masks" / f"{number}.png", values)
    assert "masks: {objects: true}" in refusal(tmp_path)
    text(tmp_path / "handlens.yaml", "masks: {objects: true}\n")
    dataset = open_dataset(tmp_path)
    assert dataset.class_names == ("background", "object")
    text(tmp_path / "handlens.yaml", "class_names: [sky, a, b, c, d, e]\n")
    assert len(open_dataset(tmp_path).class_names) == 6


def test_two_folders_of_masks_are_asked_about(tmp_path: Path) -> None:
    for number in range(2):
        images(tmp_path / "images", f"{number}.png")
        for folder in ("masks", "trimaps"):
            mask(tmp_path / folder / f"{number}.png", [[0, 1], [2, 2]])
    said = refusal(tmp_path, format="masks")
    assert "masks and in trimaps" in said
    assert "masks: {masks: masks}" in said


@pytest.mark.parametrize(
    ("header", "row", "what"),
    [
        ("file,label,EncodedPixels", "a.png,x,1 3 10 5", "outlines (EncodedPixels)"),
        ("file,label,left_eye_x,left_eye_y", "a.png,x,1,2", "points (left_eye_x, left_eye_y)"),
    ],
)
def test_a_table_of_places_is_not_read_as_classes(tmp_path: Path, header: str, row: str, what: str) -> None:
    images(tmp_path, "a.png", "b.png")
    text(tmp_path / "labels.csv", f"{header}\n{row}\n{row.replace('a.png,x', 'b.png,y')}\n")
    assert what in refusal(tmp_path)
    text(tmp_path / "handlens.yaml", "csv: {label: label}\n")
    assert open_dataset(tmp_path).class_names == ("x", "y")


def test_boxes_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    images(tmp_path, "a.png", "b.png")
    text(tmp_path / "labels.csv", "file,class,xmin,ymin,xmax,ymax\na.png,x,1,2,3,4\nb.png,x,1,two,3,4\n")
    assert "line 3 of labels.csv has '1 two 3 4'" in refusal(tmp_path)
    assert "columns of boxes (xmin, ymin, xmax, ymax)" in refusal(tmp_path, format="csv")


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("file,label,x_center,y_center,width,height", "a.png,x,10,20,4,6"),
        ("file,label,xc,yc,w,h", "a.png,x,10,20,4,6"),
        ("file,label,x,y,w,h", "a.png,x,8,17,4,6"),
        ("file,label,Left,Top,Right,Bottom", "a.png,x,8,17,12,23"),
        ("file,label,bbox", 'a.png,x,"[8, 17, 4, 6]"'),
    ],
)
def test_boxes_in_every_usual_naming(tmp_path: Path, header: str, row: str) -> None:
    images(tmp_path, "a.png")
    text(tmp_path / "labels.csv", f"{header}\n{row}\n")
    assert corners_of(open_dataset(tmp_path), "a.png") == [("x", 8, 17, 12, 23)]


def test_what_the_sentences_about_tables_advise_works(tmp_path: Path) -> None:
    images(tmp_path, "a.png", "b.png")
    head = "filename,class,xmin,ymin,xmax,ymax\n"
    (tmp_path / "labels.csv").write_bytes(f"{head}a.png,빵,1,2,3,4\n".encode("cp949"))
    assert "it may be cp949" in refusal(tmp_path)
    text(tmp_path / "handlens.yaml", "csv: {encoding: cp949}\n")
    assert open_dataset(tmp_path).class_names == ("빵",)
    text(tmp_path / "other.csv", f"{head}b.png,x,1,2,3,4\n")
    assert "choose one with csv: path" in refusal(tmp_path)
    text(tmp_path / "handlens.yaml", "csv: {path: other.csv}\n")
    assert open_dataset(tmp_path).class_names == ("x",)
    text(tmp_path / "other.csv", "patientId,x,y,width,height,Target\nb,1,2,3,4,1\n")
    (tmp_path / "labels.csv").unlink()
    (tmp_path / "handlens.yaml").unlink()
    assert "name it with csv: file" in refusal(tmp_path)
    text(tmp_path / "handlens.yaml", "csv: {file: patientId, label: Target, path: other.csv}\nformat: boxes-csv\n")
    assert open_dataset(tmp_path).class_names == ("1",)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("ImageId,ClassId,EncodedPixels\na.png,1,1 3\n", "outlines (EncodedPixels)"),
        (
            "filename,region_count,region_id,region_shape_attributes\na.png,1,0,{}\n",
            "outlines (region_shape_attributes)",
        ),
        ("image_name,BoxesString,domain\na,1 2 3 4,x\n", "outlines (BoxesString)"),
    ],
)
def test_tables_of_outlines_are_not_passed_over(tmp_path: Path, table: str, said: str) -> None:
    images(tmp_path, "a.png", "b.png")
    text(tmp_path / "train.csv", table)
    assert said in refusal(tmp_path)


def test_a_table_that_nobody_knows_is_said(tmp_path: Path) -> None:
    images(tmp_path, "a.png", "b.png")
    text(tmp_path / "prices.csv", "bread,price\nrye,3\n")
    [remark] = [remark for remark in open_dataset(tmp_path).remarks if remark.code == "table_unread"]
    assert "prices.csv is not read: of bread, price none is known" in remark.message


def test_one_class_of_objects_keeps_what_is_ignored(tmp_path: Path) -> None:
    images(tmp_path / "images", "a.png")
    mask(tmp_path / "masks" / "a.png", [[0, 1, 2], [255, 5, 3]])
    text(tmp_path / "handlens.yaml", "masks: {objects: true, values: {5: ignore}}\n")
    values = open_dataset(tmp_path).kind.coding.values
    assert [values[number] for number in (0, 1, 3, 5, 255)] == [0, 1, 1, 255, 255]
    text(tmp_path / "handlens.yaml", "masks: {objects: true, values: {5: 1}}\n")
    assert "omit other values" in refusal(tmp_path)


def test_a_class_without_a_name_is_refused_before_training(tmp_path: Path) -> None:
    images(tmp_path, "a/1.png", "b/2.png")
    text(tmp_path / "handlens.yaml", "class_names: {a: ''}\n")
    assert "gives 'a' an empty name" in refusal(tmp_path)

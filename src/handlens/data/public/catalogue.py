"""The public data sets: description, download addresses, checksums and layout.

Addresses and digests of MNIST, Fashion-MNIST, the pets and VOC are those of torchvision.datasets; the digest of the
binary CIFAR-10 is its authors', those of COCO 2017 and of cats and dogs are the ones that other loaders check.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from handlens.data.public import unpack

DIGITS = tuple("0123456789")
FASHION = (
    "T-shirt or top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
MNIST_PLACES = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/")
FASHION_PLACES = ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",)
PETS = "https://www.robots.ox.ac.uk/~vgg/data/pets/data/"
COCO = "http://images.cocodataset.org/"
KAGGLE = "download the archive of {} with a kaggle.com account, then pass it with --from."

Unpack = Callable[[Sequence[Path], Path, Callable[[int, int], None]], None]


@dataclass(frozen=True)
class PublicFile:
    """A file as its publisher names it.

    Attributes:
        digest: "md5:..." or "sha256:..."; None if none is published: such a file is never downloaded.
        urls: where it is, tried in order.
    """

    name: str
    digest: str | None
    urls: tuple[str, ...] = ()


@dataclass(frozen=True)
class PublicSet:
    """
    Attributes:
        about: a short description.
        unpack: (files, new folder, progress) -> the images and labels in that folder.
        installed: a folder where an operating system package puts the files.
        by_hand: how to get files that cannot be downloaded automatically; the end of a sentence.
    """

    about: str
    license: str
    files: tuple[PublicFile, ...]
    unpack: Unpack
    installed: Path | None = None
    by_hand: str | None = None


def _at(places: tuple[str, ...], name: str, md5: str) -> PublicFile:
    return PublicFile(name, f"md5:{md5}", tuple(place + name for place in places))


SETS: dict[str, PublicSet] = {
    "mnist": PublicSet(
        "70,000 handwritten digits, grayscale, 28 x 28",
        "CC BY-SA 3.0",
        (
            _at(MNIST_PLACES, "train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
            _at(MNIST_PLACES, "train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432"),
            _at(MNIST_PLACES, "t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3"),
            _at(MNIST_PLACES, "t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c"),
        ),
        partial(unpack.idx, names=DIGITS),
    ),
    "fashion_mnist": PublicSet(
        "70,000 images of clothes, 10 classes, grayscale, 28 x 28",
        "MIT",
        (
            _at(FASHION_PLACES, "train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
            _at(FASHION_PLACES, "train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe"),
            _at(FASHION_PLACES, "t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79"),
            _at(FASHION_PLACES, "t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310"),
        ),
        partial(unpack.idx, names=FASHION),
        installed=Path("/usr/share/datasets/fashion-mnist"),  # Debian's dataset-fashion-mnist
    ),
    "cifar10": PublicSet(
        "60,000 images of objects, 10 classes, 32 x 32",
        "not stated by its authors",
        (_at(("https://www.cs.toronto.edu/~kriz/",), "cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"),),
        unpack.cifar10,
    ),
    "oxford_pets": PublicSet(
        "7,390 cats and dogs with trimaps (pet, background, border); 1,000 chosen with seed 1337 for validation",
        "CC BY-SA 4.0",
        (
            _at((PETS,), "images.tar.gz", "5c4f3ee8e5d25df40f4fd59a7f44e54c"),
            _at((PETS,), "annotations.tar.gz", "95a8c909bbe2e81eed6a22bccdf3f68f"),
        ),
        unpack.oxford_pets,
    ),
    "voc2012": PublicSet(
        "17,125 photographs with boxes, 2,913 of them with masks, 20 classes",
        "per photograph, see Flickr",
        (
            _at(
                ("https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/",),
                "VOCtrainval_11-May-2012.tar",
                "6cd6e144f989b92b3379bac3b3de84fd",
            ),
        ),
        partial(unpack.archives, inside="VOCdevkit/VOC2012"),
    ),
    "coco_val2017": PublicSet(
        "5,000 photographs with boxes and segmentations, 80 classes",
        "labels CC BY 4.0; photographs: see Flickr",
        (
            _at((COCO + "zips/",), "val2017.zip", "442b8da7639aecaf257c1dceb8ba8c80"),
            _at((COCO + "annotations/",), "annotations_trainval2017.zip", "f4bbac642086de4f52a3fdda2de5fa2c"),
        ),
        partial(unpack.coco, splits=("val2017",)),
    ),
    "coco2017": PublicSet(
        "123,287 photographs with boxes and segmentations, 80 classes, 19 GB",
        "labels CC BY 4.0; photographs: see Flickr",
        (
            _at((COCO + "zips/",), "train2017.zip", "cced6f7f71b7629ddf16f17bbcfab6b2"),
            _at((COCO + "zips/",), "val2017.zip", "442b8da7639aecaf257c1dceb8ba8c80"),
            _at((COCO + "annotations/",), "annotations_trainval2017.zip", "f4bbac642086de4f52a3fdda2de5fa2c"),
        ),
        partial(unpack.coco, splits=("train2017", "val2017")),
    ),
    "cats_vs_dogs": PublicSet(
        "cats and dogs, textbook subset: per class 1,000 for training, 500 for validation, 1,000 for test",
        "Microsoft Research license",
        (
            PublicFile(
                "kagglecatsanddogs_5340.zip",
                "sha256:b7974bd00a84a99921f36ee4403f089853777b5ae8d151c76a86e64900334af9",
                (
                    "https://download.microsoft.com/download/3/E/1/3E1C3F21-ECDB-4869-8368-6DEBA77B919F/"
                    "kagglecatsanddogs_5340.zip",
                ),
            ),
        ),
        unpack.cats_vs_dogs,
    ),
    "intel_scenes": PublicSet(
        "17,034 landscape photographs, 6 classes, 150 x 150, and 7,301 unlabeled",
        "not stated",
        (PublicFile("archive.zip", None),),
        unpack.archives,
        by_hand=KAGGLE.format("puneet6060/intel-image-classification"),
    ),
    "bread": PublicSet(
        "photographs of bread, 10 classes",
        "per photograph",
        (PublicFile("archive.zip", None),),
        unpack.archives,
        by_hand="take your own photographs, one folder per class; to start, `handlens sample bakery DIR` draws some.",
    ),
}

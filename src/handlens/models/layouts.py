"""Other projects' names for the layers of the nets, translated into ours.

Ours: stem, blocks.N (of the MobileNets blocks.N.expand, .depthwise and .project) and head, each with conv and norm;
hidden dense layers; classifier.
"""

from __future__ import annotations

import re
from itertools import pairwise

from torch import Tensor

UNIT = {"0": "conv", "1": "norm"}

# Position in torchvision's `features.N.conv` -> our unit, for a block without an expansion and with one.
NESTED_PLAIN = {"0.0": "depthwise.conv", "0.1": "depthwise.norm", "1": "project.conv", "2": "project.norm"}
NESTED_EXPANDING = {
    "0.0": "expand.conv",
    "0.1": "expand.norm",
    "1.0": "depthwise.conv",
    "1.1": "depthwise.norm",
    "2": "project.conv",
    "3": "project.norm",
}
# The same in the older layout, where the activations (2 and 5) count.
FLAT_PLAIN = {"0": "depthwise.conv", "1": "depthwise.norm", "3": "project.conv", "4": "project.norm"}
FLAT_EXPANDING = {
    "0": "expand.conv",
    "1": "expand.norm",
    "3": "depthwise.conv",
    "4": "depthwise.norm",
    "6": "project.conv",
    "7": "project.norm",
}

TIMM_OUTSIDE = {"conv_stem": "stem.conv", "bn1": "stem.norm", "conv_head": "head.conv", "bn2": "head.norm"}
TIMM_PLAIN = {"conv_dw": "depthwise.conv", "bn1": "depthwise.norm", "conv_pw": "project.conv", "bn2": "project.norm"}
TIMM_EXPANDING = {
    "conv_pw": "expand.conv",
    "bn1": "expand.norm",
    "conv_dw": "depthwise.conv",
    "bn2": "depthwise.norm",
    "conv_pwl": "project.conv",
    "bn3": "project.norm",
}

EFFICIENTNET_OUTSIDE = {
    "_conv_stem": "stem.conv",
    "_bn0": "stem.norm",
    "_conv_head": "head.conv",
    "_bn1": "head.norm",
    "_fc": "classifier",
}
EFFICIENTNET_BLOCK = {
    "_expand_conv": "expand.conv",
    "_bn0": "expand.norm",
    "_depthwise_conv": "depthwise.conv",
    "_bn1": "depthwise.norm",
    "_project_conv": "project.conv",
    "_bn2": "project.norm",
}


# Position in torchvision's `features` and `classifier` -> our layer.
ALEXNET_CONVOLUTIONS = {"0": "stem.0", "3": "blocks.0.1", "6": "blocks.1.1", "8": "blocks.2.0", "10": "blocks.3.0"}
ALEXNET_DENSE = {"1": "hidden1", "4": "hidden2", "6": "classifier"}
VGG_DENSE = {"0": "hidden1", "3": "hidden2", "6": "classifier"}
GOOGLENET_OUTSIDE = {"conv1": "stem.0", "conv2": "stem.2", "conv3": "stem.3", "fc": "classifier"}
GOOGLENET_BLOCKS = ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
POOLED_BEFORE = ("4a", "5a")  # where ours have the max-pooling in the block
BRANCHES = {"branch1": "one", "branch2": "three", "branch3": "five", "branch4": "pooled"}
AUXILIARY = {"fc1": "hidden", "fc2": "classifier"}


def to_our_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename a state dict from one of the layouts in circulation.

    Known: torchvision's (features.N.conv.0.0); the older flat one (features.N.conv.0 to .7, conv.0); timm's
    (conv_stem, blocks.S.N.conv_dw); EfficientNet-PyTorch's (_conv_stem, _blocks.N); torchvision's of ResNet, GoogLeNet,
    AlexNet and VGG. A state dict that looks like none
    of these, and a name that its layout does not have, are returned as they are: strict loading then lists them.
    """
    if "features.0.0.weight" in state:
        return _from_features(state)
    if "conv_stem.weight" in state:
        return _from_timm(state)
    if "_conv_stem.weight" in state:
        return _from_efficientnet_pytorch(state)
    if "layer1.0.conv1.weight" in state:
        return _from_resnet(state)
    if "inception3a.branch1.conv.weight" in state:
        return _from_googlenet(state)
    if "features.0.weight" in state and "classifier.6.weight" in state:
        return _from_alexnet(state) if state["features.0.weight"].shape[-1] == 11 else _from_vgg(state)
    return state


def _from_alexnet(state: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for key, value in state.items():
        part, position, what = [*key.split("."), "", ""][:3]
        places = {"features": ALEXNET_CONVOLUTIONS, "classifier": ALEXNET_DENSE}.get(part, {})
        renamed[f"{places[position]}.{what}" if position in places else key] = value
    return renamed


def _from_vgg(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """`features` is one list, in which a gap shows where a max-pooling is, and so where a group of ours begins."""
    positions = sorted({int(match[1]) for key in state if (match := re.match(r"features\.(\d+)\.", key))})
    starts = [0] + [position for last, position in pairwise(positions) if position - last > 2]  # more than its ReLU
    renamed = {}
    for key, value in state.items():
        if match := re.fullmatch(r"features\.(\d+)\.(\w+)", key):
            position = int(match[1])
            number = sum(start <= position for start in starts) - 1
            part = "stem" if number == 0 else f"blocks.{number - 1}"
            key = f"{part}.{position - starts[number]}.{match[2]}"
        elif match := re.fullmatch(r"classifier\.(\d)\.(\w+)", key):
            key = f"{VGG_DENSE.get(match[1], match[1])}.{match[2]}"
        renamed[key] = value
    return renamed


def _from_resnet(state: dict[str, Tensor]) -> dict[str, Tensor]:
    blocks = sorted(
        {(int(match[1]), int(match[2])) for key in state if (match := re.match(r"layer(\d)\.(\d+)\.", key))}
    )
    renamed = {}
    for key, value in state.items():
        if match := re.fullmatch(r"layer(\d)\.(\d+)\.(conv|bn)(\d)\.(\w+)", key):
            stage, place, kind, number, what = match.groups()
            unit = f"convs.{int(number) - 1}.{'conv' if kind == 'conv' else 'norm'}"
            key = f"{_resnet_block(blocks.index((int(stage), int(place))))}.{unit}.{what}"
        elif match := re.fullmatch(r"layer(\d)\.(\d+)\.downsample\.([01])\.(\w+)", key):
            number = blocks.index((int(match[1]), int(match[2])))
            key = f"{_resnet_block(number)}.shortcut.{UNIT[match[3]]}.{match[4]}"
        elif match := re.fullmatch(r"(conv1|bn1)\.(\w+)", key):
            key = f"stem.{'conv' if match[1] == 'conv1' else 'norm'}.{match[2]}"
        elif match := re.fullmatch(r"fc\.(\w+)", key):
            key = f"classifier.{match[1]}"
        renamed[key] = value
    return renamed


def _resnet_block(number: int) -> str:
    return "blocks.0.1" if number == 0 else f"blocks.{number}"  # the first has the max-pooling before it


def _from_googlenet(state: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for key, value in state.items():
        key = key.replace(".bn.", ".norm.")
        if match := re.fullmatch(r"inception(\w\w)\.(branch\d)\.(.*)", key):
            name, branch, rest = match.groups()
            block = f"blocks.{GOOGLENET_BLOCKS.index(name)}{'.1' if name in POOLED_BEFORE else ''}"
            key = f"{block}.{BRANCHES[branch]}.{rest}"
        elif match := re.fullmatch(r"aux([12])\.(\w+)\.(.*)", key):
            key = f"auxiliary.{int(match[1]) - 1}.{AUXILIARY.get(match[2], match[2])}.{match[3]}"
        elif (part := key.partition("."))[0] in GOOGLENET_OUTSIDE:
            key = f"{GOOGLENET_OUTSIDE[part[0]]}.{part[2]}"
        renamed[key] = value
    return renamed


def _from_features(state: dict[str, Tensor]) -> dict[str, Tensor]:
    flat = "features.1.conv.0.0.weight" not in state
    renamed = {}
    for key, value in state.items():
        if match := re.fullmatch(r"features\.(\d+)\.conv\.([\d.]+)\.(\w+)", key):
            number, position, what = match.groups()
            expands = f"features.{number}.conv.{7 if flat else 3}.weight" in state
            if flat:
                units = FLAT_EXPANDING if expands else FLAT_PLAIN
            else:
                units = NESTED_EXPANDING if expands else NESTED_PLAIN
            key = f"blocks.{int(number) - 1}.{units.get(position, position)}.{what}"
        elif match := re.fullmatch(r"features\.0\.([01])\.(\w+)", key):
            key = f"stem.{UNIT[match[1]]}.{match[2]}"
        elif match := re.fullmatch(r"(?:features\.\d+|conv)\.([01])\.(\w+)", key):
            key = f"head.{UNIT[match[1]]}.{match[2]}"
        elif match := re.fullmatch(r"classifier(?:\.\d)?\.(weight|bias)", key):  # alone, or behind a dropout
            key = f"classifier.{match[1]}"
        renamed[key] = value
    return renamed


def _from_timm(state: dict[str, Tensor]) -> dict[str, Tensor]:
    matches = [re.match(r"blocks\.(\d+)\.(\d+)\.", key) for key in state]
    places = sorted({(int(match[1]), int(match[2])) for match in matches if match})  # (stage, repetition)
    renamed = {}
    for key, value in state.items():
        if match := re.fullmatch(r"blocks\.(\d+)\.(\d+)\.(\w+)\.(\w+)", key):
            stage, repetition, unit, what = match.groups()
            expands = f"blocks.{stage}.{repetition}.conv_pwl.weight" in state
            number = places.index((int(stage), int(repetition)))
            key = f"blocks.{number}.{(TIMM_EXPANDING if expands else TIMM_PLAIN).get(unit, unit)}.{what}"
        else:
            unit, dot, what = key.partition(".")
            key = f"{TIMM_OUTSIDE.get(unit, unit)}{dot}{what}"
        renamed[key] = value
    return renamed


def _from_efficientnet_pytorch(state: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for key, value in state.items():
        if match := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key):
            key = f"blocks.{match[1]}.{EFFICIENTNET_BLOCK.get(match[2], match[2])}.{match[3]}"
        else:
            unit, dot, what = key.partition(".")
            key = f"{EFFICIENTNET_OUTSIDE.get(unit, unit)}{dot}{what}"
        renamed[key] = value
    return renamed

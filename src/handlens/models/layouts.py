"""Other projects' names for the layers of MobileNetV2 and EfficientNet-Lite, translated into ours.

Ours: stem, blocks.N.expand, blocks.N.depthwise, blocks.N.project and head, each with conv and norm; classifier.
"""

from __future__ import annotations

import re

from torch import Tensor

UNIT = {"0": "conv", "1": "norm"}

# Position in torchvision's `features.N.conv` -> our unit, for a block without an expansion and with one.
NESTED_PLAIN = {"0.0": "depthwise.conv", "0.1": "depthwise.norm", "1": "project.conv", "2": "project.norm"}
NESTED_EXPANDING = {
    "0.0": "expand.conv", "0.1": "expand.norm", "1.0": "depthwise.conv", "1.1": "depthwise.norm",
    "2": "project.conv", "3": "project.norm",
}  # fmt: skip
# The same in the older layout, where the activations (2 and 5) count.
FLAT_PLAIN = {"0": "depthwise.conv", "1": "depthwise.norm", "3": "project.conv", "4": "project.norm"}
FLAT_EXPANDING = {
    "0": "expand.conv", "1": "expand.norm", "3": "depthwise.conv", "4": "depthwise.norm",
    "6": "project.conv", "7": "project.norm",
}  # fmt: skip

TIMM_OUTSIDE = {"conv_stem": "stem.conv", "bn1": "stem.norm", "conv_head": "head.conv", "bn2": "head.norm"}
TIMM_PLAIN = {"conv_dw": "depthwise.conv", "bn1": "depthwise.norm", "conv_pw": "project.conv", "bn2": "project.norm"}
TIMM_EXPANDING = {
    "conv_pw": "expand.conv", "bn1": "expand.norm", "conv_dw": "depthwise.conv", "bn2": "depthwise.norm",
    "conv_pwl": "project.conv", "bn3": "project.norm",
}  # fmt: skip

EFFICIENTNET_OUTSIDE = {
    "_conv_stem": "stem.conv", "_bn0": "stem.norm", "_conv_head": "head.conv", "_bn1": "head.norm", "_fc": "classifier",
}  # fmt: skip
EFFICIENTNET_BLOCK = {
    "_expand_conv": "expand.conv", "_bn0": "expand.norm", "_depthwise_conv": "depthwise.conv",
    "_bn1": "depthwise.norm", "_project_conv": "project.conv", "_bn2": "project.norm",
}  # fmt: skip


def to_our_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename a state dict from one of the layouts in circulation.

    Known: torchvision's (features.N.conv.0.0); the older flat one (features.N.conv.0 to .7, conv.0); timm's
    (conv_stem, blocks.S.N.conv_dw); EfficientNet-PyTorch's (_conv_stem, _blocks.N). A state dict that looks like none
    of these, and a name that its layout does not have, are returned as they are: strict loading then lists them.
    """
    if "features.0.0.weight" in state:
        return _from_features(state)
    if "conv_stem.weight" in state:
        return _from_timm(state)
    if "_conv_stem.weight" in state:
        return _from_efficientnet_pytorch(state)
    return state


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

"""SSD and SSDLite, on MobileNetV2 unless asked otherwise: boxes from six feature maps in one pass.

Source   Liu et al. 2016, arXiv:1512.02325 (SSD); Sandler et al. 2018, arXiv:1801.04381, section 6.2 (SSDLite and the
         maps); extra layers as in the authors' ssdlite_mobilenet_v2_coco (TensorFlow Object Detection API).
Input    images (N, 3, H, W) float32, RGB, normalized; any size, 320 x 320 in the paper.
Output   forward: Raw; decode: boxes, scores, labels, padded.
Size     ssdlite, 80 classes: 4,337,013 parameters, of them 2,113,141 behind the backbone; 0.8 B multiply-adds at 320.
         ssd: 17.0 M, of them 14.8 M behind the backbone.
Differs  ReLU6 and batch norm also in the extra layers of ssd, which Liu et al. have without batch norm.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from handlens.errors import InputError
from handlens.losses.boxes import ClassLoss, Target, box_losses
from handlens.losses.coding import Raw, decode_boxes
from handlens.models.backbones import backbone as cut
from handlens.models.blocks import EPSILON, ConvNormAct, Padding, initialize, norm_state, round_channels
from handlens.models.detect.anchors import Shapes, check_anchors, grid_anchors, map_strides, published_anchors
from handlens.models.detect.suppress import best_boxes
from handlens.weights.class_names import COCO_IDS

Scores = Literal["softmax", "sigmoid"]

# Heads sit on the expansion of the block that halves the map, and on the last layer. The stride-8 one is our choice.
LAST_BLOCKS = {16: ("s16", "s32"), 8: ("s8", "s16", "s32")}  # of other backbones than MobileNetV2
MAPS = {16: ("block14.expand", "head"), 8: ("block7.expand", "block14.expand", "head")}
EXTRAS = (512, 256, 256, 128)  # channels; each halves the map
PER_MAP = ("boxes.", "classes.", "extras.")  # names of layers that a net for fewer maps does not have
LAST_LAYER = re.compile(r"(boxes|classes)\.s\d+\.\d+\.(weight|bias)")  # of the predictors
EXTRACTOR = "FeatureExtractor/MobilenetV2/"  # in the names of ssdlite_mobilenet_v2_coco
PUBLISHED_EPSILON = 1e-3  # of its batch norm
PUBLISHED_CLASSES = 91  # 90 ids and the background, which comes first
RARE = 0.01  # of a sigmoid score before training: Lin et al. 2017, arXiv:1708.02002, section 4.1


class SSD(nn.Module):
    """A backbone, extra layers that halve the map, and a pair of predictors on each map.

    Args:
        num_classes: K, without the background.
        separable: every 3x3 convolution of extra layers and predictors is depthwise separable: SSDLite.
        anchors: per map, [width, height] fractions of the input, from `fit_anchors`; None for the published ones.
            Extra layers are made for as many maps as it has.
        first_stride: 16, or 8 for one more head that sees objects half the size.
        scores: "softmax" over the classes and the background (Liu et al.), or "sigmoid", a yes or no per class (the
            authors' code of SSDLite).
        backbone: a name of `backbones.BACKBONES`.
        width: of the backbone, as MobileNetV2 has it, and of the extra layers.
        in_channels: of the images.
        padding: of the extra layers and the backbone; "same" for weights that come from TensorFlow.

    Raises:
        InputError: no such backbone, or one without this width or padding.
        ValueError: an argument out of range.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        separable: bool = False,
        anchors: Shapes | None = None,
        first_stride: int = 16,
        scores: Scores = "softmax",
        backbone: str = "mobilenet_v2",
        width: float = 1.0,
        in_channels: int = 3,
        padding: Padding = "symmetric",
    ) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, got {num_classes}")
        every_map = len(map_strides(first_stride))
        if scores not in ("softmax", "sigmoid"):
            raise ValueError(f"scores must be 'softmax' or 'sigmoid', got {scores!r}")
        names = MAPS[first_stride] if backbone == "mobilenet_v2" else LAST_BLOCKS[first_stride]
        self.anchors = published_anchors(every_map) if anchors is None else anchors
        check_anchors(self.anchors, most=every_map)
        self.scores = scores
        self.first_stride = first_stride
        options: dict[str, Any] = {"in_channels": in_channels}
        options |= {"width": width} if width != 1 else {}
        options |= {"padding": padding} if padding != "symmetric" else {}
        self.backbone = cut(backbone, maps=names[: len(self.anchors)], **options)
        channels = list(self.backbone.channels.values())
        self.extras = nn.ModuleList()
        for full_width in EXTRAS[: max(0, len(self.anchors) - len(names))]:
            out_channels = round_channels(full_width * width)
            self.extras.append(_extra(channels[-1], out_channels, separable=separable, padding=padding))
            channels.append(out_channels)
        outputs = num_classes + (scores == "softmax")
        self.boxes, self.classes = nn.ModuleDict(), nn.ModuleDict()  # by the stride of the map; none without anchors
        for number, (size, shapes) in enumerate(zip(channels, self.anchors, strict=True)):
            if shapes:
                name = f"s{first_stride << number}"
                self.boxes[name] = _predictor(size, len(shapes) * 4, separable=separable)
                self.classes[name] = _predictor(size, len(shapes) * outputs, separable=separable)
        self.outputs = outputs
        self._initialize()

    def forward(self, images: Tensor) -> Raw:
        maps = list(self.backbone(images).values())
        for extra in self.extras:
            maps.append(extra(maps[-1]))
        by_stride = {f"s{self.first_stride << number}": x for number, x in enumerate(maps)}
        offsets = [_rows(predict(by_stride[name]), 4) for name, predict in self.boxes.items()]
        logits = [_rows(predict(by_stride[name]), self.outputs) for name, predict in self.classes.items()]
        anchors = grid_anchors(self.anchors, [(x.shape[2], x.shape[3]) for x in maps])
        return Raw(torch.cat(offsets, dim=1), torch.cat(logits, dim=1), anchors.to(images.device))

    def embed(self, images: Tensor) -> Tensor:
        """images (N, C, H, W) -> (N, D), of the backbone."""
        return self.backbone.embed(images)

    def probabilities(self, logits: Tensor) -> Tensor:
        """(N, A, outputs) -> (N, A, K) float32 in [0, 1], without the background, whatever the net computed in."""
        logits = logits.float()
        return logits.sigmoid() if self.scores == "sigmoid" else logits.softmax(dim=2)[:, :, :-1]

    def loss(self, raw: Raw, targets: Sequence[Target], *, classes: ClassLoss = "mined") -> tuple[Tensor, Tensor]:
        """Of the boxes and of the classes, as `losses.boxes.box_losses` has them.

        Args:
            targets: per image, boxes (n, 4) left, top, right, bottom, fractions of the net's input, and labels (n,)
                int64. n may be 0. A label -1 - c (crowds and difficult objects of class c) is neither expected nor
                background.
        """
        return box_losses(raw, targets, sigmoid=self.scores == "sigmoid", classes=classes)

    def decode(
        self, raw: Raw, *, suppress: bool = True, threshold: float = 0.6, candidates: int = 400, most: int = 100
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The boxes of each image, likeliest first.

        Args:
            suppress: False leaves non-maximum suppression to the app, and returns all candidates.
            threshold: IoU above which the less likely of two boxes of a class is suppressed. 0.6 and 100 boxes are what
                the authors publish their result with.
            candidates, most: as in `best_boxes`.

        Returns:
            boxes (N, M, 4) left, top, right, bottom, fractions of the net's input, clipped; scores (N, M); labels
            (N, M). A score of 0 is padding.
        """
        boxes = decode_boxes(raw.offsets.float(), raw.anchors).clamp(0, 1)
        return best_boxes(
            boxes,
            self.probabilities(raw.logits),
            suppress=suppress,
            threshold=threshold,
            candidates=candidates,
            most=most,
        )

    def with_new_head(self, weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str | None]:
        """As `loading.with_new_head`: fresh is the last layer of each predictor, for its classes or its anchors.

        A net whose anchors need fewer maps has no use for the layers of the others; one with a finer map learns its
        predictor.
        """
        wanted = self.state_dict()
        own = {key.removeprefix("backbone."): value for key, value in weights.items() if key.startswith("backbone.")}
        kept = {f"backbone.{key}": value for key, value in self.backbone.part_of(own)[0].items()}
        kept |= {
            key: value
            for key, value in weights.items()
            if not key.startswith("backbone.") and (key in wanted or not key.startswith(PER_MAP))
        }
        trained = {key.split(".")[1] for key in weights if LAST_LAYER.fullmatch(key)}  # strides
        last = {
            key: value
            for key, value in wanted.items()
            if LAST_LAYER.fullmatch(key)
            or (key.startswith(("boxes.", "classes.")) and key.split(".")[1] not in trained)
        }
        if all(key in weights and weights[key].shape == value.shape for key, value in last.items()):
            return kept, None
        return kept | last, "The box and class predictors were replaced by new ones (different classes or anchors)."

    @staticmethod
    def to_our_names(state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """Constants of the authors' ssdlite_mobilenet_v2_coco -> the state of our SSDLite with 80 classes, sigmoid
        scores and SAME padding; None where they have other names.

        Batch norm that was folded into a convolution comes back as one that only adds; the others keep their numbers,
        with our epsilon made up for in the variance. So the function is the published one. The predictors of the ten
        ids without a class, and of the background, are left out; offsets change from y, x, height, width to x, y,
        width, height.

        Raises:
            InputError: a tensor is missing: another model.
        """
        if "BoxPredictor_0/BoxEncodingPredictor/weights" not in state:
            return None
        ours: dict[str, Tensor] = {}
        try:
            ours |= _folded("backbone.stem", state, f"{EXTRACTOR}Conv")
            for number in range(17):
                block, theirs = f"backbone.blocks.{number}", f"{EXTRACTOR}expanded_conv{f'_{number}' if number else ''}"
                ours |= _folded(f"{block}.expand", state, f"{theirs}/expand") if number else {}
                ours |= _scaled(f"{block}.depthwise", state, f"{theirs}/depthwise")
                ours |= _folded(f"{block}.project", state, f"{theirs}/project")
            ours |= _folded("backbone.head", state, f"{EXTRACTOR}Conv_1")
            for number, channels in enumerate(EXTRAS):
                second = f"{EXTRACTOR}layer_19_2_Conv2d_{number + 2}_3x3_s2_{channels}"
                first = f"{EXTRACTOR}layer_19_1_Conv2d_{number + 2}_1x1_{channels // 2}"
                ours |= _folded(f"extras.{number}.0", state, first)
                ours |= _scaled(f"extras.{number}.1", state, f"{second}_depthwise")
                ours |= _folded(f"extras.{number}.2", state, second)
            for number in range(6):
                name, theirs = f"s{16 << number}", f"BoxPredictor_{number}"
                ours |= _published_predictor(f"boxes.{name}", state, f"{theirs}/BoxEncodingPredictor", 4, (1, 0, 3, 2))
                ours |= _published_predictor(
                    f"classes.{name}", state, f"{theirs}/ClassPredictor", PUBLISHED_CLASSES, COCO_IDS
                )
        except KeyError as error:
            raise InputError(f"this is not ssdlite_mobilenet_v2_coco: it has no {error}.") from None
        return ours

    def _initialize(self) -> None:
        """The predictors' last convolution starts at N(0, 0.03), as in the authors' configuration."""
        for part in (self.extras, self.boxes, self.classes):
            initialize(part)
        for kind in (self.boxes, self.classes):
            for predict in kind.values():
                last = predict[-1]  # type: ignore[index]
                nn.init.normal_(last.weight, 0, 0.03)
                if kind is self.classes and self.scores == "sigmoid":
                    nn.init.constant_(last.bias, -math.log((1 - RARE) / RARE))


def _extra(in_channels: int, out_channels: int, *, separable: bool, padding: Padding) -> nn.Sequential:
    """1x1 to half the channels, then 3x3 at stride 2."""
    hidden = out_channels // 2
    layers = [ConvNormAct(in_channels, hidden, kernel=1, activation=nn.ReLU6)]
    if separable:
        layers += [
            ConvNormAct(hidden, hidden, stride=2, groups=hidden, activation=nn.ReLU6, padding=padding),
            ConvNormAct(hidden, out_channels, kernel=1, activation=nn.ReLU6),
        ]
    else:
        layers.append(ConvNormAct(hidden, out_channels, stride=2, activation=nn.ReLU6, padding=padding))
    return nn.Sequential(*layers)


def _predictor(in_channels: int, out_channels: int, *, separable: bool) -> nn.Sequential:
    if not separable:
        return nn.Sequential(nn.Conv2d(in_channels, out_channels, 3, padding=1))
    return nn.Sequential(
        ConvNormAct(in_channels, in_channels, groups=in_channels, activation=nn.ReLU6),
        nn.Conv2d(in_channels, out_channels, 1),
    )


def _rows(x: Tensor, size: int) -> Tensor:
    """(N, anchors x size, H, W) -> (N, H x W x anchors, size), in the order of `grid_anchors`."""
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, size)


def _folded(ours: str, state: Mapping[str, Tensor], theirs: str) -> dict[str, Tensor]:
    """A convolution that batch norm was multiplied into."""
    weight = state[f"{theirs}/Conv2D/merged_input"].permute(3, 2, 0, 1)  # (k, k, in, out) -> (out, in, k, k)
    return {f"{ours}.conv.weight": weight} | norm_state(
        f"{ours}.norm", shift=state[f"{theirs}/BatchNorm/batchnorm/sub"]
    )


def _scaled(ours: str, state: Mapping[str, Tensor], theirs: str) -> dict[str, Tensor]:
    """A depthwise convolution, then batch norm as one factor and one term per channel."""
    weight, norm = state[f"{theirs}/depthwise_weights"].permute(2, 3, 0, 1), f"{theirs}/BatchNorm/batchnorm"
    return {f"{ours}.conv.weight": weight} | norm_state(
        f"{ours}.norm", scale=state[f"{norm}/mul"], shift=state[f"{norm}/sub"]
    )


def _published_predictor(
    ours: str, state: Mapping[str, Tensor], theirs: str, size: int, chosen: Sequence[int]
) -> dict[str, Tensor]:
    """Depthwise with batch norm, then 1x1 to `size` numbers per anchor, of which the chosen ones are kept."""
    norm, weight = f"{theirs}_depthwise/BatchNorm", state[f"{theirs}/weights"]  # (1, 1, C, anchors x size)
    channels = weight.shape[2]
    return {
        f"{ours}.0.conv.weight": state[f"{theirs}_depthwise/depthwise_weights"].permute(2, 3, 0, 1),
        f"{ours}.0.norm.weight": state[f"{norm}/gamma"],
        f"{ours}.0.norm.bias": state[f"{norm}/beta"],
        f"{ours}.0.norm.running_mean": state[f"{norm}/moving_mean"],
        f"{ours}.0.norm.running_var": state[f"{norm}/moving_variance"] + (PUBLISHED_EPSILON - EPSILON),
        f"{ours}.1.weight": weight[0, 0].T.reshape(-1, size, channels)[:, list(chosen)].reshape(-1, channels, 1, 1),
        f"{ours}.1.bias": state[f"{theirs}/biases"].reshape(-1, size)[:, list(chosen)].reshape(-1),
    }

"""PyTorch's operators by what they cost; `models.cost` says by which convention."""

from __future__ import annotations

import torch

aten = torch.ops.aten
CONVOLUTIONS = (aten.convolution.default,)
NORMS = (aten.native_batch_norm.default,)
PRODUCTS = (aten.addmm.default, aten.mm.default, aten.bmm.default)
POOLS = (
    aten.max_pool2d_with_indices.default,
    aten.max_pool2d.default,
    aten.avg_pool2d.default,
)
# No numbers are written, or (padding) none that stay.
VIEWS = (
    "view",
    "_unsafe_view",
    "reshape",
    "permute",
    "transpose",
    "t",
    "expand",
    "slice",
    "select",
    "unsqueeze",
    "squeeze",
    "detach",
    "alias",
    "constant_pad_nd",
    "_to_copy",
    "clone",
    "split",
    "split_with_sizes",
    "flatten",
    "lift_fresh",
    "unbind",
    "contiguous",
)
# Place by place: the receptive field stays, and the output may take an input's memory.
POINTWISE = (
    "add",
    "sub",
    "mul",
    "div",
    "relu",
    "hardtanh",
    "clamp",
    "sigmoid",
    "native_batch_norm",
    "silu",
    "pow",
    "_native_batch_norm_legit_no_training",
    "native_dropout",
    "leaky_relu",
    "hardswish",
    "rsub",
    "neg",
    "exp",
    "_softmax",
    "cudnn_batch_norm",
    "relu_",
    "hardtanh_",
    "clamp_min",
    "sqrt",
    "rsqrt",
    "tanh",
    "gelu",
    "hardsigmoid",
    "softplus",
    "where",
    "maximum",
    "minimum",
    "abs",
)
WEIGHTED = ("convolution", "addmm", "mm", "bmm")
# What LiteRT makes part of the layer before.
FUSED = (
    "native_batch_norm",
    "_native_batch_norm_legit_no_training",
    "cudnn_batch_norm",
    "relu",
    "relu_",
    "hardtanh",
    "hardtanh_",
    "clamp",
    "clamp_min",
)

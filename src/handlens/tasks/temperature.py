"""The temperature of a classifier: chosen on images that it has not learned from, and put into its last layer.

Dividing the weights and the bias of the last linear layer by T is the same as dividing the logits: whatever is made of
the model afterwards, in any runtime, gives calibrated probabilities and knows nothing of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from handlens.evaluation.calibration import calibration, fit_temperature, log_probabilities, tempered
from handlens.evaluation.unknown import FEWEST, generalized_entropy, quantiles_of
from handlens.figures import percent
from handlens.preprocess import Preprocess


def takes_temperature(net: nn.Module, preprocess: Preprocess) -> bool:
    """Whether its last layer is one that can be divided, called `classifier`. Of a model of one's own it may be any,
    and what bears that name need not be the last.
    """
    layer = getattr(net, "classifier", None)
    if not isinstance(layer, nn.Linear) or not isinstance(layer.weight, nn.Parameter):
        return False
    made: list[Tensor] = []
    hook = layer.register_forward_hook(lambda _layer, _inputs, output: made.append(output))
    training = net.training
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2, preprocess.channels, preprocess.height, preprocess.width, generator=generator)
    try:
        with torch.inference_mode():
            raw = net.eval()(noise.to(layer.weight.device))
    finally:
        hook.remove()
        net.train(training)
    return len(made) == 1 and isinstance(raw, Tensor) and raw.equal(made[0])


def chosen_temperature(
    probabilities: NDArray[np.float32], labels: NDArray[np.int64], source: str, *, present: float = 1.0
) -> dict[str, Any]:
    """What a run keeps in `ModelInfo.chosen`: "temperature", under "calibration" what it was chosen on and what it
    changed, and of enough images "known_scores", of `unknown.generalized_entropy`.

    Args:
        probabilities: (N, K); labels: (N,) class indices.
        source: of what the probabilities are.
        present: the temperature that they have already; the one that is chosen comes on top of it.
    """
    temperature = fit_temperature(probabilities, labels, present=present)
    calibrated = tempered(probabilities, temperature)
    before, after = calibration(probabilities, labels), calibration(calibrated, labels)
    known = None
    if len(labels) >= FEWEST:
        scores = generalized_entropy(log_probabilities(calibrated))
        known = {"count": len(labels), "quantiles": quantiles_of(scores)}
    return ({} if known is None else {"known_scores": known}) | {
        "temperature": temperature,
        "calibration": {
            "source": source,
            "count": len(labels),
            "ece": [before["ece"], after["ece"]],
            "nll": [before["nll"], after["nll"]],
        },
    }


def said_of_temperature(chosen: Mapping[str, Any]) -> str:
    found = chosen["calibration"]
    return (
        f"Confidence is calibrated by a temperature of {chosen['temperature']:.2f}, chosen on {found['count']:,} "
        f"{found['source']} (calibration error {percent(found['ece'][1])})."
    )


def give_temperature(net: nn.Module, temperature: float) -> None:
    """Divide the last layer by it, in place."""
    classifier = net.classifier
    assert isinstance(classifier, nn.Linear)
    with torch.no_grad():
        classifier.weight.div_(temperature)
        if classifier.bias is not None:
            classifier.bias.div_(temperature)

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
from torch import nn

from handlens.evaluation.calibration import calibration, fit_temperature, tempered
from handlens.evaluation.unknown import FEWEST, generalized_entropy, quantiles_of
from handlens.figures import percent


def takes_temperature(net: nn.Module) -> bool:
    """Whether its last layer is one that can be divided; of a model of one's own it may be any."""
    return isinstance(getattr(net, "classifier", None), nn.Linear)


def chosen_temperature(probabilities: NDArray[np.float32], labels: NDArray[np.int64], source: str) -> dict[str, Any]:
    """What a run keeps in `ModelInfo.chosen`: "temperature", under "calibration" what it was chosen on and what it
    changed, and of enough images "known_scores": quantiles of `unknown.generalized_entropy`.

    Args:
        probabilities: (N, K) at temperature 1; labels: (N,) class indices.
        source: of what the probabilities are.
    """
    temperature = fit_temperature(probabilities, labels)
    calibrated = tempered(probabilities, temperature)
    before, after = calibration(probabilities, labels), calibration(calibrated, labels)
    scores = generalized_entropy(np.log(calibrated.clip(np.finfo(np.float32).tiny)))
    known = {"known_scores": quantiles_of(scores)} if len(labels) >= FEWEST else {}
    return known | {
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
    before, after = found["ece"]
    return (
        f"Temperature {chosen['temperature']:.2f} from {found['count']:,} {found['source']}: calibration error "
        f"{percent(before)} before, {percent(after)} after."
    )


def give_temperature(net: nn.Module, temperature: float) -> None:
    """Divide the last layer by it, in place."""
    classifier = net.classifier
    assert isinstance(classifier, nn.Linear)
    with torch.no_grad():
        classifier.weight.div_(temperature)
        if classifier.bias is not None:
            classifier.bias.div_(temperature)

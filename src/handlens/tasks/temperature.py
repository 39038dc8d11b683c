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
from handlens.figures import percent


def takes_temperature(net: nn.Module) -> bool:
    """Whether its last layer is one that can be divided; of a model of one's own it may be any."""
    return isinstance(getattr(net, "classifier", None), nn.Linear)


def chosen_temperature(probabilities: NDArray[np.float32], labels: NDArray[np.int64], source: str) -> dict[str, Any]:
    """What a run keeps in `ModelInfo.chosen`: "temperature", and under "calibration" what it was chosen on and what it
    changed.

    Args:
        probabilities: (N, K) at temperature 1; labels: (N,) class indices.
        source: of what the probabilities are.
    """
    temperature = fit_temperature(probabilities, labels)
    before, after = calibration(probabilities, labels), calibration(tempered(probabilities, temperature), labels)
    return {
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

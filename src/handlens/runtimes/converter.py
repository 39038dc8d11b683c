"""Converters of other projects, each in a process and an environment of its own: they want other versions of packages
that we use, take gigabytes, and may die."""

from __future__ import annotations

import hashlib
import os
import shutil
import site
import subprocess
import sys
import sysconfig
import threading
import time
import venv
from collections.abc import Sequence
from importlib.metadata import packages_distributions, version
from importlib.util import find_spec
from pathlib import Path

from filelock import FileLock

from handlens.errors import InputError
from handlens.files import cache_folder
from handlens.reporter import QUIET, Reporter
from handlens.runtimes.alone import OPTIONS, environment
from handlens.runtimes.conversions import keep, key_of, taken

LONGEST = 3600  # seconds of one conversion; the largest nets take minutes
SHARED = ("torch", "torchao", "numpy", "flatbuffers", "ai_edge_litert")  # modules
READY = "ready"  # in an environment that was installed to its end


def run_converter(
    name: str,
    script: Path,
    *arguments: str | Path,
    outputs: Sequence[Path],
    package: str,
    requirements: Path | None = None,
    report: Reporter = QUIET,
) -> None:
    """Run a converter's script to its end, or take what it made of the same files before.

    Args:
        name: of the runtime.
        arguments: of the script; files as paths.
        outputs: those of the arguments that it writes.
        package: what the script imports.
        requirements: what an environment of its own gets; None where it shares ours.

    Raises:
        InputError: there is no converter and none can be installed; it refused, was killed, or took too long.
    """
    python = _python_of(name, package=package, requirements=requirements, report=report)
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu", "PYTHONWARNINGS": "ignore"}
    key = key_of([python, sys.version, _versions(package), script, *arguments], outputs)
    ours = f"HANDLENS_{name.upper()}_PYTHON" not in os.environ  # what is installed there may change unseen
    if ours and taken(key, outputs):
        return
    shared = python == sys.executable
    command = [python, *(OPTIONS if shared else ["-I"]), str(script), *map(str, arguments)]
    done = _waited_for(
        command, "converting", report=report, environment=(environment() if shared else os.environ) | quiet
    )
    if done.returncode < 0:
        raise InputError(
            f"the converter to {name} was killed by signal {-done.returncode}; usually it ran out of memory."
        )
    if done.returncode:
        raise InputError(f"the converter to {name} failed: {_last_line(done.stderr)}")
    if ours:
        keep(key, outputs)


def _versions(package: str) -> str:
    """Of what is installed here and a converter may import; an environment of its own has those of its name, and takes
    what it lacks from here."""
    by_module = packages_distributions()
    found = {name for module in (package, *SHARED) for name in by_module.get(module, ())}
    return " ".join(f"{name} {version(name)}" for name in sorted(found))


def is_installed(name: str, *, package: str, requirements: Path) -> bool:
    """Whether `run_converter` has nothing to install first."""
    named = os.environ.get(f"HANDLENS_{name.upper()}_PYTHON") is not None
    return named or find_spec(package) is not None or (_environment(name, requirements) / READY).is_file()


def _environment(name: str, requirements: Path) -> Path:
    """The folder of an environment with these requirements, whether it is there or not."""
    wanted = requirements.read_bytes() + f"{sys.version} {sysconfig.get_path('purelib')}".encode()
    place = os.environ.get("HANDLENS_CONVERTERS")
    parent = Path(place) if place else cache_folder() / "converters"
    return parent / f"{name}-{hashlib.sha256(wanted).hexdigest()[:12]}"


def _python_of(name: str, *, package: str, requirements: Path | None, report: Reporter) -> str:
    """HANDLENS_<NAME>_PYTHON; or this interpreter, where the package is installed; or that of an environment in the
    cache, or in HANDLENS_CONVERTERS, made once."""
    variable = f"HANDLENS_{name.upper()}_PYTHON"
    if asked := os.environ.get(variable):
        if not os.access(asked, os.X_OK):
            raise InputError(f"{variable} is {asked}, which is not a program.")
        return asked
    if find_spec(package) is not None or requirements is None:
        return sys.executable
    folder = _environment(name, requirements)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not (folder / READY).is_file():
            if os.environ.get("HANDLENS_OFFLINE") == "1":
                raise InputError(
                    f"the converter to {name} is not installed, and HANDLENS_OFFLINE=1 forbids downloading it; set "
                    f"{variable} to the python of an environment with {package}."
                )
            shutil.rmtree(folder, ignore_errors=True)
            _install(name, folder, python, requirements, report=report, variable=variable)
            (folder / READY).touch()
    return str(python)


def _install(name: str, folder: Path, python: Path, requirements: Path, *, report: Reporter, variable: str) -> None:
    report.say(f"Installing the converter to {name} into {folder}, once: about 1 GB.")
    venv.create(folder, with_pip=True)
    # torch and NumPy are taken from here.
    packages = Path(next(folder.glob("lib/python*/site-packages"), folder / "Lib/site-packages"))
    (packages / "handlens-packages.pth").write_text("\n".join(site.getsitepackages()), encoding="utf-8")
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(requirements)]
    done = _waited_for(command, "installing", report=report, environment=dict(os.environ))
    if done.returncode:
        shutil.rmtree(folder, ignore_errors=True)
        raise InputError(
            f"the converter to {name} could not be installed: {_last_line(done.stderr)}; try again with a network, or "
            f"set {variable} to the python of an environment with the packages of {requirements.name}."
        )


def _waited_for(
    command: list[str], what: str, *, report: Reporter, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """The process's end, with signs of life meanwhile."""
    said: list[str] = []
    end = time.monotonic() + LONGEST
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace", env=environment
    ) as process:
        reader = threading.Thread(target=lambda: said.extend(process.stderr or ()), daemon=True)
        reader.start()
        try:
            while process.poll() is None:
                report.progress(what, 0, None)
                if time.monotonic() > end:
                    raise InputError(f"{what} was stopped after {LONGEST // 60} minutes.")
                time.sleep(0.1)
        finally:
            process.kill()  # after Ctrl-C, or too long; else it has ended
        reader.join()
    return subprocess.CompletedProcess(command, process.returncode, "", "".join(said))


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no error message"

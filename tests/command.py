"""The command line: in this process where only its answers matter, in one of its own where the process does."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import subprocess
import sys
from typing import Any
from unittest import mock

import torch

from handlens.cli import run


def handlens(*arguments: object, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one command here, without the seconds that a process needs to import everything.

    It has to leave the process as it was: a user of the package calls the same functions from Python.
    """
    words = [*map(str, arguments)]
    loggers = [name for name, logger in logging.Logger.manager.loggerDict.items() if isinstance(logger, logging.Logger)]
    before = _state(loggers)
    with (
        mock.patch.dict(os.environ, environment),
        contextlib.redirect_stdout(io.StringIO()) as stdout,
        contextlib.redirect_stderr(io.StringIO()) as stderr,
    ):
        code = run(words)
    assert _state(loggers) == before
    return _checked(subprocess.CompletedProcess(words, code, stdout.getvalue(), stderr.getvalue()), check)


def handlens_process(*arguments: object, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one command as a user starts it: for signals, locks, encodings and what the interpreter prints."""
    command = [sys.executable, "-m", "handlens", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment)
    return _checked(done, check)


def _checked(done: subprocess.CompletedProcess[str], check: bool) -> subprocess.CompletedProcess[str]:
    if check and done.returncode:
        raise AssertionError(f"exit {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


def _state(loggers: list[str]) -> dict[str, Any]:
    """What a command could change for whatever runs after it."""
    return {
        "folder": os.getcwd(),  # noqa: PTH109 - as a string, also of a folder that is gone
        "signals": [signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)],
        "logging": {name: logging.getLogger(name).level for name in loggers},
        "threads": torch.get_num_threads(),
        "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "precision": (torch.get_default_dtype(), torch.get_float32_matmul_precision()),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }

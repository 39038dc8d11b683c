"""Parts of a training that are the caller's own: a model, a block, a loss, a transform, callbacks.

A recipe holds the part itself. A file holds its name, `package.module:Name`, from which it is imported again. The name
of an object ends in "(...)", that of a lambda or of what was made in a function has "<...>" in it: such a part is
handed over again by whoever goes on with the run.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Mapping
from functools import partial
from types import MethodType, ModuleType
from typing import Any

from handlens.errors import InputError

NAME = re.compile(r"[^\W\d][\w.]*:[^\W\d<]?[\w.<>]+(\(\.\.\.\))*")  # as `name_of` gives them
IMPORTABLE = re.compile(r"[^\W\d][\w.]*:[^\W\d][\w.]*")


def is_part_name(value: object) -> bool:
    """Whether a text of a file is the name of a part; "C:/a" and "cuda:0" are not."""
    return isinstance(value, str) and NAME.fullmatch(value) is not None and not value.partition(":")[2][0].isdigit()


def name_of(part: Any) -> str:
    """What files call a part; a string is such a name already."""
    if isinstance(part, str):
        return part
    if isinstance(part, partial):
        return f"{name_of(part.func)}(...)"
    if not hasattr(part, "__qualname__"):
        return f"{name_of(type(part))}(...)"
    name = f"{part.__module__}:{part.__qualname__}"
    of_an_object = isinstance(part, MethodType) and not isinstance(part.__self__, type)
    return f"{name}(...)" if of_an_object else name


def named(value: Any) -> Any:
    """A value of a recipe as files have it: parts by their names, in lists and mappings too."""
    if isinstance(value, Mapping):
        return {key: named(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [named(entry) for entry in value]
    return name_of(value) if callable(value) else value


def constructor(name: str) -> Any:
    """A model of the caller's own by its name. It takes `num_classes`: a file from elsewhere can name nothing else.

    Raises:
        InputError: it cannot be imported, or is none.
    """
    part = found(name, None, keyword="model")
    require_num_classes(part)
    return part


def require_num_classes(part: Any) -> None:
    """
    Raises:
        InputError: a callable has no such argument; `**options` alone does not tell a model from anything else.
    """
    try:
        takes_it = "num_classes" in inspect.signature(part).parameters
    except ValueError:  # what is not written in Python
        takes_it = False
    if not takes_it:
        raise InputError(
            f"{name_of(part)} has no argument num_classes, which the constructor of a model must have; add it."
        )


def found(name: str, passed: Any, *, keyword: str) -> Any:
    """The part of this name: what was passed in its place, or else imported.

    Args:
        passed: for the same key; None, or what has another name, does not count.
        keyword: what it is passed by, for the error.

    Raises:
        InputError: neither.
    """
    if callable(passed) and name_of(passed) == name:
        return passed
    again = f"pass it again as {keyword}=..."
    if not IMPORTABLE.fullmatch(name):
        raise InputError(f"{name} cannot be imported, because it was defined inside a function or a script; {again}")
    module, _, path = name.partition(":")
    if module.partition(".")[0] in sys.stdlib_module_names:  # a file from elsewhere must not name what runs commands
        raise InputError(f"{name} is a part of Python itself; a file can name only what a package defines.")
    try:
        part = importlib.import_module(module)
        for attribute in path.split("."):
            part = getattr(part, attribute)
            if isinstance(part, ModuleType):
                raise AttributeError(f"{attribute} is a module")
    except (Exception, SystemExit) as error:  # whatever the module does when it is imported
        raise InputError(f"{name} cannot be imported ({error}); make its package importable, or {again}") from error
    if not callable(part):
        raise InputError(f"{name} is a {type(part).__name__} and cannot be called; it must be a class or a function.")
    return part

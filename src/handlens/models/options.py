"""Names of nets and of their options, checked before a net is made."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from handlens.errors import InputError, nearest

Net = TypeVar("Net")


def construct(name: str, constructors: Mapping[str, Callable[..., Net]], arguments: Mapping[str, Any]) -> Net:
    """Call the constructor of a net with its arguments.

    Raises:
        InputError: no such net, or no such option; the closest match is named.
        ValueError: an option out of range.
    """
    if name not in constructors:
        raise InputError(f"unknown model {name!r}; {nearest(name, constructors)}.")
    constructor = constructors[name]
    known = [key for key in inspect.signature(constructor).parameters if key != "num_classes"]
    for option in arguments:
        if option not in known and option != "num_classes":
            raise InputError(f"{name} has no option {option!r}; {nearest(option, known)}.")
    return constructor(**arguments)

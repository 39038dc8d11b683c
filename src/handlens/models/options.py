"""Names of nets and of their options, checked before a net is made."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from handlens.errors import InputError

Net = TypeVar("Net")


def construct(name: str, constructors: Mapping[str, Callable[..., Net]], arguments: Mapping[str, Any]) -> Net:
    """Call the constructor of a net with its arguments.

    Raises:
        InputError: no such net, or no such option; the nearest is named.
        ValueError: an option out of range.
    """
    if name not in constructors:
        raise InputError(f"there is no net called {name!r}; {nearest(name, constructors)}.")
    constructor = constructors[name]
    known = [key for key in inspect.signature(constructor).parameters if key != "num_classes"]
    for option in arguments:
        if option not in known and option != "num_classes":
            raise InputError(f"{name} has no option {option!r}; {nearest(option, known)}.")
    return constructor(**arguments)


def nearest(name: str, known: Collection[str]) -> str:
    """Half a sentence: the nearest of the known names, or all of them."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.7)
    return f"the nearest is {near[0]!r}" if near else f"there are {', '.join(known)}"

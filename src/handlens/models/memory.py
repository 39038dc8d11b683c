"""What a recorded net holds in memory while it runs; `models.cost` says by which convention."""

from __future__ import annotations

from collections.abc import Sequence

from handlens.models.arena import Buffer, bookkeeping, file_size
from handlens.models.operators import FUSED, POINTWISE, WEIGHTED
from handlens.models.recorder import Call, Map, Recorder


def blocks(recorder: Recorder) -> list[list[int]]:
    """Calls of one block together: of "stem", "blocks.3", "head" ...; others each on their own."""
    groups: list[list[int]] = []
    last = None
    for number, call in enumerate(recorder.calls):
        parts = call.module.split(".")
        part = ".".join(parts[:2]) if parts[0] == "blocks" else parts[0]
        if part and part == last:
            groups[-1].append(number)
        else:
            groups.append([number])
        last = part
    return groups


def buffers(recorder: Recorder, *, padded: bool = True) -> list[Buffer]:
    """The maps as LiteRT has them: norms and activations are part of the layer before, sums have a map of their
    own, and what is padded has a copy.

    Args:
        padded: False counts that as free.
    """
    operators: list[int] = []  # of every call
    # By operator: what the last call that became part of it makes.
    result: dict[int, Map] = {}
    found: list[Buffer] = []
    number = -1
    for call in recorder.calls:
        if _fused(call):
            operators.append(operators[call.inputs[0].made_by])
        else:
            if padded and call.padded:
                number += 1
                found.append(Buffer(call.padded, number, number + 1))
            number += 1
            operators.append(number)
        result[operators[-1]] = call.output
    for first, made in [(-1, recorder.image), *result.items()]:
        last = max(made.needed_by, default=-1)
        reader = number if last == len(recorder.calls) else operators[last] if last >= 0 else first
        # Where the layer that reads it last is padded, the copy before it does.
        copied = padded and 0 <= last < len(recorder.calls) and recorder.calls[last].padded > 0
        found.append(Buffer(made.numbers, first, reader - copied))
    return found


def micro_bytes(recorder: Recorder) -> tuple[int, int]:
    """What TFLite Micro keeps beside the maps, and the size of the file, in int8."""
    weighted = [call for call in recorder.calls if call.operator in WEIGHTED]
    others = [call for call in recorder.calls if call.operator not in WEIGHTED and not _fused(call)]
    counts = {
        "weighted": len(weighted),
        "channels": sum(call.shape[0] for call in weighted),
        "others": len(others) + sum(call.padded > 0 for call in recorder.calls),
    }
    return bookkeeping(**counts), file_size(weights=sum(call.weights for call in weighted), **counts)


def peak(recorder: Recorder, groups: Sequence[Sequence[int]], *, padded: bool = False) -> tuple[int, str]:
    """The most numbers held while a group of calls runs as one operator, and by which.

    Args:
        padded: what LiteRT pads is copied; groups are single calls.
    """
    names = recorder.call_names()
    maps = [recorder.image, *(call.output for call in recorder.calls)]
    most, at = 0, ""
    for group in groups:
        first, last = group[0], group[-1]
        # Made before and still needed, by this group or later; made here and needed later.
        held = sum(m.numbers for m in maps if m.made_by < first and max(m.needed_by, default=-1) >= first)
        made = sum(m.numbers for m in maps if first <= m.made_by <= last and max(m.needed_by, default=last) > last)
        call = recorder.calls[last]
        if len(group) == 1 and call.operator in POINTWISE:
            free = [m for m in call.inputs if max(m.needed_by) == last and m.numbers == call.output.numbers]
            made = 0 if free else made
        if padded and call.padded:  # the copy is made of the input, and then alone of use
            read = sum(m.numbers for m in call.inputs if max(m.needed_by) == last)
            made = call.padded + max(0, made - read)
        if held + made > most:
            most, at = held + made, names[first] if len(group) == 1 else _block_of(recorder.calls[first].module)
    return most, at


def _fused(call: Call) -> bool:
    """A norm or an activation that LiteRT makes part of the layer before."""
    before = call.inputs[0]
    return call.operator in FUSED and before.made_by >= 0 and len(set(before.needed_by)) == 1


def _block_of(module: str) -> str:
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "blocks" else parts[0]

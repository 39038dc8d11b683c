"""How large images go into a net, where neither the recipe nor the net says."""

from __future__ import annotations

from collections.abc import Sequence

from handlens.data.record import Record


def usual_size(records: Sequence[Record], *, longest: int, enlarge: bool = False) -> tuple[int, int]:
    """(height, width) of the middle image by area, no side above `longest`, in multiples of 8."""
    sizes = sorted((upright_size(record) for record in records), key=lambda size: size[0] * size[1])
    height, width = sizes[len(sizes) // 2]
    scale = longest / max(height, width)
    scale = scale if enlarge else min(1.0, scale)
    return max(32, round(height * scale / 8) * 8), max(32, round(width * scale / 8) * 8)


def upright_size(record: Record) -> tuple[int, int]:
    """(height, width) of the upright image, from its header."""
    from handlens.data.decode import probe

    info = probe(record.path.read_bytes(), record.id)
    return info.height, info.width

"""A font that has the characters to be drawn: class names are in every script."""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path

from PIL import ImageFont


def label_font(text: str, size: int) -> ImageFont.FreeTypeFont:
    """A font of `size` pixels that has every character of `text`, or the one that has most of them."""
    return ImageFont.truetype(str(font_file("".join(sorted(set(text))))), size)


@lru_cache(maxsize=256)
def font_file(characters: str) -> Path:
    """The first font file that has all `characters`: matplotlib's, the Korean one of the extra `fonts` (found without
    importing it: importing changes matplotlib's settings), then the system's.
    """
    own = _package_file("matplotlib", "mpl-data/fonts/ttf/DejaVuSans.ttf")
    korean = _package_file("koreanize_matplotlib", "fonts/NanumGothic.ttf")
    bundled = [path for path in (own, korean) if path is not None]
    best, most = bundled[0], -1
    for path in bundled:
        covered = _covered(path, characters)
        if covered > most:
            best, most = path, covered
        if most == len(characters):
            return best
    from matplotlib import font_manager  # slow to import, and rarely needed

    for name in font_manager.findSystemFonts():
        covered = _covered(Path(name), characters)
        if covered > most:
            best, most = Path(name), covered
        if most == len(characters):
            break
    return best


def _package_file(package: str, relative: str) -> Path | None:
    """None where the package is not installed."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / relative


def _covered(path: Path, characters: str) -> int:
    codes = _codes(path)
    return sum(ord(character) in codes for character in characters)


@lru_cache(maxsize=64)
def _codes(path: Path) -> frozenset[int]:
    from fontTools.ttLib import TTFont, TTLibError  # comes with matplotlib

    try:
        with TTFont(path, fontNumber=0, lazy=True) as font:
            return frozenset(font.getBestCmap() or {})
    except (TTLibError, OSError):  # a broken font on the user's system is no reason to stop
        return frozenset()

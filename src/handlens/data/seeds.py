"""Random numbers that depend on what they are for, never on when or where they are drawn."""

from __future__ import annotations

import hashlib


def seed_for(*key: int | str) -> int:
    """A 63-bit seed for a purpose, for example (seed, "augment", epoch, index)."""
    digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1

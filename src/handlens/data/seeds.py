"""Random numbers that depend on what they are for, never on when or where they are drawn."""

from __future__ import annotations

import hashlib


def seed_for(*key: int | str) -> int:
    """A 63-bit seed for a purpose, for example (seed, "augment", epoch, index)."""
    digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def seed_torch(seed: int) -> None:
    """What torch draws from here on, on the processor and on a GPU that is in use.

    `torch.manual_seed` would ask for GPUs that nobody uses, and keep the request and a traceback for later: half a
    millisecond and some kilobytes for every image.
    """
    import torch

    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)

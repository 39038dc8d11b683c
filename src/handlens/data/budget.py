"""How much memory decoded images may take at once, over all threads of a process.

Two threads with an image of 170 megapixels each would need 3 GB: they take turns instead. Photographs of usual size
never wait.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

MOST = 1_440_000_000  # bytes; our choice: the largest image that is decoded takes as much by itself
SMALL = 4_000_000  # bytes below which nothing is counted


class Budget:
    """
    Args:
        most: bytes.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.restart()

    def restart(self) -> None:
        """In a process that was forked: what other threads held there is not held here."""
        self._free = self.most
        self._changed = threading.Condition()
        self._turn = threading.Lock()
        self._block = threading.local()

    def divide(self, processes: int) -> None:
        """This process has its share of what so many may take together; one image may still be as large as before, and
        then goes alone here."""
        self.most = MOST // max(1, processes)
        self.restart()

    @contextmanager
    def take(self, amount: int) -> Iterator[None]:
        """Wait until so many bytes are free, and keep them: to the end of this block, or of the thread's `hold`.

        One that asks for more than there is waits for all others and goes alone. Within a `hold` that has taken already
        nothing waits: two threads that wait for each other's halves would wait for ever.
        """
        amount = min(amount, self.most)
        held: list[int] | None = getattr(self._block, "held", None)
        if held is None:
            with self.hold(), self.take(amount):
                yield
            return
        if amount < SMALL or held:
            yield
            return
        with self._turn, self._changed:  # in turn: a large image is not overtaken for ever
            self._changed.wait_for(lambda: self._free >= amount)
            self._free -= amount
        held.append(amount)
        yield

    @contextmanager
    def hold(self) -> Iterator[None]:
        """What this thread takes inside is kept until the end: for whoever decodes an image and makes it small."""
        if getattr(self._block, "held", None) is not None:
            yield
            return
        self._block.held = []
        try:
            yield
        finally:
            amount, self._block.held = sum(self._block.held), None
            if amount:
                self._give_back(amount)

    def _give_back(self, amount: int) -> None:
        with self._changed:
            self._free += amount
            self._changed.notify_all()


BUDGET = Budget(MOST)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=BUDGET.restart)

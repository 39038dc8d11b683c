"""The memory of decoded images, over all threads."""

from __future__ import annotations

import os
import threading
import time

from handlens.data.budget import MOST, SMALL, Budget


def test_large_images_take_turns_and_small_ones_pass() -> None:
    budget, most, now = Budget(10 * SMALL), [0], [0]
    lock = threading.Lock()

    def work() -> None:
        with budget.take(6 * SMALL):
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            with budget.take(SMALL - 1):
                time.sleep(0.01)
            with lock:
                now[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert (most, now) == ([1], [0])


def test_one_that_asks_for_more_than_there_is_goes_alone() -> None:
    budget = Budget(10 * SMALL)
    with budget.take(1000 * SMALL):
        assert budget._free == 0
    assert budget._free == 10 * SMALL


def test_what_is_taken_within_a_hold_is_kept_to_its_end() -> None:
    budget = Budget(10 * SMALL)
    with budget.hold():
        with budget.take(6 * SMALL):
            pass
        assert budget._free == 4 * SMALL
        with budget.take(9 * SMALL):  # does not wait for itself
            pass
        with budget.hold():
            pass
        assert budget._free == 4 * SMALL
    assert budget._free == 10 * SMALL


def test_an_error_gives_back() -> None:
    budget = Budget(10 * SMALL)
    for block in (lambda: budget.take(6 * SMALL), budget.hold):
        try:
            with block(), budget.take(6 * SMALL):
                raise ValueError
        except ValueError:
            pass
    assert budget._free == 10 * SMALL


def test_a_loader_process_has_its_share() -> None:
    budget = Budget(MOST)
    budget.divide(4)
    assert budget.most == MOST // 4
    with budget.take(MOST):  # an image that is too large for the share goes alone
        assert budget._free == 0


def test_a_forked_process_holds_nothing() -> None:
    from handlens.data.budget import BUDGET

    with BUDGET.take(BUDGET.most):
        child = os.fork()
        if child == 0:
            with BUDGET.take(BUDGET.most):
                os._exit(0)
        assert os.waitpid(child, 0)[1] == 0

"""Workers that die or hang cost one item each."""

import os
import signal
import time

import pytest

from tf_dicom_ce.workers import Outage, guarded_map


def work(item):
    if item == "die":
        os.kill(os.getpid(), signal.SIGSEGV)
    if item == "hang":
        time.sleep(60)
    if item == "raise":
        raise ValueError("on purpose")
    return item * 2


def test_results_come_in_order():
    items = range(100)
    assert list(guarded_map(work, items, lost=lambda _: None, workers=2, chunk=7)) == [
        2 * k for k in items
    ]
    assert list(guarded_map(work, [], lost=lambda _: None)) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_a_death_costs_one_item(workers):
    items = [1, 2, "die", 3, "die", "die", 4, 5, "die"]
    found = list(guarded_map(work, items, lost=lambda x: x, workers=workers, chunk=3))
    died = Outage.DIED
    assert found == [2, 4, died, 6, died, died, 8, 10, died]


def test_a_hang_costs_one_item_and_its_time():
    start = time.monotonic()
    found = list(guarded_map(work, [1, "hang", 2], lost=lambda x: x, workers=1, timeout=0.5))
    assert found == [2, Outage.TIMED_OUT, 4]
    assert time.monotonic() - start < 30


def test_an_exception_reaches_the_caller():
    with pytest.raises(ValueError, match="on purpose"):
        list(guarded_map(work, ["raise"], lost=lambda x: x))


def test_items_are_taken_as_needed():
    taken = []

    def items():
        for k in range(10_000):
            taken.append(k)
            yield k

    results = guarded_map(work, items(), lost=lambda x: x, workers=2, chunk=4)
    next(results)
    time.sleep(0.2)
    next(results)
    assert len(taken) <= 4 * 2 * 4
    results.close()

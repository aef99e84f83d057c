"""Calls whose process dies or hangs."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from tf_dicom_ce.workers import Failure, GuardedCalls, Outage


def process(*arguments):
    return os.getpid(), arguments


def die():
    os.kill(os.getpid(), signal.SIGSEGV)


def hang():
    time.sleep(60)


def fail():
    raise ValueError("DOE^JOHN")


def take_all_memory():
    return bytearray(1 << 40)


def test_a_worker_outlives_a_call():
    calls = GuardedCalls(timeout=30)
    first, arguments = calls.call(process, "a", 1)
    assert arguments == ("a", 1)
    assert calls.call(process) == (first, ())
    assert calls.call(fail) == Failure("ValueError")
    assert calls.call(take_all_memory) == Failure("MemoryError")
    assert calls.call(process) == (first, ())
    assert first != os.getpid()


def test_death_and_hang_cost_one_call():
    calls = GuardedCalls(timeout=0.5)
    with ThreadPoolExecutor(4) as threads:
        functions = (process, die, hang, process)
        found = list(threads.map(calls.call, functions))
        assert found[1:3] == [Outage.DIED, Outage.TIMED_OUT]
        assert found[0][1] == found[3][1] == ()
        again = list(threads.map(calls.call, [process] * 4))
    assert all(arguments == () for _, arguments in again)


def test_workers_end_with_their_owner():
    calls = GuardedCalls(timeout=30)
    worker, _ = calls.call(process)
    os.kill(worker, 0)
    del calls
    for _ in range(100):
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    raise AssertionError("the worker lives on")


def test_workers_load_no_tensorflow():
    modules = "tf_dicom_ce.workers, tf_dicom_ce.results.source, tf_dicom_ce.results.files"
    program = f"import sys, {modules};sys.exit('tensorflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)

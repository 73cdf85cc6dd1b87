"""Work on many models in processes of their own, because one interpreter runs one thread at a time.

They are forked: what this process read or asked for, such as a passphrase, is there already, and
no secret is sent to them. So they have to be made before any thread is.
"""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Final

from modelseal.errors import OutOfMemory

_PR_SET_PDEATHSIG: Final = 1
_FOR_THE_PARENT: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def forked(count: int, begin: Callable[[], object]) -> Iterator[ProcessPoolExecutor]:
    """Yield processes that call `begin` first; leaving the block lets each end what it has begun.

    What interrupts this process does not interrupt them; they never outlive it.

    Raises:
        OutOfMemory: one of them was killed, which is what the kernel does where memory ends.

    """
    pool = ProcessPoolExecutor(
        count,
        mp_context=multiprocessing.get_context("fork"),
        initializer=_begin,
        initargs=(os.getpid(), begin),
    )
    try:
        yield pool
    except BrokenProcessPool:
        raise OutOfMemory(
            "failed to go on: a process was killed",
            hint="run the command again with fewer --jobs; it goes on where it was",
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(parent: int, begin: Callable[[], object]) -> None:
    for number in _FOR_THE_PARENT:
        signal.signal(number, signal.SIG_IGN)
    end_with(parent, signal.SIGKILL)
    begin()


def end_with(parent: int, number: signal.Signals) -> None:
    """Have the kernel send this process a signal when its parent is gone, however it went."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:  # it went before the kernel was asked
        sys.exit(1)

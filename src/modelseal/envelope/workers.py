"""Runs of segments, shared out to threads (docs/format.md, section 8.5).

Runs are taken in order and worked on in parallel. A failure stops the taking, runs that were taken
before are finished, and of several failures the one of the first run is raised: what is reported
depends on the data, not on which thread was faster.
"""

import contextlib
import os
import threading
from collections.abc import Callable
from typing import Final, Protocol

MAX_THREADS: Final = 8
RUN_LENGTH: Final = 4 << 20
"""Bytes of ciphertext that a thread has in hand, in whole segments.

From 1 to 16 MiB the speed is the same for a local file; less would make many small requests to a
remote one, more would only cost memory.
"""

Progress = Callable[[int], None]
"""Called with the bytes that are done since its last call; by one thread at a time."""


class Worker(Protocol):
    """What one thread does; it owns its buffers."""

    def take(self, run: int) -> None:
        """Prepare a run; called for each run in order, by one thread at a time."""

    def work(self, run: int) -> None:
        """Do the rest; called in parallel."""

    def close(self) -> None:
        """Wipe and drop the buffers."""


def default_threads() -> int:
    """Return as many threads as this process may use processors, within a bound."""
    return min(len(os.sched_getaffinity(0)), MAX_THREADS)


def share_out(runs: int, threads: int, make_worker: Callable[[], Worker]) -> None:
    """Take and work on each of `runs` runs, with at most `threads` threads.

    Raises:
        BaseException: what the first run that failed raised, after all threads have ended; or what
            interrupted the calling thread.

    """
    board = _Board(runs)
    if min(runs, threads) <= 1:
        board.serve(make_worker)
    else:
        _serve_in_threads(board, min(runs, threads), make_worker)
    board.raise_first()


class _TakeFailed(Exception):
    """Carries which run could not be prepared."""

    def __init__(self, run: int, cause: BaseException) -> None:
        super().__init__()
        self.run = run
        self.cause = cause


class _Board:
    """Hands out runs, and remembers failures."""

    def __init__(self, runs: int) -> None:
        self._runs = iter(range(runs))
        self._lock = threading.Lock()
        self._failures: dict[int, BaseException] = {}
        self._stopped = False

    def stop(self) -> None:
        """Hand out no more runs."""
        self._stopped = True

    def raise_first(self) -> None:
        """Raise the failure of the first run that failed, if any did."""
        if self._failures:
            try:
                raise self._failures[min(self._failures)]
            finally:
                self._failures.clear()

    def serve(self, make_worker: Callable[[], Worker]) -> None:
        """Take runs and work on them until there are none left or one failed."""
        run = -1
        try:
            worker = make_worker()
            try:
                while (run := self._take(worker)) >= 0:
                    worker.work(run)
            finally:
                worker.close()
        except _TakeFailed as failed:
            self._fail(failed.run, failed.cause)
        except BaseException as error:
            self._fail(run, error)

    def _take(self, worker: Worker) -> int:
        with self._lock:
            run = -1 if self._stopped else next(self._runs, -1)
            if run >= 0:
                try:
                    worker.take(run)
                except BaseException as error:
                    raise _TakeFailed(run, error) from error
            return run

    def _fail(self, run: int, error: BaseException) -> None:
        self.stop()
        self._failures[run] = error


def _serve_in_threads(board: _Board, count: int, make_worker: Callable[[], Worker]) -> None:
    threads = [
        threading.Thread(target=board.serve, args=(make_worker,), name=f"segments-{number}")
        for number in range(count)
    ]
    started: list[threading.Thread] = []
    try:
        with contextlib.suppress(RuntimeError):  # no room for another stack: fewer will do
            for thread in threads:
                thread.start()
                started.append(thread)
        if not started:
            board.serve(make_worker)
        for thread in started:
            thread.join()
    finally:
        board.stop()
        for thread in started:
            thread.join()

"""A bounded queue in front of as many workers as there are infer requests.

The event loop submits and waits; workers run whole requests (parse, infer, encode), so each request
is handed over once in each direction. What does not fit into the queue is refused at once.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, Final, TypeVar

from modelseal_runtime.protocol.failure import Failure, Kind

Result = TypeVar("Result")


@dataclass(kw_only=True, slots=True, eq=False)
class Job:
    """One request on its way; `future` belongs to the event loop, the rest to the worker."""

    work: Callable[[], Any]
    future: asyncio.Future[Any]
    queued: float = field(default_factory=time.perf_counter)
    waited: float = 0.0
    took: float = 0.0
    abandoned: bool = False


class Scheduler:
    """Runs work on worker threads; every method but the workers' own is for the event loop."""

    def __init__(self, *, queue_size: int, observe: Callable[[Job], None]) -> None:
        self._loop: Final = asyncio.get_running_loop()
        self._queue_size: Final = queue_size
        self._observe: Final = observe
        self._queue: Final[SimpleQueue[Job]] = SimpleQueue()
        self._jobs: Final[set[Job]] = set()
        self._workers = 0
        self._last = 0.0

    @property
    def workers(self) -> int:
        """How many requests run at a time."""
        return self._workers

    @property
    def unfinished(self) -> int:
        """How many requests wait or run."""
        return len(self._jobs)

    @property
    def waiting(self) -> int:
        """How many requests wait for a worker."""
        return self._queue.qsize()

    def busy_since(self, moment: float) -> bool:
        """Whether a request came after `moment` (monotonic clock), or is not finished."""
        return bool(self._jobs) or self._last > moment

    def start(self, workers: int) -> None:
        """Start worker threads; callable from any thread, once."""
        self._workers = workers
        for number in range(workers):
            threading.Thread(target=self._work, name=f"infer-{number}", daemon=True).start()

    async def run(self, work: Callable[[], Result], seconds: float) -> Result:
        """Run `work` on a worker and return its result.

        Raises:
            Failure: the queue is full, or there is no result after `seconds`.
            Exception: what `work` raises.

        """
        if len(self._jobs) >= self._queue_size + self._workers:
            raise Failure(Kind.BUSY, "the queue is full; try again later")
        self._last = time.monotonic()
        job = Job(work=work, future=self._loop.create_future())
        self._jobs.add(job)
        self._queue.put(job)
        timer = self._loop.call_later(seconds, _expire, job)
        try:
            result: Result = await job.future
        finally:
            timer.cancel()
            job.abandoned = True
        return result

    def fail_all(self, failure: Failure) -> None:
        """Answer everything that waits or runs with a failure; callable from any thread."""
        self._loop.call_soon_threadsafe(self._fail_all, failure)

    def _fail_all(self, failure: Failure) -> None:
        for job in self._jobs:
            _settle(job, None, failure)

    def _work(self) -> None:
        while True:
            job = self._queue.get()
            result, error = _run(job)
            with contextlib.suppress(RuntimeError):  # the loop is closed, so nobody waits
                self._loop.call_soon_threadsafe(self._done, job, result, error)
            del job, result, error  # nothing of a request outlives it here

    def _done(self, job: Job, result: Any, error: BaseException | None) -> None:
        self._jobs.discard(job)
        self._observe(job)
        _settle(job, result, error)


def _run(job: Job) -> tuple[Any, BaseException | None]:
    started = time.perf_counter()
    job.waited = started - job.queued
    if job.abandoned:
        return None, None
    try:
        return job.work(), None
    except Exception as error:  # handed to whoever waits; the worker lives on
        return None, error if not isinstance(error, StopIteration) else _unexpected()
    except BaseException:  # such as SystemExit, which would end the event loop
        return None, _unexpected()
    finally:
        job.took = time.perf_counter() - started


def _settle(job: Job, result: Any, error: BaseException | None) -> None:
    if job.future.done():
        return
    if error is not None:
        job.future.set_exception(error)
    else:
        job.future.set_result(result)


def _expire(job: Job) -> None:
    _settle(job, None, Failure(Kind.TIMEOUT, "the request took longer than is allowed"))


def _unexpected() -> Failure:
    return Failure(Kind.INTERNAL, "the server failed to answer")

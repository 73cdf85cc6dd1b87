"""A bounded queue in front of as many workers as there are infer requests.

The event loop submits and gets answers by calls; workers run whole requests (parse, infer, encode),
so each request is handed over once in each direction. What does not fit into the queue is refused
at once.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeVar

from modelseal_runtime.batching import Batching, Inference, Outcome, run_together
from modelseal_runtime.protocol.failure import Failure, Kind

SLOW_SECONDS: Final = 0.002
"""One that was expected to be short and took so long sends the next ones to the workers."""
CAUTIOUS_REQUESTS: Final = 1000
"""How many they are."""

Result = TypeVar("Result")
Settle = Callable[[Any, BaseException | None], None]


class Job:
    """One request on its way; `settle` is called once, on the event loop."""

    __slots__ = ("abandoned", "queued", "settle", "timer", "together", "took", "waited", "work")

    def __init__(self, work: Callable[[], Any], settle: Settle) -> None:
        self.work: Callable[[], Any] = work
        self.settle: Settle | None = settle
        self.queued: Final = time.perf_counter()
        self.waited = 0.0
        self.took = 0.0
        self.together = 1
        """How many requests ran in one inference."""
        self.abandoned = False
        """Nobody waits for the result any more."""
        self.timer: asyncio.TimerHandle | None = None


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
        self._inline_bytes = -1
        self._batching: Batching | None = None
        self._cautious = 0

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

    def start(
        self, workers: int, *, inline_bytes: int = -1, batching: Batching | None = None
    ) -> None:
        """Start worker threads; callable from any thread, once.

        With `batching`, those of the waiting requests that are inferences run together.

        A request of up to `inline_bytes` that comes while nothing else runs is run on the event
        loop itself, which is right only where that takes no longer than handing it over.
        """
        self._inline_bytes = inline_bytes if batching is None else -1
        self._batching = batching
        self._workers = workers
        for number in range(workers):
            threading.Thread(target=self._work, name=f"infer-{number}", daemon=True).start()

    def submit(self, work: Callable[[], Any], seconds: float, settle: Settle, *, size: int) -> Job:
        """Run `work`; call `settle` with its result, its exception, or a failure.

        Args:
            work: a whole request.
            seconds: after which nobody waits any more.
            settle: called once, on the event loop, possibly before this returns.
            size: the request's bytes.

        Raises:
            Failure: the queue is full.

        """
        if size <= self._inline_bytes and not self._jobs:
            if not self._cautious:
                return self._run_here(Job(work, settle))
            self._cautious -= 1
        if len(self._jobs) >= self._queue_size + self._workers:
            raise Failure(Kind.BUSY, "the queue is full; try again later")
        self._last = time.monotonic()
        job = Job(work, settle)
        self._jobs.add(job)
        job.timer = self._loop.call_later(seconds, self._expire, job)
        self._queue.put(job)
        return job

    def _run_here(self, job: Job) -> Job:
        self._last = time.monotonic()
        result, error = _run(job)
        if job.took > SLOW_SECONDS:
            self._cautious = CAUTIOUS_REQUESTS
        self._observe(job)
        _settle(job, result, error)
        return job

    def abandon(self, job: Job) -> None:
        """Forget a request whose client is gone: it does not run, if it still waits."""
        job.settle = None
        _finish(job)

    async def run(
        self, work: Callable[[], Result], seconds: float, *, size: int = 1 << 40
    ) -> Result:
        """Run `work` as `submit` does and return its result.

        Raises:
            Failure: the queue is full, or there is no result after `seconds`.
            Exception: what `work` raises.

        """
        future: asyncio.Future[Result] = self._loop.create_future()

        def settle(result: Any, error: BaseException | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        job = self.submit(work, seconds, settle, size=size)
        try:
            return await future
        except asyncio.CancelledError:
            self.abandon(job)
            raise

    def fail_all(self, failure: Failure) -> None:
        """Answer everything that waits or runs with a failure; callable from any thread."""
        self._loop.call_soon_threadsafe(self._fail_all, failure)

    def _fail_all(self, failure: Failure) -> None:
        for job in tuple(self._jobs):
            _settle(job, None, failure)

    def _expire(self, job: Job) -> None:
        _settle(job, None, Failure(Kind.TIMEOUT, "the request took longer than is allowed"))

    def _work(self) -> None:
        while True:
            jobs = [self._queue.get()]
            if self._batching is not None:
                self._collect(jobs, self._batching)
            for job, (result, error) in zip(jobs, _run_all(jobs, self._batching), strict=True):
                with contextlib.suppress(RuntimeError):  # the loop is closed, so nobody waits
                    self._loop.call_soon_threadsafe(self._done, job, result, error)
            jobs.clear()
            del job, result, error  # nothing of a request outlives it here

    def _collect(self, jobs: list[Job], batching: Batching) -> None:
        """Add what waits already, and what comes while the first may wait."""
        until = time.perf_counter() + batching.seconds
        while len(jobs) < batching.rows:
            left = until - time.perf_counter()
            try:
                jobs.append(self._queue.get(left > 0, max(left, 0.0) or None))
            except Empty:
                return

    def _done(self, job: Job, result: Any, error: BaseException | None) -> None:
        self._jobs.discard(job)
        self._observe(job)
        _settle(job, result, error)


def _run(job: Job) -> Outcome:
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


def _run_all(jobs: Sequence[Job], batching: Batching | None) -> list[Outcome]:
    if len(jobs) == 1 or batching is None:
        return [_run(job) for job in jobs]
    started = time.perf_counter()
    works = {index: job.work for index, job in enumerate(jobs) if not job.abandoned}
    shared = {index: work for index, work in works.items() if isinstance(work, Inference)}
    found = dict(zip(shared, run_together([*shared.values()], batching.rows), strict=True))
    took = time.perf_counter() - started
    for index in found:
        job = jobs[index]
        job.waited, job.took, job.together = started - job.queued, took, len(found)
    return [found[index] if index in found else _run(job) for index, job in enumerate(jobs)]


def _settle(job: Job, result: Any, error: BaseException | None) -> None:
    settle, job.settle = job.settle, None
    _finish(job)
    if settle is not None:
        settle(result, error)


def _finish(job: Job) -> None:
    job.abandoned = True
    job.work = _nothing  # what it holds of the request is free, even while it waits in the queue
    if job.timer is not None:
        job.timer.cancel()
        job.timer = None


def _nothing() -> None:
    """Stand for the work of a job that nobody waits for."""


def _unexpected() -> Failure:
    return Failure(Kind.INTERNAL, "the server failed to answer")

"""How the main thread sleeps and is woken: by other threads, and by signal handlers.

`queue.SimpleQueue.put` is reentrant, so ringing from a signal handler cannot deadlock; a condition
or an event could.
"""

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from typing import Final, Generic, TypeVar

T = TypeVar("T")


def boottime() -> float:
    """Return seconds since boot, sleep of the machine included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Stopped(Exception):
    """Somebody asked the agent to end; not an error."""


class Wake:
    """A bell for the main thread, and whether it was told to stop."""

    def __init__(self) -> None:
        self._bell: Final[queue.SimpleQueue[None]] = queue.SimpleQueue()
        self.stopping = False

    def now(self) -> float:
        """Return the time that deadlines are made of: seconds since boot."""
        return boottime()

    def ring(self) -> None:
        """Wake the main thread, or make its next wait return at once."""
        self._bell.put(None)

    def stop(self) -> None:
        """Ask the agent to end; safe in a signal handler."""
        self.stopping = True
        self._bell.put(None)

    def wait(self, seconds: float) -> None:
        """Sleep until the bell rings or the time has passed."""
        with contextlib.suppress(queue.Empty):
            self._bell.get(timeout=max(seconds, 0.0))
            while True:
                self._bell.get_nowait()

    def wait_until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Sleep until the condition holds, the time has passed, or the agent is to stop."""
        deadline = self.now() + seconds
        while not condition():
            left = deadline - self.now()
            if self.stopping or left <= 0:
                return False
            self.wait(min(left, 1.0))
        return True

    def check(self) -> None:
        """Raise `Stopped` where the agent was told to stop."""
        if self.stopping:
            raise Stopped


class Task(Generic[T]):
    """A call in a thread of its own, whose end rings the bell.

    The thread is a daemon: a call that hangs in the network does not keep the program alive.
    """

    def __init__(self, wake: Wake, call: Callable[[], T], name: str) -> None:
        self.begun: Final = wake.now()
        self._wake: Final = wake
        self._call: Final = call
        self._result: T
        self._error: BaseException | None = None
        self._thread: Final = threading.Thread(target=self._run, name=name, daemon=True)
        self._done = threading.Event()
        self._thread.start()

    @property
    def done(self) -> bool:
        """Whether the call has ended."""
        return self._done.is_set()

    def wait(self, seconds: float) -> bool:
        """Sleep until the call has ended, or the time has passed."""
        return self._done.wait(seconds)

    def result(self) -> T:
        """Return what the call returned, or raise what it raised; it must have ended."""
        if self._error is not None:
            raise self._error
        return self._result

    def _run(self) -> None:
        try:
            self._result = self._call()
        except BaseException as error:  # raised again where the result is read
            self._error = error
        finally:
            self._done.set()
            self._wake.ring()

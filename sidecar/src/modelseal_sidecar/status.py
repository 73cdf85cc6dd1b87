"""What the agent is doing now: one immutable value, held where every thread may read it."""

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from modelseal.contract import Delivery, Reason, Stage
from modelseal.errors import ModelsealError


@dataclass(frozen=True, kw_only=True)
class RuntimeStatus:
    """What the runtime at the other end of the socket told."""

    connected: bool = False
    rejected: bool = False
    """A process of another user tried to connect, and none of the expected one has since."""
    result: Reason | None = None
    """How loading went: `Serving`, or why it failed; `None` while it has not said."""
    device: str | None = None
    load_seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Status:
    """A snapshot of the agent."""

    delivery: Delivery
    model: str
    stage: Stage = Stage.SETTINGS
    reason: Reason = Reason.STARTING
    since: datetime
    attempts: int = 0
    """Tries of an opening that failed since the model was last delivered."""
    started: bool = False
    """The startup probe's answer: listening (memfd) or delivered (tmpfs)."""
    healthy: bool = True
    """The model container's liveness: false from a revocation until it has ended (section 8)."""
    version: str | None = None
    digest: str | None = None
    key_version: int | None = None
    model_size: int | None = None
    """Bytes of memory for the signed files, whole pages each: what has to be declared."""
    lease_until: datetime | None = None
    """When the lease ends if the key service cannot be asked from now on."""
    posture: tuple[tuple[str, str | int | bool | None], ...] = ()
    runtime: RuntimeStatus = RuntimeStatus()


def utc_now() -> datetime:
    """Return the wall clock's time in UTC."""
    return datetime.now(UTC)


def seconds_until(moment: datetime | None) -> float:
    """Return the seconds until a moment of the wall clock; `None` is never."""
    return math.inf if moment is None else (moment - utc_now()).total_seconds()


class Board:
    """The current status; every method may be called from any thread."""

    def __init__(self, status: Status, now: Callable[[], datetime] = utc_now) -> None:
        self._status = status
        self._now: Final = now
        self._lock: Final = threading.Lock()
        self._failed: Stage | None = None

    def read(self) -> Status:
        """Return the current snapshot."""
        with self._lock:
            return self._status

    @property
    def failed(self) -> Stage | None:
        """The stage that failed last and was not passed since."""
        with self._lock:
            return self._failed

    def change(self, **fields: Any) -> None:
        """Replace fields; `since` follows a change of stage or reason."""
        with self._lock:
            self._replace(fields)

    def change_runtime(self, **fields: Any) -> None:
        """Replace fields of what the runtime told."""
        with self._lock:
            self._replace({"runtime": replace(self._status.runtime, **fields)})

    def enter(self, stage: Stage) -> None:
        """Note the stage of an opening.

        While an earlier failure at this stage or a later one is not overcome, it stays on show, so
        that a report does not flicker between a failure and its next try.
        """
        with self._lock:
            if self._failed is None or stage > self._failed:
                self._failed = None
                self._replace({"stage": stage, "reason": Reason.STARTING})

    def fail(self, error: ModelsealError) -> None:
        """Note a failed try of an opening."""
        with self._lock:
            self._failed = error.stage
            attempts = self._status.attempts + 1
            self._replace({"stage": error.stage, "reason": error.reason, "attempts": attempts})

    def settle(self, stage: Stage, reason: Reason) -> None:
        """Note where the agent stands, earlier failures overcome."""
        with self._lock:
            self._failed = None
            self._replace({"stage": stage, "reason": reason})

    def _replace(self, fields: dict[str, Any]) -> None:
        updated = replace(self._status, **fields)
        if (updated.stage, updated.reason) != (self._status.stage, self._status.reason):
            updated = replace(updated, since=self._now())
        self._status = updated


def standing(status: Status, trouble: Reason | None) -> tuple[Stage, Reason]:
    """Return where the agent stands while it owns a model; `trouble` is the key service's."""
    runtime = status.runtime
    if status.delivery is Delivery.TMPFS or runtime.result is Reason.SERVING:
        return Stage.LEASE, trouble or Reason.SERVING
    if runtime.result is not None:
        return Stage.SERVE, runtime.result
    if runtime.connected:
        return Stage.DELIVER, Reason.STARTING
    return Stage.DELIVER, waiting(runtime)


def waiting(runtime: RuntimeStatus) -> Reason:
    """Return why there is no runtime to hand the model to."""
    return Reason.PEER_REJECTED if runtime.rejected else Reason.WAITING_FOR_RUNTIME

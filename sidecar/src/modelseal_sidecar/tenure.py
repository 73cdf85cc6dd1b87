"""One lease from delivery to its end: the schedule of `lease.py` driven by clocks and answers."""

import logging
import random
from datetime import datetime, timedelta
from typing import Final

from modelseal.contract import Reason
from modelseal.errors import (
    Expired,
    KeyRefused,
    LeaseStale,
    ModelsealError,
    PolicyViolation,
    UnwrapError,
)
from modelseal_sidecar.delivery import Delivery
from modelseal_sidecar.keeper import Keeper
from modelseal_sidecar.lease import Lease
from modelseal_sidecar.logs import log
from modelseal_sidecar.provider_directory import ProviderDirectory
from modelseal_sidecar.status import Board, seconds_until, standing, utc_now
from modelseal_sidecar.wake import Task, Wake

_TICK: Final = 1.0
"""Longest sleep, so that deadlines hold after the machine was suspended or its clock was set."""
_REREAD: Final = 30.0
"""Seconds after which changed lease settings are noticed at the latest."""


class Tenure:
    """Keeps one delivered model for as long as the right to it lasts."""

    def __init__(
        self,
        *,
        lease: Lease,
        keeper: Keeper,
        not_after: datetime | None,
        directory: ProviderDirectory,
        delivery: Delivery,
        board: Board,
        wake: Wake,
    ) -> None:
        """Begin to keep a model whose delivery was told `lease`'s first deadline."""
        self._lease = lease
        self._keeper: Final = keeper
        self._not_after: Final = not_after
        self._directory: Final = directory
        self._delivery: Final = delivery
        self._board: Final = board
        self._wake: Final = wake
        self._task: Task[None] | None = None
        self._trouble: Reason | None = None
        self._login = False
        self._extended = self._reread = wake.now()
        self._ends_at: Final = wake.now() + seconds_until(not_after)
        self._show_until()

    def keep(self) -> ModelsealError:
        """Return why the lease ended, when it has.

        Raises:
            Stopped: the agent is to end; the lease is still good.

        """
        while True:
            self._wake.check()
            ended = self._answer() or self._deadline() or self._delivery.lost()
            if ended is not None:
                return ended
            self._ask()
            self._show()
            self._wake.wait(self._pause())

    def _answer(self) -> ModelsealError | None:
        """Take in the answer of a check that has ended; why the lease ends, where it does."""
        task = self._task
        if task is None or not task.done:
            return None
        self._task = None
        now = self._wake.now()
        factor = random.random()  # noqa: S311 - spreads load, protects nothing
        self._lease = self._lease.scheduled(now, factor, login=self._login)
        try:
            task.result()
        except (KeyRefused, PolicyViolation, UnwrapError) as error:
            return error
        except ModelsealError as error:
            self._miss(error)
        except Exception as error:
            log(logging.ERROR, "a check failed unexpectedly", failure=error)
            self._miss(ModelsealError("failed to check the lease"))
        else:
            self._confirm(task.begun, now)
        self._extend(now)
        return None

    def _confirm(self, begun: float, now: float) -> None:
        self._lease = self._lease.confirm(begun)
        if self._login:
            factor = random.random()  # noqa: S311 - spreads load, protects nothing
            self._lease = self._lease.logged_in(now, self._keeper.token_seconds(), factor)
        if self._trouble is not None:
            log(logging.INFO, "the key service answers again")
        self._trouble = None
        self._board.change(key_version=self._keeper.key_version)
        self._show_until()

    def _miss(self, error: ModelsealError) -> None:
        """Note that the key service could not be asked: no news, not bad news."""
        log(logging.WARNING, "could not check the lease", reason=error.reason, detail=error.message)
        self._trouble = error.reason

    def _deadline(self) -> ModelsealError | None:
        """Return why the lease ends now by the clock alone."""
        if self._rest() <= 0:
            return Expired("failed to keep the model: the seal's notAfter has passed")
        if self._wake.now() >= self._lease.stale_at:
            return LeaseStale(
                "failed to keep the model: the key service could not be asked for "
                f"{self._lease.settings.max_stale:g} s"
            )
        return None

    def _ask(self) -> None:
        """Begin a check where one is due, and tell a waiting runtime that we live."""
        now = self._wake.now()
        if now >= self._reread + _REREAD or now >= self._lease.due:
            self._reread = now
            self._lease = self._lease.with_settings(self._directory.lease(), now)
        if self._task is None and now >= self._lease.due:
            self._login = login = now >= self._lease.login_due
            self._task = Task(self._wake, lambda: self._keeper.check(login=login), "check")
        if now >= self._extended + self._lease.renewal:
            self._extend(now)

    def _extend(self, now: float) -> None:
        self._extended = now
        self._delivery.extend(self._lease.valid_for(now, self._rest()))

    def _rest(self) -> float:
        """Return the seconds until the seal's `notAfter`.

        By the wall clock and by time that passed, whichever ends first: a clock that is set back
        while the model is served adds nothing to the seal's life.
        """
        return min(seconds_until(self._not_after), self._ends_at - self._wake.now())

    def _show(self) -> None:
        """Put where the lease stands on the board."""
        self._board.settle(*standing(self._board.read(), self._trouble))

    def _show_until(self) -> None:
        """Put on the board when the lease ends if the key service is never reached again."""
        left = min(self._lease.stale_at - self._wake.now(), self._rest())
        self._board.change(lease_until=utc_now() + timedelta(seconds=left))

    def _pause(self) -> float:
        due = min(self._lease.due, self._lease.stale_at, self._extended + self._lease.renewal)
        if self._task is not None:
            due = self._lease.stale_at
        return min(max(due - self._wake.now(), 0.0), self._rest(), _TICK)

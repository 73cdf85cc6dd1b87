"""The agent's life: open, deliver, keep the lease, withdraw, and again from the start.

Level-triggered: each turn looks at the state and goes from there. Whatever a new try may cure is
tried again here, so recovery takes seconds; only what no try can cure leaves `run` as an error.
"""

import logging
import random
from typing import Final

import tenacity

from modelseal.contract import Reason, Stage
from modelseal.errors import ModelsealError
from modelseal_sidecar.delivery import Delivery
from modelseal_sidecar.lease import Lease
from modelseal_sidecar.logs import log
from modelseal_sidecar.opener import Opened, Opener
from modelseal_sidecar.provider_directory import ProviderDirectory
from modelseal_sidecar.status import Board, seconds_until, waiting
from modelseal_sidecar.tenure import Tenure
from modelseal_sidecar.wake import Stopped, Wake

FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 30.0
RELEASE_BOUND: Final = 15.0
"""Seconds that an agent which cannot go on leaves the kubelet to end a server that hangs."""
_TICK: Final = 1.0


class Agent:
    """Runs one model from its sealed form to its withdrawal, for as long as it may."""

    def __init__(
        self,
        *,
        opener: Opener,
        delivery: Delivery,
        directory: ProviderDirectory,
        board: Board,
        wake: Wake,
    ) -> None:
        """Put the parts together; nothing happens before `run`."""
        self._opener: Final = opener
        self._delivery: Final = delivery
        self._directory: Final = directory
        self._board: Final = board
        self._wake: Final = wake

    def run(self) -> None:
        """Serve until told to stop.

        Raises:
            ModelsealError: the agent cannot go on, and a new try would not cure it.

        """
        try:
            self._delivery.start()
            while True:
                self._turn()
        except Stopped:
            log(logging.INFO, "stopping")
        finally:
            self._delivery.close()

    def _turn(self) -> None:
        """Open and deliver once, keep the lease until it ends, and withdraw."""
        self._await_room()
        tenure = self._open()
        ended: ModelsealError | None = None
        try:
            ended = tenure.keep()
        finally:
            self._withdraw(ended)
        self._go_on_after(ended)

    def _withdraw(self, ended: ModelsealError | None) -> None:
        """Take the model back, whatever ended its lease."""
        if ended is not None:
            self._board.fail(ended)
        self._board.change(lease_until=None)
        reason = Reason.LEASE_ENDED if ended is None else ended.reason
        self._delivery.withdraw(reason)
        log(logging.WARNING, "the model was withdrawn", reason=reason)

    def _go_on_after(self, ended: ModelsealError) -> None:
        """Wait for the server's end, then return for a new turn, or give up.

        Raises:
            ModelsealError: `ended` itself, where no new try can cure it or nobody could be served.

        """
        if ended.transient and self._delivery.again:
            while not self._delivery.released():
                self._wake.check()
                self._wake.wait(_TICK)
            return
        self._wake.wait_until(self._delivery.released, RELEASE_BOUND)
        raise ended

    def _await_room(self) -> None:
        """Wait until no runtime can hold what an earlier agent gave it."""
        while not self._delivery.has_room():
            self._may_go_on()
            self._board.settle(Stage.DELIVER, waiting(self._board.read().runtime))
            self._wake.wait(_TICK)

    def _open(self) -> Tenure:
        """Open and deliver, again and again while a new try may cure what fails."""
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception(self._is_curable),
            wait=tenacity.wait_exponential_jitter(initial=FIRST_PAUSE, max=LONGEST_PAUSE, jitter=1),
            sleep=self._sleep,
            before_sleep=self._note_failure,
            reraise=True,
        )
        return attempts(self._attempt)

    def _attempt(self) -> Tenure:
        self._may_go_on()
        opened = self._opener.open(self._delivery.memory_name, self._may_go_on)
        lease = self._first_lease(opened)
        self._board.enter(Stage.DELIVER)
        rest = seconds_until(opened.not_after)
        self._delivery.deliver(opened.parcel, lease.valid_for(self._wake.now(), rest))
        self._board.change(attempts=0)
        return Tenure(
            lease=lease,
            keeper=opened.keeper,
            not_after=opened.not_after,
            directory=self._directory,
            delivery=self._delivery,
            board=self._board,
            wake=self._wake,
        )

    def _first_lease(self, opened: Opened) -> Lease:
        spread, later = random.random(), random.random()  # noqa: S311 - for load, no secret
        lease = Lease.begin(self._directory.lease(), now=opened.begun, factor=spread)
        return lease.opened(opened.begun, opened.keeper.token_seconds(), later)

    def _may_go_on(self) -> None:
        """Raise where an opening is to be given up: told to stop, or nobody is left to serve."""
        self._wake.check()
        if (lost := self._delivery.lost()) is not None:
            raise lost

    def _is_curable(self, error: BaseException) -> bool:
        return (
            isinstance(error, ModelsealError) and error.transient and self._delivery.lost() is None
        )

    def _note_failure(self, state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, ModelsealError):
            self._board.fail(error)
            pause = round(state.next_action.sleep, 1) if state.next_action else None
            log(
                logging.WARNING,
                "an opening failed",
                stage=error.stage.title,
                reason=error.reason,
                detail=error.message,
                pause=pause,
            )

    def _sleep(self, seconds: float) -> None:
        self._wake.wait_until(lambda: self._delivery.lost() is not None, seconds)

"""The program `modelseal-agent`: settings, hygiene, then `loop.Agent`, and one exit code.

    python -m modelseal_sidecar

Nothing is read from the command line. Standard output carries one line, `{"report": PORT}`, where
the kernel was to choose the port; logs go to standard error.
"""

import json
import logging
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from modelseal import hardening
from modelseal.contract import TERMINATION_LOG, Delivery, Env
from modelseal.errors import ModelsealError
from modelseal_sidecar import logs
from modelseal_sidecar.acceptor import Acceptor, PairAcceptor, SocketAcceptor
from modelseal_sidecar.access import KeyAccess
from modelseal_sidecar.delivery import Delivery as Way
from modelseal_sidecar.logs import log
from modelseal_sidecar.loop import Agent
from modelseal_sidecar.memfd import MemfdDelivery
from modelseal_sidecar.nofork import forbid_forking
from modelseal_sidecar.opener import Opener
from modelseal_sidecar.provider_directory import ProviderDirectory
from modelseal_sidecar.report import render_termination
from modelseal_sidecar.server import ReportServer
from modelseal_sidecar.settings import Settings
from modelseal_sidecar.status import Board, Status, utc_now
from modelseal_sidecar.tmpfs import TmpfsDelivery
from modelseal_sidecar.wake import Wake

STOP_BOUND: Final = 20
"""Seconds after SIGTERM within which the process ends, even if a call hangs in the network."""


def main() -> int:
    """Run the agent; return its exit code."""
    logs.configure("INFO")
    wake = Wake()
    _handle_signals(wake)
    program = Program(os.environ)
    try:
        program.run(wake)
    except ModelsealError as error:
        program.explain(error)
        return error.exit_code
    except Exception as error:
        log(logging.ERROR, "the agent failed unexpectedly", failure=error)
        program.explain(ModelsealError("failed unexpectedly"))
        return ModelsealError.exit_code
    return 0


class Program:
    """The parts of one run, and what can be said of them when it ends."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ: Final = environ
        self._board: Board | None = None

    def run(self, wake: Wake) -> None:
        """Read settings, make the process safe for plaintext, and serve until told to stop.

        Raises:
            ModelsealError: the agent cannot go on.

        """
        settings = Settings.from_env(self._environ)
        logs.configure(settings.log_level)
        hardening.harden(allow_swap=settings.allow_swap)
        forbid_forking()
        board = self._board = Board(
            Status(
                delivery=settings.delivery,
                model=settings.model,
                since=utc_now(),
                posture=tuple(hardening.posture().items()),
            )
        )
        server = ReportServer(board, settings.report_host, settings.report_port)
        try:
            server.start()
            if settings.report_port == 0:
                print(json.dumps({"report": server.port}), flush=True)  # noqa: T201 - its interface
            assemble(settings, board, wake).run()
        finally:
            server.stop()

    def explain(self, error: ModelsealError) -> None:
        """Write the termination message and the last line of the log."""
        log(
            logging.WARNING if error.transient else logging.ERROR,
            "the agent cannot go on",
            stage=error.stage.title,
            reason=error.reason,
            exitCode=error.exit_code,
            detail=error.message,
            hint=error.hint,
        )
        status = self._board.read() if self._board else None
        path = Path(self._environ.get(Env.TERMINATION_LOG) or TERMINATION_LOG)
        try:
            path.write_bytes(render_termination(error, status))
        except OSError as failure:
            log(logging.INFO, "no termination message was written", detail=failure.strerror)


def assemble(settings: Settings, board: Board, wake: Wake) -> Agent:
    """Put the agent together from its settings.

    Raises:
        SettingsError: a setting makes no sense to the part that it is for.

    """
    ca_file = settings.vault.ca_file if settings.vault else None
    directory = ProviderDirectory(settings.provider_directory, settings.lease, ca_file)
    access = KeyAccess(settings, directory)
    opener = Opener(settings, access, directory, board, wake)
    delivery = _delivery(settings, board, wake)
    return Agent(opener=opener, delivery=delivery, directory=directory, board=board, wake=wake)


def _delivery(settings: Settings, board: Board, wake: Wake) -> Way:
    if settings.delivery is Delivery.TMPFS:
        private = settings.peer_uid == os.getuid()
        return TmpfsDelivery(settings.delivery_directory, board, wake.check, private=private)
    return MemfdDelivery(_acceptor(settings), board, wake)


def _acceptor(settings: Settings) -> Acceptor:
    if settings.socket_fd is not None:
        return PairAcceptor(settings.socket_fd)
    assert settings.peer_uid is not None  # noqa: S101 - Settings refuses its absence
    return SocketAcceptor(settings.socket, settings.peer_uid)


def _handle_signals(wake: Wake) -> None:
    """End in an orderly way on SIGTERM and SIGINT, and in any case within a bound."""

    def stop(*_: object) -> None:
        wake.stop()
        signal.alarm(STOP_BOUND)

    def give_up(*_: object) -> None:
        os._exit(0)  # nothing was delivered yet: a call into the network hangs, memory goes with us

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGALRM, give_up)


if __name__ == "__main__":
    sys.exit(main())

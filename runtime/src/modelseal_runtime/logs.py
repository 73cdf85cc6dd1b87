"""Structured logs: one JSON object per line on stderr, for the runtime's own events only.

Messages are fixed texts; what varies goes into fields. No payload, no name of a tensor or layer,
and no text of a foreign exception is logged. Other libraries' loggers are not connected.
"""

import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, TextIO

from modelseal_runtime.protocol.failure import Failure, Kind
from modelseal_runtime.tracing import Trace

LOGGER: Final = logging.getLogger("modelseal_runtime")
REPEAT_SECONDS: Final = 10.0
"""So often at most is a reason for refusing requests said again."""
_FIELD: Final = "fields"


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of ASCII JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; an exception appears as its type and place."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        line |= getattr(record, _FIELD, {})
        if record.exc_info and record.exc_info[0]:
            line["error"] = record.exc_info[0].__name__
            line["at"] = places(record.exc_info[2])
        return json.dumps(line, ensure_ascii=True, default=str)


def log(level: int, event: str, *, failure: BaseException | None = None, **fields: object) -> None:
    """Log a fixed text with fields; `failure` adds an unexpected exception's type and place."""
    LOGGER.log(level, event, extra={_FIELD: fields}, exc_info=failure)


class Diary:
    """The log of one protocol's requests: what is refused again and again is said once in a while.

    Answered requests appear at level `debug` only.
    """

    def __init__(self, protocol: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._protocol: Final = protocol
        self._clock: Final = clock
        self._said: Final[dict[Kind, float]] = {}
        self._unsaid: Final[Counter[Kind]] = Counter()

    def answered(self, trace: Trace, seconds: float) -> None:
        """Note an answered request."""
        if LOGGER.isEnabledFor(logging.DEBUG):
            log(
                logging.DEBUG,
                "a request was answered",
                protocol=self._protocol,
                seconds=round(seconds, 6),
                **trace.fields,
            )

    def refused(self, failure: Failure, trace: Trace) -> None:
        """Note a request that failed; one that should not have failed is always said."""
        kind, protocol = failure.kind, self._protocol
        if kind is Kind.INTERNAL:
            cause = failure.__cause__ or failure
            log(logging.ERROR, "a request failed", failure=cause, protocol=protocol, **trace.fields)
            return
        now = self._clock()
        if now - self._said.get(kind, -REPEAT_SECONDS) < REPEAT_SECONDS:
            self._unsaid[kind] += 1
            return
        self._said[kind] = now
        log(
            logging.INFO,
            "a request was refused",
            protocol=protocol,
            why=kind.label,
            unsaid=self._unsaid.pop(kind, 0),
            **trace.fields,
        )


def configure(level: str, stream: TextIO = sys.stderr) -> None:
    """Connect the runtime's logger, and no other, to `stream`."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    LOGGER.handlers = [handler]
    LOGGER.propagate = False
    LOGGER.setLevel(level.upper())
    logging.lastResort = None


def places(trace: TracebackType | None) -> list[str]:
    """Return where an exception passed, outermost first, as `file:line`."""
    found = []
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename.rpartition("/")[2]
        found.append(f"{name}:{trace.tb_lineno}")
        trace = trace.tb_next
    return found

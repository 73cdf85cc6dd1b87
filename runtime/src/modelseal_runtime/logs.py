"""Structured logs: one JSON object per line on stderr, for the runtime's own events only.

Messages are fixed texts; what varies goes into fields. No payload, no name of a tensor or layer,
and no text of a foreign exception is logged. Other libraries' loggers are not connected.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, TextIO

LOGGER: Final = logging.getLogger("modelseal_runtime")
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

"""What ties a request to its answer and to the log: a request id, and W3C trace context.

Both are taken from the client where they are well-formed, and only repeated, never interpreted.
"""

import itertools
import re
import secrets
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

REQUEST_ID: Final = "x-request-id"
TRACE_PARENT: Final = "traceparent"
TRACE_RESPONSE: Final = "traceresponse"
_REQUEST_ID: Final = REQUEST_ID.encode()
_TRACE_PARENT: Final = TRACE_PARENT.encode()
_GOOD_ID: Final = re.compile(rb"[A-Za-z0-9_.:/+=@-]{1,128}")
# https://www.w3.org/TR/trace-context/#traceparent-header; a later version may say more behind it.
_GOOD_TRACE: Final = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(-.*)?"
)
_RUN: Final = secrets.token_hex(4)
_numbers: Final = itertools.count(1)


class Trace(NamedTuple):
    """The ids of one request; `trace_id` is empty where the client sent none."""

    request_id: str
    trace_id: str = ""
    flags: str = "00"

    @property
    def fields(self) -> dict[str, Any]:
        """What a log line says of them."""
        fields: dict[str, Any] = {"requestId": self.request_id}
        return fields | {"traceId": self.trace_id} if self.trace_id else fields

    @property
    def answer(self) -> tuple[tuple[str, str], ...]:
        """The headers of the answer."""
        pairs = ((REQUEST_ID, self.request_id),)
        if not self.trace_id:
            return pairs
        span = secrets.token_hex(8)
        return (*pairs, (TRACE_RESPONSE, f"00-{self.trace_id}-{span}-{self.flags}"))


def trace_of(headers: Mapping[bytes, bytes]) -> Trace:
    """Return the ids of a request; one without an id gets one."""
    given = headers.get(_REQUEST_ID, b"")
    request_id = given.decode() if _GOOD_ID.fullmatch(given) else f"{_RUN}-{next(_numbers):x}"
    found = _GOOD_TRACE.fullmatch(headers.get(_TRACE_PARENT, b""))
    if found is None:
        return Trace(request_id)
    return Trace(request_id, found[1].decode(), found[2].decode())

"""How many parts a request may have, counted before anything is built of them.

A message of nothing but the smallest parts becomes thirty times its size when it is parsed, and
keeps every thread of the process waiting meanwhile. Numbers and strings become ten times their size
at most; they are what requests are made of, and are not counted.
"""

import re
from collections.abc import Iterator
from typing import Final

from modelseal_runtime.protocol.failure import invalid

MAX_OBJECTS: Final = 4096
MAX_LISTS: Final = 1 << 20
MAX_FIELDS: Final = 1 << 16
UNCOUNTED_BYTES: Final = 1 << 20
"""What a message up to this size can become does not matter."""
_TOKENS: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{[]', re.DOTALL)
"""Strings, which are skipped, and what begins an object or a list."""
_OBJECT, _LIST = ord("{"), ord("[")
_OF_INFER_REQUEST: Final = (4, 5, 6)
"""The fields of a `ModelInferRequest` that have fields themselves: parameters, inputs, outputs."""
_VARINT, _LONG, _SIZED, _SHORT = 0, 1, 2, 5


def require_few_parts(text: memoryview) -> None:
    """Refuse JSON of more objects or lists than a request has.

    Raises:
        Failure: it has more.

    """
    if text.nbytes <= UNCOUNTED_BYTES:
        return
    plain = bytes(text)
    if plain.count(b"{") <= MAX_OBJECTS and plain.count(b"[") <= MAX_LISTS:
        return
    left = {_OBJECT: MAX_OBJECTS, _LIST: MAX_LISTS}
    for token in _TOKENS.finditer(plain):
        kind = plain[token.start()]
        if kind not in left:  # brackets in a string are no parts
            continue
        left[kind] -= 1
        if left[kind] < 0:
            raise invalid(
                f"the JSON of the request has more than {MAX_OBJECTS} objects or {MAX_LISTS} "
                "lists; send flat lists, or binary data"
            )


def require_few_fields(message: bytes) -> None:
    """Refuse a `ModelInferRequest` of more tensors and parameters than a request has.

    Raises:
        Failure: it has more.

    """
    if len(message) <= UNCOUNTED_BYTES:
        return
    left = MAX_FIELDS
    for number, start, end in _fields(message, 0, len(message)):
        left -= 1
        if number in _OF_INFER_REQUEST:
            for _ in _fields(message, start, end):
                left -= 1
                if left < 0:
                    break
        if left < 0:
            raise invalid(f"the message has more than {MAX_FIELDS} tensors and parameters")


def _fields(message: bytes, position: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield number, start and end of each field; end early at what the parser will refuse."""
    while position < end:
        tag, position = _varint(message, position, end)
        kind, start = tag & 7, position
        if kind == _VARINT:
            _, position = _varint(message, position, end)
        elif kind == _SIZED:
            size, start = _varint(message, position, end)
            position = start + size
        else:
            position += {_LONG: 8, _SHORT: 4}.get(kind, 0)
        if position > end:
            return
        yield tag >> 3, start, position


def _varint(message: bytes, position: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while position < end and shift < 64:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    return value, end + 1

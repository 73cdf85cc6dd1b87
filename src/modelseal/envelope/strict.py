"""A strict reader of small JSON documents (docs/format.md, section 3).

What a careless parser lets through is refused here: duplicate and unknown keys, fractions,
exponents, `NaN`, negative numbers, other encodings than UTF-8, base64 that is not canonical, and
anything after the document. Bounds are checked before a value is used. No I/O happens here.
"""

import base64
import binascii
import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, NoReturn, Self

from modelseal.errors import ModelsealError, shown

MAX_INTEGER: Final = (1 << 53) - 1
"""The largest integer that every JSON reader holds exactly (RFC 8259, section 6)."""
PRINTABLE: Final = re.compile(r"[\x20-\x7e]*")
_MAX_DIGITS: Final = 16


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Which errors a document's faults become: `broken` for its form, `limit` for its bounds."""

    document: str
    broken: type[ModelsealError]
    limit: type[ModelsealError]

    def malformed(self, why: str) -> NoReturn:
        """Raise for a fault of form."""
        raise self.broken(f"failed to read {self.document}: {why}")

    def beyond(self, why: str) -> NoReturn:
        """Raise for a bound that is exceeded."""
        raise self.limit(f"failed to read {self.document}: {why}")


@dataclass(frozen=True, kw_only=True)
class Node:
    """One JSON object of a document, read field by field."""

    fields: dict[str, object]
    where: str
    refusal: Refusal

    @classmethod
    def parse(cls, data: bytes, refusal: Refusal) -> Self:
        """Parse a whole document, which must be one object."""
        value = _loads(data, refusal)
        if type(value) is not dict:
            refusal.malformed("it is not a JSON object")
        return cls(fields=value, where="", refusal=refusal)

    def only(self, required: Collection[str], optional: Collection[str] = ()) -> Self:
        """Return this node once it has all required fields and no unknown one."""
        for key in required:
            if key not in self.fields:
                self.refusal.malformed(f"{self._name(key)} is missing")
        for key in self.fields:
            if key not in required and key not in optional:
                self.refusal.malformed(f"{self._place()} has an unknown field {shown(key)}")
        return self

    def text(self, key: str, pattern: re.Pattern[str], maximum: int) -> str:
        """Return a string that matches `pattern` wholly and has at most `maximum` characters."""
        value = self.fields[key]
        if type(value) is not str:
            self.refusal.malformed(f"{self._name(key)} is not a string")
        if len(value) > maximum:
            self.refusal.beyond(f"{self._name(key)} is longer than {maximum} characters")
        if pattern.fullmatch(value) is None:
            self.refusal.malformed(f"{self._name(key)} {shown(value)} is not well-formed")
        return value

    def integer(self, key: str, maximum: int = MAX_INTEGER) -> int:
        """Return an integer from 0 to `maximum`."""
        value = self.fields[key]
        if type(value) is not int:
            self.refusal.malformed(f"{self._name(key)} is not an integer")
        if value > maximum:
            self.refusal.beyond(f"{self._name(key)} is more than {maximum}")
        return value

    def binary(self, key: str, minimum: int, maximum: int) -> bytes:
        """Return what a string of canonical base64 holds, from `minimum` to `maximum` bytes."""
        value = self.fields[key]
        if type(value) is not str:
            self.refusal.malformed(f"{self._name(key)} is not a string")
        if len(value) > -(-maximum // 3) * 4:
            self._wrong_length(key, minimum, maximum)
        data = decode_base64(value)
        if data is None:
            self.refusal.malformed(f"{self._name(key)} is not canonical base64")
        if not minimum <= len(data) <= maximum:
            self._wrong_length(key, minimum, maximum)
        return data

    def node(self, key: str) -> Self:
        """Return an object inside this one."""
        return self._inner(self.fields[key], self._name(key))

    def nodes(self, key: str, minimum: int, maximum: int) -> list[Self]:
        """Return an array of `minimum` to `maximum` objects."""
        value = self.fields[key]
        if type(value) is not list:
            self.refusal.malformed(f"{self._name(key)} is not an array")
        if len(value) > maximum:
            self.refusal.beyond(f"{self._name(key)} has {len(value)} entries, at most {maximum}")
        if len(value) < minimum:
            self.refusal.malformed(f"{self._name(key)} has fewer than {minimum} entries")
        return [self._inner(item, f"{self._name(key)}[{i}]") for i, item in enumerate(value)]

    def _wrong_length(self, key: str, minimum: int, maximum: int) -> NoReturn:
        if minimum == maximum:
            self.refusal.malformed(f"{self._name(key)} is not of {maximum} bytes")
        self.refusal.beyond(f"{self._name(key)} is not of {minimum} to {maximum} bytes")

    def _inner(self, value: object, where: str) -> Self:
        if type(value) is not dict:
            self.refusal.malformed(f"{where} is not an object")
        return type(self)(fields=value, where=where, refusal=self.refusal)

    def _name(self, key: str) -> str:
        return f"{self.where}.{key}" if self.where else key

    def _place(self) -> str:
        return self.where or "it"


def encode_base64(data: bytes) -> str:
    """Encode as standard base64 with padding, the only form that is read back."""
    return base64.b64encode(data).decode("ascii")


def decode_base64(text: str) -> bytes | None:
    """Decode canonical base64, or return nothing: other forms of the same bytes are refused."""
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        return None
    return data if encode_base64(data) == text else None


def _loads(data: bytes, refusal: Refusal) -> object:
    hooks = _Hooks(refusal)
    try:
        value: object = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=hooks.pairs,
            parse_int=hooks.integer,
            parse_float=hooks.refuse,
            parse_constant=hooks.refuse,
        )
    except UnicodeDecodeError:
        refusal.malformed("it is not UTF-8 text")
    except json.JSONDecodeError as error:
        refusal.malformed(f"it is not JSON: {error.msg.lower()} at character {error.pos}")
    except RecursionError:
        refusal.malformed("it is nested too deeply")
    return value


class _Hooks:
    """What the JSON library asks while it reads."""

    def __init__(self, refusal: Refusal) -> None:
        self._refusal = refusal

    def pairs(self, items: list[tuple[str, object]]) -> dict[str, object]:
        """Make an object, none of whose fields is given twice."""
        found = dict(items)
        if len(found) < len(items):
            self._refusal.malformed("a field is given twice")
        return found

    def integer(self, digits: str) -> int:
        """Make a number of bounded length that is not negative."""
        if digits.startswith("-"):
            self._refusal.malformed("a number is negative")
        if len(digits) > _MAX_DIGITS:
            self._refusal.beyond(f"a number is more than {MAX_INTEGER}")
        return int(digits)

    def refuse(self, _: str) -> NoReturn:
        """Refuse fractions, exponents, infinities and NaN."""
        self._refusal.malformed("a number is not an integer")

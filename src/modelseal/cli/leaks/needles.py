"""Strings that must be nowhere, in each of the forms in which they could be somewhere."""

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from typing import BinaryIO, Final

_STEP: Final = 4 << 20
_MASK: Final = 0x5A


@dataclass(frozen=True, kw_only=True)
class Needle:
    """One string: part of the plaintext, or a secret."""

    name: str
    forms: tuple[bytes, ...]

    @classmethod
    def of(cls, name: str, value: bytes) -> "Needle":
        """Make a needle that is found raw, in hex of either case, and in base64 at any offset."""
        text = value.hex().encode()
        return cls(name=name, forms=(value, text, text.upper(), *_base64_forms(value)))

    @classmethod
    def unmasked(cls, name: str, text: str) -> "Needle":
        """Make a needle of what `masked` returned."""
        return cls.of(name, bytes(byte ^ _MASK for byte in bytes.fromhex(text)))

    @property
    def masked(self) -> str:
        """The value in a form that no search finds, so that asking for it plants nothing."""
        return bytes(byte ^ _MASK for byte in self.forms[0]).hex()


def found_in(data: bytes | bytearray, needles: Iterable[Needle]) -> set[str]:
    """Return the names of the needles that the data holds."""
    return {needle.name for needle in needles if any(form in data for form in needle.forms)}


def found_in_stream(
    stream: BinaryIO, needles: Iterable[Needle], *, length: int | None = None
) -> set[str]:
    """Search a stream from where it stands, in pieces that overlap."""
    needles = tuple(needles)
    overlap = max((len(form) for each in needles for form in each.forms), default=1) - 1
    found: set[str] = set()
    tail, left = b"", length
    while data := stream.read(_STEP if left is None else min(_STEP, left)):
        left = None if left is None else left - len(data)
        piece = tail + data
        if piece != bytes(len(piece)):  # much of a machine's memory is zeros
            found |= found_in(piece, needles)
        tail = data[-overlap:]
    return found


def _base64_forms(value: bytes) -> list[bytes]:
    """Return what base64 makes of the value wherever it begins within a group of three bytes."""
    parts = [value[skip:] for skip in range(3)]
    return [base64.b64encode(part[: len(part) // 3 * 3]) for part in parts]

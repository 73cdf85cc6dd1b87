"""Quantities of Kubernetes, parsed exactly and written in the API server's own canonical form.

The form matters: a child is compared with the live object, where `1024Mi` has become `1Gi`.
"""

import math
import re
from fractions import Fraction
from typing import Final

_BINARY: Final = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40, "Pi": 1 << 50}
_DECIMAL: Final = {
    "m": Fraction(1, 1000),
    "": Fraction(1),
    "k": Fraction(10**3),
    "M": Fraction(10**6),
    "G": Fraction(10**9),
    "T": Fraction(10**12),
    "P": Fraction(10**15),
}
_QUANTITY: Final = re.compile(
    r"([0-9]{1,18})(?:\.([0-9]{1,9}))?([KMGTP]i|[mkMGTP]?|[eE][0-9]{1,2})"
)


def parse_quantity(value: object) -> Fraction:
    """Return the exact value of a quantity; ValueError if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("not a quantity")
    match = _QUANTITY.fullmatch(str(value))
    if not match:
        raise ValueError("not a quantity")
    whole, fraction, suffix = match.groups()
    number = Fraction(f"{whole}.{fraction or 0}")
    if suffix[:1] in ("e", "E"):
        return number * Fraction(10) ** int(suffix[1:])
    return number * (_BINARY[suffix] if suffix in _BINARY else _DECIMAL[suffix])


def whole_bytes(value: object) -> int:
    """Return a quantity in bytes, rounded up."""
    return math.ceil(parse_quantity(value))


def format_bytes(count: int) -> str:
    """Write bytes with the largest binary suffix that divides them."""
    for suffix, size in reversed(_BINARY.items()):
        if count and count % size == 0:
            return f"{count // size}{suffix}"
    return str(count)


def round_up(count: int, unit: int = 1 << 20) -> int:
    """Round bytes up to a multiple of `unit`."""
    return -(-count // unit) * unit


def format_cpu(value: object) -> str:
    """Write an amount of CPU as whole cores or as thousandths."""
    thousandths = math.ceil(parse_quantity(value) * 1000)
    return f"{thousandths}m" if thousandths % 1000 else str(thousandths // 1000)

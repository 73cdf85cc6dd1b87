"""What a stranger sees in a file: how random its bytes look, and which words can be read in it."""

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np

_WORD: Final = re.compile(rb"[A-Za-z_][A-Za-z0-9_/.:]{9,}")


def entropy(content: bytes) -> float:
    """Return the Shannon entropy in bits for each byte: 8.0 is what noise has."""
    counts = np.bincount(np.frombuffer(content, dtype=np.uint8), minlength=256)
    shares = counts[counts > 0] / len(content)
    return float(-(shares * np.log2(shares)).sum()) if len(content) else math.nan


def words(content: bytes) -> set[bytes]:
    """Return the readable words of ten letters or more, such as the names of operations."""
    return set(_WORD.findall(content))


def content_of(folder: Path) -> bytes:
    """Return all bytes of all files below a folder."""
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def common(sought: Iterable[bytes], content: bytes) -> set[bytes]:
    """Return those of the sought words that occur in the content."""
    return {word for word in sought if word in content}

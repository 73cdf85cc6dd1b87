"""Runs in a pod that mounts a claim: hands out the seals below a folder, and replaces them.

Reads one JSON question on stdin and prints one JSON answer. Only `seal.json` passes through here,
which is no secret; keys and the way to them stay with whoever asks.
"""

import base64
import errno
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from modelseal.cli import atomic
from modelseal.contract import MAX_SEAL_BYTES, SEAL_NAME

CHANGED: Final = "changed"
"""The answer where somebody else replaced a seal meanwhile."""


def main() -> None:
    """Answer the question."""
    json.dump(answer(json.load(sys.stdin)), sys.stdout)


def answer(question: Mapping[str, Any]) -> dict[str, Any]:
    """Say what is below a folder, or, where there are orders, what became of each.

    An error number is what is in the way.
    """
    folder = Path(question["folder"])
    if "orders" in question:
        orders = question["orders"].items()
        return {path: _replaced(folder / path, order) for path, order in orders}
    try:
        return {"seals": dict(_found(folder))}
    except OSError as error:
        return {"errno": _number(error)}


def _found(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the path of each folder with a seal, and the seal in base64."""
    for name, below, files in os.walk(folder):
        below[:] = [each for each in below if not each.startswith(".")]
        if SEAL_NAME in files:
            below.clear()
            with open(os.path.join(name, SEAL_NAME), "rb") as file:
                content = file.read(MAX_SEAL_BYTES + 1)  # one more, which its reader refuses
            yield os.path.relpath(name, folder), base64.b64encode(content).decode()


def _replaced(folder: Path, order: Mapping[str, str]) -> Any:
    """Replace a seal that is still the expected one; returns nothing, or what is in the way."""
    target = folder / SEAL_NAME
    try:
        with atomic.locked(folder):
            if hashlib.sha256(target.read_bytes()).hexdigest() != order["expected"]:
                return CHANGED
            atomic.replace_file(target, base64.b64decode(order["content"]))
    except OSError as error:
        return _number(error)
    return None


def _number(error: OSError) -> int:
    return error.errno or errno.EIO

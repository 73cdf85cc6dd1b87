"""What the clients send: folders with `in.npz` each; a client writes `NAME.npz` beside it.

Imported by the clients' scripts, which run in environments of their own.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

DATATYPES = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    "object": "BYTES",
}

Arrays = dict[str, Any]


class Case:
    """One request: inputs by name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with np.load(folder / "in.npz") as stored:
            self.inputs = {name: _loaded(stored[name]) for name in stored.files}

    def datatype(self, name: str) -> str:
        """Return the protocol's name of an input's type."""
        return DATATYPES[str(self.inputs[name].dtype)]

    @property
    def has_halves(self) -> bool:
        """Whether an input has a type that has no form in JSON."""
        return any(array.dtype == np.float16 for array in self.inputs.values())

    def answered(self, variant: str, outputs: Mapping[str, Any]) -> None:
        """Keep what a client got."""
        np.savez(self.folder / f"{variant}.npz", **{n: storable(a) for n, a in outputs.items()})


def storable(array: Any) -> Any:
    """Return an array without Python objects: bytes become numpy's own."""
    return array.astype(np.bytes_) if array.dtype == np.object_ else array


def _loaded(array: Any) -> Any:
    return array.astype(np.object_) if array.dtype.kind == "S" else array


def arguments() -> tuple[str, str, Iterator[Case]]:
    """Return address, model and cases, as the command line names them."""
    address, model, folder = sys.argv[1:4]
    return address, model, (Case(one.parent) for one in sorted(Path(folder).glob("*/in.npz")))


def say(**found: Any) -> None:
    """Print what the test is to look at."""
    sys.stdout.write(json.dumps(found, default=str) + "\n")

"""The demo's model: what kind of file is this? It comes with the package `magika`.

The features are those of magika's own configuration: the first and the last bytes of a file, with
white space at its ends removed, padded with a token that is no byte.
"""

import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

PACKAGE: Final = "magika"
Tokens = NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class FileType:
    """The model's file and its configuration."""

    model: Path
    labels: tuple[str, ...]
    begin: int
    end: int
    block: int
    padding: int

    def features(self, content: bytes) -> Tokens:
        """Return the tokens of one file, shape `[begin + end]`, as magika computes them."""
        size = min(self.block, len(content))
        head = content[:size].lstrip()[: self.begin]
        tail = content[len(content) - size :].rstrip()[-self.end :]
        tokens = np.full(self.begin + self.end, self.padding, dtype=np.int32)
        tokens[: len(head)] = np.frombuffer(head, dtype=np.uint8)
        tokens[len(tokens) - len(tail) :] = np.frombuffer(tail, dtype=np.uint8)
        return tokens

    def batch(self, contents: Sequence[bytes]) -> Tokens:
        """Return the tokens of several files, shape `[files, begin + end]`."""
        return np.stack([self.features(content) for content in contents])

    def name(self, scores: NDArray[np.float32]) -> tuple[str, float]:
        """Return the best label of one row of scores, and its score."""
        best = int(scores.argmax())
        return self.labels[best], float(scores[best])


def load() -> FileType:
    """Find the model in the installed package, whatever its version calls it."""
    folder = max(_package().glob("models/*/model.onnx")).parent
    settings: dict[str, Any] = json.loads((folder / "config.min.json").read_text())
    return FileType(
        model=folder / "model.onnx",
        labels=tuple(settings["target_labels_space"]),
        begin=settings["beg_size"],
        end=settings["end_size"],
        block=settings["block_size"],
        padding=settings["padding_token"],
    )


def _package() -> Path:
    """Return the package's folder without importing it: that would start another runtime."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(f"No module named {PACKAGE!r}", name=PACKAGE)
    return Path(found.submodule_search_locations[0])

"""Inputs worth keeping, one base64 line each in `corpus/TARGET.txt`; the seeds come on top.

.venv/bin/python tests/fuzz/corpus.py TARGET FOLDER     takes what a fuzzer left in FOLDER
"""

import base64
import hashlib
import sys
from pathlib import Path

CORPUS = Path(__file__).resolve().parent / "corpus"
MAX_INPUTS = 400
MAX_LENGTH = 4096


def inputs(name: str) -> list[bytes]:
    """Return the committed inputs of a target and its seeds."""
    from fuzz.seeds import seeds  # noqa: PLC0415 - the tests' folder has to be found first

    path = CORPUS / f"{name}.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    return [*seeds()[name], *map(base64.b64decode, lines)]


def unpack(name: str, folder: Path) -> None:
    """Write a target's inputs into a folder, each as a file named by its hash."""
    folder.mkdir(parents=True, exist_ok=True)
    for data in inputs(name):
        (folder / hashlib.sha256(data).hexdigest()[:20]).write_bytes(data)


def take(name: str, folder: Path) -> int:
    """Keep a folder's inputs, the newest where there are too many; returns how many."""
    newest = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    short = [path for path in newest if path.stat().st_size <= MAX_LENGTH][:MAX_INPUTS]
    lines = sorted({base64.b64encode(path.read_bytes()).decode() for path in short})
    CORPUS.mkdir(exist_ok=True)
    (CORPUS / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))
    return len(lines)


if __name__ == "__main__":
    print(take(sys.argv[1], Path(sys.argv[2])))  # noqa: T201 - the answer

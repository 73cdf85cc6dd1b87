"""The encrypted index: real paths, roles and load order (docs/format.md, section 7).

File 0 of every seal. Its content is authenticated before it is parsed, and still parsed strictly:
a path in it becomes a file name where models are delivered to a directory.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from modelseal import contract
from modelseal.envelope.manifest import DIGEST_LENGTH, Seal
from modelseal.envelope.strict import Node, Refusal, encode_base64
from modelseal.errors import IndexInvalid, LimitExceeded, shown

ROLES: Final = ("model", "weights", "other")
MAX_PATH_BYTES: Final = 1024
MAX_NAME_BYTES: Final = 255

_INDEX: Final = Refusal(document="the index", broken=IndexInvalid, limit=IndexInvalid)
_FORBIDDEN: Final = re.compile(r"[\x00-\x1f\x5c\x7f-\x9f\u2028\u2029]")
_ANY: Final = re.compile(r".*", re.DOTALL)
_ROLE: Final = re.compile("|".join(ROLES))


@dataclass(frozen=True, kw_only=True)
class IndexEntry:
    """One file of the model: which payload it is, where it belongs and what it is for."""

    number: int
    path: str
    """Relative, with `/` between its parts."""
    role: str
    """`model` (what the engine reads), `weights` (what it reads with it) or `other`."""
    sha256: bytes
    """Of the plaintext, to compare with what the owner published; nothing here needs it."""


@dataclass(frozen=True, kw_only=True)
class Index:
    """All files of a model, in load order."""

    entries: tuple[IndexEntry, ...]


def parse_index(data: bytes, seal: Seal) -> Index:
    """Parse the decrypted index of `seal`.

    Raises:
        IndexInvalid: it is malformed, names an unsafe path, or other files than the seal has.

    """
    node = Node.parse(data, _INDEX).only(("files",))
    entries = tuple(_parse_entry(item) for item in node.nodes("files", 1, contract.MAX_FILES))
    numbers = sorted(entry.number for entry in entries)
    if numbers != list(range(1, len(seal.manifest.files))):
        _INDEX.malformed("it does not name each file of the manifest once")
    problem = path_problem([entry.path for entry in entries])
    if problem:
        _INDEX.malformed(problem)
    return Index(entries=entries)


def encode_index(index: Index) -> bytes:
    """Encode the index, to be encrypted as file 0.

    Raises:
        LimitExceeded: it would be longer than a reader accepts.

    """
    files = [
        {
            "number": entry.number,
            "path": entry.path,
            "role": entry.role,
            "sha256": encode_base64(entry.sha256),
        }
        for entry in index.entries
    ]
    data = json.dumps({"files": files}, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    if len(data) > contract.MAX_INDEX_BYTES:
        raise LimitExceeded(
            f"failed to write the index: it is longer than {contract.MAX_INDEX_BYTES} bytes",
            hint="seal fewer files, or shorten their paths",
        )
    return data


def path_problem(paths: Sequence[str]) -> str:
    """Say what is wrong with a set of paths, or nothing (section 7.2)."""
    seen: set[str] = set()
    folders: set[str] = set()
    for path in paths:
        problem = _one_path_problem(path)
        if problem:
            return f"the path {shown(path)} {problem}"
        if path in seen:
            return f"the path {shown(path)} is given twice"
        seen.add(path)
        parts = path.split("/")
        folders.update("/".join(parts[:end]) for end in range(1, len(parts)))
    both = sorted(seen & folders)
    return f"the path {shown(both[0])} is a file and a folder" if both else ""


def _one_path_problem(path: str) -> str:
    try:
        encoded = path.encode("utf-8")
    except UnicodeEncodeError:
        return "is not Unicode text"
    if not encoded or len(encoded) > MAX_PATH_BYTES:
        return f"is empty or longer than {MAX_PATH_BYTES} bytes"
    if _FORBIDDEN.search(path):
        return "has a backslash or a control character"
    for part in encoded.split(b"/"):
        if part in (b"", b".", b"..") or len(part) > MAX_NAME_BYTES:
            return "is not a plain relative path"
    return ""


def _parse_entry(node: Node) -> IndexEntry:
    node.only(("number", "path", "role", "sha256"))
    return IndexEntry(
        number=node.integer("number", contract.MAX_FILES),
        path=node.text("path", _ANY, MAX_PATH_BYTES),
        role=node.text("role", _ROLE, 16),
        sha256=node.binary("sha256", DIGEST_LENGTH, DIGEST_LENGTH),
    )

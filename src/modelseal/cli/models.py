"""Which files a model consists of, before it is sealed.

An OpenVINO `.xml` brings its `.bin`; an `.onnx` becomes an IR in memory unless it is kept; a folder
is taken whole, in the order of its names. Nothing is written anywhere.
"""

import contextlib
import io
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from modelseal import contract
from modelseal.engine import convert_onnx
from modelseal.engine.convert import require_folded_in
from modelseal.envelope import PlainFile
from modelseal.errors import InputUnreadable, NotAModel, shown

_IR: Final = re.compile(rb"<net[\s>]")
_HEAD: Final = 64 << 10
MODEL: Final = "model"
WEIGHTS: Final = "weights"
OTHER: Final = "other"


@contextlib.contextmanager
def collected(path: Path, *, keep_onnx: bool) -> Iterator[list[PlainFile]]:
    """Yield the files of the model at `path`, in load order; converted ones live as long.

    Raises:
        NotAModel: it is none of the kinds that modelseal knows.
        InputUnreadable: it is missing or cannot be read.

    """
    with contextlib.ExitStack() as held:
        yield _collect(_Collector(keep_onnx=keep_onnx, held=held), path)


def _collect(collector: "_Collector", path: Path) -> list[PlainFile]:
    try:
        if path.is_dir():
            return collector.folder(path)
        return list(collector.single(path))
    except OSError as error:
        name = error.filename if isinstance(error.filename, str) else str(path)
        raise InputUnreadable(f"failed to read {shown(name)}: {error.strerror}") from error


@dataclass(kw_only=True)
class _Collector:
    """Looks at files, and keeps open what conversion made."""

    keep_onnx: bool
    held: contextlib.ExitStack
    folded: set[Path] = field(default_factory=set)
    """Files whose content became part of a converted model."""

    def single(self, path: Path) -> Iterator[PlainFile]:
        """Yield what one model file becomes."""
        match path.suffix.lower():
            case ".xml":
                _require_ordinary(path)
                if not _is_ir(path):
                    raise _not_a_model(path, "it is not an OpenVINO IR")
                yield _on_disk(path, path.name, MODEL)
                weights = path.with_suffix(".bin")
                if weights.exists():
                    yield _on_disk(weights, weights.name, WEIGHTS)
            case ".onnx":
                _require_ordinary(path)
                if self.keep_onnx and require_folded_in(path):
                    raise _not_a_model(
                        path,
                        "it keeps tensors in other files",
                        hint="seal it without --keep-onnx, or seal its folder",
                    )
                yield from self.onnx(path, path.name)
            case _:
                path.stat()  # a missing file is unreadable, not "not a model"
                raise _not_a_model(path, "it is not a model")

    def onnx(self, path: Path, name: str) -> Iterator[PlainFile]:
        """Yield an ONNX model as it is, or as the IR that it becomes."""
        _require_ordinary(path)
        if self.keep_onnx:
            require_folded_in(path)  # an ONNX model, with all that it needs
            yield _on_disk(path, name, MODEL)
            return
        self.folded.update(require_folded_in(path))
        model = self.held.enter_context(convert_onnx(path))
        stem = Path(name)
        yield _in_memory(model.xml, str(stem.with_suffix(".xml")))
        yield PlainFile(
            path=str(stem.with_suffix(".bin")),
            role=WEIGHTS,
            length=model.weights_length,
            open=model.open_weights,
        )

    def folder(self, root: Path) -> list[PlainFile]:
        """Return what a whole folder becomes."""
        names = sorted(_walk(root))
        if contract.SEAL_NAME in names:
            raise _not_a_model(root, "it is sealed already", hint="give the plain model")
        models = [name for name in names if name.lower().endswith(".onnx")]
        files = {name: list(self.onnx(root / name, name)) for name in models}
        for name in names:
            if name not in files and (root / name).resolve() not in self.folded:
                files[name] = [_member(root / name, name)]
        ordered = [file for name in names for file in files.get(name, ())]
        _check_folder(root, ordered)
        return ordered


def _check_folder(root: Path, files: list[PlainFile]) -> None:
    if not any(file.role == MODEL for file in files):
        raise _not_a_model(root, "there is no model in it")
    paths = [file.path for file in files]
    twice = sorted({path for path in paths if paths.count(path) > 1})
    if twice:
        raise _not_a_model(
            root,
            f"a converted model would take the name {shown(twice[0])}",
            hint="remove one of the two, or seal with --keep-onnx",
        )


def _walk(root: Path) -> Iterator[str]:
    """Yield the relative path of every file; a link to a folder is refused, never followed."""
    for folder, folders, names in os.walk(root, onerror=_raise):
        here = Path(folder)
        for name in folders:
            if (here / name).is_symlink():
                raise InputUnreadable(
                    f"failed to read {shown(str(here / name))}: it is a link to a folder",
                    hint="copy the folder to where the link is",
                )
        yield from (str((here / name).relative_to(root)) for name in names)


def _raise(error: OSError) -> None:
    raise error


def _member(path: Path, name: str) -> PlainFile:
    """Return one file of a folder; what is no model is taken as it is."""
    suffix = path.suffix.lower()
    if suffix == ".xml" and path.is_file() and _is_ir(path):
        return _on_disk(path, name, MODEL)
    if suffix == ".bin" and path.with_suffix(".xml").exists():
        return _on_disk(path, name, WEIGHTS)
    return _on_disk(path, name, OTHER)


def _is_ir(path: Path) -> bool:
    with path.open("rb") as file:
        return _IR.search(file.read(_HEAD)) is not None


def _on_disk(path: Path, name: str, role: str) -> PlainFile:
    """Return a file as it is, once it has been seen to be an ordinary one that can be read."""
    length = _require_ordinary(path)
    with path.open("rb"):
        return PlainFile(path=name, role=role, length=length, open=lambda: path.open("rb"))


def _require_ordinary(path: Path) -> int:
    """Return the length of an ordinary file; a pipe would never end, or never begin."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise InputUnreadable(
            f"failed to read {shown(str(path))}: it is not an ordinary file",
            hint="copy its content into a file, and seal that",
        )
    return status.st_size


def _in_memory(content: bytes, name: str) -> PlainFile:
    def open_content() -> BinaryIO:
        return io.BytesIO(content)

    return PlainFile(path=name, role=MODEL, length=len(content), open=open_content)


def _not_a_model(path: Path, why: str, *, hint: str | None = None) -> NotAModel:
    return NotAModel(f"failed to seal {shown(str(path))}: {why}", hint=hint)

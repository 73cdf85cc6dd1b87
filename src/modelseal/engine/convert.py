"""ONNX to OpenVINO IR without a disk.

OpenVINO writes an IR only to paths that end in `.xml` and `.bin`. Two links of those names lie for
a moment in a temporary folder and lead to memfds, so the converted model itself never has a place
in a file system. Weights keep their precision: the numbers stay those of the ONNX model.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from mmap import ACCESS_READ, mmap
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import BinaryIO, Self

from modelseal.engine._openvino import ov
from modelseal.engine.onnx_data import external_locations
from modelseal.errors import InputUnreadable, NotAModel, OutOfMemory, shown


class ConvertedModel:
    """An IR in memory: the topology as bytes, the weights behind a memfd."""

    def __init__(self, *, xml: bytes, descriptor: int) -> None:
        self.xml = xml
        self._descriptor = descriptor
        self.weights_length = os.fstat(descriptor).st_size

    def open_weights(self) -> BinaryIO:
        """Return a new stream over the weights, with a position of its own."""
        return open(f"/proc/self/fd/{self._descriptor}", "rb")

    def close(self) -> None:
        """Free the weights; idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def convert_onnx(path: Path) -> ConvertedModel:
    """Convert an ONNX model; tensors that it keeps in files beside it are folded in.

    Raises:
        InputUnreadable: the model, or a file that it names, cannot be read.
        NotAModel: it is not an ONNX model, OpenVINO does not take it, or it names a file outside
            its own folder.

    """
    require_folded_in(path)
    try:
        model = ov.Core().read_model(path)
    except RuntimeError as error:
        raise NotAModel(
            f"failed to convert {shown(str(path))}: OpenVINO does not accept it",
            hint="check it with `benchmark_app -m MODEL`, or export it with another opset",
        ) from error
    with _memfd("topology") as topology:
        weights = os.memfd_create("weights", os.MFD_CLOEXEC)
        try:
            _serialize(model, topology, weights)
            xml = os.pread(topology, os.fstat(topology).st_size, 0)
            return ConvertedModel(xml=xml, descriptor=weights)
        except BaseException:
            os.close(weights)
            raise


def require_folded_in(path: Path) -> tuple[Path, ...]:
    """Return the files beside an ONNX model that hold its tensors, all inside its folder.

    Raises:
        InputUnreadable: the model, or a file that it names, cannot be read.
        NotAModel: it is not an ONNX model, or it names a file outside its folder.

    """
    try:
        with path.open("rb") as stream, mmap(stream.fileno(), 0, access=ACCESS_READ) as content:
            locations = external_locations(content)
    except OSError as error:
        raise InputUnreadable(f"failed to read {shown(str(path))}: {error.strerror}") from error
    except ValueError as error:  # an empty file cannot be mapped
        raise NotAModel(f"failed to read {shown(str(path))}: it is empty") from error
    return tuple(_beside(path, location) for location in sorted(locations))


def _beside(model: Path, location: str) -> Path:
    relative = PurePosixPath(location)
    folder = model.parent.resolve()
    target = (folder / relative).resolve()
    if not location or relative.is_absolute() or not target.is_relative_to(folder):
        raise NotAModel(
            f"failed to read {shown(str(model))}: it keeps tensors in {shown(location)}, "
            "which is outside its folder",
            hint="save the model with its external data beside it",
        )
    if not target.is_file():
        raise InputUnreadable(
            f"failed to read {shown(str(model))}: the file {shown(location)} is missing",
            hint="put the model's external data beside it",
        )
    return target


def _serialize(model: object, topology: int, weights: int) -> None:
    with tempfile.TemporaryDirectory(prefix="modelseal-") as folder:
        xml, data = Path(folder, "model.xml"), Path(folder, "model.bin")
        xml.symlink_to(f"/proc/{os.getpid()}/fd/{topology}")
        data.symlink_to(f"/proc/{os.getpid()}/fd/{weights}")
        try:
            ov.serialize(model, xml, data)
        except RuntimeError as error:
            raise OutOfMemory("failed to keep the converted model in memory") from error
        if xml.is_symlink() and data.is_symlink():
            return
    raise NotAModel("failed to convert the model: OpenVINO wrote it past the memory")


@contextmanager
def _memfd(name: str) -> Iterator[int]:
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)

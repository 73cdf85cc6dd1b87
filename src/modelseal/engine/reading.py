"""A model from buffers: which of the files is the model, and OpenVINO's view of it.

Weights of an IR are not copied: OpenVINO's constants point into the caller's buffer. An ONNX model
is parsed by OpenVINO into memory of its own (about four times its size at the peak), which is why
sealing converts it.
"""

import ctypes
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, Final

import numpy as np

from modelseal.engine._openvino import ov
from modelseal.engine.onnx_data import external_locations
from modelseal.engine.tensors import Array
from modelseal.errors import ModelLoadFailed, NotAModel, SettingsError, shown

_IR: Final = ".xml"
_ONNX: Final = ".onnx"
_WEIGHTS: Final = ".bin"


def choose_entry(paths: Mapping[str, object], entry: str | None) -> str:
    """Return the path of the model to load.

    Raises:
        ModelLoadFailed: there is no model, or several and `entry` names none of them.

    """
    models = [path for path in paths if PurePosixPath(path).suffix in (_IR, _ONNX)]
    if entry is not None:
        if entry not in models:
            raise ModelLoadFailed(f"failed to find the model {shown(entry)} in the sealed model")
        return entry
    if len(models) != 1:
        raise ModelLoadFailed(
            f"failed to choose the model: there are {len(models)} of them",
            hint="name the one to load (entry)" if models else "seal an .xml or .onnx file",
        )
    return models[0]


def read_model(core: Any, files: Mapping[str, memoryview], entry: str) -> Any:
    """Read one model from buffers that the caller keeps alive.

    The texts of OpenVINO's exceptions name layers of the model, which is plaintext, so they are
    neither repeated nor chained.

    Raises:
        ModelLoadFailed: OpenVINO does not accept it.

    """
    path = PurePosixPath(entry)
    try:
        if path.suffix == _ONNX:
            return _read_onnx(core, files[entry])
        topology = str(files[entry], "utf-8")
        return core.read_model(topology, _weights(files.get(str(path.with_suffix(_WEIGHTS)))))
    except (RuntimeError, ValueError, MemoryError) as error:
        failure = type(error).__name__
    raise ModelLoadFailed(
        f"failed to read the model: OpenVINO does not accept it ({failure})",
        hint="check that the plain model loads with this version of OpenVINO",
    )


def _read_onnx(core: Any, model: memoryview) -> Any:
    try:
        external = external_locations(model)
    except NotAModel as error:
        raise ModelLoadFailed(error.message, hint=error.hint) from None
    if external:
        raise ModelLoadFailed(
            f"failed to read the ONNX model: it keeps tensors in {len(external)} other file(s)",
            hint="seal it without --keep-onnx, so that they are folded in",
        )
    return core.read_model(bytes(model))


def _weights(view: memoryview | None) -> Any:
    if view is None or not view.nbytes:
        return ov.Tensor(ov.Type.u8, ov.Shape([0]))
    if not view.contiguous or view.itemsize != 1:
        raise SettingsError("failed to use the model's memory: it is not one run of bytes")
    array = np.frombuffer(view, np.uint8)
    if not array.flags.writeable:
        return ov.Tensor(_alias(array), shared_memory=True)
    return ov.Tensor(array, shared_memory=True)


def _alias(array: Array) -> Array:
    """View the same addresses by an array that calls itself writable.

    OpenVINO's binding takes no read-only array, though it only reads. The pages themselves stay
    read-only: a write would end the process. The view holds no reference; the owner does.
    """
    block = (ctypes.c_ubyte * array.nbytes).from_address(array.ctypes.data)
    return np.ctypeslib.as_array(block)

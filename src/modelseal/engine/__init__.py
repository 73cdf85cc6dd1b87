"""OpenVINO from buffers, and the owner of everything it reads.

`LoadedModel` is what serves; `convert_onnx` is what sealing uses. The only package that imports
`openvino`; knows no keys, files or sockets.
"""

from modelseal.engine.convert import ConvertedModel, convert_onnx
from modelseal.engine.devices import Refusal, available_devices
from modelseal.engine.loaded import LoadedModel
from modelseal.engine.tensors import DTYPES, Array, TensorSpec

__all__ = [
    "DTYPES",
    "Array",
    "ConvertedModel",
    "LoadedModel",
    "Refusal",
    "TensorSpec",
    "available_devices",
    "convert_onnx",
]

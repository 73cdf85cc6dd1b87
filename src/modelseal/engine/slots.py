"""One infer request with the tensors that it reuses.

Setting a tensor costs more than copying a small one, so an input is copied into memory of the
request's own, which stays while the shape stays. Large inputs are shared instead where their memory
allows it. OpenVINO holds no reference to shared memory; it is used only until the run is over.
"""

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from modelseal.engine._openvino import ov
from modelseal.engine.tensors import BYTES, DTYPES, Array, TensorSpec, from_openvino, to_openvino

COPY_BYTES: Final = 1 << 20
"""Inputs up to this size are copied into a tensor that is kept."""


class Slot:
    """Runs one inference at a time."""

    def __init__(
        self, request: Any, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
    ) -> None:
        self._request: Any = request
        self._inputs: Final = tuple(inputs)
        self._outputs: Final = tuple(outputs)
        self._kept: Final[list[Array | None]] = [None] * len(self._inputs)
        self._texts: Final = any(spec.datatype == BYTES for spec in outputs)

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """Return the outputs as views that are valid until the next run.

        Raises:
            RuntimeError, ValueError, TypeError, MemoryError: OpenVINO refuses; the text names
                layers of the model.

        """
        for index, array in enumerate(arrays):
            self._take(index, array)
        return self._run_texts() if self._texts else self._run()

    def drop(self) -> None:
        """Let go of OpenVINO's objects, whoever still holds this one."""
        self._request = None
        self._kept.clear()

    def _take(self, index: int, array: Array) -> None:
        kept = self._kept[index]
        if kept is not None and kept.shape == array.shape:
            np.copyto(kept, array)
            return
        spec = self._inputs[index]
        if spec.datatype == BYTES or array.nbytes > COPY_BYTES or not array.size:
            self._kept[index] = None
            self._request.set_input_tensor(index, to_openvino(array, spec))
            return
        kind = ov.Type.bf16 if spec.datatype == "BF16" else ov.Type(array.dtype)
        tensor = ov.Tensor(kind, ov.Shape(list(array.shape)))
        own: Array = tensor.data.view(DTYPES[spec.datatype])
        np.copyto(own, array)
        self._kept[index] = own
        self._request.set_input_tensor(index, tensor)

    def _run(self) -> list[Array]:
        results = self._request.infer(share_outputs=True, decode_strings=False).to_tuple()
        return [
            from_openvino(array, spec) for spec, array in zip(self._outputs, results, strict=True)
        ]

    def _run_texts(self) -> list[Array]:
        # The binding's own conversion of outputs ends the process at a text tensor without elements
        # (a zero-size string output, OpenVINO 2026.4.1), so outputs are taken one by one.
        self._request.start_async()
        self._request.wait()
        return [self._output(index, spec) for index, spec in enumerate(self._outputs)]

    def _output(self, index: int, spec: TensorSpec) -> Array:
        tensor = self._request.get_output_tensor(index)
        if spec.datatype != BYTES:
            return from_openvino(tensor.data, spec)
        shape = tuple(tensor.shape)
        if not math.prod(shape):
            return np.empty(shape, np.object_)
        return from_openvino(tensor.bytes_data, spec)

"""What every peer serves: the same plain model with the same hint, as its users would load it."""

import os
import threading
from typing import Any

import numpy as np
import openvino as ov

SHAPE = (1, 3, 64, 64)


class Model:
    """The model, with an infer request for each thread that asks."""

    def __init__(self) -> None:
        core = ov.Core()
        hint = os.environ["BENCH_HINT"]
        self._compiled = core.compile_model(
            os.environ["BENCH_MODEL"], "CPU", {"PERFORMANCE_HINT": hint}
        )
        self._local = threading.local()

    def __call__(self, array: Any) -> Any:
        """Return the one output."""
        if not hasattr(self._local, "request"):
            self._local.request = self._compiled.create_infer_request()
        return self._local.request.infer({0: array}, share_inputs=True).to_tuple()[0]

    def from_bytes(self, body: bytes) -> Any:
        """Return the output for raw float32."""
        return self(np.frombuffer(body, np.float32).reshape(SHAPE))

    def from_list(self, values: Any) -> Any:
        """Return the output for a flat list."""
        return self(np.asarray(values, np.float32).reshape(SHAPE))

"""KServe's Python server with a model of its own kind; binary data of the protocol."""

import os
from typing import Any

from kserve import InferOutput, InferRequest, InferResponse, ModelServer
from kserve import Model as KServeModel
from model import Model


class Served(KServeModel):  # type: ignore[misc] # it has no types here
    """The model behind the Open Inference Protocol."""

    def load(self) -> bool:
        """Load it."""
        self.model = Model()
        self.ready = True
        return True

    def predict(
        self, payload: InferRequest, headers: Any = None, response_headers: Any = None
    ) -> Any:
        """Ask it."""
        output = self.model(payload.inputs[0].as_numpy())
        answer = InferOutput("y", list(output.shape), "FP32")
        answer.set_data_from_numpy(output, binary_data=True)
        return InferResponse(payload.id or "1", self.name, [answer])


served = Served("model")
served.load()
port = int(os.environ["BENCH_PORT"])
ModelServer(http_port=port, grpc_port=port + 1, access_log_format=None).start([served])

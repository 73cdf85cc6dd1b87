"""MLServer, its model in its own process (`parallel_workers` 0, as its documents advise)."""

import asyncio
import os
from typing import Any

from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from model import Model


class Served(MLModel):  # type: ignore[misc] # it has no types here
    """The model behind the Open Inference Protocol."""

    async def load(self) -> bool:
        """Load it."""
        self.model = Model()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Ask it."""
        output: Any = self.model(NumpyCodec.decode_input(payload.inputs[0]))
        return InferenceResponse(
            model_name=self.name, outputs=[NumpyCodec.encode_output("y", output)]
        )


async def main() -> None:
    """Serve."""
    port = int(os.environ["BENCH_PORT"])
    server = MLServer(
        Settings(
            parallel_workers=0, host="127.0.0.1", http_port=port, grpc_port=port + 1,
            metrics_port=port + 2, debug=False,
        )
    )  # fmt: skip
    await server.start([ModelSettings(name="model", implementation=Served)])


asyncio.run(main())

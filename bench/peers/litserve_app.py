"""LitServe with its defaults."""

import os
from typing import Any

import litserve
from model import Model


class Api(litserve.LitAPI):  # type: ignore[misc] # it has no types here
    """JSON in, JSON out."""

    def setup(self, device: str) -> None:
        """Load the model in the worker."""
        self.model = Model()

    def decode_request(self, request: dict[str, Any]) -> Any:
        """Take the list."""
        return request["data"]

    def predict(self, values: Any) -> Any:
        """Ask the model."""
        return self.model.from_list(values)

    def encode_response(self, output: Any) -> dict[str, Any]:
        """Return the list."""
        return {"data": output.ravel().tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(Api(), accelerator="cpu")
    server.run(
        host="127.0.0.1",
        port=int(os.environ["BENCH_PORT"]),
        generate_client_file=False,
        log_level="warning",
    )

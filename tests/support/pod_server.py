"""A server that knows nothing of modelseal: it loads files from /model and answers over HTTP.

It runs in an image of its own, with OpenVINO and the standard library.
"""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import openvino


class Handler(BaseHTTPRequestHandler):
    """Ready as soon as it listens; every POST is an inference of INT32 rows."""

    protocol_version = "HTTP/1.1"
    model: openvino.CompiledModel

    def do_GET(self) -> None:
        """Answer the readiness probe."""
        self._answer({})

    def do_POST(self) -> None:
        """Run the model on the JSON rows that are given."""
        rows = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        scores = self.model(np.array(rows, dtype=np.int32))[0]
        self._answer(scores.tolist())

    def _answer(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as inherited
        """Stay silent."""


def main() -> None:
    """Load the only model below /model and serve it."""
    found = next(Path("/model").rglob("*.xml"))
    Handler.model = openvino.Core().compile_model(str(found), "CPU")
    ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()  # noqa: S104 - in a pod


if __name__ == "__main__":
    main()

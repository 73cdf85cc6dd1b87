"""A web server of ciphertext that runs alone in a pod: HTTPS, ranges, a bearer token.

python3 pod_origin.py TOKEN    # serves /models, with /tls/tls.crt and /tls/tls.key
"""

import hashlib
import re
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path("/models")
RANGE = re.compile(r"bytes=(\d+)-(\d+)")


class Handler(BaseHTTPRequestHandler):
    """Serves files below the root, one range at a time, to whoever has the token."""

    protocol_version = "HTTP/1.1"
    token: str

    def do_GET(self) -> None:
        """Answer one request."""
        path = (ROOT / self.path.lstrip("/")).resolve()
        if self.headers.get("Authorization") != f"Bearer {self.token}":
            self._answer(403)
        elif not path.is_relative_to(ROOT) or not path.is_file():
            self._answer(404)
        else:
            self._send(path.read_bytes())

    def _send(self, data: bytes) -> None:
        etag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
        match = RANGE.fullmatch(self.headers.get("Range", ""))
        if match is None:
            self._answer(200, data, {"ETag": etag})
            return
        first, last = int(match[1]), min(int(match[2]), len(data) - 1)
        where = f"bytes {first}-{last}/{len(data)}"
        self._answer(206, data[first : last + 1], {"ETag": etag, "Content-Range": where})

    def _answer(
        self, status: int, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as inherited
        """Stay silent."""


def main() -> None:
    """Serve until the pod ends."""
    Handler.token = sys.argv[1]
    server = ThreadingHTTPServer(("0.0.0.0", 8443), Handler)  # noqa: S104 - in a pod
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain("/tls/tls.crt", "/tls/tls.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


if __name__ == "__main__":
    main()

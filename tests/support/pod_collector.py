"""A server that a tenant runs to get hold of logins: it notes every one, and lets nobody in.

python3 pod_collector.py    # one line of JSON for each login, on standard output
"""

import json
import ssl
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Takes what a key service would take."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Note the body."""
        said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        print(json.dumps({"path": self.path, "body": said}), flush=True)  # noqa: T201 - its log
        body = json.dumps({"errors": ["permission denied"]}).encode()
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_PUT = do_POST  # noqa: N815 - as inherited

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as inherited
        """Stay silent."""


def main() -> None:
    """Serve until the pod ends."""
    server = ThreadingHTTPServer(("0.0.0.0", 8443), Handler)  # noqa: S104 - in a pod
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain("/tls/tls.crt", "/tls/tls.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


if __name__ == "__main__":
    main()

"""The one endpoint of an API server that Kubernetes auth asks: TokenReview, over HTTPS."""

import contextlib
import json
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar, Final

from support.tokens import Issuer, claims_of

PATH: Final = "/apis/authentication.k8s.io/v1/tokenreviews"


@dataclass(kw_only=True)
class Reviewer:
    """What the endpoint knows: who signs, which accounts are gone, and whether it works."""

    issuer: Issuer
    removed: set[str] = field(default_factory=set)
    """Subjects whose service account was deleted."""
    broken: int = 0
    """A status to answer instead, such as 503."""
    asked: list[dict[str, Any]] = field(default_factory=list)
    address: str = ""

    def review(self, spec: dict[str, Any]) -> dict[str, Any]:
        """Return the status of a TokenReview as an API server would."""
        token, audiences = spec["token"], spec.get("audiences") or []
        if not self.issuer.verifies(token):
            return {"authenticated": False, "error": "invalid bearer token"}
        claims = claims_of(token)
        agreed = [each for each in audiences if each in claims["aud"]]
        if claims["exp"] < time.time() or claims["sub"] in self.removed:
            return {"authenticated": False, "error": "token has been invalidated"}
        if audiences and not agreed:
            return {"authenticated": False, "error": "token audiences are invalid"}
        account = claims["kubernetes.io"]["serviceaccount"]
        user = {
            "username": claims["sub"],
            "uid": account["uid"],
            "groups": ["system:authenticated"],
        }
        return {"authenticated": True, "user": user, "audiences": agreed}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    reviewer: ClassVar[Reviewer]

    def do_POST(self) -> None:
        """Answer one review."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.reviewer.asked.append(body)
        if self.reviewer.broken or self.path != PATH:
            self._answer(self.reviewer.broken or 404, {"kind": "Status", "status": "Failure"})
            return
        self._answer(201, body | {"status": self.reviewer.review(body["spec"])})

    def _answer(self, status: int, document: dict[str, Any]) -> None:
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as inherited
        """Stay silent."""


@contextlib.contextmanager
def reviewing(issuer: Issuer, certificate: Path, key: Path) -> Iterator[Reviewer]:
    """Answer reviews for as long as the block lasts."""
    reviewer = Reviewer(issuer=issuer)
    handler = type("ReviewHandler", (_Handler,), {"reviewer": reviewer})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        reviewer.address = f"https://127.0.0.1:{server.server_address[1]}"
        try:
            yield reviewer
        finally:
            server.shutdown()
            thread.join()

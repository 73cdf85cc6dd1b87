"""Rewrapping many models, against the bare calls that the key service has to answer for it."""

import base64
import contextlib
import http.client
import io
import json
import os
import ssl
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from bench.findings import Effort, Findings, Row, interleaved
from modelseal.cli.main import main
from modelseal.cli.story.openbao import OpenBao, running
from modelseal.envelope import PlainFile, kek_context, parse_seal, seal_files
from modelseal.envelope.recipients import Recipient
from modelseal.keys import TokenAuth, VaultSettings, open_provider
from modelseal.secret import Secret

TITLE = "Rewrapping many models"
MODELS = 1000
KEY = "transit/models"


def measure(effort: Effort) -> Findings:
    """Rewrap a folder of models after a rotation; the bare side only asks the same."""
    with tempfile.TemporaryDirectory() as name, running(Path(name)) as server:
        fleet = Fleet(server=server, folder=Path(name) / "sealed")
        fleet.make()
        return Findings(rows=[_row(fleet, effort.rounds)])


def _row(fleet: "Fleet", rounds: int) -> Row:
    return Row(
        question=f"{MODELS} models of one key after a rotation",
        unit="models/s",
        values=interleaved({"modelseal rewrap": fleet.rewrap, "bare": fleet.ask}, rounds=rounds),
        ours="modelseal rewrap",
        baseline="bare",
        target="the key service's own rate",
        limit="the command line's processor time, 2.3 ms for each model: two requests, three "
        "readings of its seal, a MAC, a new file. `batch_input` is not used: a batch hides the "
        "contexts from the policy that pins them and from the audit log that names them",
    )


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """A server, and a folder of tiny models that are wrapped with one key."""

    server: OpenBao
    folder: Path

    def make(self) -> None:
        """Make the key and seal the models."""
        self.server.call("POST", "sys/mounts/transit", {"type": "transit"})
        self.server.call("POST", f"transit/keys/{_key()}", {"derived": True})
        self.folder.mkdir()
        keys = open_provider(f"vault:{KEY}", vault=self._settings())

        def wrapped(dek: Secret, context: bytes) -> list[Recipient]:
            return [keys.wrap(dek, context)]

        for number in range(MODELS):
            file = PlainFile(path="weights", role="other", length=1024, open=_content)
            seal_files(
                files=[file],
                output=self.folder / f"m{number}",
                model=f"bench/m{number}",
                version="1",
                sequence=1,
                recipients_for=wrapped,
                threads=1,
            )

    def rewrap(self) -> float:
        """Rotate, and rewrap with the command line; returns models in a second."""
        self.server.call("POST", f"transit/keys/{_key()}/rotate")
        words = [
            "rewrap",
            str(self.folder),
            "--model",
            "bench/*",
            "--key",
            f"vault:{KEY}",
            "--json",
        ]
        environ = {
            "VAULT_ADDR": self.server.address,
            "VAULT_CACERT": str(self.server.ca_file),
            "VAULT_TOKEN": self.server.root_token,
        }
        said = io.StringIO()
        with mock.patch.dict(os.environ, environ), _quiet(said):
            start = time.perf_counter()
            code = main(words)
            spent = time.perf_counter() - start
        assert code == 0
        assert json.loads(said.getvalue())["counts"] == {"rewrapped": MODELS}
        return MODELS / spent

    def ask(self) -> float:
        """Make the same calls on one connection with the least of a client."""
        self.server.call("POST", f"transit/keys/{_key()}/rotate")
        seals = [parse_seal(path.read_bytes()) for path in sorted(self.folder.glob("*/seal.json"))]
        asked = [
            (
                seal.recipients[0].wrapped,
                base64.b64encode(kek_context(seal.manifest.model, seal.manifest.seal_id)).decode(),
            )
            for seal in seals
        ]
        context = ssl.create_default_context(cafile=str(self.server.ca_file))
        connection = http.client.HTTPSConnection("127.0.0.1", self.server.port, context=context)
        with contextlib.closing(connection):
            start = time.perf_counter()
            for wrapped, bound in asked:
                renewed = self._post(connection, "rewrap", wrapped, bound)["ciphertext"]
                self._post(connection, "decrypt", renewed, bound)
            return MODELS / (time.perf_counter() - start)

    def _post(
        self, connection: http.client.HTTPSConnection, verb: str, wrapped: str, context: str
    ) -> dict[str, str]:
        body = json.dumps({"ciphertext": wrapped, "context": context})
        headers = {"X-Vault-Token": self.server.root_token}
        connection.request("POST", f"/v1/transit/{verb}/{_key()}", body, headers)
        data: dict[str, str] = json.loads(connection.getresponse().read())["data"]
        return data

    def _settings(self) -> VaultSettings:
        token = self.server.root_token.encode()
        return VaultSettings(
            address=self.server.address,
            ca_file=self.server.ca_file,
            auth=TokenAuth(read=lambda: Secret(token)),
        )


def _content() -> io.BytesIO:
    return io.BytesIO(os.urandom(1024))


def _key() -> str:
    return KEY.partition("/")[2]


@contextlib.contextmanager
def _quiet(said: io.StringIO) -> Iterator[None]:
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(io.StringIO()):
        yield

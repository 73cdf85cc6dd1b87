"""Rewrapping many models, against the bare calls that the key service has to answer for it."""

import base64
import contextlib
import http.client
import io
import json
import os
import ssl
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from unittest import mock

from bench.findings import Effort, Findings, Row, interleaved
from bench.served import cpu_seconds
from modelseal.cli.main import main
from modelseal.cli.story.openbao import OpenBao, running
from modelseal.envelope import PlainFile, kek_context, parse_seal, seal_files
from modelseal.envelope.recipients import Recipient
from modelseal.keys import TokenAuth, VaultSettings, open_provider
from modelseal.secret import Secret

TITLE = "Rewrapping many models"
MODELS = 1000
KEY = "transit/models"
OURS = "modelseal rewrap"
REQUESTS = 2
"""What one model costs: a rewrap, and the unwrapping that tries it."""
ALLOWED = 400
"""Requests in a second, in the row where the key service has a quota."""
CONNECTIONS = 8
"""What the bare side uses at most, and `--jobs` by default."""


def measure(effort: Effort) -> Findings:
    """Rewrap a folder of models after a rotation; the bare side only asks the same."""
    with tempfile.TemporaryDirectory() as name, running(Path(name)) as server:
        fleet = Fleet(server=server, folder=Path(name) / "sealed")
        fleet.make()
        spent: dict[str, list[Spent]] = {}
        sides = {
            OURS: fleet.rewrap,
            f"bare, {CONNECTIONS} connections": lambda: fleet.ask(CONNECTIONS),
            "bare, one connection": lambda: fleet.ask(1),
        }
        noted = {
            side: fleet.noted(deed, spent.setdefault(side, [])) for side, deed in sides.items()
        }
        values = interleaved(noted, rounds=effort.rounds)
        fleet.limit(ALLOWED)
        limited = interleaved({OURS: fleet.rewrap}, rounds=3)
    return Findings(rows=[_row(values), _limited_row(limited[OURS])], notes=[_note(spent)])


def _row(values: Mapping[str, Sequence[float]]) -> Row:
    return Row(
        question=f"{MODELS} models of one key after a rotation",
        unit="models/s",
        values=values,
        ours=OURS,
        baseline=f"bare, {CONNECTIONS} connections",
        target="the key service's own rate",
        limit="processor time, which the key service and the command line share here. "
        "`batch_input` is not used: a batch hides the contexts from the policy that pins them "
        "and from the audit log that names them",
    )


def _limited_row(rates: Sequence[float]) -> Row:
    return Row(
        question=f"the same, where the key service answers {ALLOWED} requests a second and no more",
        unit="models/s",
        values={OURS: rates, "what it allows": [ALLOWED / REQUESTS]},
        ours=OURS,
        baseline="what it allows",
        target="the key service's own rate",
        limit="the key service's quota: what is refused is asked again when its second is over",
    )


@dataclass(frozen=True, kw_only=True)
class Spent:
    """Milliseconds of processor time for each model."""

    service: float
    client: float


def _note(spent: Mapping[str, Sequence[Spent]]) -> str:
    """Say who used the processors, from the medians of the rounds."""
    sides = {
        side: (
            statistics.median(each.service for each in runs),
            statistics.median(each.client for each in runs),
        )
        for side, runs in spent.items()
    }
    listed = "; ".join(
        f"{side}: {service:.2f} ms of the key service and {client:.2f} ms of its client"
        for side, (service, client) in sides.items()
    )
    service, client = sides[OURS]
    return (
        f"Processor time for each model, which is two requests: {listed}. Beside the requests the "
        "command line reads and checks a seal, compares a MAC, and writes, syncs and renames a "
        "file. Its processes work side by side, so the key service is the limit where they have "
        f"{client / service:.1f} times its processors; here both share two."
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

    def limit(self, rate: int) -> None:
        """Let the server refuse what is beyond so many requests in a second (HTTP 429)."""
        self.server.call("POST", "sys/quotas/rate-limit/bench", {"rate": rate, "path": "transit"})

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

    def ask(self, connections: int) -> float:
        """Make the same calls with the least of a client, in a process for each connection."""
        self.server.call("POST", f"transit/keys/{_key()}/rotate")
        seals = [parse_seal(path.read_bytes()) for path in sorted(self.folder.glob("*/seal.json"))]
        asked = [
            (
                seal.recipients[0].wrapped,
                base64.b64encode(kek_context(seal.manifest.model, seal.manifest.seal_id)).decode(),
            )
            for seal in seals
        ]
        shares = [asked[number::connections] for number in range(connections)]
        with ProcessPoolExecutor(connections, mp_context=get_context("fork")) as pool:
            start = time.perf_counter()
            list(pool.map(self._ask, shares))
            return MODELS / (time.perf_counter() - start)

    def _ask(self, asked: Sequence[tuple[str, str]]) -> None:
        context = ssl.create_default_context(cafile=str(self.server.ca_file))
        connection = http.client.HTTPSConnection("127.0.0.1", self.server.port, context=context)
        with contextlib.closing(connection):
            for wrapped, bound in asked:
                renewed = self._post(connection, "rewrap", wrapped, bound)["ciphertext"]
                self._post(connection, "decrypt", renewed, bound)

    def noted(self, deed: Callable[[], float], spent: list[Spent]) -> Callable[[], float]:
        """Return the deed, which notes the processor time that it takes."""

        def measured() -> float:
            service, client = self._service_seconds(), _client_seconds()
            rate = deed()
            scale = 1000 / MODELS
            spent.append(
                Spent(
                    service=scale * (self._service_seconds() - service),
                    client=scale * (_client_seconds() - client),
                )
            )
            return rate

        return measured

    def _service_seconds(self) -> float:
        assert self.server.pid is not None
        return cpu_seconds(self.server.pid)

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


def _client_seconds() -> float:
    """Return the processor time of this process and of those that it waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _content() -> io.BytesIO:
    return io.BytesIO(os.urandom(1024))


def _key() -> str:
    return KEY.partition("/")[2]


@contextlib.contextmanager
def _quiet(said: io.StringIO) -> Iterator[None]:
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(io.StringIO()):
        yield

"""An hour without the key service, under requests: what it costs, and when all is well again."""

import http.client
import os
import signal
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench.findings import Effort, Findings, Row
from bench.served import NAME, served
from bench.serving_models import write_model
from modelseal.cli.story.openbao import OpenBao, running

TITLE = "An hour without the key service"
SECONDS = 3600.0
INTERVAL = 5.0
"""Seconds between two checks of the lease: the shortest there is."""
_ASK_EVERY = 0.2
_MISSED, _BACK = b"could not check the lease", b"answers again"
_BODY = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3, 64, 64], "data": [%s]}]}'


@dataclass(kw_only=True)
class Asked:
    """How many requests were answered, and how many were not."""

    answered: int = 0
    failed: int = 0


def measure(effort: Effort) -> Findings:
    """Stop the server's process for an hour: connections are accepted and never answered."""
    del effort
    with tempfile.TemporaryDirectory(prefix="modelseal-bench-", dir="/var/tmp") as name:
        folder = Path(name)
        write_model(folder / "model.xml", 0.1)
        with running(folder) as server:
            return _outage(server, folder)


def _outage(server: OpenBao, folder: Path) -> Findings:
    assert server.pid is not None
    server.call("POST", "sys/mounts/transit", {"type": "transit"})
    server.call("POST", "transit/keys/model", {"derived": True})
    log = folder / "log"
    environ = {
        "VAULT_ADDR": server.address,
        "VAULT_CACERT": str(server.ca_file),
        "VAULT_TOKEN": server.root_token,
    }
    more = ["--lease-interval", str(INTERVAL), "--log-level", "info"]
    model = folder / "model.xml"
    with served(
        model, folder, key="vault:transit/model", more=more, environ=environ, log=log
    ) as it:
        asked = Asked()
        os.kill(server.pid, signal.SIGSTOP)
        try:
            _ask(it.port, asked, until=time.monotonic() + SECONDS)
            missed = log.read_bytes().count(_MISSED)
        finally:
            os.kill(server.pid, signal.SIGCONT)
        came_back = time.monotonic()
        while _BACK not in log.read_bytes():
            _ask(it.port, asked, until=time.monotonic() + _ASK_EVERY)
        back = time.monotonic() - came_back
    return findings(asked, missed=missed, back=back)


def findings(asked: Asked, *, missed: int, back: float) -> Findings:
    """Return what was counted."""
    row = Row(
        question=f"requests that were answered in {SECONDS / 60:.0f} minutes",
        unit="of 100",
        values={"modelseal": [100 * asked.answered / (asked.answered + asked.failed)]},
        ours="modelseal",
        baseline=None,
        target="100",
        limit="`maxStale`, four hours by default, is when it would end",
    )
    note = (
        f"{asked.answered:,} requests were answered and {asked.failed} were not, while the "
        "server's process was stopped (SIGSTOP), so that connections were accepted and never "
        f"answered. The lease was due every {INTERVAL:.0f} s; a check that hangs takes longer, "
        f"and {missed} warnings were logged. {back:.1f} s after the server went on, the lease "
        "was confirmed again. Both programs were those that had begun."
    )
    return Findings(rows=[row], notes=[note])


def _ask(port: int, asked: Asked, *, until: float) -> None:
    body = _BODY % b",".join([b"0.5"] * (3 * 64 * 64))
    while time.monotonic() < until:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("POST", f"/v2/models/{NAME}/infer", body)
            good = connection.getresponse().status == http.client.OK
        except OSError:
            good = False
        finally:
            connection.close()
        asked.answered += good
        asked.failed += not good
        time.sleep(_ASK_EVERY)

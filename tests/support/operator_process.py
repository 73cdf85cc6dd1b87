"""The operator as a process with a service account's rights, against a real control plane."""

import base64
import contextlib
import itertools
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import urllib3

from support import installation
from support.control_plane import ControlPlane, free_ports, wait_until
from support.kube_api import ALL

Json = dict[str, Any]
_names = itertools.count()


class OperatorProcess:
    """One replica."""

    def __init__(self, plane: ControlPlane, server: str | None = None, **settings: str) -> None:
        """Start it; `server` is where it finds the API server, by default where that is."""
        self.identity: Final = f"replica-{next(_names)}"
        self.log: Final = plane.folder / f"{self.identity}.log"
        (self.port,) = free_ports(1)
        token = service_account_token(plane)
        self.credential: Final = f"JTI={_claims(token)['jti']}"
        kubeconfig = plane.kubeconfig(self.identity, token, server)
        told = {
            **installation.settings(),
            "NAMESPACE": installation.NAMESPACE,
            "KUBECONFIG": str(kubeconfig),
            "IDENTITY": self.identity,
            "LOG_FORMAT": "plain",
            "PORT": str(self.port),
            **settings,
        }
        # whatever the caller's environment says of the operator is not of this replica
        kept = {k: v for k, v in os.environ.items() if not k.startswith("MODELSEAL_")}
        environment = {**kept, **{f"MODELSEAL_OPERATOR_{k}": v for k, v in told.items()}}
        with self.log.open("ab") as log:
            self.process: Final = subprocess.Popen(
                [sys.executable, "-m", "modelseal_operator", "run"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def text(self) -> str:
        """Everything that it has logged."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process.poll() is None

    @property
    def leads(self) -> bool:
        """Whether it has begun to lead."""
        assert self.alive, f"the operator ended: {self.text[-3000:]}"
        return bool(re.search(r"\bleading\b", self.text))

    def wait_for_lead(self, seconds: float = 90.0) -> None:
        """Wait until it leads."""
        wait_until(lambda: self.leads, f"{self.identity} leads", seconds)

    def metric(self, name: str) -> float:
        """Return the sum of a metric over its labels."""
        return self._sum(rf"{name}(?:{{[^}}]*}})?")

    def _sum(self, pattern: str) -> float:
        answer = urllib3.request("GET", f"http://127.0.0.1:{self.port}/metrics", timeout=30)
        found = re.findall(rf"^{pattern} (\S+)$", answer.data.decode(), re.MULTILINE)
        return sum(float(each) for each in found)

    def told_models(self) -> int:
        """Return how many models it has written a status of."""
        return int(self._sum(r'modelseal_operator_models{ready="[^"]*",reason="[^"]+"}'))

    def ready_models(self) -> int:
        """Return how many models it knows to be ready."""
        return int(self._sum(r'modelseal_operator_models{ready="True",[^}]*}'))

    def peak_memory(self) -> int:
        """Return the most memory that it has had, in KiB."""
        text = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return int(re.findall(r"VmHWM:\s+([0-9]+) kB", text)[0])

    def processor_seconds(self) -> float:
        """Return the time that it has spent on processors, its start included."""
        words = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").split()
        return (int(words[13]) + int(words[14])) / os.sysconf("SC_CLK_TCK")

    def settle(self) -> None:
        """Wait until nothing has been due for half a second."""
        end, last = time.monotonic() + 120, (time.monotonic(), -1.0)
        while time.monotonic() - last[0] < 0.5:
            assert time.monotonic() < end, "the operator never came to rest"
            passes = self.metric("modelseal_operator_reconciles_total")
            if passes != last[1]:
                last = (time.monotonic(), passes)
            time.sleep(0.05)

    def stop(self) -> int:
        """End it as the kubelet would, and return its exit code."""
        self.process.terminate()
        return self.process.wait(timeout=60)

    def kill(self) -> None:
        """End it without a word."""
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def operating(
    plane: ControlPlane, server: str | None = None, **settings: str
) -> Iterator[OperatorProcess]:
    """Run a replica until the block ends; it must end well and must not have failed inside."""
    operator = OperatorProcess(plane, server, **settings)
    try:
        operator.wait_for_lead()
        yield operator
        assert operator.alive, f"the operator ended: {operator.text[-3000:]}"
        assert "Traceback" not in operator.text, operator.text[-6000:]
        assert operator.stop() == 0
    finally:
        if operator.alive:
            operator.kill()


def _claims(token: str) -> Json:
    body = token.split(".")[1]
    found: Json = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return found


def service_account_token(plane: ControlPlane) -> str:
    """Return a token of the operator's own account."""
    api = plane.api()
    path = ALL["ServiceAccount"].path(installation.NAMESPACE, installation.account(), "token")
    try:
        made = api.call("POST", path, {"spec": {"expirationSeconds": 7200}})
    finally:
        api.close()
    token: str = made["status"]["token"]
    return token

"""A real control plane as plain processes: etcd, API server, controllers, scheduler, and KWOK.

KWOK plays the kubelets of nodes that do not exist: pods that are scheduled there become ready at
once and cost nothing. A pod with the label `test-hold` is left as it is, for tests that write its
status themselves. No root, no container, no network: everything listens on 127.0.0.1.
"""

import contextlib
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from support.binaries import binary
from support.control_plane_files import write_keys, write_kwok, write_policy
from support.kube_api import KubeApi

Json = dict[str, Any]
HOST: Final = "127.0.0.1"
START_SECONDS: Final = 180.0
ROLES: Final = ("admin", "controllers", "scheduler", "kwok")
HOLD: Final = "test-hold"


def wait_until(check: Callable[[], object], what: str, seconds: float = 90.0) -> Any:
    """Wait until a check returns something true, and return that."""
    end = time.monotonic() + seconds
    while True:
        found = check()
        if found:
            return found
        assert time.monotonic() < end, f"within {seconds:g} s it never came true that {what}"
        time.sleep(0.05)


def free_ports(count: int) -> list[int]:
    """Return ports that were free a moment ago, all different."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server((HOST, 0))) for _ in range(count)]
        return [probe.getsockname()[1] for probe in probes]


@dataclass(kw_only=True)
class ControlPlane:
    """A running control plane; its files are in `folder`."""

    folder: Path
    port: int
    etcd_ports: tuple[int, int]
    qps: int = 500
    """Requests a second of the controller manager; its own default of 20 is slower than we are."""
    tokens: dict[str, str] = field(
        default_factory=lambda: {role: secrets.token_hex(16) for role in ROLES}
    )
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    @property
    def server(self) -> str:
        """Address of the API server."""
        return f"https://{HOST}:{self.port}"

    @property
    def audit_log(self) -> Path:
        """What was asked of the API server, one JSON object a line."""
        return self.folder / "audit.log"

    def api(self) -> KubeApi:
        """Return the admin's hand on the API server."""
        return KubeApi(self.server, self.folder / "ca.pem", self.tokens["admin"])

    def kubeconfig(self, name: str, token: str, server: str | None = None) -> Path:
        """Write a kubeconfig for a token and return its path."""
        path = self.folder / f"{name}.kubeconfig"
        cluster = {
            "server": server or self.server,
            "certificate-authority": str(self.folder / "ca.pem"),
        }
        found = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": {"token": token}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        }
        path.write_text(yaml.safe_dump(found), encoding="utf-8")
        return path

    def start(self) -> None:
        """Start everything, and wait until the API server is ready."""
        write_keys(self.folder)
        write_policy(self.folder)
        write_kwok(self.folder, binary("kwok-stages"), HOLD)
        tokens = (f"{token},{role},{role},system:masters\n" for role, token in self.tokens.items())
        (self.folder / "tokens.csv").write_text("".join(tokens), encoding="utf-8")
        self._run("etcd", _etcd(self))
        self.start_api_server()
        self._start_controllers()

    def recover(self) -> None:
        """Start the API server again, and the controllers, which else wait for long to try."""
        self.start_api_server()
        for name in ("kube-controller-manager", "kube-scheduler", "kwok"):
            process = self.processes.pop(name)
            process.kill()
            process.wait()
        self._start_controllers()

    def _start_controllers(self) -> None:
        configs = {role: str(self.kubeconfig(role, token)) for role, token in self.tokens.items()}
        self._run("kube-controller-manager", _controllers(self, configs["controllers"]))
        self._run("kube-scheduler", _scheduler(self, configs["scheduler"]))
        self._run("kwok", _kwok(self, configs["kwok"]))

    def start_api_server(self) -> None:
        """Start the API server and wait until it is ready."""
        self._run("kube-apiserver", _api_server(self))
        api = self.api()
        try:
            up = "the API server is ready"
            wait_until(lambda: self._alive() and api.healthy(), up, START_SECONDS)
        finally:
            api.close()

    def stop_api_server(self, *, kill: bool = False) -> None:
        """Stop the API server only."""
        process = self.processes.pop("kube-apiserver")
        process.kill() if kill else process.terminate()
        process.wait(timeout=60)

    def stop(self) -> None:
        """End everything, in an order that waits for nobody, and remove etcd's data."""
        for process in reversed(self.processes.values()):
            process.kill()
            process.wait()
        shutil.rmtree(self.folder / "etcd", ignore_errors=True)

    def _run(self, name: str, arguments: Sequence[str]) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [*_ends_with_us(), str(binary(name)), *arguments],
                cwd=self.folder,
                env={"HOME": str(self.folder), "PATH": "/usr/bin:/bin"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def _alive(self) -> bool:
        for name, process in self.processes.items():
            if process.poll() is not None:
                text = (self.folder / f"{name}.log").read_text(errors="replace")[-2000:]
                raise AssertionError(f"{name} ended with {process.returncode}: {text}")
        return True


@contextlib.contextmanager
def running(folder: Path, **changes: Any) -> Iterator[ControlPlane]:
    """Run a control plane until the block ends."""
    port, *etcd = free_ports(3)
    plane = ControlPlane(folder=folder, port=port, etcd_ports=(etcd[0], etcd[1]), **changes)
    try:
        plane.start()
        yield plane
    finally:
        plane.stop()


def _ends_with_us() -> list[str]:
    """Return a prefix that ends a program when this process dies, where there is one."""
    found = shutil.which("setpriv")
    return [found, "--pdeathsig", "KILL", "--"] if found else []


def _etcd(plane: ControlPlane) -> list[str]:
    client, peer = (f"http://{HOST}:{port}" for port in plane.etcd_ports)
    return [
        f"--data-dir={plane.folder / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        "--unsafe-no-fsync",
        "--log-level=error",
    ]


def _api_server(plane: ControlPlane) -> list[str]:
    folder = plane.folder
    return [
        f"--etcd-servers=http://{HOST}:{plane.etcd_ports[0]}",
        f"--secure-port={plane.port}",
        f"--bind-address={HOST}",
        f"--tls-cert-file={folder / 'server.pem'}",
        f"--tls-private-key-file={folder / 'server.key'}",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--api-audiences=https://kubernetes.default.svc",
        f"--service-account-key-file={folder / 'accounts.pub'}",
        f"--service-account-signing-key-file={folder / 'accounts.key'}",
        "--authorization-mode=RBAC",
        f"--token-auth-file={folder / 'tokens.csv'}",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--allow-privileged=true",
        f"--audit-policy-file={folder / 'audit-policy.yaml'}",
        f"--audit-log-path={plane.audit_log}",
        "--profiling=false",
    ]


def _controllers(plane: ControlPlane, kubeconfig: str) -> list[str]:
    return [
        f"--kubeconfig={kubeconfig}",
        f"--root-ca-file={plane.folder / 'ca.pem'}",
        f"--service-account-private-key-file={plane.folder / 'accounts.key'}",
        "--use-service-account-credentials",
        "--leader-elect=false",
        "--secure-port=0",
        f"--kube-api-qps={plane.qps}",
        f"--kube-api-burst={2 * plane.qps}",
        "--concurrent-deployment-syncs=20",
        "--concurrent-replicaset-syncs=20",
        "--concurrent-gc-syncs=20",
    ]


def _scheduler(plane: ControlPlane, kubeconfig: str) -> list[str]:
    return [
        f"--kubeconfig={kubeconfig}",
        "--leader-elect=false",
        "--secure-port=0",
        f"--kube-api-qps={plane.qps}",
        f"--kube-api-burst={2 * plane.qps}",
    ]


def _kwok(plane: ControlPlane, kubeconfig: str) -> list[str]:
    return [
        f"--kubeconfig={kubeconfig}",
        "--manage-all-nodes=true",
        "--node-lease-duration-seconds=40",
        "--cidr=198.18.0.0/15",  # for tests of networks: nobody answers there
        f"--config={plane.folder / 'kwok.yaml'}",
        "--v=WARN",
    ]

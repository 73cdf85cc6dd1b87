"""OpenBao inside the cluster: behind TLS with a CA of its own, Kubernetes auth by TokenReview."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from modelseal.cli.story.openbao import OpenBao
from support.authority import Authority
from support.kind_given import MARK, RESTRICTED, REVIEWER
from support.kube import Kube
from support.openbao import KeyService

NAMESPACE: Final = "openbao"
PORT: Final = 8200
_UID: Final = 10100
_CONFIG: Final = """
storage "inmem" {}
listener "tcp" {
  address       = "0.0.0.0:8200"
  tls_cert_file = "/etc/openbao/tls/tls.crt"
  tls_key_file  = "/etc/openbao/tls/tls.key"
}
api_addr = "https://openbao.openbao.svc:8200"
audit "file" "to-file" {
  options {
    file_path = "/audit/audit.log"
  }
}
"""
_READ_AUDIT: Final = """
import pathlib, sys
sys.stdout.write(pathlib.Path("/audit/audit.log").read_text())
"""


@dataclass(frozen=True, kw_only=True)
class ClusterKeyService:
    """The server in the cluster, and an administrator's way to it from here."""

    kube: Kube
    keys: KeyService
    ca_bundle: str
    unseal_key: str = field(repr=False)

    def address(self, alias: str) -> str:
        """Return the address of one of its Services, as pods see it."""
        return f"https://{alias}.{NAMESPACE}.svc:{PORT}"

    def add_alias(self, alias: str) -> str:
        """Give the server one more name, which can be cut off alone; returns the address."""
        self.kube.apply(_service(alias))
        return self.address(alias)

    def cut_off(self, alias: str) -> None:
        """Let a name lead nowhere."""
        self._select(alias, "nobody")
        named = f"kubernetes.io/service-name={alias}"
        self.kube.until("nobody is behind it", lambda: not _behind(self.kube, named))

    def connect_again(self, alias: str) -> None:
        """Undo `cut_off`."""
        self._select(alias, "openbao")

    def seal(self) -> None:
        """Make the server answer nobody, on connections that are open too."""
        self.keys.call("PUT", "sys/seal")

    def unseal(self) -> None:
        """Undo `seal`."""
        self.keys.call("PUT", "sys/unseal", {"key": self.unseal_key})

    def audit_log(self) -> str:
        """Return the whole lines that the server's audit device wrote.

        Not through the container's log: that cuts lines of 16 KiB, with the server's words between.
        """
        said = self.kube.python("deployment/openbao", _READ_AUDIT)
        return said[: said.rfind("\n") + 1]

    def remove_alias(self, alias: str) -> None:
        """Forget a name."""
        self.kube.run("delete", "service", alias, "--wait=false", "--ignore-not-found")

    def _select(self, alias: str, name: str) -> None:
        self.kube.patch("service", alias, {"spec": {"selector": {"app": name}}})


@contextlib.contextmanager
def running(kube: Kube, image: str, folder: Path) -> Iterator[ClusterKeyService]:
    """Install the server, unseal it, turn Kubernetes auth on; it stays in the cluster."""
    there = kube.at(NAMESPACE)
    authority = Authority()
    there.run("delete", "namespace", NAMESPACE, "--ignore-not-found")
    there.apply(*_objects(image, authority))
    there.run("rollout", "status", "deployment/openbao", "--timeout=120s", seconds=130)
    ca_file = folder / "openbao-ca.pem"
    ca_file.write_text(authority.bundle)
    with there.forward("deployment/openbao", PORT) as ports:
        closed = OpenBao(port=ports[PORT], ca_file=ca_file)
        token, unseal_key = _unseal(closed)
        server = OpenBao(port=ports[PORT], ca_file=ca_file, root_token=token)
        keys = KeyService(server=server, folder=folder)
        keys.paste(
            "bao auth enable kubernetes\n"
            "bao write auth/kubernetes/config kubernetes_host=https://kubernetes.default.svc"
        )
        yield ClusterKeyService(
            kube=there, keys=keys, ca_bundle=authority.bundle, unseal_key=unseal_key
        )


def _behind(kube: Kube, named: str) -> list[Any]:
    slices = kube.all("endpointslices", named)
    return [endpoint for each in slices for endpoint in each.get("endpoints") or ()]


def _unseal(server: OpenBao) -> tuple[str, str]:
    made = server.call("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1})
    server.call("PUT", "sys/unseal", {"key": made["keys"][0]})
    return str(made["root_token"]), str(made["keys"][0])


def _objects(image: str, authority: Authority) -> list[dict[str, Any]]:
    names = [f"openbao.{NAMESPACE}.svc", f"*.{NAMESPACE}.svc"]
    tls = authority.issue(names, ["127.0.0.1"])
    return [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": NAMESPACE, "labels": RESTRICTED},
        },
        _placed("v1", "ServiceAccount", {}),
        _reviewer(),
        _placed(
            "v1",
            "Secret",
            {
                "stringData": {
                    "ca.crt": authority.bundle,
                    "tls.crt": tls.certificate,
                    "tls.key": tls.key,
                }
            },
            name="openbao-tls",
        ),
        _placed("v1", "ConfigMap", {"data": {"openbao.hcl": _CONFIG}}),
        _deployment(image),
        _service("openbao"),
    ]


def _reviewer() -> dict[str, Any]:
    """Let the server ask the API server whose a token is, which is all that it needs."""
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": REVIEWER, "labels": MARK},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": "system:auth-delegator",
        },
        "subjects": [{"kind": "ServiceAccount", "name": "openbao", "namespace": NAMESPACE}],
    }


def _service(name: str) -> dict[str, Any]:
    spec = {"selector": {"app": "openbao"}, "ports": [{"name": "https", "port": PORT}]}
    return _placed("v1", "Service", {"spec": spec}, name=name)


def _deployment(image: str) -> dict[str, Any]:
    container = {
        "name": "openbao",
        "image": image,
        "args": ["server", "-config=/etc/openbao/config/openbao.hcl"],
        "env": [
            {"name": "HOME", "value": "/home"},
            {"name": "BAO_ADDR", "value": f"https://127.0.0.1:{PORT}"},
            {"name": "BAO_CACERT", "value": "/etc/openbao/tls/ca.crt"},
        ],
        "ports": [{"containerPort": PORT}],
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "50m", "memory": "96Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [
            {"name": "config", "mountPath": "/etc/openbao/config"},
            {"name": "tls", "mountPath": "/etc/openbao/tls"},
            {"name": "home", "mountPath": "/home"},
            {"name": "audit", "mountPath": "/audit"},
        ],
    }
    pod = {
        "serviceAccountName": "openbao",
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _UID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            {"name": "config", "configMap": {"name": "openbao"}},
            {"name": "tls", "secret": {"secretName": "openbao-tls"}},
            {"name": "home", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}},
            {"name": "audit", "emptyDir": {}},
        ],
    }
    labels = {"app": "openbao"}
    template = {"metadata": {"labels": labels}, "spec": pod}
    spec = {"selector": {"matchLabels": labels}, "template": template}
    return _placed("apps/v1", "Deployment", {"spec": spec})


def _placed(
    version: str, kind: str, content: dict[str, Any], name: str = "openbao"
) -> dict[str, Any]:
    where = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": version, "kind": kind, "metadata": where, **content}

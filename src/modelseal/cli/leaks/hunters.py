"""A privileged pod on every node, for as long as the check lasts, and what it is asked."""

import contextlib
import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

from modelseal.cli.leaks.kubectl import Json, Kubectl
from modelseal.errors import SettingsError

NAMESPACE: Final = "modelseal-leakcheck"
_NAME: Final = "hunter"
_PACKAGES: Final = ("modelseal", "modelseal.cli", "modelseal.cli.leaks")
_MODULES: Final = (
    *("needles", "places", "plants", "filesystems", "processes"),
    *("swap", "etcd", "nodeplants", "node"),
)
"""What runs on a node, all of it standard library; the image has Python and none of these."""
_MAIN: Final = "from modelseal.cli.leaks.node import main\nmain()\n"
_ARCHIVE: Final = "/hunter/leaks.zip"
_KEEP: Final = f"import sys; open('{_ARCHIVE}', 'wb').write(sys.stdin.buffer.read())"
_WAIT: Final = "import signal; signal.signal(15, lambda *_: exit()); signal.pause()"


@dataclass(frozen=True, kw_only=True)
class Hunter:
    """One node's pod."""

    kube: Kubectl
    pod: str
    node: str

    def ask(self, verb: str, **question: Any) -> Any:
        """Let the node's program answer one question."""
        content = json.dumps({"verb": verb, **question}).encode()
        return json.loads(self.kube.python(self.pod, _ARCHIVE, given=content))


def agent_image(kube: Kubectl) -> str:
    """Return the agent's image as the installed operator names it: it has the Python we need.

    Raises:
        SettingsError: no operator is found.

    """
    found = kube.get("deployments", "-A", "-l", "app.kubernetes.io/part-of=modelseal")
    for deployment in found.get("items", []):
        for container in deployment["spec"]["template"]["spec"]["containers"]:
            for variable in container.get("env", []):
                if variable["name"].endswith("AGENT_IMAGE"):
                    return str(variable["value"])
    raise SettingsError(
        "failed to check for leaks: no operator of modelseal is found",
        hint="install the chart, or name an image that has python3 with --image",
    )


@contextlib.contextmanager
def hunting(kube: Kubectl, image: str) -> Iterator[list[Hunter]]:
    """Run a hunter on every node, in a namespace of their own that goes with the block."""
    there = kube.at(NAMESPACE)
    there.delete("namespace", NAMESPACE)
    try:
        there.apply(_namespace(), _daemons(image))
        there.run("rollout", "status", f"daemonset/{_NAME}", "--timeout=300s")
        yield [_ready(there, pod) for pod in there.get("pods", "-l", f"app={_NAME}")["items"]]
    finally:
        there.run("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=false")


def _ready(kube: Kubectl, pod: Mapping[str, Any]) -> Hunter:
    name = pod["metadata"]["name"]
    kube.python(name, "-c", _KEEP, given=_archive())
    return Hunter(kube=kube, pod=name, node=pod["spec"]["nodeName"])


def _archive() -> bytes:
    """Return the node's program as a zip that Python runs."""
    content = io.BytesIO()
    here = resources.files("modelseal.cli.leaks")
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("__main__.py", _MAIN)
        for package in _PACKAGES:
            archive.writestr(f"{package.replace('.', '/')}/__init__.py", "")
        for module in _MODULES:
            source = (here / f"{module}.py").read_text(encoding="utf-8")
            archive.writestr(f"modelseal/cli/leaks/{module}.py", source)
    return content.getvalue()


def _namespace() -> Json:
    labels = {"pod-security.kubernetes.io/enforce": "privileged"}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": labels},
    }


def _daemons(image: str) -> Json:
    container = {
        "name": _NAME,
        "image": image,
        "command": ["python3", "-c", _WAIT],
        "securityContext": {"privileged": True, "runAsUser": 0, "runAsGroup": 0},
        "volumeMounts": [{"name": "hunter", "mountPath": "/hunter"}],
    }
    pod = {
        "hostPID": True,
        "automountServiceAccountToken": False,
        "tolerations": [{"operator": "Exists"}],
        "terminationGracePeriodSeconds": 1,
        "containers": [container],
        "volumes": [{"name": "hunter", "emptyDir": {}}],
    }
    labels = {"app": _NAME}
    template = {"metadata": {"labels": labels}, "spec": pod}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": _NAME, "namespace": NAMESPACE},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    }

"""A place's volume, and the pod that carries ciphertext to it."""

import io
import tarfile
from pathlib import Path
from typing import Final

from support.kind_given import MARK
from support.kube import Json, Kube

CLAIM: Final = "models"
CARRIER: Final = "carrier"
FOR_ROOT: Final = {**MARK, "pod-security.kubernetes.io/enforce": "baseline"}
"""What a namespace says while `let_everybody_write` runs in it."""
_OPENER: Final = "opener"
CARRIER_UID: Final = 10200
"""Who owns what is on the volume."""
_WAIT: Final = "import signal; signal.signal(15, lambda *_: exit()); signal.pause()"
_UNPACK: Final = (
    "import sys, tarfile; "
    "tarfile.open(fileobj=sys.stdin.buffer, mode='r|').extractall(sys.argv[1], filter='data')"
)
_OPEN: Final = "import os; os.chmod('/models', 0o777)"
SECURITY: Final[Json] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "runAsUser": CARRIER_UID,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def claim() -> Json:
    """Return the claim of a small volume of the cluster's default class."""
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Mi"}}}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": CLAIM},
        "spec": spec,
    }


def carrier(image: str) -> Json:
    """Return the pod that mounts the volume and waits; the image has Python."""
    return _mounting(CARRIER, image, _WAIT, SECURITY)


def let_everybody_write(kube: Kube, image: str) -> None:
    """Open a volume that root owns, by a pod of root's: nobody can be asked on its node.

    Provisioners of folders give root's own, and `fsGroup` changes nothing about those.
    """
    root = {**SECURITY, "runAsNonRoot": False, "runAsUser": 0}
    root["capabilities"] = {"drop": ["ALL"], "add": ["FOWNER"]}
    pod = _mounting(_OPENER, image, _OPEN, root)
    pod["spec"]["restartPolicy"] = "OnFailure"
    kube.apply(claim(), pod)
    ended = "--for=jsonpath={.status.phase}=Succeeded"
    kube.run("wait", f"pod/{_OPENER}", ended, "--timeout=120s", seconds=130)
    kube.run("delete", "pod", _OPENER)


def unpack(kube: Kube, folder: Path, path: str) -> None:
    """Copy a folder to a path on the volume, through the carrier."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.add(folder, path, filter=_anybodys)
    kube.python(CARRIER, _UNPACK, "/models", given=content.getvalue())


def _anybodys(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Give an archived file the carrier's owner, readable by all: the content is ciphertext."""
    member.uid = member.gid = CARRIER_UID
    member.uname = member.gname = ""
    member.mode = 0o755 if member.isdir() else 0o644
    return member


def _mounting(name: str, image: str, program: str, security: Json) -> Json:
    container = {
        "name": name,
        "image": image,
        "command": ["python3", "-c", program],
        "securityContext": security,
        "volumeMounts": [{"name": "models", "mountPath": "/models"}],
    }
    spec = {
        "automountServiceAccountToken": False,
        "containers": [container],
        "terminationGracePeriodSeconds": 1,
        "volumes": [{"name": "models", "persistentVolumeClaim": {"claimName": CLAIM}}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}

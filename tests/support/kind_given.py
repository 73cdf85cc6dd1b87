"""A cluster that somebody lends by a kubeconfig: what it must be, and how it is left as it was.

Whatever the tests make there lies in namespaces with a label of theirs, but for what the chart
installs. So they run only where there is neither a modelseal nor a namespace of these names yet,
and at the end they remove what has the label, the release, and its CRDs.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Final

from modelseal.contract import GROUP
from support.binaries import CannotBuild, binary
from support.kube import Json, Kube

KUBECONFIG: Final = "MODELSEAL_TEST_KUBECONFIG"
REGISTRY: Final = "MODELSEAL_TEST_REGISTRY"
MARK: Final = {"app.kubernetes.io/managed-by": "modelseal-tests"}
RESTRICTED: Final = {**MARK, "pod-security.kubernetes.io/enforce": "restricted"}
NAMESPACES: Final = (
    "openbao",
    "modelseal-system",
    "modelseal-leakcheck",
    "test-devices",
    "vision",
)
REVIEWER: Final = "openbao-token-review"
_MARKED: Final = ",".join(f"{key}={value}" for key, value in MARK.items())
_CRDS: Final = tuple(
    f"{each}.{GROUP}" for each in ("clusterkeyproviders", "encryptedmodels", "keyproviders")
)


def given() -> Path | None:
    """Return the kubeconfig that was given."""
    path = os.environ.get(KUBECONFIG)
    return Path(path) if path else None


def missing(kube: Kube) -> str | None:
    """Return in one line why the given cluster cannot be used, if so."""
    if not kube.kubeconfig.is_file():
        return f"{KUBECONFIG} names no file: {kube.kubeconfig}"
    if not os.environ.get(REGISTRY):
        return f"set {REGISTRY}: the given cluster must be able to pull the images"
    done = kube.try_run("get", "namespaces", "--request-timeout=20s")
    if done.returncode:
        return f"the cluster of {KUBECONFIG} does not answer: {done.stderr.decode().strip()[-300:]}"
    return occupied(kube)


def occupied(kube: Kube) -> str | None:
    """Return in one line what of somebody else's the tests would touch, if anything."""
    objects = {each["metadata"]["name"]: each for each in kube.all("namespaces")}
    for name in NAMESPACES:
        if name in objects and not _ours(objects[name]):
            return f"the given cluster has a namespace {name}, which the tests need for themselves"
    reviewer = kube.get("clusterrolebinding", REVIEWER)
    if reviewer and not _ours(reviewer):
        return f"the given cluster has a ClusterRoleBinding {REVIEWER}, which the tests need"
    here = {each["metadata"]["name"] for each in kube.all("crds")}
    if here & set(_CRDS) and "modelseal-system" not in objects:
        return "the given cluster has modelseal already, and the tests would delete its models"
    return None


def clear(kube: Kube) -> None:
    """Remove everything that tests made; only where `occupied` found nothing of others'."""
    system = kube.at("modelseal-system")
    if kube.get("namespace", system.namespace):
        where = (f"--kubeconfig={kube.kubeconfig}", f"--namespace={system.namespace}")
        words = ("uninstall", "modelseal", "--ignore-not-found", "--wait", "--timeout=120s")
        _run(str(binary("helm")), *words, *where)
    _delete(kube, "crds", "--ignore-not-found", *_CRDS)
    for kind in ("namespaces", "clusterrolebindings"):
        _delete(kube, kind, f"--selector={_MARKED}")


def push(name: str) -> str:
    """Push an image of this machine to the registry; returns its name there."""
    registry = os.environ[REGISTRY]
    there = name if name.startswith(f"{registry}/") else f"{registry}/{name}"
    _run("docker", "tag", name, there)
    _run("docker", "push", "-q", there)
    return there


def by_digest(name: str) -> str:
    """Return the name by digest of an image that was pushed."""
    repository = f"{os.environ[REGISTRY]}/{name.rpartition(':')[0]}"
    known = json.loads(_run("docker", "inspect", "--format={{json .RepoDigests}}", name))
    return str(next(each for each in known if each.partition("@")[0] == repository))


def _delete(kube: Kube, *words: str) -> None:
    kube.run("delete", *words, "--timeout=300s", seconds=310)


def _ours(found: Json) -> bool:
    return bool(MARK.items() <= found["metadata"].get("labels", {}).items())


def _run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotBuild(f"failed to run {Path(words[0]).name} {words[1]}: {done.stderr[-2000:]}")
    return done.stdout

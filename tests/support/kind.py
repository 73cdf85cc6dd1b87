"""A real cluster for a session, by one of three doors; nobody can tell behind which one they are.

1. `MODELSEAL_TEST_KUBECONFIG` names a kubeconfig: that cluster is used, and images are pushed to
   the registry that `MODELSEAL_TEST_REGISTRY` names.
2. kind with its public node image, where it can be pulled.
3. kind with a node image that tests/cluster/node-image/image.sh builds from packages alone.

`MODELSEAL_TEST_KIND` names a cluster of kind's that is created if need be, used, and left running:
for whoever writes a test and runs it again and again.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from support import binaries, images
from support.binaries import SCRIPTS, CannotBuild, binary
from support.kube import Kube

KUBECONFIG: Final = "MODELSEAL_TEST_KUBECONFIG"
REGISTRY: Final = "MODELSEAL_TEST_REGISTRY"
KEPT: Final = "MODELSEAL_TEST_KIND"


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A running cluster."""

    kube: Kube
    node: str | None
    """The container of kind's one node; None if the cluster was given."""

    def load(self, *names: str) -> Sequence[str]:
        """Make images of this machine known to the cluster; returns their names there."""
        if self.node is None:
            return [_push(name) for name in names]
        _kind("load", "docker-image", "--name", self.node.removesuffix("-control-plane"), *names)
        return names

    def by_digest(self, name: str) -> str:
        """Return the name by digest of an image that was loaded."""
        if self.node is None:
            return _run("docker", "inspect", "--format={{index .RepoDigests 0}}", name).strip()
        full = f"docker.io/library/{name}"
        listed = self.on_node("ctr", "-n=k8s.io", "images", "ls", f"name=={full}").split()
        digest = next(word for word in listed if word.startswith("sha256:"))
        named = f"{full.rpartition(':')[0]}@{digest}"
        self.on_node("ctr", "-n=k8s.io", "images", "tag", "--force", full, named)
        return named

    def on_node(self, *words: str, given: bytes = b"") -> str:
        """Run a command as root of the node."""
        assert self.node is not None, "only kind's node can be looked into"
        done = subprocess.run(
            ["docker", "exec", "-i", self.node, *words],
            input=given,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout.decode(errors="replace")


def missing() -> str | None:
    """Return in one line what has to be installed before a cluster can run, if anything."""
    if KUBECONFIG in os.environ:
        return None
    lacking = images.missing()
    if lacking or not images.bases().builder:
        return lacking
    if shutil.which("debootstrap") is None or os.geteuid() != 0:
        return "no image can be pulled: as root run tests/cluster/node-image/docker.sh"
    return binaries.missing()


@contextlib.contextmanager
def running(name: str) -> Iterator[Cluster]:
    """Open one of the three doors; a cluster of ours is deleted with the block."""
    given = os.environ.get(KUBECONFIG)
    if given:
        yield Cluster(kube=Kube(program=_kubectl(), kubeconfig=Path(given)), node=None)
        return
    kept = os.environ.get(KEPT)
    with tempfile.TemporaryDirectory() as folder:
        try:
            yield create(kept or name, Path(folder, "kubeconfig"))
        finally:
            if not kept:
                delete(name)


def create(name: str, kubeconfig: Path) -> Cluster:
    """Create a kind cluster if there is none of this name, and write its kubeconfig."""
    if name in _kind("get", "clusters", "-q").split():
        _kind("export", "kubeconfig", "-q", "--name", name, f"--kubeconfig={kubeconfig}")
        kube = Kube(program=_kubectl(), kubeconfig=kubeconfig)
        return Cluster(kube=kube, node=f"{name}-control-plane")
    local = [f"--image={images.run_script('image.sh')}"] if images.bases().builder else []
    config = f"--config={SCRIPTS / 'kind.yaml'}"
    _kind("create", "cluster", "--name", name, config, f"--kubeconfig={kubeconfig}", *local, "-q")
    kube = Kube(program=_kubectl(), kubeconfig=kubeconfig)
    kube.run("wait", "node", "--all", "--for=condition=Ready", "--timeout=120s", seconds=130)
    return Cluster(kube=kube, node=f"{name}-control-plane")


def delete(name: str) -> None:
    """Delete a kind cluster; nothing happens if there is none."""
    _kind("delete", "cluster", "-q", "--name", name)


def logs(cluster: Cluster, folder: Path) -> None:
    """Collect the logs of the node and of every pod."""
    if cluster.node is not None:
        _kind(
            "export",
            "logs",
            "-q",
            "--name",
            cluster.node.removesuffix("-control-plane"),
            str(folder),
        )


def _kubectl() -> str:
    installed = None if images.bases().builder else shutil.which("kubectl")
    return installed or str(binary("kubectl"))


def _kind(*words: str) -> str:
    return _run(shutil.which("kind") or str(binary("kind")), *words)


def _push(name: str) -> str:
    registry = os.environ.get(REGISTRY)
    if not registry:
        raise CannotBuild(f"set {REGISTRY}: the given cluster must be able to pull the images")
    _run("docker", "tag", name, f"{registry}/{name}")
    _run("docker", "push", "-q", f"{registry}/{name}")
    return f"{registry}/{name}"


def _run(*words: str, environ: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environ)
    if done.returncode:
        raise CannotBuild(f"failed to run {Path(words[0]).name} {words[1]}: {done.stderr[-2000:]}")
    return done.stdout

"""A real cluster for a session, by one of three doors; nobody can tell behind which one they are.

1. `MODELSEAL_TEST_KUBECONFIG` names a kubeconfig: that cluster is used, images are pushed to the
   registry that `MODELSEAL_TEST_REGISTRY` names, and everything is removed at the end.
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

from support import binaries, images, kind_given
from support.binaries import SCRIPTS, CannotBuild, binary
from support.kube import Kube

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
            return [kind_given.push(name) for name in names]
        _kind("load", "docker-image", "--name", self.node.removesuffix("-control-plane"), *names)
        return names

    def by_digest(self, name: str) -> str:
        """Return the name by digest of an image that was loaded."""
        if self.node is None:
            return kind_given.by_digest(name)
        full = f"docker.io/library/{name}"
        listed = self.on_node("ctr", "-n=k8s.io", "images", "ls", f"name=={full}").split()
        digest = next(word for word in listed if word.startswith("sha256:"))
        named = f"{full.rpartition(':')[0]}@{digest}"
        self.name_on_node(name, named)
        return named

    def name_on_node(self, name: str, other: str) -> None:
        """Give an image that was loaded one more name, without loading it again."""
        full = f"docker.io/library/{name}"
        self.on_node("ctr", "-n=k8s.io", "images", "tag", "--force", full, other)

    def on_node(self, *words: str, given: bytes = b"") -> str:
        """Run a command as root of the node."""
        assert self.node is not None, "a test that needs the node has the mark `node`"
        done = subprocess.run(
            ["docker", "exec", "-i", self.node, *words],
            input=given,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout.decode(errors="replace")


def kept() -> str | None:
    """Return the name of the cluster that is left running, if one was asked for."""
    return os.environ.get(KEPT)


def missing() -> str | None:
    """Return in one line what has to be installed before a cluster can run, if anything."""
    lacking = images.missing()
    if lacking:
        return lacking
    lent = kind_given.given()
    if lent:
        return binaries.missing() or kind_given.missing(Kube(program=_kubectl(), kubeconfig=lent))
    if not images.bases().builder:
        return None
    if shutil.which("debootstrap") is None or os.geteuid() != 0:
        return "no image can be pulled: as root run tests/cluster/node-image/docker.sh"
    return binaries.missing()


@contextlib.contextmanager
def running(name: str) -> Iterator[Cluster]:
    """Open one of the three doors; what is ours is deleted with the block."""
    lent = kind_given.given()
    if lent:
        with _lent(Kube(program=_kubectl(), kubeconfig=lent)) as found:
            yield found
        return
    with tempfile.TemporaryDirectory() as folder:
        try:
            yield create(kept() or name, Path(folder, "kubeconfig"))
        finally:
            if not kept():
                delete(name)


@contextlib.contextmanager
def _lent(kube: Kube) -> Iterator[Cluster]:
    kind_given.clear(kube)  # what a run that was broken off left
    try:
        yield Cluster(kube=kube, node=None)
    finally:
        kind_given.clear(kube)


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


def _kubectl() -> str:
    installed = None if images.bases().builder else shutil.which("kubectl")
    return installed or str(binary("kubectl"))


def _kind(*words: str) -> str:
    return _run(shutil.which("kind") or str(binary("kind")), *words)


def _run(*words: str, environ: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environ)
    if done.returncode:
        raise CannotBuild(f"failed to run {Path(words[0]).name} {words[1]}: {done.stderr[-2000:]}")
    return done.stdout

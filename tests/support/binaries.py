"""The programs of a Kubernetes cluster: found in the user's cache, or built there from Go modules.

    binary("kube-apiserver")  # the first call on a new machine takes minutes, later ones no time

tests/cluster/node-image/binaries.sh holds the versions and builds them; two callers at once wait
for each other.
"""

import functools
import shutil
import subprocess
from pathlib import Path
from typing import Final

SCRIPTS: Final = Path(__file__).resolve().parents[1] / "cluster" / "node-image"
KUBERNETES: Final = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
GROUPS: Final = {
    **dict.fromkeys(KUBERNETES, "kubernetes"),
    **{name: name for name in ("etcd", "helm", "helm3", "kind", "kwok")},
    "kwok-stages": "kwok",
}
"""Which group of the script brings a program; `kwok-stages` is the folder of KWOK's stages."""


class CannotBuild(RuntimeError):
    """A program is not in the cache and cannot be built; the text says what to install."""


def missing() -> str | None:
    """Return in one line what has to be installed before a program can be built, if anything."""
    if shutil.which("go") is None and not all((_folder() / name).exists() for name in GROUPS):
        return "install Go 1.26 or newer: the cluster's programs are built from Go modules"
    return None


@functools.cache
def binary(name: str) -> Path:
    """Return the path of a program, built if need be.

    Raises:
        CannotBuild: there is no Go, or the build failed; the text says why.

    """
    path = _folder() / name
    lacking = missing()
    if lacking:
        raise CannotBuild(lacking)
    build = [str(SCRIPTS / "binaries.sh"), GROUPS[name]]
    done = subprocess.run(build, check=False, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise CannotBuild(f"failed to build {name}: {done.stderr.strip()}")
    return path


@functools.cache
def _folder() -> Path:
    ask = [str(SCRIPTS / "binaries.sh"), "--folder"]
    found = subprocess.run(ask, check=True, capture_output=True, text=True)
    return Path(found.stdout.strip())

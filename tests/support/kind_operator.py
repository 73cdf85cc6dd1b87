"""The chart as users install it, with the images of this checkout."""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from support.binaries import binary
from support.images import Images
from support.kind_place import RESTRICTED
from support.kube import Kube

CHART: Final = Path(__file__).resolve().parents[2] / "charts" / "modelseal"
NAMESPACE: Final = "modelseal-system"
RELEASE: Final = "modelseal"
HELM: Final = "helm"
HELM3: Final = "helm3"
_DEFAULTS: Final = {"operator.reportSeconds": "5", "devices.enabled": "true"}


def install(
    kube: Kube,
    images: Images,
    values: Mapping[str, str] | None = None,
    *,
    chart: Path = CHART,
    program: str = HELM,
) -> None:
    """Install or upgrade the release and wait for it, in a namespace that enforces `restricted`."""
    kube.apply(
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": NAMESPACE, "labels": RESTRICTED},
        }
    )
    chosen = {
        **_image("operator.image", images.operator),
        **_image("models.agent.image", images.agent),
        **_image("models.runtime.image", images.runtime),
        **_DEFAULTS,
        **(values or {}),
    }
    words = ["upgrade", "--install", RELEASE, str(chart), "--wait", "--timeout=180s"]
    words += [f"--set={name}={value}" for name, value in chosen.items()]
    helm(kube, *words, program=program)


def uninstall(kube: Kube, *, program: str = HELM) -> None:
    """Uninstall the release and wait until it is gone."""
    helm(kube, "uninstall", RELEASE, "--wait", "--timeout=120s", program=program)


def helm(kube: Kube, *words: str, program: str = HELM) -> str:
    """Run helm in the operator's namespace."""
    where = [f"--kubeconfig={kube.kubeconfig}", f"--namespace={NAMESPACE}"]
    done = subprocess.run(
        [str(binary(program)), *words, *where],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def _image(value: str, name: str) -> dict[str, str]:
    repository, _, tag = name.rpartition(":")
    first, _, rest = repository.partition("/")
    registry, path = (
        (first, rest) if "." in first or ":" in first else ("docker.io/library", repository)
    )
    return {f"{value}.registry": registry, f"{value}.repository": path, f"{value}.tag": tag}

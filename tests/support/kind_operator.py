"""The chart as users install it, with the images of this checkout."""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import yaml

from support.binaries import binary
from support.images import Images, also_named
from support.kind import Cluster
from support.kind_given import RESTRICTED
from support.kube import Json, Kube

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
        **{key: text for pair in _names(images).items() for key, text in _image(*pair).items()},
        **_DEFAULTS,
        **(values or {}),
    }
    words = ["upgrade", "--install", RELEASE, str(chart), "--wait", "--timeout=280s"]
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
        timeout=310,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def as_released(cluster: Cluster, images: Images) -> str:
    """Make the images known by the chart's own names for them.

    Returns:
        What `helm install` needs on top: where images come from a registry, that registry and
        their digests, because nobody can say what a node has kept under a version's name.

    """
    values: dict[str, str] = {}
    for value, name in _names(images).items():
        if cluster.node is None:
            local = also_named(name, f"modelseal/{name.rpartition('/')[2]}")
            registry = cluster.load(local)[0].removesuffix(f"/{local}")
            digest = cluster.by_digest(local).partition("@")[2]
            values |= {"imageRegistry": registry, f"{value}.digest": digest}
        else:
            cluster.name_on_node(name, _released(value))
    return "".join(f" --set={name}={value}" for name, value in values.items())


def version() -> str:
    """Return the chart's version, which is also that of the images."""
    return str(yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))["version"])


def _released(value: str) -> str:
    image: Json = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    for part in value.split("."):
        image = image[part]
    return f"{image['registry']}/{image['repository']}:{version()}"


def _names(images: Images) -> dict[str, str]:
    return {
        "operator.image": images.operator,
        "models.agent.image": images.agent,
        "models.runtime.image": images.runtime,
    }


def _image(value: str, name: str) -> dict[str, str]:
    repository, _, tag = name.rpartition(":")
    first, _, rest = repository.partition("/")
    registry, path = (
        (first, rest) if "." in first or ":" in first else ("docker.io/library", repository)
    )
    return {f"{value}.registry": registry, f"{value}.repository": path, f"{value}.tag": tag}

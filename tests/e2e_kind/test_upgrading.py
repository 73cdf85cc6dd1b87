"""From one release to the next: no model is lost, and no pod restarts that need not."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from modelseal.contract import GROUP
from support.images import Images, also_named
from support.kind_load import ROOM, asking
from support.kind_operator import (
    CHART,
    HELM3,
    NAMESPACE,
    RELEASE,
    helm,
    install,
    uninstall,
    version,
)
from support.kind_place import Place
from support.kube import Json

pytestmark = [pytest.mark.kind, pytest.mark.timeout(600)]
EARLIER = "0.0.9"
ADDED = "suspend"
"""A field of the spec that the earlier release's CRD does not know."""


@pytest.fixture(scope="module")
def served(module_place: Place) -> Place:
    module_place.provide()
    module_place.put(module_place.seal(), "filetype/1")
    module_place.apply(serving=ROOM)
    module_place.until_ready()
    return module_place


@pytest.fixture
def earlier(served: Place, images: Images, tmp_path: Path) -> Place:
    """Replace the release, by Helm 3, by one of an earlier version with another operator."""
    chart = tmp_path / "chart"
    shutil.copytree(CHART, chart)
    edit(chart / "Chart.yaml", lambda raw: raw.update(version=EARLIER, appVersion=EARLIER))
    crd = chart / "files" / "crds" / f"{GROUP}_encryptedmodels.yaml"
    edit(crd, lambda raw: fields_of(raw).pop(ADDED))
    other = f"{images.operator.rpartition(':')[0]}:earlier"
    (operator,) = served.cluster.load(also_named(images.operator, other))
    uninstall(served.kube, program=HELM3)
    fewer = {"operator.replicas": "1", "operator.workers": "2", "devices.enabled": "false"}
    install(served.kube, replace(images, operator=operator), fewer, chart=chart, program=HELM3)
    return served


def test_an_upgrade_brings_the_new_resources_and_restarts_no_model(
    earlier: Place, images: Images
) -> None:
    assert (released(earlier), ADDED in served_fields(earlier)) == (EARLIER, False)
    before, operators = running(earlier), leaders(earlier)
    with asking(earlier, images.runtime) as load:
        install(earlier.kube, images)
        earlier.kube.until("a new operator leads", lambda: leads_anew(earlier, operators))
        earlier.until_ready()
    assert (released(earlier), ADDED in served_fields(earlier)) == (version(), True)
    assert running(earlier) == before
    assert load.failures == []


def test_a_release_that_changes_the_pods_replaces_them_without_a_lost_request(
    served: Place, images: Images
) -> None:
    old = served.pod()
    with asking(served, images.runtime) as load:
        install(served.kube, images, {"models.logLevel": "debug"})
        served.kube.run("wait", f"pod/{old}", "--for=delete", "--timeout=240s", seconds=250)
    served.until_ready()
    assert load.failures == []


def edit(path: Path, change: Callable[[Any], object]) -> None:
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    change(raw)
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")


def fields_of(crd: Json) -> dict[str, Json]:
    """Return the fields of a resource's spec."""
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    found: dict[str, Json] = schema["properties"]["spec"]["properties"]
    return found


def served_fields(place: Place) -> dict[str, Json]:
    """Return the fields that the API server knows."""
    return fields_of(place.kube.get("crd", f"encryptedmodels.{GROUP}"))


def released(place: Place) -> str:
    """Return the version of the chart that is installed."""
    (found,) = json.loads(helm(place.kube, "list", "--filter", f"^{RELEASE}$", "-o", "json"))
    return str(found["chart"]).removeprefix("modelseal-")


def running(place: Place) -> dict[str, int]:
    """Return the containers of the model's pods, with how often each was restarted."""
    return {
        each["containerID"]: each["restartCount"]
        for pod in place.pods()
        for field in ("initContainerStatuses", "containerStatuses")
        for each in pod["status"][field]
    }


def leaders(place: Place) -> set[str]:
    """Return the operator's pods."""
    pods = place.kube.at(NAMESPACE).all("pods", "app.kubernetes.io/name=modelseal-operator")
    return {pod["metadata"]["name"] for pod in pods}


def leads_anew(place: Place, before: set[str]) -> bool:
    holder = place.kube.at(NAMESPACE).get("lease", "modelseal")["spec"].get("holderIdentity")
    return holder in leaders(place) - before

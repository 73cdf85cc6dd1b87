"""An API server that answers nobody: what is served goes on, and the operator finds it as it was.

The API server's process is stopped, so that connections stay open and nobody answers on them. All
questions go over the node to the pod itself.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Final

import numpy as np
import pytest

from modelseal.contract import Reason
from support.kind_asking import expected, is_right, question
from support.kind_place import Place, is_ready
from support.kube import Json

pytestmark = [
    pytest.mark.kind,
    pytest.mark.node("stops the API server's process"),
    pytest.mark.timeout(600),
]
INTERVAL: Final = 5
AWAY: Final = 30
"""Seconds for which the right is confirmed meanwhile: some leases, and less than half a token."""
_SIGNAL: Final = 'kill -s "$0" "$(pgrep -x kube-apiserver)"'


@pytest.fixture
def served(place: Place) -> Place:
    place.provide(lease={"intervalSeconds": INTERVAL, "maxStaleSeconds": 600})
    place.put(place.seal(), "filetype/1")
    place.apply()
    place.until_ready()
    return place


def test_without_an_api_server_the_lease_is_kept_and_the_operator_comes_back_to_the_same(
    served: Place,
) -> None:
    (before,) = served.pods()
    address = before["status"]["podIP"]
    children = generations(served)
    with stopped(served):
        begun = confirmed(served, address)
        served.kube.until(
            "the right was confirmed again and again",
            lambda: still_right(served, address) and confirmed(served, address) - begun > AWAY,
            seconds=AWAY * 5,  # a login that falls due meanwhile takes its tries
        )
    served.until_ready()
    (after,) = served.pods()
    assert is_ready(after)
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert restarts(after) == restarts(before)
    assert generations(served) == children
    served.kube.run("delete", "service", "filetype")
    served.kube.until("operator and controllers act again", lambda: leads_somewhere(served))


@contextmanager
def stopped(place: Place) -> Iterator[None]:
    """Stop the API server's process for the block; nothing of it ends."""
    place.cluster.on_node("sh", "-c", _SIGNAL, "STOP")
    try:
        yield
    finally:
        place.cluster.on_node("sh", "-c", _SIGNAL, "CONT")


def over_the_node(place: Place, url: str, body: str = "") -> Json:
    """Ask a pod by its address; returns the JSON that came with a good status."""
    words = ["curl", "--silent", "--fail", "--max-time", "5", url]
    words += ["--data", body] if body else []
    found: Json = json.loads(place.cluster.on_node(*words))
    return found


def still_right(place: Place, address: str) -> bool:
    """Ask the model, and compare with OpenVINO's own answer."""
    base = f"http://{address}:8080/v2/models/filetype"
    tensor = over_the_node(place, base)["inputs"][0]
    tokens = question()[:1]
    asked = {key: tensor[key] for key in ("name", "datatype")}
    asked |= {"shape": list(tokens.shape), "data": tokens.ravel().tolist()}
    said = over_the_node(place, f"{base}/infer", json.dumps({"inputs": [asked]}))["outputs"][0]
    scores = np.array(said["data"], dtype=np.float32).reshape(said["shape"])
    return scores.shape == expected()[:1].shape and is_right(place, scores)


def confirmed(place: Place, address: str) -> float:
    """Return until when the right lasts, which moves with each check; the agent serves."""
    report = over_the_node(place, f"http://{address}:8081/report")
    assert report["reason"] == Reason.SERVING
    return datetime.fromisoformat(report["leaseValidUntil"]).timestamp()


def leads_somewhere(place: Place) -> bool:
    """Tell whether the operator made the Service anew, and the cluster's controllers saw it."""
    uid = place.kube.get("service", "filetype").get("metadata", {}).get("uid")
    slices = place.kube.all("endpointslices", "kubernetes.io/service-name=filetype")
    owners = [each["metadata"]["ownerReferences"][0]["uid"] for each in slices]
    return uid in owners


def restarts(pod: Json) -> list[int]:
    """Return how often each container started again."""
    status = pod["status"]
    return [each["restartCount"] for each in status["initContainerStatuses"]] + [
        each["restartCount"] for each in status["containerStatuses"]
    ]


def generations(place: Place) -> dict[str, object]:
    """Return what would change if somebody wrote to the children."""
    found = {kind: place.kube.get(kind, "filetype") for kind in ("deployment", "service")}
    return {
        kind: (each["metadata"]["uid"], each["metadata"].get("generation"), each["spec"])
        for kind, each in found.items()
    }

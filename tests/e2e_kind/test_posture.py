"""What an agent measures on a real node reaches the status, and what is demanded is refused."""

import pytest

from modelseal.contract import Posture, Reason
from support.kind_place import Place

pytestmark = [pytest.mark.kind, pytest.mark.timeout(600)]
HANDLER = "runc"
"""The handler that every containerd has; a class of its own shows that the name is passed on."""


@pytest.fixture
def place_of_a_class(place: Place) -> Place:
    place.provide()
    place.put(place.seal(), "filetype/1")
    name = f"{place.namespace}-class"
    place.kube.apply(
        {
            "apiVersion": "node.k8s.io/v1",
            "kind": "RuntimeClass",
            "metadata": {"name": name},
            "handler": HANDLER,
        }
    )
    place.apply(template={**place.spec()["template"], "runtimeClassName": name})
    return place


def test_a_pod_runs_in_the_class_that_was_asked_for_and_says_what_protects_it(
    place_of_a_class: Place,
) -> None:
    place = place_of_a_class
    try:
        status = place.until_ready()["status"]
        (pod,) = place.pods()
        assert pod["spec"]["runtimeClassName"] == f"{place.namespace}-class"
    finally:
        place.kube.run("delete", "runtimeclass", f"{place.namespace}-class")
    told = {each["name"]: each for each in status["posture"]}
    assert all(each["meaning"] for each in told.values())
    assert set(told) <= {name.value for name in Posture}
    found = {name: told[name]["value"] for name in ("seccomp", "noNewPrivileges", "readOnlyRoot")}
    assert found == {"seccomp": "filter", "noNewPrivileges": "true", "readOnlyRoot": "true"}
    assert (told["root"]["value"], told["dumpable"]["value"]) == ("false", "false")


def test_a_pod_below_the_demanded_posture_says_so_and_asks_for_no_key(place: Place) -> None:
    place.provide(posture={"swap": "Allow", "require": ["Seccomp", "ConfidentialMemory"]})
    place.put(place.seal(), "filetype/1")
    before = len(openings(place))
    place.apply()
    said = place.until_reason(Reason.POSTURE_REFUSED)
    assert said["message"]
    assert place.never_served()
    assert len(openings(place)) == before


def openings(place: Place) -> list[str]:
    """Return the lines of the audit log in which somebody asks for this place's data key."""
    path = f"{place.namespace}/decrypt/"
    return [line for line in place.bao.audit_log().splitlines() if path in line]

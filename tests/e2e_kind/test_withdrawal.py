"""The right to a model: taken away it is unloaded, given back it is served again."""

from typing import Any

import pytest

from modelseal.contract import Reason
from support.kind_asking import answers_right
from support.kind_place import Place
from support.kube import condition

pytestmark = [pytest.mark.kind, pytest.mark.timeout(600)]
INTERVAL = 5
BOUND = INTERVAL * 1.2 + 2
"""Seconds from a change of policy to the unloading (docs/threat-model.md)."""
SEEN = 25
"""What the watcher of this test may add: probes, the operator's round, a slow machine."""


def serve(place: Place, **provider: Any) -> None:
    place.provide(**provider)
    place.put(place.seal(), "filetype/1")
    place.apply()
    place.until_ready()


@pytest.fixture
def served(place: Place) -> Place:
    serve(place)
    return place


def test_a_revoked_right_unloads_the_model_and_a_restored_one_serves_it_again(
    served: Place,
) -> None:
    pod = served.pod()
    assert answers_right(served)
    served.revoke()
    said = served.until_reason(Reason.KEY_ACCESS_DENIED, seconds=BOUND + SEEN)
    assert "right" in said["message"] or "key" in said["message"]
    assert condition(served.resource(), "KeyAvailable")["status"] == "False"
    assert served.never_served()
    served.restore()
    served.until_ready()
    assert answers_right(served)
    assert served.pod() == pod


def test_a_key_service_that_is_down_at_the_start_delays_the_model_and_no_more(
    place: Place,
) -> None:
    place.provide()
    place.put(place.seal(), "filetype/1")
    place.bao.cut_off(place.namespace)
    place.apply()
    place.until_reason(Reason.KEY_SERVICE_UNAVAILABLE)
    assert place.never_served()
    place.bao.connect_again(place.namespace)
    place.until_ready()
    assert answers_right(place)


def test_a_key_service_that_goes_down_later_ends_the_model_only_after_max_stale(
    place: Place,
) -> None:
    serve(place, lease={"intervalSeconds": 5, "maxStaleSeconds": 40})
    place.bao.seal()
    try:
        place.kube.until("the status says that the key service is away", lambda: away(place))
        assert answers_right(place)
        # no condition has it for long: the agent tries to open again at once
        place.kube.until("the agent said why", lambda: Reason.LEASE_STALE in agent_log(place))
        place.kube.until(
            "it is not ready", lambda: condition(place.resource())["status"] == "False"
        )
        assert place.never_served()
    finally:
        place.bao.unseal()
    place.until_ready()
    assert answers_right(place)


def agent_log(place: Place) -> str:
    return place.kube.run("logs", place.pod(), "--container=agent")


def is_true(place: Place) -> bool:
    return bool(condition(place.resource())["status"] == "True")


def away(place: Place) -> bool:
    found = condition(place.resource(), "KeyAvailable")
    return found.get("reason") == Reason.KEY_SERVICE_UNAVAILABLE

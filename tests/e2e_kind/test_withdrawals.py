"""Each way to withdraw a model unloads it within its bound, on real servers and real pods.

All of them are withdrawn at once, in places of their own; the moment of the unloading is read from
the status, so that nobody waits for one after the other.
"""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from support.kind_place import Place
from support.kind_withdrawals import (
    REFRESHED,
    WITH_TOKENS,
    WITHDRAWALS,
    Withdrawal,
    expiring,
    provide,
    revoke_tokens,
    shorten_tokens,
)
from support.kube import condition

pytestmark = [pytest.mark.kind, pytest.mark.timeout(900)]
SEEN = 25
"""What the watcher of this test may add: probes, the operator's round, a slow machine."""


ENDS_AFTER = 120
"""Seconds that a seal still lasts when it is made: opening it and serving it fit in."""
ENDING = "notAfter passed"
WAYS = sorted(WITHDRAWALS, key=lambda way: way.bound)
QUICK = [way for way in WAYS if way.bound < REFRESHED]
SLOW = [way for way in WAYS if way.bound >= REFRESHED]


@dataclass(frozen=True, kw_only=True)
class Withdrawn:
    """A model that is being withdrawn, and the moment from which its bound counts."""

    place: Place
    way: Withdrawal
    begun: datetime

    def seconds(self) -> float:
        """Wait for its reason; returns after how long the status took it in, in whole seconds."""
        left = (self.begun - datetime.now(UTC)).total_seconds() + self.way.bound + SEEN
        said = self.place.until_reason(self.way.reason, seconds=max(left, SEEN))
        assert said["message"]
        assert self.place.never_served()
        then = datetime.fromisoformat(said["lastTransitionTime"])
        return (then - self.begun).total_seconds()


def begin(place: Place, path: str) -> None:
    """Prepare a place and apply the model that lies at a path; nobody waits for it."""
    provide(place)
    shorten_tokens(place)
    place.apply(path)


def served(place: Place) -> Place:
    """Serve a model in a place."""
    place.put(place.seal(), "filetype/1")
    begin(place, "filetype/1")
    place.until_ready()
    return place


def serve_until_its_end(place: Place) -> Withdrawal:
    """Serve a model whose seal is about to end; returns its end as a withdrawal."""
    place.until_the_volume_is_open()  # before the seal's time begins
    path, ending = expiring(place, ENDS_AFTER)
    begin(place, path)
    place.until_ready(seconds=ENDS_AFTER)
    return ending


@pytest.fixture(scope="module")
def withdrawn(
    request: pytest.FixtureRequest, module_places: Callable[..., Place]
) -> dict[str, Withdrawn]:
    """Serve a model in a place for each way that is tested, and withdraw them all at once."""
    chosen = {item.name.partition("[")[2].rstrip("]") for item in request.session.items}
    ways = [each for each in WITHDRAWALS if each.name in chosen]
    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(lambda way: module_places(kv=way.kv), ways))
        found = list(pool.map(served, opened))
    taken = [
        Withdrawn(place=place, way=way, begun=way.take(place))
        for place, way in zip(found, ways, strict=True)
    ]
    if ENDING in chosen:  # after the others, beside whose start its seal might end too soon
        place = module_places()
        ending = serve_until_its_end(place)
        taken.append(Withdrawn(place=place, way=ending, begun=ending.take(place)))
    return {each.way.name: each for each in taken}


@pytest.mark.parametrize("way", QUICK, ids=lambda way: way.name)
def test_a_withdrawn_model_is_unloaded_within_its_bound_and_says_why(
    withdrawn: dict[str, Withdrawn], way: Withdrawal
) -> None:
    assert withdrawn[way.name].seconds() <= way.bound + SEEN


def test_a_revoked_token_alone_costs_nothing_and_with_its_role_everything_at_once(
    place: Place,
) -> None:
    served(place)
    pod, before = place.pod(), logins(place)
    revoke_tokens(place)
    place.kube.until("the agent logged in afresh", lambda: logins(place) > before + 1, SEEN * 2)
    assert condition(place.resource())["status"] == "True"
    WITH_TOKENS.take(place)
    place.until_reason(WITH_TOKENS.reason, seconds=WITH_TOKENS.bound + SEEN)
    assert place.pod() == pod
    WITH_TOKENS.give(place)
    place.until_ready()


@pytest.mark.parametrize("name", [ENDING])
def test_a_seal_that_ends_is_unloaded_at_its_end(
    withdrawn: dict[str, Withdrawn], name: str
) -> None:
    ending = withdrawn[name]
    assert -1 <= ending.seconds() <= ending.way.bound + SEEN


@pytest.mark.parametrize("way", SLOW, ids=lambda way: way.name)
def test_a_model_that_its_provider_disowns_is_unloaded_when_the_kubelet_tells_its_agent(
    withdrawn: dict[str, Withdrawn], way: Withdrawal
) -> None:
    assert withdrawn[way.name].seconds() <= way.bound + SEEN


def logins(place: Place) -> int:
    """Return how often the place's agents logged in, as the audit log says."""
    answers = (json.loads(line) for line in place.bao.audit_log().splitlines())
    return sum(
        each["type"] == "response"
        and each["request"]["path"] == "auth/kubernetes/login"
        and (each.get("auth") or {}).get("metadata", {}).get("service_account_namespace")
        == place.namespace
        for each in answers
    )

"""Each way to withdraw a model unloads it within its bound, on real servers and real pods."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.kind_place import Place
from support.kind_withdrawals import (
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


def begin(place: Place, path: str = "filetype/1") -> None:
    """Prepare a place and apply its model; nobody waits for it."""
    provide(place)
    shorten_tokens(place)
    if path == "filetype/1":
        place.put(place.seal(), path)
    place.apply(path)


@pytest.fixture(scope="module")
def withdrawn(
    request: pytest.FixtureRequest,
    make_places: Callable[[Path], Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, Place]]:
    """Serve a model in a place for each way that is tested, and withdraw them all at once."""
    places = make_places(tmp_path_factory.mktemp("withdrawals"))
    chosen = {item.name.partition("[")[2].rstrip("]") for item in request.session.items}
    ways = [each for each in WITHDRAWALS if each.name in chosen]
    found = {each.name: places.open(kv=each.kv) for each in ways}
    for place in found.values():
        begin(place)
    for place in found.values():
        place.until_ready()
    for each in ways:
        each.take(found[each.name])
    yield found
    places.close(request)


@pytest.mark.parametrize("way", WITHDRAWALS, ids=lambda way: way.name)
def test_a_withdrawn_model_is_unloaded_within_its_bound_and_says_why(
    withdrawn: dict[str, Place], way: Withdrawal
) -> None:
    place = withdrawn[way.name]
    said = place.until_reason(way.reason, seconds=way.bound + SEEN)
    assert said["message"]
    assert place.never_served()


def test_a_revoked_token_alone_costs_nothing_and_with_its_role_everything_at_once(
    place: Place,
) -> None:
    begin(place)
    place.until_ready()
    pod, before = place.pod(), logins(place)
    revoke_tokens(place)
    place.kube.until("the agent logged in afresh", lambda: logins(place) > before + 1, SEEN * 2)
    assert condition(place.resource())["status"] == "True"
    WITH_TOKENS.take(place)
    place.until_reason(WITH_TOKENS.reason, seconds=WITH_TOKENS.bound + SEEN)
    assert place.pod() == pod
    WITH_TOKENS.give(place)
    place.until_ready()


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


def test_a_seal_that_ends_is_unloaded_at_its_end(place: Place) -> None:
    path, ending = expiring(place, 60)
    begin(place, path)
    place.until_ready(seconds=60)
    place.until_reason(ending.reason, seconds=60 + ending.bound + SEEN)
    assert place.never_served()

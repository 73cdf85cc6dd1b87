"""From one apply to an answer: what this project is for."""

import pytest

from support.kind_asking import answers_right
from support.kind_place import Place
from support.kube import condition

pytestmark = [pytest.mark.kind, pytest.mark.timeout(900)]


def test_one_apply_leads_to_the_plain_models_numbers_bit_for_bit(place: Place) -> None:
    place.provide()
    place.put(place.seal(), "filetype/1")
    place.apply()
    found = place.until_ready()
    assert answers_right(place)
    assert condition(found, "KeyAvailable")["status"] == "True"
    assert found["status"]["model"]["version"] == "1"
    assert found["status"]["model"]["trust"] == "Signed"
    assert condition(found, "Pinned")["reason"] == "Unpinned"
    pinned = {"name": place.model, "digest": found["status"]["model"]["digest"]}
    place.apply(model=pinned)
    assert condition(place.until_ready(), "Pinned")["status"] == "True"
    assert answers_right(place)

"""The script for Argo CD in docs/operations.md, run on statuses as the operator writes them."""

from typing import Any

import lupa
import pytest

from modelseal.contract import Reason
from modelseal_operator.conditions import Seen
from modelseal_operator.refusal import Refusal
from modelseal_operator.resource import parse_model
from modelseal_operator.status import build_status
from support.kind_typing import ROOT, blocks
from support.operator_objects import context, model_object
from support.operator_pods import NOW, ended, pod, seen, serving

PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
GENERATION = 4
Health = tuple[str, str]


def health(status: dict[str, Any] | None, generation: int = GENERATION) -> Health:
    """Judge a resource as Argo CD does: the script gets the object and returns two texts."""
    (script,) = blocks(PAGE, "GitOps", "lua")
    judge = lupa.LuaRuntime(unpack_returned_tuples=True)
    found = {"metadata": {"generation": generation}, **({"status": status} if status else {})}
    judge.globals().obj = judge.table_from(found, recursive=True)
    said = judge.execute(script)
    return said.status, said.message


def told(found: Seen) -> dict[str, Any]:
    return build_status(found, context(), {}, NOW)


def idle(**spec: object) -> dict[str, Any]:
    return told(seen(model=parse_model(model_object(**spec))))


def test_what_nobody_has_seen_is_progressing() -> None:
    assert health(None) == ("Progressing", "")
    assert health({"observedGeneration": -1}) == ("Progressing", "")


def test_what_serves_is_healthy_and_says_so() -> None:
    said, message = health(told(seen(serving())))
    assert said == "Healthy"
    assert message.startswith("Serving: ")


@pytest.mark.parametrize(
    "status",
    [told(seen(serving())), told(seen(refusal=Refusal(Reason.SPEC_INVALID, "no")))],
    ids=["healthy", "degraded"],
)
def test_a_status_of_an_older_spec_says_nothing_of_this_one(status: dict[str, Any]) -> None:
    assert health(status, GENERATION + 1) == ("Progressing", "")


def test_what_stands_in_the_way_is_named_while_the_pod_tries_on() -> None:
    said, message = health(told(seen(pod(agent=ended(42)))))
    assert said == "Progressing"
    assert message.startswith("Expired: ")


def test_what_the_operator_does_not_accept_is_degraded() -> None:
    said, message = health(told(seen(refusal=Refusal(Reason.PROVIDER_NOT_FOUND, "no"))))
    assert said == "Degraded"
    assert message.startswith("ProviderNotFound: ")


@pytest.mark.parametrize(
    ("status", "reason"),
    [(idle(suspend=True), "Suspended"), (idle(replicas=0), "ScaledToZero")],
    ids=["suspended", "no replicas"],
)
def test_what_is_meant_to_stand_still_is_suspended(status: dict[str, Any], reason: str) -> None:
    said, message = health(status)
    assert said == "Suspended"
    assert message.startswith(f"{reason}: ")

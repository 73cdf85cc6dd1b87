"""Every pod trouble and every stage of the agent becomes one named Reason, cleared on recovery."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelseal.contract import PRECEDENCE, Condition, Reason, Stage
from modelseal.errors import LeaseError
from modelseal_operator.advice import ADVICE
from modelseal_operator.conditions import Seen, conditions
from modelseal_operator.foreign import AGENT_REASONS, RUNTIME_REASONS, parse_farewell, parse_report
from modelseal_operator.pods import Finding, Pod, examine
from modelseal_operator.provider import Retirement, parse_provider
from modelseal_operator.refusal import Refusal
from modelseal_operator.resource import parse_model
from modelseal_operator.status import build_status, transitions
from support.mutation import anything, mutated
from support.operator_objects import context, model_object, provider_object
from support.operator_pods import (
    NOW,
    ago,
    deployment,
    ended,
    farewell,
    pod,
    raw_pod,
    report,
    running,
    seen,
    serving,
    waiting,
)


def state(found: Seen, kind: Condition) -> tuple[str, Reason]:
    (match,) = (s for s in conditions(found) if s.type is kind)
    return match.status, match.reason


def message(found: Seen, kind: Condition = Condition.READY) -> str:
    return next(s.message for s in conditions(found) if s.type is kind)


def unschedulable(text: str, seconds: float = 10) -> list[dict[str, str]]:
    return [
        {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": text,
            "lastTransitionTime": ago(seconds),
        }
    ]


SCHEDULED_LONG_AGO = [
    {"type": "PodScheduled", "status": "True", "lastTransitionTime": ago(90)},
    {"type": "PodReadyToStartContainers", "status": "False"},
]
NOT_OURS = json.dumps({"stage": "Signature", "reason": "SignatureInvalid"})

TROUBLES = [
    pytest.param({"phase": "Failed", "reason": "Evicted"}, Reason.POD_FAILED, id="evicted"),
    pytest.param(
        {"phase": "Failed", "reason": "Evicted", "conditions": SCHEDULED_LONG_AGO},
        Reason.POD_FAILED,
        id="evicted long ago",
    ),
    pytest.param(
        {"conditions": unschedulable("0/3 nodes: Insufficient memory.")},
        Reason.UNSCHEDULABLE,
        id="no node has the memory",
    ),
    pytest.param(
        {"conditions": unschedulable("Insufficient npu.intel.com/accel.")},
        Reason.DEVICE_UNAVAILABLE,
        id="no node has the device",
    ),
    pytest.param(
        {"conditions": unschedulable('persistentvolumeclaim "models" not found')},
        Reason.VOLUME_UNAVAILABLE,
        id="no claim",
    ),
    pytest.param({"conditions": SCHEDULED_LONG_AGO}, Reason.VOLUME_UNAVAILABLE, id="slow volume"),
    pytest.param({"agent": waiting("ImagePullBackOff")}, Reason.IMAGE_PULL_FAILED, id="agent"),
    pytest.param({"runtime": waiting("ErrImagePull")}, Reason.IMAGE_PULL_FAILED, id="server"),
    pytest.param(
        {"agent": waiting("CreateContainerConfigError")},
        Reason.CONTAINER_CONFIG_INVALID,
        id="missing secret",
    ),
    pytest.param({"runtime": ended(1)}, Reason.CRASH_LOOPING, id="exits for no known reason"),
    pytest.param({"runtime": ended(137, reason="OOMKilled")}, Reason.OUT_OF_MEMORY, id="oom"),
    pytest.param({"agent": ended(42)}, Reason.EXPIRED, id="exit code of ours without a message"),
    pytest.param(
        {"agent": ended(85, message=farewell(Stage.DECRYPT, Reason.DIGEST_MISMATCH))},
        Reason.DIGEST_MISMATCH,
        id="tampered",
    ),
    pytest.param({"runtime": ended(112)}, Reason.MODEL_LOAD_FAILED, id="server's exit code"),
    pytest.param(
        {"runtime": ended(1, message=NOT_OURS)},
        Reason.CRASH_LOOPING,
        id="a server cannot cry tampering",
    ),
    pytest.param({"agent": running(60)}, Reason.REPORT_UNAVAILABLE, id="silent agent"),
    pytest.param({"agent": running(5)}, Reason.STARTING, id="young agent"),
]


@pytest.mark.parametrize(("fields", "reason"), TROUBLES)
def test_every_trouble_of_a_pod_has_its_reason(fields: dict[str, Any], reason: Reason) -> None:
    found = pod(**fields)
    assert found.worst.reason is reason
    if reason is not Reason.STARTING:
        assert state(seen(found), Condition.READY) == ("False", reason)


@pytest.mark.parametrize(("fields", "reason"), TROUBLES[1:])  # an evicted pod never recovers
def test_recovery_clears_every_reason(fields: dict[str, Any], reason: Reason) -> None:
    assert reason
    found = seen(pod(**fields, ready=True))
    assert state(found, Condition.READY) == ("True", Reason.SERVING)


@pytest.mark.parametrize("reason", sorted(AGENT_REASONS))
def test_every_reason_that_an_agent_reports_is_shown(reason: Reason) -> None:
    found = seen(pod(told=report(Stage.LOGIN, reason)))
    expected = Reason.WAITING_FOR_RUNTIME if reason is Reason.SERVING else reason
    if reason is Reason.STARTING:
        expected = Reason.PROGRESSING
        assert state(found, Condition.READY)[0] == "False"
    else:
        assert state(found, Condition.READY) == ("False", expected)


def test_a_runtimes_own_failure_counts_before_the_agents_contentment() -> None:
    told = report(Stage.LEASE, Reason.SERVING, runtime={"result": "ModelLoadFailed"})
    assert state(seen(pod(told=told)), Condition.READY)[1] is Reason.MODEL_LOAD_FAILED


@pytest.mark.parametrize(
    "reason", [Reason.KEY_NOT_FOUND, Reason.KEY_REVOKED, Reason.KEY_ACCESS_DENIED, Reason.EXPIRED]
)
def test_why_a_right_is_gone_counts_before_what_a_server_says_of_its_end(reason: Reason) -> None:
    told = report(Stage.LEASE, reason)
    found = pod(told=told, runtime=ended(LeaseError.exit_code))
    assert state(seen(found), Condition.READY)[1] is reason


def test_of_several_pods_the_worst_counts() -> None:
    pods = [
        pod(told=report(Stage.FETCH, Reason.SOURCE_UNAVAILABLE)),
        pod(told=report(Stage.UNWRAP, Reason.KEY_ACCESS_DENIED)),
        pod(told=report(Stage.DELIVER, Reason.WAITING_FOR_RUNTIME)),
    ]
    assert state(seen(*pods), Condition.READY)[1] is Reason.KEY_ACCESS_DENIED


def test_one_ready_pod_of_the_current_template_is_enough() -> None:
    found = seen(serving(), pod(agent=waiting("ImagePullBackOff"), name="filetype-2"))
    assert state(found, Condition.READY) == ("True", Reason.SERVING)


def test_ready_is_never_true_for_an_old_template() -> None:
    old = serving(template="old")
    assert state(seen(old), Condition.READY) == ("False", Reason.PROGRESSING)
    assert state(seen(old), Condition.AVAILABLE) == ("True", Reason.SERVING)
    not_applied = seen(serving(), deployment=deployment("old"))
    assert state(not_applied, Condition.READY)[0] == "False"
    unseen = deployment()
    unseen["status"]["observedGeneration"] = 2
    assert state(seen(serving(), deployment=unseen), Condition.READY)[0] == "False"


def test_an_update_without_room_names_the_field_to_change() -> None:
    new = pod(name="filetype-2", conditions=unschedulable("Insufficient memory"))
    found = seen(serving(template="old"), new)
    assert state(found, Condition.READY) == ("False", Reason.NO_ROOM_FOR_UPDATE)
    assert "spec.rollout.strategy" in message(found)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('pods "x" is forbidden: exceeded quota: q', Reason.QUOTA_EXCEEDED),
        ('pods "x" is forbidden: violates PodSecurity "restricted"', Reason.POD_SECURITY_REFUSED),
        ("error looking up service account vision/filetype", Reason.SERVICE_ACCOUNT_NOT_FOUND),
        ('serviceaccount "filetype" not found', Reason.SERVICE_ACCOUNT_NOT_FOUND),
        ("admission webhook denied the request", Reason.POD_REFUSED),
    ],
)
def test_a_pod_that_could_not_be_made_has_a_reason(text: str, reason: Reason) -> None:
    failure = {"type": "ReplicaFailure", "status": "True", "message": text}
    found = seen(deployment=deployment(conditions=[failure]))
    assert state(found, Condition.READY) == ("False", reason)


def test_a_rollout_without_progress_and_without_a_better_reason_says_so() -> None:
    stuck = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    found = seen(deployment=deployment(conditions=[stuck]))
    assert state(found, Condition.READY)[1] is Reason.PROGRESS_DEADLINE_EXCEEDED


def test_out_of_memory_names_the_sizes_and_both_limits() -> None:
    text = message(seen(pod(runtime=ended(137, reason="OOMKilled"))))
    assert "modelSize 512Mi" in text
    assert "agent 704Mi, runtime 1664Mi" in text


def test_a_model_that_is_too_large_names_the_number_to_declare() -> None:
    words = farewell(Stage.POLICY, Reason.MODEL_TOO_LARGE, modelSize=123456789)
    assert "123456789" in message(seen(pod(agent=ended(43, message=words))))


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"suspend": True}, Reason.SUSPENDED), ({"replicas": 0}, Reason.SCALED_TO_ZERO)],
)
def test_no_pods_by_wish_is_no_failure(change: dict[str, Any], reason: Reason) -> None:
    found = seen(model=parse_model(model_object(**change)))
    assert state(found, Condition.READY) == ("False", reason)
    assert state(found, Condition.AVAILABLE) == ("False", reason)


def test_a_refusal_shows_in_accepted_and_ready_while_old_pods_stay_available() -> None:
    refusal = Refusal(Reason.PROVIDER_NOT_FOUND, "there is no KeyProvider")
    found = seen(serving(), refusal=refusal)
    assert state(found, Condition.ACCEPTED) == ("False", Reason.PROVIDER_NOT_FOUND)
    assert state(found, Condition.READY) == ("False", Reason.PROVIDER_NOT_FOUND)
    assert state(found, Condition.AVAILABLE) == ("True", Reason.SERVING)


def test_what_only_a_pod_can_see_is_never_in_accepted() -> None:
    for reason in AGENT_REASONS:
        found = seen(pod(told=report(Stage.FETCH, reason)))
        assert state(found, Condition.ACCEPTED) == ("True", Reason.ACCEPTED)


def test_an_obstacle_is_the_reason_for_not_being_ready() -> None:
    found = seen(serving(), obstacle=Finding(reason=Reason.NAME_CONFLICT, detail="Service x"))
    assert state(found, Condition.READY) == ("False", Reason.NAME_CONFLICT)


def test_the_key_is_available_once_a_pod_got_past_unwrapping() -> None:
    def key(*pods: Pod) -> tuple[str, Reason]:
        return state(seen(*pods), Condition.KEY_AVAILABLE)

    assert key() == ("Unknown", Reason.STARTING)
    assert key(pod(told=report(Stage.FETCH, Reason.SOURCE_NOT_FOUND)))[0] == "Unknown"
    assert key(pod(told=report(Stage.DECRYPT, Reason.STARTING))) == ("True", Reason.KEY_UNWRAPPED)
    assert key(serving()) == ("True", Reason.KEY_UNWRAPPED)
    denied = pod(told=report(Stage.UNWRAP, Reason.KEY_ACCESS_DENIED))
    assert key(serving(), denied) == ("False", Reason.KEY_ACCESS_DENIED)


def test_a_serving_pod_whose_key_service_is_away_stays_ready_and_says_so() -> None:
    told = report(Stage.LEASE, Reason.KEY_SERVICE_UNAVAILABLE)
    found = seen(examine(raw_pod(ready=True), told, NOW))
    assert state(found, Condition.READY) == ("True", Reason.SERVING)
    assert state(found, Condition.KEY_AVAILABLE) == ("False", Reason.KEY_SERVICE_UNAVAILABLE)


def test_unpinned_is_said() -> None:
    assert state(seen(), Condition.PINNED) == ("False", Reason.UNPINNED)
    pinned = parse_model(model_object(model={"minSequence": 0}))
    assert state(seen(model=pinned), Condition.PINNED) == ("True", Reason.PINNED)


def test_an_unchanged_status_is_the_same_later_and_a_transition_gets_a_new_time() -> None:
    first = build_status(seen(serving()), context(), {}, NOW)
    later = NOW.replace(hour=13)
    assert build_status(seen(serving()), context(), first, later) == first
    assert transitions(first, first) == []
    broken = build_status(seen(), context(), first, later)
    times = {c["type"]: c["lastTransitionTime"] for c in broken["conditions"]}
    assert times["Ready"] == "2026-11-23T13:00:00Z"
    assert times["Accepted"] == "2026-11-23T12:00:00Z"
    assert {c["type"] for c in transitions(first, broken)} == {"Ready", "Available", "KeyAvailable"}


def test_every_condition_speaks_of_the_generation_that_was_read() -> None:
    status = build_status(seen(serving()), context(), {}, NOW)
    assert status["observedGeneration"] == 4
    assert {c["observedGeneration"] for c in status["conditions"]} == {4}


def test_the_last_failure_stays_after_recovery() -> None:
    failing = seen(pod(agent=ended(42)))
    first = build_status(failing, context(), {}, NOW)
    assert first["lastFailure"] == {
        "pod": "filetype-1",
        "reason": "Expired",
        "message": ADVICE[Reason.EXPIRED].message,
        "exitCode": 42,
        "time": ago(3),
    }
    after = build_status(seen(serving()), context(), first, NOW)
    assert after["lastFailure"] == first["lastFailure"]


def test_status_names_the_seal_of_each_pod() -> None:
    status = build_status(seen(serving()), context(), {}, NOW)
    assert status["model"]["digest"] == status["pods"][0]["digest"] == "sha256:" + "a" * 64


@settings(max_examples=300)
@given(st.data())
def test_nothing_that_a_cluster_shows_crashes_the_mapping(data: st.DataObject) -> None:
    raw = data.draw(
        mutated(raw_pod(agent=ended(42), runtime=running(), conditions=unschedulable("x")))
    )
    live = data.draw(mutated(deployment(conditions=[{"type": "ReplicaFailure", "status": "True"}])))
    before = data.draw(mutated(build_status(seen(serving()), context(), {}, NOW)))
    found = replace(seen(examine(raw, None, NOW)), deployment=live)
    status = build_status(found, context(), before, NOW)
    assert transitions(before, status) is not None
    assert all(c["message"].isprintable() for c in status["conditions"])


@settings(max_examples=300)
@given(st.binary(max_size=5000) | anything.map(lambda v: json.dumps(v).encode()))
def test_no_report_is_more_than_dropped(body: bytes) -> None:
    found = parse_report(body)
    assert found is None or found.reason in AGENT_REASONS
    assert parse_farewell(body.decode(errors="replace"), RUNTIME_REASONS) is None or found


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 4000,
        b'{"stage":"Login","reason":"Serving"}' + b" " * 5000,
        b'{"stage":"Login","reason":"ImagePullFailed"}',
        b'{"stage":["Login"],"reason":"Serving"}',
        b'{"stage":"Login","reason":{}}',
    ],
    ids=["nested", "long", "a reason of the operator's own", "list", "object"],
)
def test_a_bad_report_is_none(body: bytes) -> None:
    assert parse_report(body) is None


def test_foreign_text_of_a_report_must_match_or_is_dropped() -> None:
    found = report(
        Stage.LEASE, Reason.SERVING, version="1\n", digest="sha256:x", modelSize=-1, runtime=[]
    )
    assert (found.version, found.digest, found.model_size, found.runtime) == (None,) * 4


def test_every_reason_has_advice_and_every_pod_reason_a_rank() -> None:
    assert set(ADVICE) == set(Reason)
    assert len(set(PRECEDENCE)) == len(PRECEDENCE)
    assert set(PRECEDENCE) >= AGENT_REASONS | RUNTIME_REASONS


def test_every_advice_is_one_sentence_in_lower_case() -> None:
    for advice in ADVICE.values():
        assert advice.meaning
        assert not advice.message.endswith(".")
        assert len(advice.message) < 200


RETIREMENT = Retirement(below=3, on="2027-01-31T00:00:00Z")


def opened_by(version: int | None, name: str = "filetype-1") -> Pod:
    told = report(Stage.LEASE, Reason.SERVING, keyVersion=version, digest="sha256:" + "a" * 64)
    return examine(raw_pod(name, ready=True), told, NOW)


def test_a_model_on_a_retiring_key_says_until_when_it_opens_and_what_to_do() -> None:
    found = seen(opened_by(2), opened_by(3, "filetype-2"), retirement=RETIREMENT)
    assert state(found, Condition.KEY_CURRENT) == ("False", Reason.KEY_VERSION_RETIRING)
    text = message(found, Condition.KEY_CURRENT)
    assert "version 2; versions below 3 stop on 2027-01-31T00:00:00Z" in text
    assert "modelseal rewrap" in text
    assert state(found, Condition.READY)[0] == "True", "it is served all the same"


def test_a_rewrapped_model_is_current_and_its_key_version_is_in_the_status() -> None:
    found = seen(opened_by(4), opened_by(3, "filetype-2"), retirement=RETIREMENT)
    assert state(found, Condition.KEY_CURRENT) == ("True", Reason.KEY_VERSION_CURRENT)
    status = build_status(found, context(), {}, NOW)
    assert status["model"]["keyVersion"] == 3
    assert [pod["keyVersion"] for pod in status["pods"]] == [4, 3]


def test_nothing_is_said_of_versions_where_the_provider_announces_nothing() -> None:
    kinds = [s.type for s in conditions(seen(opened_by(1)))]
    assert Condition.KEY_CURRENT not in kinds
    unknown = seen(opened_by(None), retirement=RETIREMENT)
    assert state(unknown, Condition.KEY_CURRENT)[0] == "Unknown"


def test_a_provider_announces_which_versions_stop_and_when() -> None:
    transit = {"retirement": {"belowVersion": 3, "on": "2027-01-31T00:00:00Z"}}
    raw = provider_object(vault={"transit": transit})
    assert parse_provider("KeyProvider", raw).retirement == RETIREMENT
    transit["retirement"]["on"] = "soon"
    with pytest.raises(Refusal, match="retirement"):
        parse_provider("KeyProvider", provider_object(vault={"transit": transit}))

"""What the agent tells about itself has a closed schema, bounds, and no foreign text as it came."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from modelseal import errors
from modelseal.contract import MAX_REPORT_BYTES, MAX_TERMINATION_BYTES, Delivery, Reason, Stage
from modelseal_sidecar.report import load_result, render_report, render_termination, safe
from modelseal_sidecar.status import Board, RuntimeStatus, Status, standing

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
STATUS = Status(delivery=Delivery.MEMFD, model="vision/filetype", since=NOW)
KEYS = {
    "reportVersion", "agentVersion", "stage", "reason", "since", "attempts", "delivery", "model",
    "version", "digest", "keyVersion", "modelSize", "leaseValidUntil", "posture", "runtime",
}  # fmt: skip


def every_error() -> list[type[errors.ModelsealError]]:
    found, todo = [], [errors.ModelsealError]
    while todo:
        kind = todo.pop()
        if kind.__module__ == errors.__name__:
            found.append(kind)
        todo += kind.__subclasses__()
    return found


def test_the_report_has_exactly_its_fields() -> None:
    report = json.loads(render_report(STATUS))
    assert set(report) == KEYS
    assert set(report["runtime"]) == {"connected", "result", "device", "loadSeconds"}
    assert report["since"] == "2026-01-02T03:04:05Z"
    assert (report["stage"], report["reason"]) == ("Settings", "Starting")


def test_foreign_text_in_the_report_is_tamed_and_cut() -> None:
    hostile = '\x1b[2J<script>"\\\u202e' + "v" * 5000
    runtime = RuntimeStatus(connected=True, device=hostile, result=Reason.SERVING)
    status = replace(STATUS, version=hostile, digest=hostile, runtime=runtime)
    body = render_report(status)
    assert len(body) <= MAX_REPORT_BYTES
    report = json.loads(body)
    for text in (report["version"], report["digest"], report["runtime"]["device"]):
        assert len(text) <= 200
        assert not set(text) & set('\x1b<>"\\\u202e')


def test_posture_never_pushes_the_report_over_its_bound() -> None:
    posture = tuple((f"name{i}", "x" * 200) for i in range(200))
    body = render_report(replace(STATUS, posture=posture))
    assert len(body) <= MAX_REPORT_BYTES
    assert json.loads(body)["posture"] == {}


@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
def test_every_error_has_a_termination_message_of_fixed_texts(
    kind: type[errors.ModelsealError],
) -> None:
    error = kind("SECRET in a message", hint="SECRET in a hint " * 200)
    body = render_termination(error, replace(STATUS, version="v" * 9000, digest="d" * 9000))
    assert len(body) <= MAX_TERMINATION_BYTES
    assert b"SECRET" not in body
    document = json.loads(body)
    assert set(document) == {
        "stage", "reason", "exitCode", "message", "hint", "modelSize", "digest",
    }  # fmt: skip
    assert document["exitCode"] == kind.exit_code
    assert document["reason"] == kind.reason
    assert document["hint"] == kind.hint


def test_the_number_to_declare_is_in_the_termination_message() -> None:
    body = render_termination(errors.ModelTooLarge("x"), replace(STATUS, model_size=123456))
    assert json.loads(body)["modelSize"] == 123456


def test_a_runtime_cannot_speak_for_the_key_service() -> None:
    assert load_result(Reason.KEY_REVOKED) is Reason.MODEL_LOAD_FAILED
    assert load_result(Reason.DEVICE_UNAVAILABLE) is Reason.DEVICE_UNAVAILABLE


def test_nothing_stays_nothing() -> None:
    assert safe(None) is None


def test_since_changes_with_stage_or_reason_only() -> None:
    times = iter(NOW + timedelta(seconds=n) for n in range(1, 9))
    board = Board(STATUS, now=lambda: next(times))
    board.change(attempts=1)
    assert board.read().since == NOW
    board.settle(Stage.LEASE, Reason.SERVING)
    assert board.read().since == NOW + timedelta(seconds=1)
    board.settle(Stage.LEASE, Reason.SERVING)
    assert board.read().since == NOW + timedelta(seconds=1)


def test_a_failure_stays_on_show_until_its_stage_is_passed() -> None:
    board = Board(STATUS)
    board.fail(errors.KeyAccessDenied("no"))
    for stage in (Stage.MANIFEST, Stage.POLICY, Stage.UNWRAP):
        board.enter(stage)
        assert board.read().reason is Reason.KEY_ACCESS_DENIED
    board.enter(Stage.FETCH)
    assert (board.read().stage, board.read().reason) == (Stage.FETCH, Reason.STARTING)
    assert board.read().attempts == 1


@pytest.mark.parametrize(
    ("status", "trouble", "expected"),
    [
        (STATUS, None, (Stage.DELIVER, Reason.WAITING_FOR_RUNTIME)),
        (
            replace(STATUS, runtime=RuntimeStatus(rejected=True)),
            None,
            (Stage.DELIVER, Reason.PEER_REJECTED),
        ),
        (
            replace(STATUS, runtime=RuntimeStatus(connected=True)),
            None,
            (Stage.DELIVER, Reason.STARTING),
        ),
        (
            replace(STATUS, runtime=RuntimeStatus(connected=True, result=Reason.SERVING)),
            None,
            (Stage.LEASE, Reason.SERVING),
        ),
        (
            replace(STATUS, runtime=RuntimeStatus(connected=True, result=Reason.SERVING)),
            Reason.KEY_SERVICE_BUSY,
            (Stage.LEASE, Reason.KEY_SERVICE_BUSY),
        ),
        (
            replace(STATUS, runtime=RuntimeStatus(connected=True, result=Reason.OUT_OF_MEMORY)),
            Reason.KEY_SERVICE_BUSY,
            (Stage.SERVE, Reason.OUT_OF_MEMORY),
        ),
        (replace(STATUS, delivery=Delivery.TMPFS), None, (Stage.LEASE, Reason.SERVING)),
    ],
)
def test_where_an_agent_with_a_model_stands(
    status: Status, trouble: Reason | None, expected: tuple[Stage, Reason]
) -> None:
    assert standing(status, trouble) == expected

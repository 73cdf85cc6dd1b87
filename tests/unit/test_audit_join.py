"""The join as a function of values: KV keys, agents without a key service, and what is believed."""

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelseal.cli.auditing.cluster import Claim, Objects, Pod, read_claims
from modelseal.cli.auditing.join import Verdict, join
from modelseal.cli.auditing.keyservice import Access, AuditLog, Use, parse_context
from modelseal.contract import UNWRAPPED
from modelseal.envelope import kek_context

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
ACCESS = Access(
    request="r1",
    time=NOON,
    use=Use.KEK_READ,
    key="kv/models/kek",
    model=None,
    seal_id=None,
    namespace="vision",
    account="filetype",
    identity="kubernetes-vision-filetype",
    address="10.0.0.7",
    refused=False,
)
CLAIM = Claim(
    request="r1",
    time=NOON,
    model="vision/filetype",
    version="1",
    digest="sha256:00",
    key="vault-kv:kv/models/kek#key@1",
    key_version=1,
    host="filetype-0",
)
POD = Pod(
    namespace="vision",
    name="filetype-0",
    account="filetype",
    node="n",
    created=NOON - timedelta(hours=1),
    addresses=(),
    resource="filetype",
)
OBJECTS = Objects(pods=(POD,), models=(("vision", "filetype", "vision/filetype"),))


def verdict(access: Access, *claims: Claim, objects: Objects | None = OBJECTS) -> Verdict:
    return join([access], claims, objects).openings[0].verdict


def test_a_kv_key_that_an_agent_read_for_an_opening_is_matched_and_other_reads_are_only_named() -> (
    None
):
    assert verdict(ACCESS, CLAIM) is Verdict.MATCHED
    assert verdict(ACCESS) is Verdict.KEY_READ
    assert join([ACCESS], [], OBJECTS).findings == 0


def test_a_claim_for_another_model_than_the_context_names_is_a_contradiction() -> None:
    opening = replace(ACCESS, use=Use.OPENING, model="vision/other")
    assert verdict(opening, CLAIM) is Verdict.CONTRADICTION


def test_pods_of_one_name_in_two_namespaces_are_told_apart_by_the_login() -> None:
    twin = replace(POD, namespace="other", account="filetype")
    objects = replace(OBJECTS, pods=(twin, POD))
    assert verdict(ACCESS, CLAIM, objects=objects) is Verdict.MATCHED
    (opening,) = join([replace(ACCESS, namespace="other")], [CLAIM], objects).openings
    assert opening.pod == twin


def test_a_login_that_names_no_account_is_matched_by_the_host_alone() -> None:
    assert verdict(replace(ACCESS, namespace=None, account=None), CLAIM) is Verdict.MATCHED


def test_keys_that_ask_nobody_are_not_missed_in_the_audit_log() -> None:
    local = replace(CLAIM, request=None, key="file:00")
    assert join([], [local], OBJECTS).findings == 0
    assert join([], [replace(CLAIM, request="r9")], OBJECTS).findings == 1


@given(st.binary(min_size=0, max_size=100))
def test_only_a_context_that_we_would_make_is_read(raw: bytes) -> None:
    found = parse_context(base64.b64encode(raw).decode())
    assert found is None or kek_context(found[0], bytes.fromhex(found[1])) == raw


def test_a_context_is_read_back() -> None:
    context = base64.b64encode(kek_context("vision/filetype", b"\0" * 32)).decode()
    assert parse_context(context) == ("vision/filetype", "00" * 32)
    for other in (None, 7, "", "hmac-sha256:00", context[:-4], "!" + context):
        assert parse_context(other) is None


@given(st.text())
def test_no_line_of_a_log_raises(line: str) -> None:
    assert list(AuditLog().read([line])) == []
    assert list(read_claims([line, UNWRAPPED + line, "{" + UNWRAPPED + line])) == []


@pytest.mark.parametrize("spoil", ["event", "time", "model", "version", "digest", "key", "host"])
def test_a_claim_that_lacks_something_is_no_claim(spoil: str) -> None:
    line = {
        "time": "2026-11-25T12:00:00+00:00",
        "event": UNWRAPPED,
        "model": "vision/filetype",
        "version": "1",
        "digest": "sha256:00",
        "key": "vault-kv:kv/models/kek#key@1",
        "keyVersion": 1,
        "request": "r1",
        "host": "filetype-0",
    }
    assert list(read_claims([json.dumps(line)])) == [CLAIM]
    del line[spoil]
    assert list(read_claims([json.dumps(line)])) == []

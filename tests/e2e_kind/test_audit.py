"""Who opened what on a real cluster: the key service's audit device, agents' logs and pods."""

import base64
import json
from pathlib import Path
from typing import Any, Final

import pytest

from modelseal.cli.audit import EXIT_FINDINGS
from modelseal.contract import GROUP
from modelseal.envelope import kek_context, parse_seal
from support.cli import Result, run
from support.kind_place import ACCOUNT, Place

pytestmark = [pytest.mark.kind, pytest.mark.timeout(600)]
_KINDS: Final = f"pods,encryptedmodels.{GROUP}"


@pytest.fixture(scope="module")
def opened(module_place: Place) -> Place:
    """Serve a model, and open it once more by hand with a token of its service account."""
    place = module_place
    place.provide()
    place.put(place.seal(), "filetype/1")
    place.apply()
    place.until_ready()
    open_by_hand(place)
    return place


def test_a_pods_opening_is_joined_and_one_by_hand_matches_no_pod(opened: Place) -> None:
    report = audit(opened, "--json")
    assert report.code == EXIT_FINDINGS, report.err
    served, stolen = report.json["openings"]
    (pod,) = opened.pods()
    assert served["verdict"] == "matched"
    assert (served["pod"], served["node"]) == (pod["metadata"]["name"], pod["spec"]["nodeName"])
    assert (served["model"], served["version"], served["keyVersion"]) == (opened.model, "1", 1)
    assert served["digest"] == opened.resource()["status"]["model"]["digest"]
    assert served["resource"] == "filetype"
    assert stolen["verdict"] == "no agent's log has it"
    assert stolen["pod"] is None
    for each in (served, stolen):
        assert (each["namespace"], each["serviceAccount"]) == (opened.namespace, ACCOUNT)
        assert each["model"] == opened.model
    assert report.json["findings"] == 1


def test_the_table_says_the_same_in_a_line_for_each_opening(opened: Place) -> None:
    report = audit(opened)
    assert report.code == EXIT_FINDINGS, report.err
    head, served, stolen = report.out.splitlines()
    assert head.split() == ["time", "model", "version", "who", "where", "key", "verdict"]
    assert f"{opened.pod()} on " in served
    assert served.endswith("matched")
    assert stolen.endswith("no agent's log has it")
    assert f"{opened.namespace}/{ACCOUNT}" in stolen


def audit(place: Place, *more: str) -> Result:
    """Collect the three records as the documentation says, and join them."""
    folder = place.folder
    logs = place.kube.run("logs", place.pod(), "--all-containers", "--prefix")
    objects = place.kube.run("get", _KINDS, "--all-namespaces", "-o=json")
    given: dict[str, tuple[Path, str]] = {
        "--audit-log": (folder / "audit.log", place.bao.audit_log()),
        "--agent-log": (folder / "agents.log", logs),
        "--objects": (folder / "objects.json", objects),
    }
    words: list[str | Path] = ["audit", "--model", place.model, *more]
    for option, (path, text) in given.items():
        path.write_text(text)
        words += [option, path]
    return run(*words)


def open_by_hand(place: Place) -> None:
    """Do from here what somebody with the account's token could: log in and unwrap."""
    token = place.kube.run("create", "token", ACCOUNT, f"--audience={place.address}").strip()
    role = f"modelseal-{place.model.replace('/', '_')}-agent"
    keys = place.bao.keys
    status, answer = keys.ask(None, "POST", "auth/kubernetes/login", {"role": role, "jwt": token})
    assert status == 200, answer
    seal = parse_seal((place.folder / "1" / "seal.json").read_bytes())
    context = kek_context(place.model, seal.manifest.seal_id)
    body: dict[str, Any] = {
        "ciphertext": seal.recipients[0].wrapped,
        "context": base64.b64encode(context).decode(),
    }
    key = seal.recipients[0].key.partition("/")[2]
    path = f"{place.namespace}/decrypt/{key}"
    status, answer = keys.ask(answer["auth"]["client_token"], "POST", path, body)
    assert status == 200, json.dumps(answer)

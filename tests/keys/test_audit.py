"""Who opened what: a real audit log, a real agent's log and a cluster's objects, joined."""

import json
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from modelseal import errors
from modelseal.cli.audit import EXIT_FINDINGS
from modelseal.cli.story.openbao import running
from modelseal.contract import LABEL_MODEL, Env
from modelseal.envelope import kek_context
from modelseal.keys import open_provider
from support.agent_models import SealedModel, seal_model
from support.agent_process import AgentProcess
from support.cli import Result, run
from support.openbao import KeyService
from support.prepared import ACCOUNT, MODEL, NAMESPACE, ROLE, Prepared, prepared

pytestmark = pytest.mark.keys


@dataclass(kw_only=True)
class Scene:
    """A model that a real agent opened once, and what was written down about it."""

    place: Prepared
    sealed: SealedModel
    folder: Path
    audit_log: Path
    agent_log: Path

    def objects(self, **changes: Any) -> Path:
        """Write what kubectl would for the pod that the agent ran in."""
        pod: dict[str, Any] = {
            "kind": "Pod",
            "metadata": {
                "namespace": changes.get("namespace", NAMESPACE),
                "name": changes.get("name", socket.gethostname()),
                "creationTimestamp": changes.get("created", "2026-01-01T00:00:00Z"),
                "labels": {LABEL_MODEL: "filetype"},
            },
            "spec": {
                "nodeName": "node-1",
                "serviceAccountName": changes.get("account", ACCOUNT),
            },
            "status": {"podIPs": [{"ip": "10.0.0.7"}]},
        }
        resource = {
            "kind": "EncryptedModel",
            "metadata": {"namespace": NAMESPACE, "name": "filetype"},
            "spec": {"model": {"name": changes.get("model", MODEL)}},
        }
        path = self.folder / "objects.json"
        path.write_text(json.dumps({"kind": "List", "items": [pod, resource]}))
        return path

    def audit(
        self, *more: str | Path, log: Path | None = None, agent: Path | None = None
    ) -> Result:
        return run(
            *("audit", "--audit-log", log or self.audit_log),
            *("--agent-log", agent or self.agent_log, "--json", *more),
        )

    def only(self, result: Result) -> dict[str, Any]:
        """Return the report's one opening."""
        (opening,) = result.json["openings"]
        found: dict[str, Any] = opening
        return found

    def copy(self) -> Path:
        """Return a copy of the audit log to which a test adds."""
        path = self.folder / "copy.log"
        path.write_text(self.audit_log.read_text())
        return path


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("audit")
    live = folder / "live.log"
    with running(folder, audit_log=live) as server:
        service = KeyService(server=server, folder=folder)
        with prepared(service) as place, tempfile.TemporaryDirectory(dir="/dev/shm") as volume:
            sealed = seal_model(
                folder / "sealed", open_provider(place.key, vault=service.settings())
            )
            service.call("POST", f"{place.mount}/keys/models/rotate")
            agent_log = folder / "agent.log"
            token = folder / "token"
            token.write_text(place.token())
            environ = sealed.environ() | {
                Env.KEY: place.key,
                Env.VAULT_ADDRESS: service.address,
                Env.VAULT_CA_FILE: str(service.ca_file),
                Env.VAULT_AUTH: "kubernetes",
                Env.VAULT_AUTH_MOUNT: place.mounts["kubernetes"],
                Env.VAULT_ROLE: ROLE,
                Env.VAULT_TOKEN_FILE: str(token),
                Env.DELIVERY: "tmpfs",
                Env.DELIVERY_DIRECTORY: volume,
            }
            with AgentProcess(folder, environ) as agent:
                agent.until_reason("Serving")
                assert agent.stop() == 0
                agent_log.write_text(agent.log_text())
            audit_log = folder / "audit.log"
            audit_log.write_text(live.read_text())
            yield Scene(
                place=place, sealed=sealed, folder=folder, audit_log=audit_log, agent_log=agent_log
            )


def new_lines(scene: Scene, before: int) -> str:
    """Return what the key service wrote after so many lines."""
    return "\n".join((scene.folder / "live.log").read_text().splitlines()[before:]) + "\n"


def written(scene: Scene) -> int:
    return len((scene.folder / "live.log").read_text().splitlines())


def test_an_opening_is_joined_from_three_records(scene: Scene) -> None:
    result = scene.audit("--objects", scene.objects())
    assert result.code == 0, result.err
    opening = scene.only(result)
    assert opening["verdict"] == "matched"
    assert opening["model"] == MODEL
    assert opening["version"] == "1.2"
    assert opening["digest"] == scene.sealed.seal.digest
    assert opening["seal"] == scene.sealed.seal.manifest.seal_id.hex()
    assert (opening["namespace"], opening["serviceAccount"]) == (NAMESPACE, ACCOUNT)
    assert (opening["pod"], opening["node"]) == (socket.gethostname(), "node-1")
    assert opening["keyVersion"] == 1
    assert opening["key"] == f"{scene.place.mount}/models"
    assert result.json["findings"] == 0


def test_the_table_says_it_in_a_line_and_names_what_is_not_proved(scene: Scene) -> None:
    result = run(
        *("audit", "--audit-log", scene.audit_log, "--agent-log", scene.agent_log),
        *("--objects", scene.objects()),
    )
    line = result.out.splitlines()[1]
    for word in (MODEL, "1.2", f"{NAMESPACE}/{ACCOUNT}", "node-1", "models v1", "matched"):
        assert word in line
    assert result.err.count("not proved:") == 5
    assert "covered: 20" in result.err


def test_no_secret_of_either_log_reaches_the_report(scene: Scene) -> None:
    result = scene.audit("--objects", scene.objects())
    assert "hmac-sha256" not in result.out
    assert scene.place.service.server.root_token not in scene.agent_log.read_text()
    assert "vault:v1:" not in scene.agent_log.read_text()


def test_an_opening_that_no_agent_has_logged_is_a_finding(scene: Scene) -> None:
    before = written(scene)
    service = scene.place.service
    thief = open_provider(scene.place.key, vault=service.settings(service.token(ROLE)))
    (recipient,) = scene.sealed.seal.recipients
    context = kek_context(MODEL, scene.sealed.seal.manifest.seal_id)
    thief.unwrap(recipient, context).wipe()
    log = scene.copy()
    log.write_text(log.read_text() + new_lines(scene, before))
    result = scene.audit("--objects", scene.objects(), log=log)
    assert result.code == EXIT_FINDINGS
    matched, stolen = result.json["openings"]
    assert (matched["verdict"], stolen["verdict"]) == ("matched", "no agent's log has it")
    assert stolen["model"] == MODEL
    assert stolen["request"] == thief.unwrap_id
    assert stolen["identity"] == "token"


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"name": "another-pod"}, "no such pod"),
        ({"created": "2126-01-01T00:00:00Z"}, "no such pod"),
        ({"account": "other"}, "the records contradict each other"),
        ({"namespace": "other"}, "the records contradict each other"),
        ({"model": "vision/other"}, "the records contradict each other"),
    ],
)
def test_an_opening_that_matches_no_pod_is_a_finding(
    scene: Scene, changes: dict[str, str], verdict: str
) -> None:
    result = scene.audit("--objects", scene.objects(**changes))
    assert result.code == EXIT_FINDINGS
    assert scene.only(result)["verdict"] == verdict


def test_refused_attempts_are_listed_with_who_made_them(scene: Scene) -> None:
    before = written(scene)
    service = scene.place.service
    keys = open_provider(scene.place.key, vault=service.settings(service.token("nothing")))
    with pytest.raises(errors.KeyAccessDenied):
        keys.unwrap(scene.sealed.seal.recipients[0], kek_context(MODEL, bytes(32)))
    log = scene.folder / "refused.log"
    log.write_text(new_lines(scene, before))
    result = scene.audit(log=log)
    assert result.json["openings"] == []
    assert {each["model"] for each in result.json["refused"]} == {MODEL}
    assert result.json["refused"][0]["identity"] == "token"


def test_an_opening_that_the_audit_log_lacks_is_a_finding(scene: Scene) -> None:
    empty = scene.folder / "empty.log"
    empty.write_text("")
    result = scene.audit(log=empty)
    assert result.code == EXIT_FINDINGS
    assert [each["model"] for each in result.json["unrecorded"]] == [MODEL]


def test_key_material_that_came_out_in_another_way_is_a_finding(scene: Scene) -> None:
    before, service, mount = written(scene), scene.place.service, scene.place.mount
    service.call(
        "POST", f"{mount}/keys/loose", {"type": "aes256-gcm96", "derived": True, "exportable": True}
    )
    service.call("GET", f"{mount}/export/encryption-key/loose")
    service.call("POST", f"{mount}/datakey/plaintext/loose", {"context": "AAAA"})
    wrapped = service.call(
        "POST", f"{mount}/encrypt/loose", {"plaintext": "AAAA", "context": "AAAA"}
    )["data"]["ciphertext"]
    batch = [{"ciphertext": wrapped, "context": "AAAA"}]
    service.call("POST", f"{mount}/decrypt/loose", {"batch_input": batch})
    log = scene.copy()
    log.write_text(log.read_text() + new_lines(scene, before))
    result = scene.audit(log=log)
    found = {each["use"]: each["verdict"] for each in result.json["openings"][1:]}
    exposed = "key material came out in another way"
    assert found == {"export": exposed, "data key": exposed, "batch": exposed}
    assert result.code == EXIT_FINDINGS


def test_a_mount_that_hides_the_context_is_said_to_hide_it(scene: Scene) -> None:
    log = scene.copy()
    lines = []
    for line in log.read_text().splitlines():
        entry = json.loads(line)
        data = entry["request"].get("data") or {}
        if "context" in data:
            data["context"] = "hmac-sha256:0123"
        lines.append(json.dumps(entry))
    log.write_text("\n".join(lines))
    opening = scene.only(scene.audit(log=log))
    assert (opening["model"], opening["verdict"]) == (None, "the log hides the model")


def test_two_agents_that_claim_one_opening_contradict_each_other(scene: Scene) -> None:
    line = next(line for line in scene.agent_log.read_text().splitlines() if "unwrapped" in line)
    copy = scene.folder / "two.log"
    other = json.dumps(json.loads(line) | {"host": "elsewhere"})
    copy.write_text(f"{line}\n[pod/elsewhere/agent] {other}\nno json {{\n")
    result = scene.audit(agent=copy)
    assert scene.only(result)["verdict"] == "the records contradict each other"


def test_a_log_can_be_narrowed_to_a_model_and_a_time(scene: Scene) -> None:
    assert scene.audit("--model", "vision/other").json["openings"] == []
    assert scene.audit("--until", "2020-01-01").json["openings"] == []
    assert scene.audit("--since", "2020-01-01", "--model", MODEL).json["openings"] != []


def test_damaged_lines_stop_nothing_and_leave_the_report_with_findings(scene: Scene) -> None:
    log = scene.copy()
    damaged = ["{", "[]", "{}", '{"time":"x"}', '{"time":"2026-01-01T00:00:00Z","type":"response"}']
    log.write_text("\n".join(damaged) + "\n" + log.read_text())
    result = scene.audit(log=log)
    assert result.json["covered"]["malformed"] == len(damaged)
    assert scene.only(result)["verdict"] == "matched"
    assert (result.json["findings"], result.code) == (len(damaged), EXIT_FINDINGS)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"items":7}', '{"kind":"Pod"}'])
def test_objects_that_kubectl_did_not_write_are_refused(scene: Scene, content: str) -> None:
    path = scene.folder / "wrong.json"
    path.write_text(content)
    assert scene.audit("--objects", path).code == errors.SettingsError.exit_code


def test_a_log_that_is_not_there_is_unreadable(scene: Scene) -> None:
    for kind in ("--audit-log", "--agent-log", "--objects"):
        result = scene.audit(kind, scene.folder / "none")
        assert result.code == errors.InputUnreadable.exit_code

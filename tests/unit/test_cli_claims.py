"""Rewrapping on a claim: a kubectl that is ours stands for the cluster; e2e_kind has a real one."""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from modelseal import errors
from modelseal.cli import on_claim
from modelseal.cli.claims import Claim
from modelseal.envelope import parse_seal
from support import local_kubectl
from support.cli import Result, run
from support.cli_models import MODEL, key_file, plain_ir, seal


class Cluster:
    """A claim with two sealed models, and the kubectl that reaches it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.claim = folder, folder / "claim"
        self.claim.mkdir()
        self.key, self.other = key_file(folder), key_file(folder, "other.key")
        plain = plain_ir(folder, weights=100)
        for version in ("1", "2"):
            place = self.claim / "filetype" / version
            place.parent.mkdir(exist_ok=True)
            assert seal(plain, place, key=f"file:{self.key}").code == 0
        self.kubectl = folder / "kubectl"
        support = Path(local_kubectl.__file__).parents[1]
        self.kubectl.write_text(
            f"#!/bin/sh\nPYTHONPATH={support} exec {sys.executable} -m support.local_kubectl "
            f'{folder} "$@"\n'
        )
        self.kubectl.chmod(0o755)

    def add(self, place: str = "claim:vision/models", *more: str) -> Result:
        """Let another key open what is at a place."""
        words = ["--model", MODEL, "--key", f"file:{self.key}", "--add", f"file:{self.other}"]
        return run("rewrap", place, *words, "--kubectl", str(self.kubectl), "--json", *more)

    def text(self, version: str) -> bytes:
        return (self.claim / "filetype" / version / "seal.json").read_bytes()

    def recipients(self, version: str) -> int:
        return len(parse_seal(self.text(version)).recipients)

    def applied(self) -> Any:
        return json.loads((self.folder / "applied").read_bytes())["items"][0]["spec"]

    def calls(self) -> list[list[str]]:
        return [json.loads(line) for line in (self.folder / "log").read_text().splitlines()]


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


IMAGE = ("--image", "registry.example/python:1")


def test_every_model_on_a_claim_is_renewed_there_and_named_as_it_was_asked_for(
    cluster: Cluster,
) -> None:
    files = {str(path) for path in cluster.claim.rglob("*")}
    result = cluster.add("claim:vision/models", *IMAGE)
    assert result.code == 0, result.err
    assert result.json["counts"] == {"rewrapped": 2}
    assert [each["sealed"] for each in result.json["models"]] == [
        "claim:vision/models/filetype/1",
        "claim:vision/models/filetype/2",
    ]
    assert cluster.recipients("1") == cluster.recipients("2") == 2
    assert {str(path) for path in cluster.claim.rglob("*")} == files
    assert cluster.calls()[-1][:2] == ["delete", "pod"]


def test_one_model_on_a_claim_is_named_by_its_path(cluster: Cluster) -> None:
    before = cluster.text("1")
    result = cluster.add("claim:vision/models/filetype/2/", *IMAGE)
    assert [each["sealed"] for each in result.json["models"]] == ["claim:vision/models/filetype/2"]
    assert (cluster.recipients("2"), cluster.text("1")) == (2, before)


def test_the_pod_runs_where_the_claim_is_in_use_with_the_agents_image_and_no_rights(
    cluster: Cluster,
) -> None:
    (cluster.folder / "in-use").touch()
    assert cluster.add().code == 0
    spec = cluster.applied()
    (container,) = spec["containers"]
    assert container["image"] == local_kubectl.AGENT["image"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    for kind in ("requests", "limits"):
        assert set(container["resources"][kind]) == {"cpu", "memory", "ephemeral-storage"}
    assert spec["automountServiceAccountToken"] is False
    terms = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert terms["nodeSelectorTerms"][0]["matchFields"][0]["values"] == ["node-7"]


def test_neither_keys_nor_payloads_pass_through_the_cluster(cluster: Cluster) -> None:
    assert cluster.add("claim:vision/models", *IMAGE).code == 0
    said = (cluster.folder / "log").read_text() + (cluster.folder / "applied").read_text()
    assert "VAULT" not in said
    assert cluster.key.name not in said


def test_a_seal_that_somebody_replaced_meanwhile_stays_and_the_others_are_renewed(
    cluster: Cluster,
) -> None:
    (cluster.folder / "meanwhile.py").write_text(
        "open('claim/filetype/1/seal.json', 'w').write('theirs')"
    )
    result = cluster.add("claim:vision/models", *IMAGE)
    assert result.code == errors.SourceChanged.exit_code
    assert result.json["counts"] == {"rewrapped": 1, "failed": 1}
    assert cluster.text("1") == b"theirs"
    assert cluster.recipients("2") == 2


def test_a_model_that_went_away_meanwhile_is_a_failure_of_its_own(cluster: Cluster) -> None:
    (cluster.folder / "meanwhile.py").write_text("import os; os.rename('claim/filetype/1', 'gone')")
    result = cluster.add("claim:vision/models", *IMAGE)
    assert result.code == errors.OutputFailed.exit_code
    assert result.json["counts"] == {"rewrapped": 1, "failed": 1}
    assert "No such file" in result.json["models"][0]["error"]["message"]


def test_a_claim_without_sealed_models_is_named(cluster: Cluster) -> None:
    result = cluster.add("claim:vision/models/nothing", *IMAGE)
    assert result.code == errors.NotSealed.exit_code
    assert "claim:vision/models/nothing" in result.error


def test_a_claim_that_is_not_there_starts_no_pod(cluster: Cluster) -> None:
    result = cluster.add("claim:vision/other", *IMAGE)
    assert result.code == errors.SettingsError.exit_code
    assert "'other'" in result.error
    assert not (cluster.folder / "applied").exists()


def test_without_an_agent_or_an_operator_an_image_is_asked_for(cluster: Cluster) -> None:
    result = cluster.add()
    assert result.code == errors.SettingsError.exit_code
    assert "--image" in result.hint


@pytest.mark.parametrize(
    "place", ["claim:", "claim:vision", "claim:vision/", "claim:/m", "claim:v/m/../x", "claim:V/m"]
)
def test_a_place_that_is_none_is_refused(place: str) -> None:
    with pytest.raises(errors.SettingsError, match="failed to read the place"):
        Claim.parse(place)


def order(content: bytes) -> dict[str, str]:
    return {"expected": hashlib.sha256(content).hexdigest(), "content": "bmV3"}


def test_what_cannot_be_written_is_answered_with_the_kernels_number(tmp_path: Path) -> None:
    question = {"folder": str(tmp_path), "orders": {"none": order(b"")}}
    assert on_claim.answer(question) == {"none": 2}


def test_hidden_folders_and_links_are_not_followed_on_a_claim(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "seal.json").write_text("{}")
    claim = tmp_path / "claim"
    (claim / ".hidden").mkdir(parents=True)
    (claim / ".hidden" / "seal.json").write_text("{}")
    (claim / "linked").symlink_to(tmp_path / "out")
    assert on_claim.answer({"folder": str(claim)}) == {"seals": {}}

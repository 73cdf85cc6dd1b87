"""What is measured of a process and its node, and what may be demanded of it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from modelseal.contract import Delivery, Demand, Posture, Stage
from modelseal.errors import PostureRefused, SettingsError
from modelseal.hardening import Value, posture, require
from modelseal_operator.foreign import parse_report
from modelseal_operator.posture import describe_posture
from modelseal_sidecar.report import render_report
from modelseal_sidecar.settings import Settings
from modelseal_sidecar.status import Status, utc_now

GOOD: dict[Posture, Value] = {
    Posture.SWAP: False,
    Posture.CORE_PIPED: False,
    Posture.PTRACE_SCOPE: 1,
    Posture.SECCOMP: "filter",
    Posture.NO_NEW_PRIVILEGES: True,
    Posture.READ_ONLY_ROOT: True,
    Posture.USER_NAMESPACE: True,
    Posture.ROOT: False,
    Posture.CONFIDENTIAL_MEMORY: "SEV-SNP",
}
BAD: dict[Posture, Value] = {
    Posture.SWAP: True,
    Posture.CORE_PIPED: True,
    Posture.PTRACE_SCOPE: 0,
    Posture.SECCOMP: "off",
    Posture.NO_NEW_PRIVILEGES: False,
    Posture.READ_ONLY_ROOT: False,
    Posture.USER_NAMESPACE: False,
    Posture.ROOT: True,
    Posture.CONFIDENTIAL_MEMORY: None,
}


def test_a_posture_that_meets_every_demand_is_accepted() -> None:
    require(Demand, GOOD)


@pytest.mark.parametrize("name", list(BAD))
def test_each_demand_is_refused_by_the_fact_that_contradicts_it(name: Posture) -> None:
    with pytest.raises(PostureRefused) as caught:
        require(Demand, GOOD | {name: BAD[name]})
    named = str(caught.value).partition(": ")[2]
    assert named in tuple(Demand)


@pytest.mark.parametrize("demand", list(Demand))
def test_what_could_not_be_measured_meets_no_demand(demand: Demand) -> None:
    with pytest.raises(PostureRefused, match=demand):
        require([demand], {})


def test_nothing_demanded_accepts_everything() -> None:
    require([], BAD)


def test_every_name_is_measured_and_nothing_else() -> None:
    assert set(posture()) == set(Posture)


@pytest.mark.parametrize(
    ("device", "found"), [("sev-guest", "SEV-SNP"), ("tdx_guest", "TDX"), ("loop-control", None)]
)
def test_a_confidential_guest_is_known_by_its_kernels_device(
    tmp_path: Path, device: str, found: str | None
) -> None:
    (tmp_path / "sys/class/misc" / device).mkdir(parents=True)
    assert posture(tmp_path)[Posture.CONFIDENTIAL_MEMORY] == found


def test_an_unknown_demand_is_refused_and_not_ignored() -> None:
    environ = {
        "MODELSEAL_MODEL": "a/b",
        "MODELSEAL_SOURCE": "/source",
        "MODELSEAL_KEY": "file:key",
        "MODELSEAL_ALLOW_UNSIGNED": "true",
        "MODELSEAL_SOCKET_FD": "3",
    }
    settings = Settings.from_env(environ | {"MODELSEAL_POSTURE": "Seccomp,NonRoot"})
    assert settings.posture == (Demand.SECCOMP, Demand.NON_ROOT)
    with pytest.raises(SettingsError, match="MODELSEAL_POSTURE"):
        Settings.from_env(environ | {"MODELSEAL_POSTURE": "Seccomp,NoWorries"})


def test_what_an_agent_measured_arrives_in_the_status_with_its_meaning() -> None:
    status = Status(
        delivery=Delivery.MEMFD, model="a/b", since=utc_now(), posture=tuple(GOOD.items())
    )
    told = parse_report(render_report(replace(status, stage=Stage.LEASE)))
    assert told is not None
    assert dict(told.posture) == GOOD
    entries = {entry["name"]: entry for entry in describe_posture([told.posture])}
    assert set(entries) == {name.value for name in GOOD}
    assert entries["confidentialMemory"]["value"] == "SEV-SNP"
    assert "not an attestation" in entries["confidentialMemory"]["meaning"]
    assert entries["readOnlyRoot"] == {
        "name": "readOnlyRoot",
        "value": "true",
        "meaning": "the agent can write to no file of its image",
    }


def test_pods_that_differ_show_every_value_under_the_general_meaning() -> None:
    entries = describe_posture([[(Posture.SECCOMP, "off")], [(Posture.SECCOMP, "filter")]])
    assert entries == [
        {"name": "seccomp", "value": "filter, off", "meaning": "the seccomp mode of the agent"}
    ]


@pytest.mark.parametrize("value", ["x" * 17, "a b", "\n", -1, 1.5, [], {}, None])
def test_a_posture_that_no_agent_of_ours_would_tell_is_dropped(value: object) -> None:
    document = {
        "stage": "Lease",
        "reason": "Serving",
        "posture": {"seccomp": value, "made-up": True, "root": False},
    }
    told = parse_report(json.dumps(document).encode())
    assert told is not None
    assert told.posture == ((Posture.ROOT, False),)

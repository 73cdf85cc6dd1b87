"""What is measured of a process and its node, and what may be demanded of it."""

import json
import subprocess
import sys
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


HEAD = "Filename\tType\tSize\tUsed\tPriority\n"
SWAPS = f"{HEAD}/dev/sda2 partition 9 0 -2\n"
INIT_MAP = "         0          0 4294967295\n"
FACTS = [
    pytest.param("proc/swaps", HEAD, Posture.SWAP, False, id="no swap"),
    pytest.param("proc/swaps", SWAPS, Posture.SWAP, True, id="swap"),
    pytest.param("proc/sys/kernel/core_pattern", "core", Posture.CORE_PIPED, False, id="a file"),
    pytest.param("proc/sys/kernel/core_pattern", "|/bin/a %p", Posture.CORE_PIPED, True, id="pipe"),
    pytest.param("proc/sys/kernel/yama/ptrace_scope", "2\n", Posture.PTRACE_SCOPE, 2, id="yama"),
    pytest.param("proc/sys/kernel/none", "", Posture.CORE_PIPED, None, id="no pattern"),
    pytest.param("proc/sys/kernel/none", "", Posture.PTRACE_SCOPE, None, id="no yama"),
    pytest.param("proc/self/status", "Seccomp:\t2\n", Posture.SECCOMP, "filter", id="filter"),
    pytest.param("proc/self/status", "Seccomp:\t0\n", Posture.SECCOMP, "off", id="unconfined"),
    pytest.param("proc/self/status", "Name:\tx\n", Posture.SECCOMP, None, id="no seccomp"),
    pytest.param(
        "proc/self/status", "NoNewPrivs:\t1\n", Posture.NO_NEW_PRIVILEGES, True, id="no new"
    ),
    pytest.param(
        "proc/self/status", "NoNewPrivs:\t0\n", Posture.NO_NEW_PRIVILEGES, False, id="new ones"
    ),
    pytest.param("proc/self/uid_map", INIT_MAP, Posture.USER_NAMESPACE, False, id="the host's"),
    pytest.param(
        "proc/self/uid_map", "0 100000 65536\n", Posture.USER_NAMESPACE, True, id="its own"
    ),
    pytest.param("proc/self/none", "", Posture.USER_NAMESPACE, None, id="no map"),
]


@pytest.mark.parametrize(("file", "text", "name", "found"), FACTS)
def test_each_fact_is_read_where_the_kernel_tells_it(
    tmp_path: Path, file: str, text: str, name: Posture, found: Value
) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert posture(tmp_path)[name] == found


def test_swap_that_the_cgroup_forbids_is_no_swap(tmp_path: Path) -> None:
    group = tmp_path / "sys/fs/cgroup/pod"
    group.mkdir(parents=True)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/swaps").write_text(SWAPS)
    (tmp_path / "proc/self/cgroup").write_text("0::/pod\n")
    for limit, active in (("0\n", False), ("max\n", True)):
        (group / "memory.swap.max").write_text(limit)
        assert posture(tmp_path)[Posture.SWAP] is active


def test_a_process_of_ours_can_neither_be_dumped_nor_write_a_core() -> None:
    program = "from modelseal.hardening import harden, posture; harden(allow_swap=True); "
    program += "print(*(posture()[name] for name in ('dumpable', 'coreLimit')))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "1"]


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

"""The parts of `modelseal leakcheck --cluster` that run on nodes, and its way to the cluster."""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelseal.cli.kubectl import Kubectl
from modelseal.cli.leaks import cluster, etcd, filesystems, hunters, needles, processes, swap
from modelseal.cli.leaks.filesystems import Mount
from modelseal.cli.leaks.needles import Needle
from modelseal.errors import ServingError, SettingsError
from support.cli import run

WORD = b"a canary of some length"
NEEDLE = Needle.of("canary", WORD)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root looks into other processes")


def test_a_masked_needle_is_the_same_needle_and_is_found_by_no_search() -> None:
    """It goes through the API server and the kubelet, whose memory is searched."""
    masked = NEEDLE.masked
    assert Needle.unmasked("canary", masked) == NEEDLE
    assert needles.found_in(json.dumps({"plain": masked}).encode(), [NEEDLE]) == set()


def test_the_nodes_program_needs_nothing_but_python(tmp_path: Path) -> None:
    archive = tmp_path / "leaks.zip"
    archive.write_bytes(hunters.program())
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(archive)],
        input=b'{"verb": "begin"}',
        capture_output=True,
        check=True,
    )
    assert set(json.loads(done.stdout)) == {"time", "remote", "cores", "swap"}


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """Run a process that waits in a system call and would handle no signal."""
    command = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


@as_root
def test_a_program_crashes_by_a_fault_of_its_own(
    child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first process of a container is deaf to a signal that is only sent to it."""
    roles = {child.pid: processes.RUNTIME}
    monkeypatch.setattr(processes, "role", lambda pid, _: roles.get(pid, processes.OTHER))
    monkeypatch.setattr(processes, "_gone", lambda _: child.poll() is not None)
    assert processes.crash(processes.RUNTIME, []) == 1
    assert child.returncode == -signal.SIGILL


def test_nothing_crashes_where_the_program_does_not_run() -> None:
    assert processes.crash(processes.AGENT, ["no-such-pod"]) == 0


def test_a_process_is_what_its_command_line_says_only_in_a_pod_of_the_model() -> None:
    assert processes.role(os.getpid(), []) == processes.OTHER
    assert processes.role(1 << 30, ["uid"]) == processes.OTHER


@pytest.mark.parametrize(
    ("kind", "path", "place"),
    [
        ("ext4", "/var/lib/kubelet/pods/x", "kubelet's files"),
        ("ext4", "/var/lib/containerd/io", "container images and layers"),
        ("overlay", "/run/containerd/x/rootfs/etc/a", "container images and layers"),
        ("ext4", "/var/log/pods/a", "logs on the node"),
        ("ext4", "/srv/a", "other files on disks"),
        ("tmpfs", "/var/log/a", "file systems in memory"),
    ],
)
def test_a_file_belongs_to_one_line_of_the_report(kind: str, path: str, place: str) -> None:
    mount = Mount(point="/somewhere", kind=kind)
    assert filesystems._place(mount, Path(f"/proc/1/root{path}")) == place


def test_a_core_file_is_known_by_its_head_wherever_it_lies(tmp_path: Path) -> None:
    core = tmp_path / "whatever"
    core.write_bytes(b"\x7fELF" + bytes(12) + b"\4\0" + WORD)
    assert filesystems._place(Mount(point="/", kind="ext4"), core) == filesystems.CORES
    core.write_bytes(b"\x7fELF" + bytes(12) + b"\3\0" + WORD)
    assert filesystems._place(Mount(point="/", kind="ext4"), core) == filesystems.ELSEWHERE


def test_a_remote_file_system_is_not_walked_through_and_is_named() -> None:
    assert filesystems.is_remote("nfs4")
    assert filesystems.is_remote("fuse.s3fs")
    assert not filesystems.is_remote("fusectl")
    assert not filesystems.is_remote("ext4")


@pytest.mark.parametrize(
    ("words", "folder"),
    [
        ([b"etcd", b"--data-dir=/var/lib/etcd", b""], "/var/lib/etcd"),
        ([b"etcd", b"--data-dir", b"/srv/etcd", b""], "/srv/etcd"),
        ([b"etcd", b"--name", b"a", b""], ""),
    ],
)
def test_etcds_folder_is_read_off_its_command_line(words: list[bytes], folder: str) -> None:
    assert etcd._value(words) == folder


def test_swap_is_looked_for_on_its_devices_and_a_machine_without_any_has_been_looked_at() -> None:
    search = swap.search_swap([NEEDLE])
    assert search.read == 1 + len(swap.devices())
    assert search.found == []


def test_a_missing_kubectl_and_one_that_fails_are_said_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no kubectl") as missing:
        Kubectl(program=str(tmp_path / "none"), namespace="a").run("get", "pods")
    assert "--kubectl" in missing.value.hint
    with pytest.raises(ServingError, match="kubectl get ended with 1"):
        Kubectl(program="/bin/false", namespace="a").run("get", "pods")


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("/nowhere/helm uninstall", "cannot be run"),
        ("sh -c 'echo no release >&2; exit 3'", "ended with 3: no release"),
    ],
)
def test_an_uninstall_that_fails_is_said_in_a_line(command: str, why: str) -> None:
    with pytest.raises(ServingError, match=why):
        cluster._run(shlex.split(command))


def test_an_uninstall_that_makes_no_sense_is_refused_before_anything_is_begun() -> None:
    words = ("--uninstall", "helm 'uninstall", "--kubectl", "/nowhere/kubectl")
    result = run("leakcheck", "--cluster", "--key", "vault:transit/canary", *words)
    assert result.code == SettingsError.exit_code
    assert "--uninstall" in result.error


def test_a_cluster_is_not_checked_without_the_key_that_its_provider_uses() -> None:
    result = run("leakcheck", "--cluster")
    assert result.code == SettingsError.exit_code
    assert "--key" in result.hint

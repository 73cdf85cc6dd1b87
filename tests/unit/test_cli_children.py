"""`serve`'s two programs get their secrets by inheritance, and never outlive their parent."""

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelseal import errors
from modelseal.cli import reports
from modelseal.cli.children import base_environment
from modelseal.cli.inherited import Inherited, path_of
from modelseal.cli.serving import require_free
from modelseal.errors import ModelsealError, PortInUse, SettingsError
from modelseal.secret import Secret

TESTS = Path(__file__).resolve().parents[1]
CANARY = b"canary-7f3a91"
CHILD = [sys.executable, "-m", "modelseal.cli.child", "support.cli_waiting"]


def start(parent: int, descriptors: tuple[int, ...] = (), **env: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*CHILD, str(parent)],
        env={"PATH": os.defpath, "PYTHONPATH": str(TESTS), **env},
        pass_fds=descriptors,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def child() -> Iterator["tuple[subprocess.Popen[str], Secret]"]:
    """Start a program that inherits a secret."""
    secret = Secret(CANARY)
    with Inherited() as inherited:
        path = inherited.secret("token", secret)
        process = start(os.getpid(), tuple(inherited.descriptors), SECRET_PATH=path)
    yield process, secret
    process.terminate()
    process.communicate(timeout=20)


def line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_program_reads_the_secret_that_it_inherited(
    child: "tuple[subprocess.Popen[str], Secret]",
) -> None:
    process, _ = child
    line(process)
    assert line(process) == f"{len(CANARY)} bytes"


def test_neither_its_environment_nor_its_command_line_holds_the_secret(
    child: "tuple[subprocess.Popen[str], Secret]",
) -> None:
    process, _ = child
    line(process)
    for name in ("environ", "cmdline"):
        content = Path(f"/proc/{process.pid}/{name}").read_bytes()
        assert content
        assert CANARY not in content


def test_the_secret_is_wiped_here_once_it_was_handed_over(
    child: "tuple[subprocess.Popen[str], Secret]",
) -> None:
    _, secret = child
    with pytest.raises(ValueError, match="wiped"):
        _ = secret.buffer


def test_nobody_can_change_the_inherited_secret() -> None:
    with Inherited() as inherited:
        path = inherited.secret("token", Secret(CANARY))
        with open(path, "r+b", buffering=0) as file, pytest.raises(PermissionError):
            file.write(b"x")


def test_descriptors_are_closed_at_the_end() -> None:
    with Inherited() as inherited:
        descriptor = inherited.file("termination")
        assert os.path.exists(path_of(descriptor))
    assert not os.path.exists(path_of(descriptor))


def test_a_program_ends_when_its_parent_is_killed() -> None:
    code = (
        "import os, subprocess, sys\n"
        f"child = subprocess.Popen([*{CHILD!r}, str(os.getpid())])\n"
        "child.wait()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        env={"PATH": os.defpath, "PYTHONPATH": str(TESTS)},
        stdout=subprocess.PIPE,
        text=True,
    )
    number = int(line(parent))
    watched = os.pidfd_open(number)
    try:
        parent.kill()
        parent.communicate(timeout=20)
        assert ended(watched)
    finally:
        os.close(watched)


def ended(watched: int) -> bool:
    """Wait until the process of a pid descriptor has ended."""
    return bool(select.select([watched], [], [], 20)[0])


def test_a_program_whose_parent_is_gone_already_does_not_start() -> None:
    process = start(1)
    out, _ = process.communicate(timeout=20)
    assert (process.returncode, out) == (1, "")


def test_programs_see_nothing_of_the_users_environment() -> None:
    found = base_environment({"PATH": "/bin", "VAULT_TOKEN": "s.x", "HOME": "/root", "LANG": "C"})
    assert found == {"PATH": "/bin", "LANG": "C"}


def test_a_port_that_is_taken_is_said_before_anything_starts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse, match=f"failed to listen on '127.0.0.1':{port}"):
            require_free("127.0.0.1", port)


def test_an_address_that_is_not_ours_is_a_wrong_setting() -> None:
    with pytest.raises(SettingsError, match=r"192\.0\.2\.1"):
        require_free("192.0.2.1", 0)


def every_kind() -> list[type[ModelsealError]]:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    return [kind for kind in kinds if issubclass(kind, ModelsealError) and kind.exit_code > 1]


@pytest.mark.parametrize("kind", every_kind(), ids=lambda kind: kind.__name__)
def test_a_reported_reason_is_an_error_of_our_own_tree_again(kind: type[ModelsealError]) -> None:
    error = reports.error_for(kind.reason, "failed to serve")
    assert error.reason is kind.reason
    assert error.message == f"failed to serve: {kind.reason}"
    assert reports.error_with_code(kind.exit_code, "failed to serve").exit_code == kind.exit_code


@pytest.mark.parametrize("code", [-signal.SIGKILL, 1], ids=["killed", "broken"])
def test_a_strange_exit_code_is_said_as_it_is_with_where_to_look(code: int) -> None:
    error = reports.error_with_code(code, "the runtime ended")
    assert (error.exit_code, error.message) == (1, f"the runtime ended: exit code {code}")
    assert error.hint == "see --log-level info"


@pytest.mark.parametrize("document", [{}, {"reason": 7}, {"reason": "X"}, {"reason": ""}])
def test_a_report_that_makes_no_sense_has_no_reason(document: dict[str, object]) -> None:
    assert reports.reason_of(document) is None


def test_an_agent_that_does_not_answer_has_no_report() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert reports.read_report(port) == {}

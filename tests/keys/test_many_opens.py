"""A thousand opens of a model, each with a question to a key service that keeps stumbling."""

import collections
import json
import random
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Final

import pytest

from modelseal.cli.leaks import places
from modelseal.cli.leaks.canary import Canary, hatch
from support import fault_proxy as faults
from support.cli import environment, run
from support.fault_proxy import FaultProxy, Handler
from support.small_volume import for_root, small_volume

pytestmark = [pytest.mark.keys, pytest.mark.e2e]
MODEL: Final = "team/canary"
OPENS: Final = 1000
SUPPORT: Final = Path(__file__).resolve().parents[1]
BAD_READS: Final = {"SourceUnavailable", "SourceChanged", "SegmentInvalid", "KeyCommitmentMismatch"}
BAD_ANSWERS: Final = {
    "KeyServiceUnavailable",
    "KeyServiceBusy",
    "KeyServiceProtocolError",
    "KeyAccessDenied",
    "ManifestMacMismatch",
}


@pytest.fixture(scope="module")
def canary(tmp_path_factory: pytest.TempPathFactory) -> Canary:
    return hatch(tmp_path_factory.mktemp("canary"))


class Stumbling:
    """A key service that answers well, late, with another key, or in one of many wrong ways."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)  # noqa: S311 - a plan, no secret
        self._guard = threading.Lock()
        self.used: collections.Counter[str] = collections.Counter()

    def __call__(self, handler: Handler) -> None:
        with self._guard:
            name = self._chance.choice(["good", "good", "good", *_FAULTS])
            self.used[name] += 1
        _FAULTS.get(name, through)(handler)


def through(handler: Handler) -> None:
    handler.answer(*handler.forwarded())


def late(handler: Handler) -> None:
    answer = handler.forwarded()
    handler.proxy.hung.wait(0.03)
    handler.answer(*answer)


def another_key(answer: dict[str, Any]) -> None:
    answer["data"]["plaintext"] = "A" * 43 + "="


_FAULTS: Final[dict[str, faults.Fault]] = {
    "late": late,
    "503": faults.status(503),
    "429": faults.status(429),
    "403": faults.status(403, b'{"errors":["permission denied"]}'),
    "HTML": faults.status(200, b"<html>hello</html>"),
    "reset": faults.reset_in_body,
    "cut": faults.cut_in_body,
    "another key": faults.altered(another_key),
}


@for_root
def test_a_thousand_opens_against_a_stumbling_key_service_leave_nothing_behind(
    proxy: FaultProxy, canary: Canary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount = proxy.service.transit()
    key, sealed = f"vault:{mount}/models", tmp_path / "sealed"
    variables = {
        "VAULT_ADDR": proxy.address,
        "VAULT_CACERT": str(proxy.service.ca_file),
        "VAULT_TOKEN": proxy.service.server.root_token,
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    words = ("--model", MODEL, "--version", "1", "--key", key)
    assert run("seal", canary.xml, "-o", sealed, *words).code == 0
    proxy.always = stumbling = Stumbling(seed=11)
    program = [sys.executable, "-m", "support.many_opens"]
    with (
        small_volume(tmp_path, "64k") as small,
        subprocess.Popen(
            [*program, str(sealed), key, MODEL, str(OPENS), "3", str(small)],
            env=environment(tmp_path, PYTHONPATH=str(SUPPORT), TMPDIR=str(tmp_path), **variables),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        told: dict[str, Any] = json.loads(process.stdout.readline())
        content = [each for each in canary.needles if each.name != "file name"]
        search = places.search_memory(process.pid, content)
        files = places.search_open_files(process.pid, canary.needles)
    assert told["after"] == told["before"]
    assert (search.found, files.found, search.unreadable) == ([], [], 0)
    outcomes = told["outcomes"]
    assert sum(collections.Counter(outcomes[fault]).total() for fault in outcomes) == OPENS
    everything = {name for results in outcomes.values() for name in results}
    assert everything <= {"opened", "OutOfMemory", *BAD_READS, *BAD_ANSWERS}
    assert everything >= {"opened", "OutOfMemory", "ManifestMacMismatch", "KeyServiceProtocolError"}
    assert outcomes["none"].keys() <= {"opened", *BAD_ANSWERS}
    assert set(stumbling.used) == {"good", *_FAULTS}

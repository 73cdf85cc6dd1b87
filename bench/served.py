"""The product itself under measurement: sealed, opened by the agent, served by the runtime."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

MODELSEAL = Path(sys.executable).with_name("modelseal")
NAME = "model"


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where the runtime listens, its process, and the hint that it chose."""

    port: int
    grpc_port: int
    pid: int
    hint: str


@contextlib.contextmanager
def served(
    model: Path,
    folder: Path,
    *,
    key: str = "",
    more: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    log: Path = Path(os.devnull),
) -> Iterator[Endpoint]:
    """Seal a model and serve it as a user on a laptop does, with a key file if no key is named.

    `more` are further options of `serve`, `environ` is what the command line finds beside the
    usual, and `log` is where both programs write what they log.
    """
    variables = {**os.environ, **(environ or {})}
    sealed, named = folder / f"{model.stem}.sealed", f"bench/{NAME}"
    which = ["--model", named, "--key", key or f"file:{_key_file(folder)}"]
    subprocess.run(
        [MODELSEAL, "seal", model, "-o", sealed, "--version", "1", *which],
        check=True, capture_output=True, env=variables,
    )  # fmt: skip
    ports = ["--http-port", "0", "--grpc-port", "0", "--health-port", "0"]
    with log.open("wb") as logged:
        process = subprocess.Popen(
            [MODELSEAL, "serve", sealed, *which, *ports, "--allow-swap", "--json", *more],
            stdout=subprocess.PIPE, stderr=logged, text=True, env=variables,
        )  # fmt: skip
    try:
        port, grpc_port = _ports(process)
        with urlopen(f"http://127.0.0.1:{port}/v2/models/{NAME}") as answer:
            parameters: dict[str, Any] = json.load(answer)["parameters"]
        yield Endpoint(
            port=port,
            grpc_port=grpc_port,
            pid=_runtime(process.pid),
            hint=parameters["performance_hint"],
        )
    finally:
        process.terminate()
        process.wait(30)


def _key_file(folder: Path) -> Path:
    key = folder / "owner.key"
    if not key.exists():
        subprocess.run([MODELSEAL, "keygen", "-o", key], check=True, capture_output=True)
    return key


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and those that it started."""
    total = 0.0
    for stat in _family(pid):
        fields = stat.rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def _family(pid: int) -> Iterator[str]:
    known = {pid}
    stats = sorted(_stats(), key=lambda one: one[0])
    for number, parent, text in stats:
        if number == pid or parent in known:
            known.add(number)
            yield text


def _stats() -> Iterator[tuple[int, int, str]]:
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            text = path.read_text()
            yield int(path.parent.name), int(text.rpartition(")")[2].split()[1]), text


def _ports(process: "subprocess.Popen[str]") -> tuple[int, int]:
    assert process.stdout is not None
    text = ""
    for line in process.stdout:
        text += line
        if line == "}\n":
            told = json.loads(text)
            rest, grpc = (int(told[name].rpartition(":")[2]) for name in ("rest", "grpc"))
            return rest, grpc
    raise RuntimeError("modelseal serve ended before it served")


def _runtime(parent: int) -> int:
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            owner = int(path.read_text().rpartition(")")[2].split()[1])
            words = (path.parent / "cmdline").read_bytes()
            if owner == parent and b"modelseal_runtime" in words:
                return int(path.parent.name)
    raise RuntimeError("the runtime's process is not there")

"""The life of a canary model: sealed, refused, served, asked, served anew, crashed, ended."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from modelseal import opening
from modelseal.cli.children import AGENT, RUNTIME
from modelseal.cli.leaks.canary import Canary, hatch
from modelseal.cli.leaks.needles import Needle
from modelseal.envelope import Policy, kek_context
from modelseal.errors import ServingError
from modelseal.keys import open_provider
from modelseal.keys.local import generate_key_file, read_key_file
from modelseal.sources import open_source

MODEL: Final = "leakcheck/canary"
SECONDS: Final = 120.0
_PROGRAM: Final = (sys.executable, "-P", "-m", "modelseal.cli.main")
_KEPT: Final = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH")


@dataclass(kw_only=True)
class Life:
    """One canary model in a folder; `texts` collects everything that any program said."""

    folder: Path
    canary: Canary
    texts: list[tuple[str, bytes]] = field(default_factory=list)

    @classmethod
    def begin(cls, folder: Path) -> "Life":
        """Make the model, its key, and a home for the programs."""
        for name in ("inputs", "home", "work", "tmp"):
            (folder / name).mkdir()
        generate_key_file(folder / "inputs/owner.key")
        return cls(folder=folder, canary=hatch(folder / "inputs"))

    @property
    def inputs(self) -> Path:
        """What the owner has: plaintext and key, which no search looks at."""
        return self.folder / "inputs"

    @property
    def key(self) -> str:
        """The key's URI."""
        return f"file:{self.inputs / 'owner.key'}"

    def seal(self, name: str) -> Path:
        """Seal the model as a folder of this name."""
        output = self.folder / name
        words = ("--model", MODEL, "--version", "1", "--key", self.key)
        self._run(0, "seal", str(self.canary.xml), "-o", str(output), *words)
        return output

    def be_refused(self, sealed: Path) -> None:
        """Let the command line refuse a damaged copy and a wrong name, with all that it says."""
        self._run(40, "verify", str(sealed), "--model", "leakcheck/other", "--key", self.key)
        payload = max((sealed / "p").iterdir(), key=lambda path: path.stat().st_size)
        content = payload.read_bytes()
        payload.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        self._run(82, "verify", str(sealed), "--model", MODEL, "--key", self.key)
        payload.write_bytes(content)

    def secrets(self, sealed: Path) -> tuple[Needle, ...]:
        """Return the key-encryption key and this seal's data key."""
        trust = opening.Trust(signers=(), allow_unsigned=True, policy=Policy(model=MODEL))
        seal = opening.read_manifest(open_source(str(sealed)), trust, datetime.now(UTC))
        provider = open_provider(self.key)
        recipient = opening.choose_recipient(seal, provider)
        context = kek_context(MODEL, seal.manifest.seal_id)
        with (
            read_key_file(self.inputs / "owner.key") as kek,
            provider.unwrap(recipient, context) as dek,
        ):
            return (
                Needle.of("key", bytes(kek.buffer)),
                Needle.of("data key", bytes(dek.buffer)),
            )

    @contextlib.contextmanager
    def served(self, sealed: Path) -> Iterator["Serving"]:
        """Serve the model with everything logged, as long as the block."""
        log = self.folder / f"{sealed.name}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(  # noqa: S603 - our own program
                [
                    *(*_PROGRAM, "serve", str(sealed), "--model", MODEL, "--key", self.key),
                    *("--http-port", "0", "--grpc-port", "0", "--log-level", "debug"),
                    *("--allow-swap", "--json"),
                ],
                **self._surroundings,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=file,
            )
        try:
            yield Serving.started(process)
        finally:
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=SECONDS)
            self.texts += [(f"log of {sealed.name}", log.read_bytes()), ("output", out)]

    def ask(self, serving: "Serving") -> None:
        """Infer, ask everything that can be asked, and ask wrongly; keep what is answered.

        Raises:
            ServingError: the model does not answer as it should.

        """
        data = [1.0] * self.canary.width
        tensor = {"name": "x", "datatype": "FP32", "shape": [1, self.canary.width], "data": data}
        base = f"/v2/models/{serving.endpoints['model']}"
        status, answer = serving.ask(f"{base}/infer", {"inputs": [tensor]})
        if status != 200 or len(json.loads(answer)["outputs"][0]["data"]) != self.canary.width:
            raise ServingError("failed to check for leaks: the canary model does not answer")
        wrong = tensor | {"shape": [1, 2], "data": [1.0, 2.0]}
        for body in ({"inputs": [wrong]}, {"inputs": [tensor | {"name": "z"}]}, {"inputs": 1}):
            self._keep(serving, f"{base}/infer", body)
        for path in (base, "/v2", "/v2/health/ready", f"{base}/versions/9", "/nowhere"):
            self._keep(serving, path)
        self._keep(serving, "/v2/repository/index", {})

    def _keep(self, serving: "Serving", path: str, body: object = None) -> None:
        self.texts.append((f"answer of {path}", serving.ask(path, body)[1]))

    @property
    def _surroundings(self) -> dict[str, Any]:
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        own = {
            "HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder / "tmp"),
            "MODELSEAL_DEBUG": "1",
        }
        return {"cwd": self.folder / "work", "env": kept | own}

    def _run(self, code: int, *words: str) -> None:
        done = subprocess.run(  # noqa: S603 - our own program
            [*_PROGRAM, *words],
            **self._surroundings,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
        self.texts += [
            (f"output of {words[0]}", done.stdout),
            (f"words of {words[0]}", done.stderr),
        ]
        if done.returncode != code:
            raise ServingError(
                f"failed to check for leaks: {words[0]} ended with {done.returncode}, not {code}"
            )


@dataclass(frozen=True, kw_only=True)
class Serving:
    """A running `modelseal serve` and its two programs."""

    process: "subprocess.Popen[bytes]"
    endpoints: dict[str, Any]
    programs: dict[str, int]
    """Process ids of `agent` and `runtime`, and of the `command` itself."""

    @classmethod
    def started(cls, process: "subprocess.Popen[bytes]") -> "Serving":
        """Wait until the model is served.

        Raises:
            ServingError: it ended instead.

        """
        assert process.stdout is not None  # noqa: S101 - made with a pipe above
        text = b""
        for line in process.stdout:
            text += line
            if line.rstrip() == b"}":
                programs = {"command": process.pid, **_children(process.pid)}
                return cls(process=process, endpoints=json.loads(text), programs=programs)
        raise ServingError("failed to check for leaks: the canary model is not served")

    def ask(self, path: str, body: object = None) -> tuple[int, bytes]:
        """Make one request."""
        address = self.endpoints["rest"].removeprefix("http://")
        connection = http.client.HTTPConnection(address, timeout=SECONDS)
        with contextlib.closing(connection):
            content = None if body is None else json.dumps(body)
            connection.request("GET" if body is None else "POST", path, content)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def crash(self, program: str) -> None:
        """Let one program die of a segmentation fault, and wait for the end of all."""
        os.kill(self.programs[program], signal.SIGSEGV)
        self.process.wait(SECONDS)


def _children(parent: int) -> dict[str, int]:
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            words = (path.parent / "cmdline").read_bytes().split(b"\0")
            if int(path.read_text().rpartition(")")[2].split()[1]) == parent:
                for name, module in (("agent", AGENT), ("runtime", RUNTIME)):
                    if module.encode() in words:
                        found[name] = int(path.parent.name)
    return found

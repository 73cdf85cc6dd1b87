"""The second half of the demo: a key service, two processes, two protocols, and a withdrawal."""

import socket
import time
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modelseal.cli.story import asking, openbao, plain, vault
from modelseal.cli.story.samples import samples
from modelseal.cli.story.stage import KEY, MODEL, SERVED, SIGNER, Stage, seconds_since
from modelseal.contract import MIN_LEASE_INTERVAL, RUNTIME_EXIT_BOUND
from modelseal.errors import KeyRevoked

SEALED: Final = "filetype-vault.sealed"
INTERVAL: Final = MIN_LEASE_INTERVAL
BOUND: Final = INTERVAL * 1.2 + RUNTIME_EXIT_BOUND
TOLERANCE: Final = 1e-4
GRACE: Final = 30.0
_POLL: Final = 0.02


def start_a_key_service(stage: Stage) -> None:
    """Start OpenBao, and set it up with what `modelseal policy` prints."""
    stage.teller.chapter("A key service")
    folder = stage.folder / "openbao"
    folder.mkdir()
    started = time.monotonic()
    stage.server = stage.stack.enter_context(openbao.running(folder))
    stage.teller.say(
        f"OpenBao runs with TLS at {stage.server.address}, {seconds_since(started)} s after its "
        "start. Its administrator pastes what `modelseal policy` prints."
    )
    stage.tokens = vault.set_up(stage)


def seal_for_the_key_service(stage: Stage) -> None:
    """Seal with a token that may wrap and not unwrap."""
    stage.teller.chapter("Sealed for the key service")
    answer = stage.as_role("sealer").run(
        *("seal", "filetype.onnx", "-o", SEALED, "--model", MODEL, "--version", "1"),
        *("--key", f"vault:{KEY}", "--sign", "release"),
    )
    stage.teller.answered(answer)
    stage.teller.answered(stage.as_role("sealer").run("inspect", SEALED))
    said = stage.as_role("sealer").refused(
        *("verify", SEALED, "--signer", SIGNER, "--model", MODEL, "--key", f"vault:{KEY}")
    )
    stage.prove("failed to" in said, "whoever may seal may not open: the policies keep them apart")


def serve(stage: Stage) -> None:
    """Serve it with the same two programs that a cluster runs."""
    stage.teller.chapter("Served from memory")
    stage.teller.say(
        "Two programs start: an agent, which gets the token and decrypts into memory, and a "
        "runtime, which gets that memory and nothing else."
    )
    started = time.monotonic()
    stage.service = stage.stack.enter_context(
        stage.as_role("agent").served(
            *("serve", SEALED, "--model", MODEL, "--key", f"vault:{KEY}", "--signer", SIGNER),
            *("--http-port", "0", "--grpc-port", "0", "--lease-interval", f"{INTERVAL:g}"),
        )
    )
    stage.endpoints = stage.service.endpoints()
    stage.figures["serveSeconds"] = seconds_since(started)
    stage.teller.answered("\n".join(f"{name}: {value}" for name, value in stage.endpoints.items()))
    stage.prove(
        stage.endpoints["model"] == SERVED,
        f"served {stage.figures['serveSeconds']} s after the command; no plaintext touched a disk",
    )


def ask(stage: Stage) -> None:
    """Ask over both protocols, and compare with the plain model in this process."""
    stage.teller.chapter("What kind of file is this?")
    contents = samples()
    tokens = stage.kind.batch(list(contents.values()))
    rest = int(stage.endpoints["rest"].rpartition(":")[2])
    grpc = int(stage.endpoints["grpc"].rpartition(":")[2])
    by_rest = asking.over_http(rest, SERVED, tokens)
    by_grpc = asking.over_grpc(grpc, SERVED, tokens)
    stage.teller.table(
        ["sample", "over HTTP", "score", "over gRPC", "score"],
        [
            [name, *_answer(stage, http_row), *_answer(stage, grpc_row)]
            for name, http_row, grpc_row in zip(contents, by_rest, by_grpc, strict=True)
        ],
    )
    labels = [stage.kind.name(row)[0] for row in by_rest]
    wanted = [name.partition(".")[0] for name in contents]
    stage.prove(labels == wanted, f"all {len(wanted)} answers are right")
    expected = plain.answers(stage.kind, tokens)
    off = float(max(np.abs(by_rest - expected).max(), np.abs(by_grpc - expected).max()))
    stage.figures |= {"answers": dict(zip(contents, labels, strict=True)), "difference": off}
    stage.prove(
        off <= TOLERANCE,
        f"the plain model in this process answers the same: the largest difference is {off:.1e}",
    )


def take_the_key_away(stage: Stage) -> None:
    """Forbid the key's version, and wait until the model is gone."""
    stage.teller.chapter("The key is taken away")
    vault.revoke(stage)
    started = time.monotonic()
    _until_closed(int(stage.endpoints["rest"].rpartition(":")[2]))
    seconds = seconds_since(started)
    code, said = stage.running.ended(GRACE)
    stage.figures |= {"revokedSeconds": seconds, "exitCode": code}
    stage.teller.answered(f"{said.rstrip()}\n(exit code {code})")
    stage.prove(
        code == KeyRevoked.exit_code and seconds <= BOUND,
        f"unloaded {seconds} s later; the bound is {BOUND:g} s with checks every {INTERVAL:g} s",
    )
    refused = stage.as_role("agent").refused(
        *("verify", SEALED, "--signer", SIGNER, "--model", MODEL, "--key", f"vault:{KEY}")
    )
    stage.prove("failed to" in refused, "and it does not open again")


def _until_closed(port: int) -> None:
    """Wait until nobody listens there, which is when the runtime and its model are gone."""
    deadline = time.monotonic() + BOUND + GRACE
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
        except OSError:
            return
        time.sleep(_POLL)


def _answer(stage: Stage, scores: NDArray[np.float32]) -> tuple[str, str]:
    label, score = stage.kind.name(scores)
    return label, f"{score:.4f}"

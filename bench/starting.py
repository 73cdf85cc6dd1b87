"""The time until the first answer, sealed against plain."""

from collections.abc import Callable

from bench.child import drop_caches, load
from bench.findings import Effort, Findings, Row, interleaved
from bench.room import MODEL, Room, room

TITLE = "Cold start"
_SMALL = 64


def measure(effort: Effort) -> Findings:
    """Compare `modelseal.open` with `read_model` and `compile_model`, each in a new process."""
    rows = []
    for megabytes in effort.sizes:
        with room(megabytes) as made:
            rounds = effort.rounds_of(megabytes)
            rows += [_row(made, rounds, "seconds", cold=cold) for cold in (True, False)]
    with room(_SMALL) as made:
        rows.append(_row(made, effort.rounds, "process", cold=True))
    return Findings(
        rows=rows,
        notes=[
            "*Loading* is from the call to the first answer. *Process* is from the start of the "
            "program to its end, Python and every import included. The plain side maps its file: "
            "with a warm page cache it reads nothing at all, and pays with plaintext on a disk. "
            "The cold rows drop both models from the page cache before each round.",
            "The target is missed: a model that is authenticated before it is used cannot be "
            "loaded faster than it can be hashed and decrypted, and here that is slower than the "
            "disk. In a pod this is part of the start, beside pulling the image and the login.",
        ],
    )


def _row(made: Room, rounds: int, what: str, *, cold: bool) -> Row:
    files = [made.plain, made.weights, *(made.sealed / "p").iterdir()]
    totals = set()

    def side(*arguments: object) -> Callable[[], float]:
        def run() -> float:
            if cold:
                drop_caches(*files)
            result = load(*map(str, arguments))
            totals.add(result["total"])
            return result[what]

        return run

    values = interleaved(
        {
            "sealed": side("sealed", made.sealed, f"file:{made.key}", MODEL),
            "plain": side("plain", made.plain),
        },
        rounds=rounds,
    )
    assert len(totals) == 1, "both sides must compute the same"
    cache = "cold" if cold else "warm"
    name = "loading" if what == "seconds" else what
    return Row(
        question=f"{name}, {made.megabytes:,} MiB, {cache} cache",
        unit="s",
        values=values,
        ours="sealed",
        baseline="plain",
        target="≤ 1.02",
        limit=_limit(what, cold=cold),
    )


def _limit(what: str, *, cold: bool) -> str:
    if what == "process":
        return "starting Python and importing OpenVINO, and `cryptography` on our side"
    if cold:
        return "the disk, then page faults and SHA-256, part of which a mapped file does not need"
    return "decryption into new pages, where the plain side only maps pages that are there"

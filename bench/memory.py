"""Peak memory of a load: sealed against plain."""

from bench.child import load
from bench.findings import Effort, Findings, Row, interleaved
from bench.room import MODEL, Room, room

TITLE = "Peak memory"


def measure(effort: Effort) -> Findings:
    """Compare the peaks of resident memory, each in a process that does nothing else."""
    rows = []
    for megabytes in effort.sizes:
        with room(megabytes) as made:
            rows.append(_row(made, max(3, effort.rounds // 2)))
    return Findings(
        rows=rows,
        notes=[
            "Resident memory of the whole process, from its first byte to the first answer. Both "
            "sides hold the weights once and what OpenVINO makes of them once. The plain side's "
            "weights are file pages that the kernel may drop; ours are not: that is the price of "
            "having no plaintext on a disk."
        ],
    )


def _row(made: Room, rounds: int) -> Row:
    def peak(*arguments: object) -> float:
        return load(*map(str, arguments))["peak"] / (1 << 20)

    return Row(
        question=f"loading {made.megabytes:,} MiB",
        unit="MiB",
        values=interleaved(
            {
                "sealed": lambda: peak("sealed", made.sealed, f"file:{made.key}", MODEL),
                "plain": lambda: peak("plain", made.plain),
            },
            rounds=rounds,
        ),
        ours="sealed",
        baseline="plain",
        target="≤ 1.05",
        limit="fetch buffers of 4 MiB for each thread, and `cryptography` itself",
    )

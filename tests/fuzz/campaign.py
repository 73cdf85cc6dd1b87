"""The recorded campaign: every target with fixed options, counted by the fuzzer itself.

    .venv/bin/pip install atheris
    .venv/bin/python tests/fuzz/campaign.py FOLDER [TARGET...]

Writes `executions.json` from what libFuzzer says at the end of each target, and nothing by hand.
With targets named, those alone are fuzzed and what is recorded of the others stays. A target that
finds something ends the campaign with a crash file in FOLDER. `corpus.py` takes what is new out of
FOLDER/TARGET.
"""

import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Final

HERE: Final = Path(__file__).resolve().parent
RECORD: Final = HERE / "executions.json"
OPTIONS: Final = ("-seed=1", "-max_len=4096", "-timeout=20", "-verbosity=1")
RUNS: Final = {
    "answer": 1_000_000,
    "audit": 500_000,
    "index": 1_500_000,
    "manifest": 750_000,
    "message": 2_000_000,
    "report": 500_000,
    "request": 1_500_000,
    "resource": 2_000_000,
    "seal": 750_000,
    "signer": 2_000_000,
}
_DONE: Final = re.compile(r"^Done (\d+) runs in (\d+) second", re.MULTILINE)


def main() -> None:
    """Fuzz one target after the other, and keep what the fuzzer counted."""
    folder, named = Path(sys.argv[1]).resolve(), sys.argv[2:]
    kept = json.loads(RECORD.read_text())["targets"] if named else {}
    found = {name: _counted(name, RUNS[name], folder) for name in named or RUNS}
    targets = dict(sorted({**kept, **found}.items()))
    record = {
        "tool": f"atheris {version('atheris')}, Python {python_version()}",
        "options": " ".join(OPTIONS),
        "targets": targets,
        "total": sum(each["executions"] for each in targets.values()),
    }
    RECORD.write_text(json.dumps(record, indent=1) + "\n")


def _counted(name: str, runs: int, folder: Path) -> dict[str, int]:
    """Fuzz one target; returns what the fuzzer says of it."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(HERE / "guided.py"), name, str(folder / name), f"-runs={runs}"]
    done = subprocess.run(
        [*command, *OPTIONS], cwd=folder, stderr=subprocess.PIPE, text=True, check=False
    )
    counted = _DONE.search(done.stderr)
    if done.returncode or counted is None:
        sys.exit(f"{name} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    print(name, counted[0], flush=True)  # noqa: T201 - the answer
    return {"executions": int(counted[1]), "seconds": int(counted[2])}


if __name__ == "__main__":
    main()

"""Ask the benchmarks' questions and write what was found."""

import argparse
import importlib
from pathlib import Path

from bench import machine, page
from bench.findings import Effort

QUESTIONS = (
    "opening",
    "starting",
    "memory",
    "sealing",
    "large",
    "serving",
    "serving_peers",
    "soak",
    "operator_convergence",
    "rewrap",
    "lease_traffic",
    "withdrawal",
    "outage",
    "applying",
    "numa",
)
ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Measure what the command line names, by default everything, and write the page."""
    options = _options()
    folder = ROOT / "docs" / "performance"
    effort = Effort(rounds=options.rounds, megabytes=options.megabytes)
    for name in options.questions or _available():
        if name == "page":
            continue
        print(f"measuring: {name}", flush=True)
        module = importlib.import_module(f"bench.{name}")
        page.keep(folder, name, module.TITLE, module.measure(effort), machine.describe())
    page.write(folder, QUESTIONS)
    print(f"written: {folder.with_suffix('.md').relative_to(ROOT)}")


def _options() -> argparse.Namespace:
    known = [*_available(), "page"]
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("questions", nargs="*", metavar="QUESTION", help=f"{', '.join(known)}")
    parser.add_argument("--rounds", type=int, default=7, help="measured rounds of each side")
    parser.add_argument("--megabytes", type=int, default=1024, help="MiB of weights")
    options = parser.parse_args()
    if unknown := set(options.questions) - set(known):
        parser.error(f"there is no question {', '.join(sorted(unknown))}")
    return options


def _available() -> list[str]:
    return [name for name in QUESTIONS if (ROOT / "bench" / f"{name}.py").exists()]


if __name__ == "__main__":
    main()

"""The command: `render` shows what the operator would apply, without a cluster."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import yaml

from modelseal.contract import VERSION
from modelseal.errors import ModelsealError
from modelseal_operator.render import render
from modelseal_operator.settings import PodSettings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except ModelsealError as error:
        print(f"modelseal-operator: error: {error.message}", file=sys.stderr)  # noqa: T201 (the command's output)
        if error.hint:
            print(f"modelseal-operator: hint: {error.hint}", file=sys.stderr)  # noqa: T201
        return error.exit_code


def _run(options: argparse.Namespace) -> int:
    settings = PodSettings(agent_image=options.agent_image, runtime_image=options.runtime_image)
    yaml.safe_dump_all(render(options.file, settings), sys.stdout, sort_keys=False)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="modelseal-operator", description=__doc__)
    parser.add_argument("--version", action="version", version=VERSION)
    commands = parser.add_subparsers(dest="command", required=True)
    show = commands.add_parser("render", help="print the children of an EncryptedModel")
    show.add_argument("-f", "--file", action="append", type=Path, required=True)
    show.add_argument("--agent-image", default=f"modelseal-agent:{VERSION}")
    show.add_argument("--runtime-image", default=f"modelseal-runtime:{VERSION}")
    return parser


def _exit() -> NoReturn:
    raise SystemExit(main())


if __name__ == "__main__":
    _exit()

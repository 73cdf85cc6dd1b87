"""The command: `run` keeps a cluster's models, `render` shows children without a cluster."""

import argparse
import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from modelseal.contract import VERSION
from modelseal.errors import ModelsealError
from modelseal_operator.render import render
from modelseal_operator.settings import PodSettings, settings_from_env


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        return _render(options) if options.command == "render" else _keep(os.environ)
    except ModelsealError as error:
        sys.stderr.write(f"modelseal-operator: error: {error.message}\n")
        if error.hint:
            sys.stderr.write(f"modelseal-operator: hint: {error.hint}\n")
        return error.exit_code


def _render(options: argparse.Namespace) -> int:
    settings = PodSettings(agent_image=options.agent_image, runtime_image=options.runtime_image)
    yaml.safe_dump_all(render(options.file, settings), sys.stdout, sort_keys=False)
    return 0


def _keep(environ: Mapping[str, str]) -> int:
    # imported here: rendering needs neither kopf nor a Kubernetes client, which are slow to import
    from modelseal_operator.app import run  # noqa: PLC0415
    from modelseal_operator.logs import set_up_logging  # noqa: PLC0415

    settings = settings_from_env(environ)
    set_up_logging(as_json=settings.log_json)
    return asyncio.run(run(settings))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="modelseal-operator", description=__doc__)
    parser.add_argument("--version", action="version", version=VERSION)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run", help="keep the cluster's models; settings are in the environment")
    show = commands.add_parser("render", help="print the children of an EncryptedModel")
    show.add_argument("-f", "--file", action="append", type=Path, required=True)
    show.add_argument("--agent-image", default=f"modelseal-agent:{VERSION}")
    show.add_argument("--runtime-image", default=f"modelseal-runtime:{VERSION}")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())

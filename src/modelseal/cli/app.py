"""The verbs and their parser; a verb's module is imported only when the verb is called."""

import importlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from modelseal import contract
from modelseal.cli import console

EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130

VERBS: Final[Mapping[str, str]] = {
    "keygen": "Make a local sealing key, or a signing key pair.",
    "seal": "Encrypt a model and wrap its key.",
    "inspect": "Show what a sealed model says about itself, without a key.",
    "verify": "Check a sealed model without writing anything.",
    "rewrap": "Change who may open sealed models; their content stays as it is.",
    "reseal": "Seal a sealed model anew, with a new data key.",
    "policy": "Print the Vault policies and roles for a model.",
    "audit": "Show who opened which model, and what matches nothing.",
    "serve": "Serve a sealed model on this machine, from memory.",
    "render": "Show what the operator would make of a resource, with no cluster.",
    "doctor": "Show what this machine offers and what it lacks.",
    "leakcheck": "Look for plaintext and keys wherever they must not be.",
    "demo": "See all of it in one go, with a real model.",
}
"""Each verb with the first line of its help; its module in this package has the same name."""

HELP: Final = "Seal models, keep their keys in Vault, and serve them from memory only."
EPILOG: Final = """\b
A first round, with a key file:
  modelseal keygen -o my.key
  modelseal seal model.onnx -o model.sealed --model me/model --version 1 --key file:my.key
  modelseal serve model.sealed --model me/model --key file:my.key

\b
Keys:     file:PATH  passphrase:  vault:MOUNT/KEY  vault-kv:MOUNT/PATH#FIELD
Signers:  ed25519:BASE64  ecdsa-p256:BASE64  file:PATH.pub

\b
Exit codes: 0 done, 1 fault of modelseal, 2 usage, 3 missing package, 4 findings of audit,
  130 interrupted; otherwise the stage:
  10 settings, input, output   20 manifest    30 signature   40 policy    50 key service
  60 key refused or wrong      70 source      80 payload     90 memory   100 lease
  110 serving
"""
SETTINGS: Final[dict[str, Any]] = {
    "help_option_names": ["-h", "--help"],
    "max_content_width": 100,
}


class Verbs(TyperGroup):
    """A group that lists placeholders, and loads a verb's module when the verb is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Replace the placeholder by the verb itself."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, load(name) if name else command, rest


def run(words: Sequence[str]) -> int:
    """Parse and run one command; returns its exit code, raises what the verb raises."""
    if "" in words:  # as a path it would be the current folder
        console.fail("invalid argument: it is empty", "a variable of your shell may be unset")
        return EXIT_USAGE
    try:
        result = typer.main.get_command(application()).main(
            words, prog_name=console.PROGRAM, standalone_mode=False
        )
    except typer.TyperException as error:
        return explain_usage(error)
    except typer.Abort:
        return EXIT_INTERRUPTED
    return result if isinstance(result, int) else 0


def application() -> typer.Typer:
    """Return the whole command line with placeholders for the verbs."""
    app = typer.Typer(
        cls=Verbs,
        help=HELP,
        epilog=EPILOG,
        no_args_is_help=True,
        rich_markup_mode=None,
        context_settings=SETTINGS,
    )
    app.callback()(_options)
    for name, summary in VERBS.items():
        app.command(name, help=summary)(_placeholder)
    return app


def load(verb: str) -> Any:
    """Import the verb's module and return its command."""
    module = importlib.import_module(f"modelseal.cli.{verb}")
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    lines = "".join(f"  {line}\n" for line in module.EXAMPLES.splitlines())
    app.command(
        verb,
        epilog=f"\b\nExamples:\n{lines}",
        context_settings=SETTINGS | getattr(module, "SETTINGS", {}),
    )(module.command)
    return typer.main.get_command(app)


def explain_usage(error: typer.TyperException) -> int:
    """Write one line for a wrong option or argument, and where to read more."""
    text = error.format_message().strip()
    if type(error).__name__ == "NoArgsIsHelpError":
        console.note_plain(text)
    else:
        path = getattr(getattr(error, "ctx", None), "command_path", console.PROGRAM)
        message = text[:1].lower() + text[1:].rstrip(".")
        console.fail(message, f"`{path} --help` shows the options and an example")
    return EXIT_USAGE


def _show_version(wanted: bool) -> None:
    if wanted:
        console.show_text(f"{console.PROGRAM} {contract.VERSION}")
        raise typer.Exit


def _options(
    _: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", is_eager=True, callback=_show_version
        ),
    ] = False,
) -> None:
    """Hold the options that come before a verb."""


def _placeholder() -> None:
    """Stand for a verb in the list of verbs."""

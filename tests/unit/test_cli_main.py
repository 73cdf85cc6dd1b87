"""The command line turns every failure into one message, one hint and one exit code."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from modelseal import errors
from modelseal.cli import app, console
from modelseal.errors import ModelsealError, WrongKey
from support.cli import program, run

HEAVY = ("cryptography", "hvac", "openvino", "numpy", "grpc", "rich", "requests", "urllib3")


def every_error() -> list[type[ModelsealError]]:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    return [kind for kind in kinds if issubclass(kind, ModelsealError) and kind.exit_code > 1]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Let the verb `doctor` raise whatever the test wants."""

    def install(error: BaseException) -> None:
        def command(json: bool = False) -> None:
            raise error

        verb: Any = ModuleType("modelseal.cli.doctor")
        verb.command, verb.EXAMPLES = command, "modelseal doctor\n"
        monkeypatch.setitem(sys.modules, "modelseal.cli.doctor", verb)

    return install


@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
def test_every_error_becomes_its_message_its_hint_and_its_exit_code(
    kind: type[ModelsealError], failing: Callable[[BaseException], None]
) -> None:
    failing(kind("failed to do it: because"))
    result = run("doctor")
    assert result.code == kind.exit_code
    assert result.error == "failed to do it: because"
    assert result.hint == kind.hint
    assert result.out == ""


def test_exit_codes_of_errors_never_collide_with_the_shells() -> None:
    codes = {kind.exit_code for kind in every_error()}
    assert min(codes) >= 10
    assert max(codes) < 126


def test_with_json_a_failure_is_an_object_on_stdout_as_well(
    failing: Callable[[BaseException], None],
) -> None:
    failing(WrongKey("failed to unwrap the data key: it is another key", hint="use the right one"))
    result = run("doctor", "--json")
    assert result.json == {
        "error": {
            "stage": "Unwrap",
            "reason": "WrongKey",
            "message": "failed to unwrap the data key: it is another key",
            "hint": "use the right one",
            "exitCode": WrongKey.exit_code,
        }
    }
    assert result.error == "failed to unwrap the data key: it is another key"


def test_a_fault_of_ours_says_so_without_its_text(
    failing: Callable[[BaseException], None],
) -> None:
    failing(ValueError("the key is hunter2"))
    result = run("doctor")
    assert result.code == 1
    assert result.error == "a fault of modelseal itself: ValueError"
    assert "hunter2" not in result.err


def test_the_debug_variable_shows_places_and_types_but_no_foreign_text(
    failing: Callable[[BaseException], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELSEAL_DEBUG", "1")
    error = WrongKey("failed to unwrap the data key")
    error.__cause__ = RuntimeError("X-Vault-Token: s.hunter2")
    failing(error)
    result = run("doctor")
    assert "builtins.RuntimeError\n" in result.err
    assert "modelseal.errors.WrongKey: failed to unwrap the data key\n" in result.err
    assert "test_cli_main.py" in result.err
    assert "hunter2" not in result.err


def test_without_the_debug_variable_no_place_is_shown(
    failing: Callable[[BaseException], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELSEAL_DEBUG", "0")
    failing(WrongKey("failed to unwrap the data key"))
    assert ".py" not in run("doctor").err


def test_an_interrupt_is_130_and_one_line(failing: Callable[[BaseException], None]) -> None:
    failing(KeyboardInterrupt())
    result = run("doctor")
    assert result.code == 130
    assert result.error == "interrupted"


def test_a_missing_package_names_the_extra_that_brings_it(
    failing: Callable[[BaseException], None],
) -> None:
    failing(ModuleNotFoundError("No module named 'hvac'", name="hvac.exceptions"))
    result = run("doctor")
    assert result.code == 3
    assert result.error == "the package hvac is not installed"
    assert "modelseal[vault]" in result.hint


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(["sael"], "no such command 'sael'. Did you mean 'seal'?", id="a typing error"),
        pytest.param(["doctor", "--jsn"], "no such option: --jsn", id="an unknown option"),
        pytest.param(["doctor", "more"], "got unexpected extra argument", id="one word too many"),
    ],
)
def test_wrong_usage_is_exit_code_2_and_points_to_the_help(
    words: list[str], message: str, failing: Callable[[BaseException], None]
) -> None:
    failing(WrongKey("not reached"))
    result = run(*words)
    assert result.code == 2
    assert result.error.startswith(message)
    assert "--help" in result.hint


def test_no_words_at_all_show_the_help_and_count_as_wrong_usage() -> None:
    result = run()
    assert result.code == 2
    assert "Usage: modelseal" in result.err
    assert result.out == ""


def test_the_help_lists_every_verb_with_the_first_line_of_its_own_help(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    listed, width = run("--help").out, max(map(len, app.VERBS)) + 2
    for verb, summary in app.VERBS.items():
        own = app.load(verb).help
        assert own.splitlines()[0] == summary
        assert f"  {verb:<{width}}{summary}" in listed


@pytest.mark.parametrize("verb", app.VERBS)
def test_every_verb_teaches_with_an_example_of_itself(verb: str) -> None:
    result = run(verb, "--help")
    assert result.code == 0
    assert "Examples:\n" in result.out
    assert f"modelseal {verb}" in result.out.split("Examples:\n")[1]
    assert "Traceback" not in result.err


@pytest.mark.parametrize("verb", app.VERBS)
def test_every_verb_can_answer_in_json(verb: str) -> None:
    assert "--json" in run(verb, "--help").out


def test_there_is_no_verb_that_writes_a_plaintext_model() -> None:
    assert not {"unseal", "decrypt", "open", "export", "extract"} & set(app.VERBS)


def test_the_version_is_data() -> None:
    result = run("--version")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("modelseal 0.")


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from modelseal.cli.main import main; main(['--help']); "
        f"sys.exit(' '.join(sorted(set(sys.modules) & set({HEAVY!r}))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stderr == "\n"
    assert "Usage: modelseal" in done.stdout


def test_a_reader_that_goes_away_is_no_fault() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            program("--help"), stdout=writing, stderr=subprocess.PIPE, check=False, timeout=60
        )
    finally:
        os.close(writing)
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    assert b"fault" not in done.stderr


def test_the_handler_for_sigterm_is_given_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    run("--version")
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (3_163_737, "3.2 MB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (5 * 10**12, "5.0 TB"),
        (10**19, "10000.0 PB"),
    ],
)
def test_sizes_are_readable(length: int, text: str) -> None:
    assert console.human_size(length) == text


def test_foreign_text_cannot_steer_the_terminal() -> None:
    assert console.printable("\x1b[2Jv1") == "\\x1b[2Jv1"
    assert console.printable("1.0 größer") == "1.0 größer"


def test_no_memory_left_is_its_own_error(failing: Callable[[BaseException], None]) -> None:
    failing(MemoryError())
    result = run("doctor")
    assert result.code == errors.OutOfMemory.exit_code
    assert "no memory left" in result.error

"""docs/attacks.md lists every numbered attack with the tests that make it.

`MODELSEAL_WRITE_DOCS=1 pytest tests/unit/test_docs_attacks.py` writes the table anew.
"""

import ast
import os
import re
from pathlib import Path

from modelseal.contract import Reason

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "attacks.md"
BEGIN, END = "<!-- attacks -->\n", "<!-- end attacks -->"
MARK = re.compile(r"mark\.negative\((\d+)\)")
ATTACKS = {
    1: ("an empty or truncated `seal.json`", "HeaderInvalid"),
    2: (
        "a `seal.json` that is too long, malformed, doubled or in another spelling",
        "HeaderInvalid",
    ),
    3: ("another format or payload algorithm", "UnsupportedVersion"),
    4: ("an index with paths that leave the folder, links or duplicates", "IndexInvalid"),
    5: ("counts and lengths that do not agree, or exceed a bound", "HeaderInvalid, LimitExceeded"),
    6: ("no signature where one is required", "SignatureMissing"),
    7: ("a signature by a key that is not pinned", "SignatureInvalid"),
    8: ("one changed byte of what was signed", "SignatureInvalid"),
    9: ("a signature over another payload type", "SignatureInvalid"),
    10: ("the validly signed manifest of another model", "ModelNameMismatch"),
    11: ("an older, validly signed version where something is pinned", "RollbackRejected"),
    12: ("an altered wrapped key", "WrappedKeyInvalid"),
    13: ("the wrapped key of another seal or model", "WrappedKeyInvalid"),
    14: ("an attacker's own data key or manifest", "ManifestMacMismatch"),
    15: ("a key version below the minimum", "KeyRevoked"),
    16: ("a key that was deleted, trimmed or destroyed", "KeyNotFound, KeyRevoked"),
    17: ("a role, account, audience or token that has no right", "KeyAccessDenied"),
    18: (
        "a key service that is sealed, overloaded, cut off or hangs",
        "KeyServiceUnavailable, KeyServiceBusy",
    ),
    19: ("a good status with a wrong body", "KeyServiceProtocolError"),
    20: ("a redirect to another host", "KeyServiceProtocolError"),
    21: ("a certificate of another CA or for another host", "KeyServiceUntrusted"),
    22: ("a payload header, key or place that is not the signed one", "KeyCommitmentMismatch"),
    23: ("one changed byte of a payload", "SegmentInvalid, DigestMismatch"),
    24: (
        "segments that were moved, doubled, removed, spliced or forged",
        "SegmentInvalid, DigestMismatch",
    ),
    25: ("a payload cut at any byte", "Truncated"),
    26: ("an end in the middle, or something behind the end", "SegmentInvalid, TrailingData"),
    27: ("payloads that changed places", "KeyCommitmentMismatch"),
    28: (
        "an object of another length, or one that changes while it is read",
        "SourceChanged, Truncated, TrailingData",
    ),
    29: ("any failure: what is left of it", "each"),
    30: ("sizes at every boundary, which must open", "none"),
    31: ("segments in any order on any number of threads", "SegmentInvalid"),
    32: (
        "lengths and sizes for which there is no room",
        "LimitExceeded, ModelTooLarge, OutOfMemory",
    ),
    33: ("secrets in logs, messages, reports, environment or memory", "none"),
}


def found() -> dict[int, list[str]]:
    """Return, for each number, which files have a test that carries it."""
    numbers: dict[int, list[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        name = str(path.relative_to(ROOT))
        tree = ast.parse(path.read_text(encoding="utf-8"))
        text = ast.unparse(tree)
        for number in sorted({int(each) for each in MARK.findall(text)}):
            numbers.setdefault(number, []).append(name)
    return numbers


def table() -> str:
    lines = ["| number | attack | refused as | tests |", "| --- | --- | --- | --- |"]
    numbers = found()
    for number, (attack, reasons) in ATTACKS.items():
        files = ", ".join(f"`{name}`" for name in numbers[number])
        lines.append(f"| {number} | {attack} | {reasons} | {files} |")
    return "\n".join(lines) + "\n"


def test_every_attack_has_a_test_and_every_number_is_an_attack() -> None:
    assert sorted(found()) == sorted(ATTACKS) == list(range(1, 34))


def test_the_page_names_every_attack_and_only_tests_that_make_it() -> None:
    if os.environ.get("MODELSEAL_WRITE_DOCS"):
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        PAGE.write_text(before + BEGIN + table() + END + rest.partition(END)[2], encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (.*?) \| (.*?) \| (.*?) \|$", PAGE.read_text("utf-8"), re.M)
    assert {int(row[0]): (row[1], row[2]) for row in rows} == ATTACKS
    numbers = found()
    for number, _, _, files in rows:
        assert set(re.findall(r"`(.*?)`", files)) <= set(numbers[int(number)])


def test_the_reasons_of_the_page_exist() -> None:
    named = {name for _, text in ATTACKS.values() for name in text.split(", ")}
    assert named - {"each", "none"} <= set(Reason)

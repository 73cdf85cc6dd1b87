"""Makes docs/crd.md from the CRDs, the reasons and their advice."""

from collections.abc import Iterator
from typing import Any

import yaml

from modelseal.contract import PRECEDENCE, Condition, Reason
from modelseal_operator.advice import ADVICE
from support.operator_objects import ROOT

KINDS = ("encryptedmodels", "keyproviders", "clusterkeyproviders")
MEANING = {
    Condition.ACCEPTED: "the API objects are consistent, and the provider allows the model",
    Condition.KEY_AVAILABLE: "the key service lets the pods of the current template open the model",
    Condition.KEY_CURRENT: "the key's version that opens the model is not about to be retired",
    Condition.PINNED: "an older or other seal would be refused",
    Condition.AVAILABLE: "a pod of any revision is ready",
    Condition.READY: "the status is current, and a pod of the current template is ready",
}
INTRODUCTION = """# The resources of modelseal.dev/v1alpha1

This page is made from `crds/` and from the operator's own table of reasons by
`MODELSEAL_UPDATE_GOLDEN=1 pytest tests/unit/test_operator_docs.py`; a test compares it. The same
text is in `kubectl explain encryptedmodel.spec`. Examples are in `docs/examples/`.
"""


def reference() -> str:
    """Return the whole page."""
    parts = [INTRODUCTION, *(_kind(name) for name in KINDS), _conditions(), _reasons()]
    return "\n".join(parts)


def _kind(name: str) -> str:
    path = ROOT / "crds" / f"modelseal.dev_{name}.yaml"
    crd = yaml.safe_load(path.read_text(encoding="utf-8"))["spec"]
    schema = crd["versions"][0]["schema"]["openAPIV3Schema"]
    lines = [f"## {crd['names']['kind']}", "", schema["description"], ""]
    rules = list(_rules(schema, ""))
    lines += ["| field | type | default | what it is |", "| --- | --- | --- | --- |"]
    lines += [row for part in ("spec", "status") for row in _rows(schema, part)]
    lines += ["", "What the API server refuses beyond types and patterns:", ""]
    lines += [f"- `{place or crd['names']['kind']}`: {message}" for place, message in rules]
    return "\n".join([*lines, ""])


def _rows(schema: Any, part: str) -> Iterator[str]:
    if part in schema["properties"]:
        yield from _fields(schema["properties"][part], part)


def _fields(schema: Any, path: str) -> Iterator[str]:
    required = schema.get("required", [])
    for name, inner in schema.get("properties", {}).items():
        place = f"{path}.{name}"
        default = inner.get("default", "**required**" if name in required else "")
        shown = f"`{default}`" if default not in ("", "**required**", {}, []) else default or ""
        yield f"| `{place}` | {_type(inner)} | {shown} | {_cell(inner['description'])} |"
        yield from _fields(inner, place)
        yield from _fields(inner.get("items", {}), f"{place}[]")


def _type(schema: Any) -> str:
    if schema.get("x-kubernetes-int-or-string"):
        return "quantity"
    if schema.get("enum"):
        return ", ".join(schema["enum"])
    kind = str(schema.get("type"))
    return f"list of {schema['items'].get('type')}" if kind == "array" else kind


def _rules(schema: Any, path: str) -> Iterator[tuple[str, str]]:
    for rule in schema.get("x-kubernetes-validations", []):
        yield path, rule["message"]
    for name, inner in schema.get("properties", {}).items():
        yield from _rules(inner, f"{path}.{name}".lstrip("."))
    if "items" in schema:
        yield from _rules(schema["items"], f"{path}[]")


def _conditions() -> str:
    rows = [f"| `{kind.value}` | {MEANING[kind]} |" for kind in Condition]
    head = ["## Conditions", "", "| condition | is true when |", "| --- | --- |"]
    return "\n".join([*head, *rows, ""])


def _reasons() -> str:
    """Return the table of reasons: pods' by rank, then the others."""
    others = [reason for reason in Reason if reason not in PRECEDENCE]
    head = [
        "## Reasons",
        "",
        "Of several pods the reason that comes first in this table is the one that `Ready` shows.",
        "",
        "| reason | what it means | what to do |",
        "| --- | --- | --- |",
    ]
    rows = [
        f'| <a id="{reason.value.lower()}"></a>`{reason.value}` |'
        f" {_cell(ADVICE[reason].meaning)} | {_cell(ADVICE[reason].remedy or 'nothing')} |"
        for reason in (*PRECEDENCE, *others)
    ]
    return "\n".join([*head, *rows, ""])


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())

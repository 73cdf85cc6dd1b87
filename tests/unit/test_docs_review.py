"""docs/review.md links promises to tests: each of them exists."""

import re

from support.operator_objects import ROOT

PAGE = (ROOT / "docs" / "review.md").read_text(encoding="utf-8")


def test_every_promise_names_tests_that_exist() -> None:
    table = PAGE.partition("## Promises")[2].partition("## Who")[0]
    named = set(re.findall(r"`(test_[a-z0-9_]+)`", table))
    code = "\n".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    defined = set(re.findall(r"def (test_[a-z0-9_]+)\(", code))
    assert len(named) > 30
    assert named - defined == set()

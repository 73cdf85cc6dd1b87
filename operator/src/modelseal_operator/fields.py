"""A careful view of a JSON object that someone else wrote.

The API server has checked most of it against the schema; older objects, and schemas that were
replaced, can hold anything all the same. Every reading is checked for type, choice, pattern and
length, and everything wrong is one `Refusal` that names the field.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from modelseal.contract import Reason
from modelseal.errors import shown
from modelseal_operator.quantities import format_cpu, whole_bytes
from modelseal_operator.refusal import Refusal

MAX_TEXT: Final = 4096
MAX_ITEMS: Final = 256


@dataclass(frozen=True, kw_only=True)
class Fields:
    """An object inside a resource, with its path for messages."""

    value: Mapping[str, object]
    path: str = ""
    reason: Reason = Reason.SPEC_INVALID

    def wrong(self, name: str, expected: str) -> Refusal:
        """Return the refusal for a field that is not what it should be."""
        found = shown(self.value.get(name), 60)
        return Refusal(self.reason, f"{self._at(name)} is {found}, but must be {expected}")

    def has(self, name: str) -> bool:
        """Tell whether the field is there."""
        return self.value.get(name) is not None

    def text(
        self, name: str, default: str | None = None, *, pattern: str = ".*", limit: int = MAX_TEXT
    ) -> str:
        """Return a text that matches `pattern` from end to end."""
        value = self._get(name, default)
        if not isinstance(value, str) or len(value) > limit:
            raise self.wrong(name, f"a text of at most {limit} characters")
        if not re.fullmatch(pattern, value, re.DOTALL):
            raise self.wrong(name, f"a text like {pattern}")
        return value

    def optional_text(self, name: str, *, pattern: str = ".*", limit: int = MAX_TEXT) -> str | None:
        """Return a text, or None if the field is not there."""
        return self.text(name, pattern=pattern, limit=limit) if self.has(name) else None

    def choice(self, name: str, choices: Sequence[str], default: str | None = None) -> str:
        """Return one of `choices`."""
        value = self._get(name, default)
        if not isinstance(value, str) or value not in choices:
            raise self.wrong(name, f"one of {', '.join(choices)}")
        return value

    def number(self, name: str, default: int | None = None, *, low: int, high: int) -> int:
        """Return a whole number within `[low, high]`."""
        value = self._get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.wrong(name, f"a whole number from {low} to {high}")
        return value

    def flag(self, name: str, default: bool) -> bool:
        """Return a boolean."""
        value = self._get(name, default)
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return value

    def size(self, name: str, default: str | None = None, *, low: int = 1, high: int) -> int:
        """Return a quantity in bytes within `[low, high]`."""
        try:
            value = whole_bytes(self._get(name, default))
        except ValueError:
            value = -1
        if not low <= value <= high:
            raise self.wrong(name, f"a quantity of {low} to {high} bytes, such as 512Mi")
        return value

    def cpu(self, name: str) -> str | None:
        """Return an amount of CPU in canonical form, or None."""
        if not self.has(name):
            return None
        try:
            return format_cpu(self.value[name])
        except ValueError:
            raise self.wrong(name, "an amount of CPU, such as 500m") from None

    def section(self, name: str) -> "Fields":
        """Return the object in a field; an empty one if the field is not there."""
        value = self.value.get(name)
        if value is None:
            value = {}
        if not isinstance(value, Mapping):
            raise self.wrong(name, "an object")
        return Fields(value=value, path=self._at(name), reason=self.reason)

    def sections(self, name: str, limit: int = MAX_ITEMS) -> tuple["Fields", ...]:
        """Return a list of objects."""
        value = self._list(name, limit)
        items = enumerate(value)
        found = [(f"{self._at(name)}[{i}]", v) for i, v in items if isinstance(v, Mapping)]
        if len(found) != len(value):
            raise self.wrong(name, "a list of objects")
        return tuple(Fields(value=v, path=path, reason=self.reason) for path, v in found)

    def texts(self, name: str, *, pattern: str = ".*", limit: int = MAX_ITEMS) -> tuple[str, ...]:
        """Return a list of texts that match `pattern`."""
        value = self._list(name, limit)
        found = [v for v in value if isinstance(v, str) and len(v) <= MAX_TEXT]
        if len(found) != len(value) or not all(re.fullmatch(pattern, v) for v in found):
            raise self.wrong(name, f"a list of texts like {pattern}")
        return tuple(found)

    def numbers(self, name: str, *, low: int, high: int, limit: int) -> tuple[int, ...]:
        """Return a list of whole numbers within `[low, high]`."""
        value = self._list(name, limit)
        found = [v for v in value if isinstance(v, int) and not isinstance(v, bool)]
        if len(found) != len(value) or not all(low <= v <= high for v in found):
            raise self.wrong(name, f"a list of whole numbers from {low} to {high}")
        return tuple(found)

    def labels(self, name: str, limit: int = 16) -> tuple[tuple[str, str], ...]:
        """Return an object of texts, as sorted pairs."""
        value = self.section(name).value
        pairs = sorted((k, v) for k, v in value.items() if isinstance(v, str))
        if len(pairs) != len(value) or len(pairs) > limit:
            raise self.wrong(name, f"an object of at most {limit} texts")
        return tuple(pairs)

    def _get(self, name: str, default: object) -> object:
        value = self.value.get(name)
        if value is not None:
            return value
        if default is None:
            raise Refusal(self.reason, f"{self._at(name)} is missing")
        return default

    def _list(self, name: str, limit: int) -> list[object]:
        value = self.value.get(name)
        if value is None:
            return []
        if not isinstance(value, list) or len(value) > limit:
            raise self.wrong(name, f"a list of at most {limit} items")
        return value

    def _at(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

"""Who may roll now for a change that is not the model's own (design section 10, "Updates").

A new release or an edit of a provider changes the template of many models at once. At most
`concurrency` of them roll at a time, and none starts while one has failed. Which models roll and
which failed is read from their Deployments, so a restarted operator knows it again; until it has
seen all of them it starts none.
"""

from enum import StrEnum

from modelseal_operator.store import Key


class Rolling(StrEnum):
    """How far the Deployment of a model is with a change of this kind."""

    SETTLED = "settled"
    ROLLING = "rolling"
    FAILED = "failed"


class Waves:
    """The models that roll, that failed, and that wait."""

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._rolling: set[Key] = set()
        self._failed: set[Key] = set()
        self._waiting: set[Key] = set()
        self._open = False

    @property
    def waiting(self) -> frozenset[Key]:
        """The models that wait for their turn."""
        return frozenset(self._waiting)

    @property
    def failed(self) -> frozenset[Key]:
        """The models whose failure keeps others waiting."""
        return frozenset(self._failed)

    def open(self) -> frozenset[Key]:
        """Note that every model has been observed once; return those that wait."""
        self._open = True
        return self.waiting

    def observe(self, key: Key, state: Rolling) -> frozenset[Key]:
        """Note how far a model is; return the models to ask again because a place is free."""
        before = (key in self._rolling, key in self._failed)
        self._rolling.discard(key)
        self._failed.discard(key)
        if state is Rolling.ROLLING:
            self._rolling.add(key)
        if state is Rolling.FAILED:
            self._failed.add(key)
        freed = any(before) and state is Rolling.SETTLED
        return self.waiting if freed else frozenset()

    def may_start(self, key: Key) -> bool:
        """Tell whether a model may roll now; if not, it is remembered as waiting."""
        free = len(self._rolling | self._failed) < self._concurrency
        if key in self._rolling or (self._open and free and not self._failed - {key}):
            self._rolling.add(key)
            self._waiting.discard(key)
            return True
        self._waiting.add(key)
        return False

    def forget(self, key: Key) -> frozenset[Key]:
        """Drop a model that is gone or has nothing to roll; return the models to ask again."""
        self._waiting.discard(key)
        return self.observe(key, Rolling.SETTLED)

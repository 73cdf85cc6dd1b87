"""When a lease goes on and when it ends, with a clock that only the tests move."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from modelseal.contract import Delivery, Reason, Stage
from modelseal.envelope import Envelope, Manifest, Policy, Seal
from modelseal.envelope.recipients import Recipient
from modelseal.errors import (
    DeliveryError,
    Expired,
    InputUnreadable,
    KeyAccessDenied,
    KeyNotFound,
    KeyRevoked,
    KeyServiceBusy,
    KeyServiceUnavailable,
    KeyServiceUntrusted,
    LeaseStale,
    ModelsealError,
    RollbackRejected,
    SourceUnavailable,
    WrappedKeyInvalid,
)
from modelseal.keys.interface import KeyDescription, KeyProvider
from modelseal.secret import Secret
from modelseal_sidecar import tenure
from modelseal_sidecar.delivery import Parcel
from modelseal_sidecar.keeper import Keeper
from modelseal_sidecar.lease import Lease
from modelseal_sidecar.provider_directory import ProviderDirectory
from modelseal_sidecar.settings import LeaseSettings
from modelseal_sidecar.status import Board, RuntimeStatus, Status, utc_now
from modelseal_sidecar.tenure import Tenure
from modelseal_sidecar.wake import Stopped, Wake
from support.agent_peer import until

START = 1000.0
SETTINGS = LeaseSettings(interval=60.0, max_stale=600.0)
OLD = Recipient(kind="fake", key="k", wrapped="v1")
NEW = Recipient(kind="fake", key="k", wrapped="v2")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
Answer = ModelsealError | Exception | None


class FakeWake(Wake):
    """A clock that moves only when the main thread sleeps."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = START
        self.tenure: Tenure | None = None
        self.stop_at = START + 1e5

    def now(self) -> float:
        return self.clock

    def wait(self, seconds: float) -> None:
        task = self.tenure._task if self.tenure else None
        if task is not None:
            until(lambda: task.done)
        self.clock += max(seconds, 0.001)
        if self.clock >= self.stop_at:
            self.stop()


@dataclass
class FakeProvider:
    """A key service whose answers are a list; the last one stays."""

    answers: list[Answer] = field(default_factory=lambda: [None])
    logins: list[Answer] = field(default_factory=lambda: [None])
    asked: list[Recipient] = field(default_factory=list)
    login_count: int = 0
    token_expires: datetime | None = None
    unwrap_id: str | None = None
    kind: str = "fake"

    def login(self) -> None:
        self.login_count += 1
        self._answer(self.logins)

    def check(self, recipient: Recipient, context: bytes) -> None:
        assert context == b"context"
        self.asked.append(recipient)
        self._answer(self.answers)

    def matches(self, recipient: Recipient) -> bool:
        return (recipient.kind, recipient.key) == ("fake", "k")

    def wrap(self, dek: Secret, context: bytes) -> Recipient:
        raise AssertionError("an agent never wraps")

    def unwrap(self, recipient: Recipient, context: bytes) -> Secret:
        raise AssertionError("a check never unwraps")

    def rewrap(self, recipient: Recipient, context: bytes) -> Recipient:
        raise AssertionError("an agent never rewraps")

    def may_unwrap(self) -> bool:
        raise AssertionError("an agent tries")

    def describe(self, recipient: Recipient) -> KeyDescription:
        return KeyDescription(kind="fake", key="k", version=None)

    @staticmethod
    def _answer(answers: list[Answer]) -> None:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if answer is not None:
            raise answer


@dataclass
class FakeAccess:
    """The way to the fake key service."""

    provider: FakeProvider
    refreshed: int = 0

    def current(self) -> KeyProvider:
        return self.provider

    def refresh(self) -> KeyProvider:
        self.refreshed += 1
        return self.provider


@dataclass
class FakeDelivery:
    """A delivery that writes down what it is told."""

    wake: FakeWake
    told: list[tuple[float, float]] = field(default_factory=list)
    gone: ModelsealError | None = None
    memory_name: str | None = None
    again: bool = True

    def extend(self, valid_for: float) -> None:
        self.told.append((self.wake.clock, valid_for))

    def lost(self) -> ModelsealError | None:
        return self.gone

    def start(self) -> None:
        raise AssertionError("not the lease's business")

    def has_room(self) -> bool:
        raise AssertionError("not the lease's business")

    def deliver(self, parcel: Parcel, valid_for: float) -> None:
        raise AssertionError("not the lease's business")

    def withdraw(self, reason: Reason) -> None:
        raise AssertionError("not the lease's business")

    def released(self) -> bool:
        raise AssertionError("not the lease's business")

    def close(self) -> None:
        raise AssertionError("not the lease's business")


def a_seal(*recipients: Recipient, payload: bytes = b"signed") -> Seal:
    manifest = Manifest(
        model="a/b", version="1", sequence=1, not_after=None, seal_id=bytes(32), files=()
    )
    envelope = Envelope(payload_type="t", payload=payload, signatures=())
    return Seal(manifest=manifest, envelope=envelope, mac=bytes(48), recipients=recipients)


class Bench:
    """A tenure and everything that it touches."""

    def __init__(
        self,
        provider: FakeProvider,
        *,
        read_again: Callable[[], Seal] | None = None,
        not_after: datetime | None = None,
        directory: Path | None = None,
        policies: tuple[Policy, ...] = (Policy(model="a/b"),),
        token_seconds: float | None = None,
        wake: FakeWake | None = None,
        policy: Callable[[], Policy] | None = None,
    ) -> None:
        self.provider = provider
        self.wake = wake or FakeWake()
        self.delivery = FakeDelivery(self.wake)
        self.board = Board(
            Status(
                delivery=Delivery.MEMFD,
                model="a/b",
                since=NOW,
                runtime=RuntimeStatus(connected=True, result=Reason.SERVING),
            )
        )
        self.access = FakeAccess(provider)
        demanded = list(policies)
        self.keeper = Keeper(
            access=self.access,
            seal=a_seal(OLD),
            recipient=OLD,
            context=b"context",
            read_again=read_again or (lambda: a_seal(OLD)),
            policy=policy or (lambda: demanded.pop(0) if len(demanded) > 1 else demanded[0]),
        )
        lease = Lease.begin(SETTINGS, now=START, factor=0.5)
        lease = lease.logged_in(START, token_seconds, 0.0)
        self.tenure = Tenure(
            lease=lease,
            keeper=self.keeper,
            not_after=not_after,
            directory=ProviderDirectory(directory, SETTINGS, None),
            delivery=self.delivery,
            board=self.board,
            wake=self.wake,
        )
        self.wake.tenure = self.tenure

    def keep(self) -> ModelsealError:
        return self.tenure.keep()

    def keep_for(self, seconds: float) -> None:
        self.wake.stop_at = START + seconds
        with pytest.raises(Stopped):
            self.tenure.keep()


@pytest.mark.parametrize(
    "refusal",
    [KeyAccessDenied("no"), KeyNotFound("no"), WrappedKeyInvalid("no"), KeyRevoked("too old")],
    ids=lambda error: type(error).__name__,
)
def test_a_refusal_ends_the_lease_at_the_next_check(refusal: ModelsealError) -> None:
    bench = Bench(FakeProvider(answers=[refusal]))
    assert bench.keep() is refusal
    assert bench.wake.clock <= START + 60 * 1.2 + 1


@pytest.mark.parametrize(
    "trouble",
    [
        KeyServiceUnavailable("down"),
        KeyServiceBusy("busy"),
        KeyServiceUntrusted("certificate"),
        InputUnreadable("token file"),
        RuntimeError("a bug"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_is_no_refusal_ends_the_lease_only_when_stale(trouble: Exception) -> None:
    bench = Bench(FakeProvider(answers=[None, trouble]))
    ended = bench.keep()
    assert isinstance(ended, LeaseStale)
    assert START + 600 <= bench.wake.clock <= START + 60 * 1.2 + 600 + 2


def test_while_the_key_service_is_away_the_runtime_is_told_less_and_less() -> None:
    bench = Bench(FakeProvider(answers=[KeyServiceUnavailable("down")]))
    bench.keep()
    stale_at = START + 600
    for clock, valid_for in bench.delivery.told:
        assert clock + valid_for <= stale_at + 0.01
    assert bench.delivery.told[-1][1] < 72


def test_the_runtime_never_hears_later_than_it_was_told_to_wait() -> None:
    bench = Bench(FakeProvider())
    bench.keep_for(3600)
    told = bench.delivery.told
    assert len(told) >= 3600 / (60 * 1.2)
    for (clock, valid_for), (later, _) in itertools.pairwise(told):
        assert later < clock + valid_for - 5


def test_trouble_shows_while_the_model_is_served_and_goes_when_it_is_over() -> None:
    bench = Bench(FakeProvider(answers=[KeyServiceBusy("busy"), None]))
    bench.keep_for(70)
    assert (bench.board.read().stage, bench.board.read().reason) == (
        Stage.LEASE,
        Reason.KEY_SERVICE_BUSY,
    )
    bench.wake.stopping = False
    bench.keep_for(200)
    assert bench.board.read().reason is Reason.SERVING


def test_a_fresh_login_is_made_while_half_of_the_tokens_life_is_left() -> None:
    expires = utc_now() + timedelta(seconds=300)
    bench = Bench(FakeProvider(token_expires=expires), token_seconds=300)
    bench.keep_for(149)
    assert bench.provider.login_count == 0
    bench.wake.stopping = False
    bench.keep_for(152)
    assert bench.provider.login_count == 1, "it waits for no other check"
    assert bench.access.refreshed == 1


def test_a_long_token_is_replaced_after_five_minutes() -> None:
    expires = utc_now() + timedelta(days=1)
    bench = Bench(FakeProvider(token_expires=expires), token_seconds=86400)
    bench.keep_for(3600)
    assert 3600 / 150 - 1 <= bench.provider.login_count <= 3600 / 75


def test_a_refused_login_ends_the_lease() -> None:
    denied = KeyAccessDenied("for good")
    bench = Bench(FakeProvider(logins=[denied]), token_seconds=1)
    assert bench.keep() is denied
    assert bench.provider.asked == []


def test_too_old_is_believed_only_after_seal_json_was_read_again() -> None:
    reads = []

    def read_again() -> Seal:
        reads.append(1)
        return a_seal(Recipient(kind="other", key="k", wrapped="x"), NEW)

    bench = Bench(FakeProvider(answers=[KeyRevoked("too old"), None]), read_again=read_again)
    bench.keep_for(200)
    assert bench.provider.asked[:3] == [OLD, NEW, NEW]
    assert OLD not in bench.provider.asked[1:]
    assert len(reads) == 1


def unreachable() -> Seal:
    raise SourceUnavailable("down")


@pytest.mark.parametrize(
    "read_again",
    [
        pytest.param(lambda: a_seal(NEW, payload=b"other"), id="another envelope"),
        pytest.param(lambda: replace(a_seal(NEW), mac=bytes(47) + b"x"), id="another MAC"),
        pytest.param(lambda: a_seal(OLD), id="the same recipient"),
        pytest.param(lambda: a_seal(replace(NEW, key="other")), id="no recipient of ours"),
        pytest.param(unreachable, id="cannot be read"),
    ],
)
def test_too_old_stands_where_nothing_newer_lies_under_the_same_envelope(
    read_again: Callable[[], Seal],
) -> None:
    revoked = KeyRevoked("too old")
    bench = Bench(FakeProvider(answers=[revoked, None]), read_again=read_again)
    assert bench.keep() is revoked
    assert bench.provider.asked == [OLD]


def test_a_rewrapped_key_that_is_refused_too_ends_the_lease() -> None:
    bench = Bench(
        FakeProvider(answers=[KeyRevoked("one"), KeyRevoked("two")]),
        read_again=lambda: a_seal(NEW),
    )
    ended = bench.keep()
    assert isinstance(ended, KeyRevoked)
    assert ended.message == "two"


def test_the_seals_end_ends_the_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    wake = FakeWake()
    monkeypatch.setattr(
        tenure,
        "seconds_until",
        lambda at: (at - NOW).total_seconds() - (wake.clock - START),
    )
    bench = Bench(FakeProvider(), not_after=NOW + timedelta(seconds=130), wake=wake)
    assert isinstance(bench.keep(), Expired)
    assert START + 130 <= bench.wake.clock <= START + 132
    assert all(clock + told <= START + 130.01 for clock, told in bench.delivery.told)


@pytest.mark.parametrize(("jump", "served"), [(-86400, 130), (-60, 130), (100, 30), (86400, 0)])
def test_a_clock_that_jumps_never_lengthens_the_seals_life(
    monkeypatch: pytest.MonkeyPatch, jump: float, served: float
) -> None:
    """Set back, the time that passed counts; set forward, the clock is believed."""
    jumped: list[float] = []

    def left(at: datetime | None) -> float:
        assert at is not None
        return (at - NOW).total_seconds() - (bench.wake.clock - START) - sum(jumped)

    monkeypatch.setattr(tenure, "seconds_until", lambda _: 130.0)
    bench = Bench(FakeProvider(), not_after=NOW + timedelta(seconds=130))
    monkeypatch.setattr(tenure, "seconds_until", left)
    jumped.append(jump)
    assert isinstance(bench.keep(), Expired)
    assert served <= bench.wake.clock - START <= served + 2


def test_a_runtime_that_can_never_come_back_ends_the_lease() -> None:
    bench = Bench(FakeProvider())
    bench.delivery.gone = DeliveryError("gone")
    assert bench.keep() is bench.delivery.gone


def test_changed_settings_act_within_half_a_minute(tmp_path: Path) -> None:
    bench = Bench(FakeProvider(), directory=tmp_path)
    (tmp_path / "lease-interval").write_text("5")
    (tmp_path / "max-stale").write_text("20")
    bench.keep_for(45)
    assert len(bench.provider.asked) >= 1
    bench.wake.stopping, bench.wake.stop_at = False, START + 1e5
    bench.provider.answers[:] = [KeyServiceUnavailable("down")]
    assert isinstance(bench.keep(), LeaseStale)
    assert bench.wake.clock <= START + 45 + 20 + 2


def test_a_version_that_the_provider_withdraws_is_taken_back_at_the_next_check() -> None:
    policies = (Policy(model="a/b"), Policy(model="a/b", min_sequence=2))
    bench = Bench(FakeProvider(), policies=policies)
    ended = bench.keep()
    assert type(ended) is RollbackRejected
    assert len(bench.provider.asked) == 1, "a withdrawn version is not asked about"
    assert bench.wake.clock - START < 2 * SETTINGS.interval * 1.2 + 1


def test_a_bound_that_makes_no_sense_withdraws_as_one_that_is_not_met(tmp_path: Path) -> None:
    """It was written to withdraw something; taken for no news it would not for hours."""
    directory = ProviderDirectory(tmp_path, SETTINGS, None)
    asked = Policy(model="a/b")
    bench = Bench(FakeProvider(), policy=lambda: directory.narrowed(asked))
    bench.keep_for(100)
    (tmp_path / "min-sequence").write_text("two")
    bench.wake.stopping, bench.wake.stop_at = False, START + 1e5
    assert type(bench.keep()) is RollbackRejected
    assert bench.wake.clock - START < 100 + SETTINGS.interval * 1.2 + 1


@pytest.mark.parametrize(
    ("answers", "kept"), [([None], NEW), ([None, KeyRevoked("no"), None], OLD)]
)
def test_at_a_login_a_rewrapped_key_is_taken_over_if_it_is_good(
    answers: list[Answer], kept: Recipient
) -> None:
    """So that a rotation ends with no pod on the old version, and nothing was ever refused."""
    provider = FakeProvider(answers=answers)
    bench = Bench(provider, read_again=lambda: a_seal(NEW), token_seconds=40)
    bench.wake.stop_at = START + 2 * SETTINGS.interval
    with pytest.raises(Stopped):
        bench.keep()
    assert provider.login_count >= 1
    assert bench.keeper.recipient == kept
    assert NEW in provider.asked


def test_without_a_login_seal_json_is_not_read_again() -> None:
    def never() -> Seal:
        raise AssertionError("nobody asked for it")

    bench = Bench(FakeProvider(), read_again=never)
    bench.wake.stop_at = START + 5 * SETTINGS.interval
    with pytest.raises(Stopped):
        bench.keep()
    assert len(bench.provider.asked) >= 3

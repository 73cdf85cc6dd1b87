"""The lease's arithmetic: jitter, token life, and what a runtime is told."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelseal.contract import MAX_TOKEN_TTL
from modelseal_sidecar.lease import JITTER, LOGIN_PAUSE, MARGIN, Lease
from modelseal_sidecar.settings import LeaseSettings

SETTINGS = LeaseSettings(interval=60.0, max_stale=3600.0)


def begun(now: float = 1000.0) -> Lease:
    return Lease.begin(SETTINGS, now=now, factor=0.5)


@given(st.floats(0, 1, exclude_max=True), st.floats(5, 3600), st.floats(0, 1e6))
def test_checks_are_spread_by_a_fifth_around_the_interval(
    factor: float, interval: float, now: float
) -> None:
    settings = LeaseSettings(interval=interval, max_stale=7200.0)
    lease = Lease.begin(settings, now=now, factor=0.5)
    pause = lease.scheduled(now, factor, login=False).next_check - now
    assert interval * (1 - JITTER) - 1e-6 <= pause <= interval * (1 + JITTER) + 1e-6


def test_a_runtime_is_told_the_longest_pause_and_a_margin() -> None:
    assert begun().valid_for(1000.0) == pytest.approx(60 * 1.2 + MARGIN)


def test_what_a_runtime_is_told_counts_down_to_max_stale() -> None:
    lease = begun()
    assert lease.valid_for(1000 + 3600 - 30) == 30.0
    assert lease.valid_for(1000 + 3600) == 0.0
    assert lease.valid_for(1000 + 9999) == 0.0


def test_a_confirmation_counts_from_when_the_check_was_begun() -> None:
    assert begun().confirm(1060.0).stale_at == 1060.0 + 3600.0


def test_a_late_answer_to_an_old_check_does_not_shorten_the_right() -> None:
    assert begun().confirm(900.0).stale_at == 1000.0 + 3600.0


def test_the_seals_end_limits_what_a_runtime_is_told() -> None:
    assert begun().valid_for(1000.0, rest=7.0) == 7.0
    assert begun().valid_for(1000.0, rest=-7.0) == 0.0


@pytest.mark.parametrize(
    ("token_seconds", "due"),
    [(60.0, 1030.0), (86400.0, 1000.0 + MAX_TOKEN_TTL / 2), (-5.0, 1010.0), (None, math.inf)],
)
def test_a_login_is_due_while_the_token_is_good_and_within_five_minutes(
    token_seconds: float | None, due: float
) -> None:
    assert begun().logged_in(1000.0, token_seconds, 0.0).login_due == due


@given(st.floats(0, 1, exclude_max=True))
def test_logins_are_spread_so_that_pods_which_began_together_do_not_stay_together(
    factor: float,
) -> None:
    pause = begun().logged_in(0.0, 300.0, factor).login_due
    assert pause == pytest.approx(150 * (1 - factor / 2))


@given(st.floats(0, 1, exclude_max=True))
def test_the_first_check_is_anywhere_within_one_interval(factor: float) -> None:
    """Else a thousand pods that began together would ask together, and then be silent."""
    assert Lease.begin(SETTINGS, now=0.0, factor=factor).next_check == pytest.approx(60 * factor)


@given(st.floats(0, 1, exclude_max=True))
def test_the_first_login_after_an_opening_is_anywhere_within_its_share_of_the_tokens_life(
    factor: float,
) -> None:
    due = begun(0.0).opened(0.0, 300.0, factor).login_due
    assert due == pytest.approx(LOGIN_PAUSE + (150 - LOGIN_PAUSE) * factor)


def test_a_short_token_is_replaced_no_faster_than_the_pause_allows() -> None:
    assert begun(0.0).opened(0.0, 6.0, 0.9).login_due == pytest.approx(LOGIN_PAUSE)
    assert begun(0.0).opened(0.0, None, 0.9).login_due == math.inf


def test_a_login_that_could_not_be_made_is_tried_again_with_the_next_check() -> None:
    late = begun().logged_in(1000.0, 60.0, 0.0).scheduled(1030.0, 0.5, login=True)
    assert late.login_due == late.next_check == late.due == 1090.0


def test_a_login_that_came_due_during_another_check_is_made_at_once() -> None:
    """Put off by an interval, it would leave less of the token's life than is promised."""
    due = begun().logged_in(1000.0, 60.0, 0.0).scheduled(1030.1, 0.5, login=False)
    assert (due.login_due, due.due) == (1030.0, 1030.0)


def test_a_shorter_interval_acts_at_once() -> None:
    longest = begun(0.0).scheduled(0.0, 0.99, login=False)
    shorter = longest.with_settings(LeaseSettings(interval=5.0, max_stale=60.0), 10.0)
    assert shorter.next_check == pytest.approx(16.0)


def test_a_longer_max_stale_acts_at_once() -> None:
    lease = begun().with_settings(LeaseSettings(interval=60.0, max_stale=9000.0), 1010.0)
    assert lease.stale_at == 10000.0


def test_a_shorter_max_stale_leaves_time_for_a_question() -> None:
    short = LeaseSettings(interval=5.0, max_stale=20.0)
    lease = begun().with_settings(short, 1500.0)
    assert lease.stale_at == 1520.0
    assert lease.with_settings(short, 1510.0).stale_at == 1520.0
    assert lease.confirm(1505.0).stale_at == 1525.0
    assert begun().with_settings(short, 4590.0).stale_at == 4600.0


def test_the_same_settings_change_nothing() -> None:
    assert begun().with_settings(SETTINGS, 1010.0) == begun()

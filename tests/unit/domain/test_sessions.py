"""Sessions and trade dates, through daylight saving, holidays and half days."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketfeed.domain.errors import SettingError
from marketfeed.domain.sessions import SESSIONS, Hours, calendar
from marketfeed.domain.trades import NANOS

US = calendar("us-equity")
ALWAYS = calendar("24x7")
NEW_YORK = ZoneInfo("America/New_York")


def ns(text: str) -> int:
    """An instant of New York."""
    return int(datetime.fromisoformat(text).replace(tzinfo=NEW_YORK).timestamp()) * NANOS


@pytest.mark.parametrize(
    ("instant", "session"),
    [
        ("2025-03-07T03:59:59", "closed"),
        ("2025-03-07T04:00:00", "pre"),
        ("2025-03-07T09:29:59", "pre"),
        ("2025-03-07T09:30:00", "regular"),  # winter time
        ("2025-03-10T09:30:00", "regular"),  # summer time began the day before
        ("2025-03-10T15:59:59", "regular"),
        ("2025-03-10T16:00:00", "post"),
        ("2025-03-10T19:59:59", "post"),
        ("2025-03-10T20:00:00", "closed"),
        ("2025-03-08T12:00:00", "closed"),  # Saturday
        ("2025-07-04T12:00:00", "closed"),  # Independence Day
        ("2025-01-09T12:00:00", "closed"),  # a day of mourning
        ("2025-11-28T12:59:59", "regular"),  # half day
        ("2025-11-28T13:00:00", "post"),
        ("2025-11-28T17:00:00", "closed"),
        ("2025-12-31T19:59:59", "post"),  # the next UTC year has begun
    ],
)
def test_us_equity_sessions(instant: str, session: str) -> None:
    """Each edge belongs to the session that it begins, and the trade date is New York's."""
    assert US.session_of(ns(instant)) == session
    assert US.trade_date(ns(instant)) == date.fromisoformat(instant[:10])


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(1_700_000_000, 1_860_000_000), min_size=1, max_size=5), st.sampled_from(["us-equity", "24x7"])
)
def test_columns_and_single_instants_agree(seconds: list[int], name: str) -> None:
    """The vectorised answers are those for one instant; a day contains its instants."""
    chosen = calendar(name)
    start_s = np.array(seconds, np.int64)
    dates = chosen.trade_dates(start_s).astype(object).tolist()
    starts = chosen.day_starts(start_s).tolist()
    assert chosen.name == name
    assert dates == [chosen.trade_date(s * NANOS) for s in seconds]
    assert [SESSIONS[c] for c in chosen.sessions(start_s)] == [chosen.session_of(s * NANOS) for s in seconds]
    for second, day, start in zip(seconds, dates, starts, strict=True):
        assert chosen.day(day)[0] == start <= second < chosen.day(day)[1]


def test_days_follow_each_other_and_have_23_to_25_hours() -> None:
    """Trade dates cover all time, daylight saving included."""
    lengths = set()
    day = date(2025, 1, 1)
    while day.year == 2025:
        start, end = US.day(day)
        assert end == US.day(day + timedelta(days=1))[0]
        lengths.add((end - start) // 3600)
        day += timedelta(days=1)
    assert lengths == {23, 24, 25}


def test_hours_of_a_day_can_be_drawn() -> None:
    """Sessions of a day come in order; a day without trading has none; 24x7 is one long session."""
    hours = US.hours(date(2025, 11, 28))
    assert [(h.session, (h.end_s - h.start_s) / 3600) for h in hours] == [("pre", 5.5), ("regular", 3.5), ("post", 4.0)]
    assert US.hours(date(2025, 12, 25)) == ()
    midnight = int(datetime(2025, 12, 25, tzinfo=UTC).timestamp())
    assert ALWAYS.hours(date(2025, 12, 25)) == (Hours("regular", midnight, midnight + 86_400),)


def test_no_seconds_no_answers() -> None:
    """Empty columns are answered by empty columns."""
    none = np.empty(0, np.int64)
    for chosen in (US, ALWAYS):
        assert len(chosen.sessions(none)) == len(chosen.trade_dates(none)) == len(chosen.day_starts(none)) == 0


def test_an_unknown_calendar_is_a_wrong_setting() -> None:
    """The sentence names the calendars there are."""
    with pytest.raises(SettingError, match="24x7 or us-equity"):
        calendar("lunar")

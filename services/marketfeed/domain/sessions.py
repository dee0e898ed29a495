"""Trading calendars: which session an instant belongs to, and which trade date.

    24x7       every instant is `regular`; the trade date is the UTC day
    us-equity  New York: 04:00 pre, 09:30 regular, 16:00 post, 20:00 closed; on half days 13:00 post, 17:00 closed;
               weekends and NYSE holidays closed. The trade date is New York's calendar date, closed hours included

Sessions are half-open: an instant at 16:00:00 is `post`. Instants are looked up in tables of edges built a year at a
time, so what a day looks like is data (`Hours`), daylight saving included. Nothing here reads a clock; the time zone
and the holidays come from `zoneinfo` and the `holidays` package.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Protocol
from zoneinfo import ZoneInfo

import holidays
import numpy as np
import numpy.typing as npt

from marketfeed.domain.errors import SettingError
from marketfeed.domain.trades import NANOS, Int64Array

SESSIONS = ("closed", "pre", "regular", "post")
CLOSED, PRE, REGULAR, POST = range(4)
DAY_S = 86_400

DateArray = npt.NDArray[np.datetime64]


@dataclass(frozen=True, slots=True)
class Hours:
    """One session within a day: name and [start_s, end_s), Unix seconds."""

    session: str
    start_s: int
    end_s: int


class Calendar(Protocol):
    """What a calendar answers. Arrays hold Unix seconds (int64), single instants Unix nanoseconds."""

    @property
    def name(self) -> str:
        """The setting that chooses it."""

    def sessions(self, start_s: Int64Array) -> npt.NDArray[np.int8]:
        """The session of each second, as a position in SESSIONS."""

    def trade_dates(self, start_s: Int64Array) -> DateArray:
        """The trade date of each second, datetime64[D]."""

    def day_starts(self, start_s: Int64Array) -> Int64Array:
        """The second at which each second's trade date begins."""

    def session_of(self, event_ts: int) -> str:
        """The session of an instant: pre, regular, post or closed."""

    def trade_date(self, event_ts: int) -> date:
        """The trade date of an instant."""

    def day(self, day: date) -> tuple[int, int]:
        """[start, end) of a trade date."""

    def hours(self, day: date) -> tuple[Hours, ...]:
        """The open sessions of a trade date in order, none on a day without trading."""


def calendar(name: str) -> Calendar:
    """The calendar of that name. Raises SettingError for an unknown one."""
    if name == "24x7":
        return AlwaysOpen()
    if name == "us-equity":
        return UsEquity()
    raise SettingError("MARKETFEED_CALENDAR", f"is {name!r}; it must be 24x7 or us-equity")


class AlwaysOpen:
    """24x7: crypto, FX, and anything without hours of its own."""

    name = "24x7"

    def sessions(self, start_s: Int64Array) -> npt.NDArray[np.int8]:
        """Always REGULAR."""
        return np.full(len(start_s), REGULAR, np.int8)

    def trade_dates(self, start_s: Int64Array) -> DateArray:
        """UTC days."""
        return (start_s // DAY_S).astype("datetime64[D]")

    def day_starts(self, start_s: Int64Array) -> Int64Array:
        """UTC midnights."""
        return start_s // DAY_S * DAY_S

    def session_of(self, event_ts: int) -> str:
        """Always regular."""
        return SESSIONS[REGULAR]

    def trade_date(self, event_ts: int) -> date:
        """The UTC day."""
        return date(1970, 1, 1) + timedelta(days=event_ts // NANOS // DAY_S)

    def day(self, day: date) -> tuple[int, int]:
        """From UTC midnight to UTC midnight."""
        start_s = (day - date(1970, 1, 1)).days * DAY_S
        return start_s, start_s + DAY_S

    def hours(self, day: date) -> tuple[Hours, ...]:
        """One session, all day."""
        return (Hours(SESSIONS[REGULAR], *self.day(day)),)


class UsEquity:
    """us-equity: the consolidated tape's hours in New York."""

    name = "us-equity"

    def sessions(self, start_s: Int64Array) -> npt.NDArray[np.int8]:
        """By the table of session edges."""
        table = _table_of(start_s)
        return table.session[np.searchsorted(table.edge_s, start_s, "right") - 1]

    def trade_dates(self, start_s: Int64Array) -> DateArray:
        """New York's calendar dates."""
        table = _table_of(start_s)
        return table.day[np.searchsorted(table.midnight_s, start_s, "right") - 1]

    def day_starts(self, start_s: Int64Array) -> Int64Array:
        """New York's midnights."""
        table = _table_of(start_s)
        return table.midnight_s[np.searchsorted(table.midnight_s, start_s, "right") - 1]

    def session_of(self, event_ts: int) -> str:
        """By the table of session edges."""
        return SESSIONS[int(self.sessions(np.array([event_ts // NANOS], np.int64))[0])]

    def trade_date(self, event_ts: int) -> date:
        """New York's calendar date."""
        return datetime.fromtimestamp(event_ts // NANOS, _NEW_YORK).date()

    def day(self, day: date) -> tuple[int, int]:
        """From midnight to midnight in New York: 23, 24 or 25 hours."""
        return _instant(day, time()), _instant(day + timedelta(days=1), time())

    def hours(self, day: date) -> tuple[Hours, ...]:
        """Pre, regular and post, earlier on half days."""
        if day.weekday() >= _SATURDAY or day in _nyse(day.year)[0]:
            return ()
        close, end = _HALF_DAY if day in _nyse(day.year)[1] else _FULL_DAY
        edges = [_instant(day, at) for at in (_PRE_FROM, _REGULAR_FROM, close, end)]
        names = (SESSIONS[PRE], SESSIONS[REGULAR], SESSIONS[POST])
        return tuple(Hours(name, *edges[i : i + 2]) for i, name in enumerate(names))


_NEW_YORK = ZoneInfo("America/New_York")
_SATURDAY = 5
_PRE_FROM, _REGULAR_FROM = time(4), time(9, 30)
# When the regular session closes and when the post session ends.
_FULL_DAY = (time(16), time(20))
_HALF_DAY = (time(13), time(17))


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    """From edge_s[i] on it is session[i]; midnight_s[i] begins day[i]. All sorted."""

    edge_s: Int64Array
    session: npt.NDArray[np.int8]
    midnight_s: Int64Array
    day: DateArray


def _table_of(start_s: Int64Array) -> _Table:
    """The table that covers all of these seconds, a day more on each side for the zone's offset."""
    if not len(start_s):
        return _table(1970, 1970)
    first = datetime.fromtimestamp(int(start_s.min()) - DAY_S, UTC).year
    last = datetime.fromtimestamp(int(start_s.max()) + DAY_S, UTC).year
    return _table(first, last)


@lru_cache(maxsize=16)
def _table(first_year: int, last_year: int) -> _Table:
    """Edges of all days of these years in New York."""
    calendar = UsEquity()
    edges: list[tuple[int, int]] = []
    days: list[date] = []
    day = date(first_year, 1, 1)
    while day.year <= last_year:
        days.append(day)
        midnight_s, _ = calendar.day(day)
        edges.append((midnight_s, CLOSED))
        for hours in calendar.hours(day):
            edges.append((hours.start_s, SESSIONS.index(hours.session)))
        if calendar.hours(day):
            edges.append((calendar.hours(day)[-1].end_s, CLOSED))
        day += timedelta(days=1)
    edge_s, session = zip(*edges, strict=True)
    return _Table(
        np.array(edge_s, np.int64),
        np.array(session, np.int8),
        np.array([calendar.day(d)[0] for d in days], np.int64),
        np.array(days, "datetime64[D]"),
    )


@lru_cache(maxsize=512)
def _nyse(year: int) -> tuple[frozenset[date], frozenset[date]]:
    """(holidays, half days) of a year."""
    closed = holidays.financial_holidays("NYSE", years=year, categories=("public",))
    half = holidays.financial_holidays("NYSE", years=year, categories=("half_day",))
    return frozenset(closed), frozenset(half)


def _instant(day: date, at: time) -> int:
    """Unix seconds of a wall-clock time in New York."""
    return int(datetime.combine(day, at, _NEW_YORK).timestamp())

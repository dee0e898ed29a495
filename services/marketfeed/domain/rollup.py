"""Bars of 1 minute, 1 hour and 1 day, made of finer bars by the same merge that makes those.

Minutes and hours begin at whole UTC minutes and hours; a day is a trade date of the feed's calendar and begins where
that does. Volumes add up exactly: the sum of the seconds is the minute's, the hour's and the day's. A day may be made
of hours: trade dates begin on whole hours in both calendars.

`late` of a roll-up is the sum of its seconds' late records, so it rises with each revision of one of them; a closed
roll-up with any is REVISED. State, like a second's, follows from the watermark alone: CLOSED at end + 1 s, FINAL at
end + 15 min.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from marketfeed.domain.bar_window import CLOSE_AFTER_S, LATENESS_S
from marketfeed.domain.bars import CLOSED, FINAL, OPEN, REVISED, BarColumns, combine
from marketfeed.domain.sessions import DAY_S, Calendar
from marketfeed.domain.tape import TapeGap
from marketfeed.domain.trades import NANOS, Int64Array

# Interval names of the API and of the tables `bar_<name>`, from fine to coarse.
INTERVALS: dict[str, int] = {"1s": 1, "1m": 60, "1h": 3600, "1d": DAY_S}


def bucket_starts(start_s: Int64Array, interval: str, calendar: Calendar) -> Int64Array:
    """The start of the bar of `interval` that each second belongs to, Unix seconds; KeyError for an unknown one."""
    if interval == "1d":
        return calendar.day_starts(start_s)
    return start_s // INTERVALS[interval] * INTERVALS[interval]


def bucket_ends(start_s: Int64Array, interval: str, calendar: Calendar) -> Int64Array:
    """The end (exclusive) of bars of `interval` that begin at `start_s`; days have 23 to 25 hours."""
    if interval != "1d":
        return start_s + INTERVALS[interval]
    # Half a day beyond the longest day's end is always within the day that follows.
    return calendar.day_starts(start_s + DAY_S + DAY_S // 2)


def roll_up(
    bars: BarColumns,
    interval: str,
    calendar: Calendar,
    watermarks: Mapping[int, int],
    gaps: Iterable[TapeGap] = (),
) -> BarColumns:
    """Bars of `interval` made of all finer bars of the periods they touch.

    bars        finer bars; of each period either all there are, or parts to be merged with the rest by `bars.merge`
                (then take the state of the whole from `with_state`)
    watermarks  of each symbol_id, Unix ns; OPEN where there is none
    gaps        known gaps: they make a period incomplete also where it has no finer bar
    """
    rolled = combine(replace(bars, start_s=bucket_starts(bars.start_s, interval, calendar)))
    end_s = bucket_ends(rolled.start_s, interval, calendar)
    incomplete = rolled.incomplete.copy()
    for gap in gaps:
        touched = (gap.from_ts < end_s * NANOS) & (gap.to_ts >= rolled.start_s * NANOS)
        incomplete |= touched & np.isin(rolled.symbol_id, gap.symbol_id)
    return with_state(replace(rolled, incomplete=incomplete), interval, calendar, watermarks)


def with_state(bars: BarColumns, interval: str, calendar: Calendar, watermarks: Mapping[int, int]) -> BarColumns:
    """The bars with the state that their symbols' watermarks and their late records give them."""
    symbols, position = np.unique(bars.symbol_id, return_inverse=True)
    reached_s = np.array([watermarks.get(s, 0) // NANOS for s in symbols.tolist()], np.int64)[position]
    end_s = bucket_ends(bars.start_s, interval, calendar)
    settled = np.where(bars.late > 0, REVISED, CLOSED)
    state = np.where(reached_s >= end_s + CLOSE_AFTER_S, settled, OPEN)
    return replace(bars, state=np.where(reached_s >= end_s + LATENESS_S, FINAL, state).astype(np.int8))

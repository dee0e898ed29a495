"""What ingest shows of itself: /status, readiness and gauges, refreshed twice a second."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from prometheus_client import Counter

from marketfeed.domain.claims import Claimant
from marketfeed.domain.rates import SymbolRates
from marketfeed.domain.trades import NANOS
from marketfeed.ingest import metrics
from marketfeed.ingest.assignment import Assigner, Assignment
from marketfeed.ingest.buffer import StandbyBuffer
from marketfeed.ingest.cutter import Cutter
from marketfeed.ingest.owner import Owner
from marketfeed.ingest.pipeline import Pipeline
from marketfeed.ingest.quarantine import Quarantine
from marketfeed.ingest.sender import Sender
from marketfeed.ingest.settings import IngestSettings
from marketfeed.ingest.spool import Spool
from marketfeed.runtime.health import Health
from marketfeed.runtime.logs import get_logger

_log = get_logger("ingest")

_REFRESH_S = 0.5
# Nothing is missing: everything that the plan gives is spoken for, by this process or by one that it stands by for.
_SETTLED = ("live", "standby", "idle")
# Kafka has acknowledged nothing for so long although something waits: it is away, whatever the client says.
_STUCK_S = 3.0
# Rates in /status are of the busiest symbols only; the others weigh little in a plan.
_RATES_SHOWN = 200


class SourceState(Protocol):
    """What is shown of the feed's connection; see `adapters.finnhub.SourceState`."""

    connected: bool
    connections: int
    reconnects: int
    refused: int
    watchdog_cuts: int
    problem: str
    retry_in_s: float


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything there is to look at."""

    settings: IngestSettings
    claimant: Claimant
    source: SourceState
    pipeline: Pipeline
    cutter: Cutter
    sender: Sender
    buffer: StandbyBuffer
    spool: Spool
    quarantine: Quarantine
    owner: Owner
    assigner: Assigner


class Status:
    """Refreshes gauges and readiness, and answers /status."""

    def __init__(self, parts: Parts, health: Health) -> None:
        self._parts = parts
        self._health = health
        self._rate = 0.0
        self._seen: dict[Counter, float] = {}
        self._received_at = (0, time.monotonic())
        self._rates = SymbolRates()
        self._assignment = Assignment(frozenset(), frozenset(), 0)
        self.followed: frozenset[str] = frozenset()

    def assigned(self, assignment: Assignment) -> None:
        """The plan in force is this one."""
        self._assignment = assignment

    async def run(self) -> None:
        """Refresh for ever."""
        while True:
            self.refresh()
            await asyncio.sleep(_REFRESH_S)

    def refresh(self) -> None:
        """Bring rate, readiness and metrics up to date."""
        received, now_s = self._parts.pipeline.received, time.monotonic()
        before, before_s = self._received_at
        if now_s - before_s >= _REFRESH_S / 2:
            self._rate = (received - before) / (now_s - before_s)
            self._received_at = (received, now_s)
        self._rates.observe(self._parts.pipeline.received_by_symbol, now_s)
        self._readiness()
        self._count()
        self._gauge()

    def _readiness(self) -> None:
        parts = self._parts
        phase = parts.claimant.phase
        waiting = parts.owner.trouble or "not speaking for all its symbols yet"
        self._say("plan", not parts.assigner.problem, parts.assigner.problem)
        self._say("owner", phase in _SETTLED, f"{phase}: {waiting}")
        stuck_s = max(parts.sender.stuck_s, _STUCK_S if parts.owner.cut_off else 0.0)
        why = f"nothing acknowledged for {stuck_s:.0f} s, {parts.settings.kafka}"
        self._say("kafka", stuck_s < _STUCK_S and not parts.owner.trouble, parts.owner.trouble or why)
        self._say(
            "feed", parts.source.connected, f"{parts.source.problem}; next try in {parts.source.retry_in_s:.1f} s"
        )

    def _say(self, part: str, ok: bool, why: str) -> None:
        """Readiness of a part; a change is logged once."""
        was_waiting = self._health.waiting_for().get(part)
        self._health.ready(part, ok, "" if ok else why)
        if not ok and was_waiting is None:
            _log.warning("waiting", part=part, why=why)
        elif ok and was_waiting is not None:
            _log.info("ready", part=part)

    def _count(self) -> None:
        source, totals = self._parts.source, self._parts.sender.totals
        for counter, value in (
            (metrics.PUBLISHED, totals.published),
            (metrics.DROPPED, totals.dropped),
            (metrics.FAILOVERS, totals.failovers),
            (metrics.RECONNECTS, source.reconnects),
            (metrics.REFUSED, source.refused),
            (metrics.WATCHDOG_CUTS, source.watchdog_cuts),
        ):
            counter.inc(value - self._seen.get(counter, 0))
            self._seen[counter] = value

    def _gauge(self) -> None:
        parts, now_ts = self._parts, time.time_ns()
        producer, spool = parts.sender.producer, parts.spool
        metrics.CONNECTED.set(parts.source.connected)
        metrics.LIVE_SYMBOLS.set(len(parts.cutter.owned))
        metrics.WANTED_SYMBOLS.set(len(self.followed))
        metrics.SILENT_SYMBOLS.set(len(self._silent(now_ts)))
        metrics.SILENCE_S.set(parts.pipeline.silence.longest_s(now_ts))
        metrics.EVENT_AGE_S.set(self._lag_s(now_ts) or 0.0)
        metrics.UNACKED_TRADES.set(parts.sender.unacknowledged_trades)
        metrics.UNACKED_RECORDS.set(producer.buffered_records)
        metrics.UNACKED_BYTES.set(producer.buffered_bytes)
        metrics.BUFFERED_TRADES.set(len(parts.buffer))
        metrics.SPOOL_BYTES.set(spool.bytes_total)
        metrics.SPOOL_RECORDS.set(spool.records_waiting)
        metrics.SPOOL_ERRORS.set(spool.write_errors + spool.damaged)

    def body(self) -> dict[str, Any]:
        """The answer of /status. 64-bit integers are strings."""
        parts, now_ts = self._parts, time.time_ns()
        source, totals, spool = parts.source, parts.sender.totals, parts.spool
        lag_s = self._lag_s(now_ts)
        return {
            "feed": parts.settings.feed,
            "source": parts.settings.source,
            "shard": parts.settings.shard,
            "member": parts.settings.member,
            "instance": parts.claimant.instance,
            "phase": parts.claimant.phase,
            "rate": round(self._rate, 1),
            "lag_s": None if lag_s is None else round(lag_s, 3),
            "last_event_age_s": self._last_event_age_s(now_ts),
            "connected": source.connected,
            "connection": {
                "connections": source.connections,
                "reconnects": source.reconnects,
                "refused": source.refused,
                "watchdog_cuts": source.watchdog_cuts,
                "problem": "" if source.connected else source.problem,
                "retry_in_s": 0.0 if source.connected else round(source.retry_in_s, 1),
            },
            "epochs": sorted(set(parts.cutter.owned.values())),
            "watermark": str(parts.pipeline.clock.value),
            "symbols": {
                "count": len(self.followed),
                "live": len(parts.cutter.owned),
                "hash": symbols_hash(self.followed),
                "owned": len(parts.claimant.held()),
                "assigned": len(self._assignment.mine),
                "silent": len(self._silent(now_ts)),
                "longest_silence_s": round(parts.pipeline.silence.longest_s(now_ts), 1),
                "plan_revision": self._assignment.revision,
            },
            "owns_nothing": self._owns_nothing(),
            "rates": self._shown_rates(),
            "trades": {
                "received": parts.pipeline.received,
                "published": totals.published,
                "unacknowledged": parts.sender.unacknowledged_trades,
                "buffered": len(parts.buffer),
                "buffered_on_disk": parts.buffer.spill.trades if parts.buffer.spill else 0,
                "repeated": parts.pipeline.repeated,
                "quarantined": parts.quarantine.counts,
                "dropped": totals.dropped,
            },
            "spool": {
                "bytes": spool.bytes_total,
                "records": spool.records_waiting,
                "spooled": totals.spooled,
                "drained": totals.drained,
                "write_errors": spool.write_errors,
                "damaged": spool.damaged,
            },
            "gaps": parts.pipeline.gaps + totals.drop_gaps,
        }

    def _owns_nothing(self) -> bool:
        """Whether a plan is known that gives this shard nothing, and nothing is published or on its way any more."""
        parts = self._parts
        serves = parts.cutter.owned or parts.claimant.held() or not parts.sender.idle or parts.spool.bytes_total
        return not (parts.assigner.problem or self._assignment.mine or serves)

    def _shown_rates(self) -> dict[str, float]:
        """Trades a second of the busiest symbols that are subscribed to, whether or not they are published here."""
        table = self._parts.pipeline.symbols
        ids = np.array([found for name in self.followed if (found := table.find(name)) is not None], np.int64)
        return {table.name(one): round(rate, 2) for one, rate in self._rates.busiest(ids, _RATES_SHOWN)}

    def _last_event_age_s(self, now_ts: int) -> float | None:
        """Seconds since a trade arrived; None before the first."""
        arrived_ts = self._parts.pipeline.traded_ts
        return round(max(0.0, (now_ts - arrived_ts) / NANOS), 3) if arrived_ts else None

    def _lag_s(self, now_ts: int) -> float | None:
        """Age of the watermark; None before the first trade."""
        value = self._parts.pipeline.clock.value
        return max(0.0, (now_ts - value) / NANOS) if value else None

    def _silent(self, now_ts: int) -> Any:
        return self._parts.pipeline.silence.silent(now_ts, self._parts.settings.stale_after_s)


def symbols_hash(symbols: frozenset[str]) -> str:
    """Short hash of a set of symbols, by which two processes can see whether they follow the same."""
    return hashlib.blake2b("\n".join(sorted(symbols)).encode(), digest_size=8).hexdigest()


StatusSource = Callable[[], dict[str, Any]]

"""The feed against wires that only remember, in virtual time."""

import json
from collections import Counter
from typing import Any

import pytest

from marketfeed.generator.faults import FaultPlan, parse_fault
from marketfeed.generator.frames import payload_of
from marketfeed.generator.market import Market, MarketShape
from marketfeed.generator.pipeline import Feed, Session
from marketfeed.generator.settings import GeneratorSettings

START_MS = 1_767_366_000_000


class RememberingWire:
    """A socket that takes everything, unless told to be slow."""

    def __init__(self) -> None:
        self.closed = False
        self.buffered_bytes = 0
        self.writes: list[bytes] = []

    def send_frames(self, data: bytes) -> None:
        self.writes.append(data)

    def abort(self) -> None:
        self.closed = True

    def payloads(self) -> list[bytes]:
        """The texts of all frames."""
        found, data = [], b"".join(self.writes)
        while data:
            size, head = data[1], 2
            if size == 126:
                size, head = int.from_bytes(data[2:4]), 4
            elif size == 127:
                size, head = int.from_bytes(data[2:10]), 10
            found.append(payload_of(data[: head + size]))
            data = data[head + size :]
        return found

    def trades(self) -> list[dict[str, Any]]:
        frames = [json.loads(p) for p in self.payloads()]
        return [trade for frame in frames if frame["type"] == "trade" for trade in frame["data"]]


class World:
    """A feed and its clock."""

    def __init__(self, *faults: str, **values: Any) -> None:
        self.now_ms = float(START_MS)
        settings = GeneratorSettings(**({"rate": 2000.0, "symbols": 12} | values))
        market = Market(MarketShape(seed=1, start_ms=START_MS, symbols=settings.symbols, rate=settings.rate))
        plan = FaultPlan(tuple(map(parse_fault, faults)))
        self.feed = Feed(settings, market, plan, lambda: self.now_ms, lambda: int(self.now_ms * 1e6))

    def join(self, *symbols: str) -> tuple[RememberingWire, Session]:
        wire = RememberingWire()
        session = self.feed.open_session(wire)
        for symbol in symbols or self.feed.market.universe.symbols:
            self.feed.on_message(session, json.dumps({"type": "subscribe", "symbol": symbol}))
        return wire, session

    def run(self, for_s: float) -> None:
        for _ in range(round(for_s * 50)):
            self.now_ms += 20
            self.feed.turn()

    def rows(self) -> Counter[str]:
        """Rows per symbol by the manifest."""
        manifest = self.feed.manifest()
        return +Counter(dict(zip(manifest.symbols, manifest.rows_of_symbols().tolist(), strict=True)))


def by_symbol(*wires: RememberingWire) -> Counter[str]:
    return Counter(trade["s"] for wire in wires for trade in wire.trades())


def test_the_manifest_counts_what_was_sent() -> None:
    """Per symbol, and only what was subscribed to."""
    world = World()
    wire, _ = world.join("AAPL", "NVDA", "OANDA:EUR_USD")
    world.run(2.0)
    assert set(by_symbol(wire)) <= {"AAPL", "NVDA", "OANDA:EUR_USD"}
    assert world.rows() == by_symbol(wire)
    assert world.feed.trades == len(wire.trades()) > 500


def test_shards_together_get_what_one_connection_gets() -> None:
    """Who asks changes nothing; symbols that two ask for count once."""
    whole, split = World(), World()
    wire, _ = whole.join()
    names = split.feed.market.universe.symbols
    (a, _), (b, _) = split.join(*names[:7]), split.join(*names[5:])
    whole.run(1.0)
    split.run(1.0)
    assert whole.rows() == split.rows() == by_symbol(wire)
    told = {json.dumps(t) for t in wire.trades()}
    assert told == {json.dumps(t) for t in a.trades() + b.trades()}


def test_trades_nobody_was_there_for_are_not_in_the_manifest() -> None:
    """Before, between and after connections."""
    world = World()
    world.run(1.0)
    assert world.rows() == Counter()
    wire, session = world.join()
    world.run(1.0)
    world.feed.close_session(session, "closed by client")
    world.run(1.0)
    assert world.rows() == by_symbol(wire)
    assert world.feed.connections()[0].trades == len(wire.trades())


def test_stopping_keeps_the_manifest() -> None:
    """No trade after POST /stop."""
    world = World()
    wire, _ = world.join()
    world.run(0.5)
    world.feed.stopped = True
    before = len(wire.trades())
    world.run(1.0)
    assert len(wire.trades()) == before == world.feed.trades


def test_a_slow_reader_is_cut_off() -> None:
    """A vendor does not wait."""
    world = World(send_buffer_bytes_max=1000)
    wire, _ = world.join()
    world.run(0.1)
    wire.buffered_bytes = 1001
    world.run(0.1)
    assert wire.closed
    assert world.feed.connections()[0].reason == "slow"
    assert world.rows() == by_symbol(wire)


def test_a_schedule_far_behind_is_skipped_not_sent_late() -> None:
    """What is skipped is not in the manifest."""
    world = World(behind_ms_max=500)
    wire, _ = world.join()
    world.now_ms += 5_000
    world.run(1.0)
    assert world.feed.skipped > 100
    assert world.rows() == by_symbol(wire)
    # Only lateness on purpose (20 s at most) may make a stamp older than the bound.
    punctual = [t for t in wire.trades() if t["v"] % 10 not in (3, 7) and t["s"].isalpha()]
    assert min(t["t"] for t in punctual) > START_MS + 4_000


def test_too_many_symbols_is_an_in_band_error() -> None:
    """The connection goes on with those it has."""
    world = World(symbols_max=2)
    wire, _ = world.join("AAPL", "NVDA", "TSLA")
    assert [json.loads(p) for p in wire.payloads()] == [{"type": "error", "msg": "Subscribing to too many symbols"}]
    world.run(1.0)
    assert set(by_symbol(wire)) == {"AAPL", "NVDA"}


def test_unsubscribing_ends_a_symbol_and_nonsense_is_answered() -> None:
    """Bad messages get an error, unknown symbols silence."""
    world = World()
    wire, session = world.join("AAPL", "NOSUCH")
    world.feed.on_message(session, b"\xff{")
    world.feed.on_message(session, '{"type":"unsubscribe","symbol":"AAPL"}')
    world.run(1.0)
    assert [json.loads(p)["type"] for p in wire.payloads()] == ["error"]


def test_triple_sends_three_and_counts_one() -> None:
    """Each frame three times; the manifest knows it once."""
    world = World("triple")
    wire, _ = world.join()
    world.run(0.5)
    assert set(Counter(wire.payloads()).values()) == {3}
    assert {s: n * 3 for s, n in world.rows().items()} == by_symbol(wire)


def test_hang_silences_those_who_are_there() -> None:
    """A new connection is well."""
    world = World("hang@1")
    old, _ = world.join()
    world.run(1.5)
    before = len(old.writes)
    new, _ = world.join()
    world.run(1.0)
    assert len(old.writes) == before
    assert not old.closed
    assert new.trades()
    assert world.rows() == by_symbol(old, new)


@pytest.mark.parametrize("fault", ["disconnect@1", "outage@1+2", "disconnect:every_s=0.5@1"])
def test_a_disconnect_cuts_everybody(fault: str) -> None:
    """And the manifest says when and why."""
    world = World(fault)
    wire, _ = world.join()
    world.run(1.5)
    assert wire.closed
    assert world.feed.connections()[0].reason == fault.split("@")[0].split(":")[0]


def test_mute_stops_single_symbols_for_a_while() -> None:
    """The others flow, and it comes back."""
    world = World("mute:symbols=AAPL;NOSUCH@0+1")
    wire, _ = world.join()
    world.run(0.9)
    assert by_symbol(wire)["AAPL"] == 0 < by_symbol(wire)["NVDA"]
    world.run(1.0)
    assert by_symbol(wire)["AAPL"] > 0
    assert world.rows() == by_symbol(wire)


def test_lag_sends_old_stamps() -> None:
    """Nothing is lost by it."""
    world = World("lag:lag_s=2@0")
    wire, _ = world.join()
    world.run(1.9)
    assert not wire.writes
    world.run(1.0)
    assert world.rows() == by_symbol(wire)


def test_reversed_stamps_are_in_the_manifest_as_sent() -> None:
    """Seconds are those of the stamps that clients saw."""
    world = World("reversed:window_ms=400")
    wire, _ = world.join()
    world.run(2.0)
    seconds = world.feed.manifest().seconds
    sent = Counter(t["t"] // 1000 for t in wire.trades())
    told: Counter[int] = Counter()
    for second, rows in zip(seconds.start_s.tolist(), (seconds.trades + seconds.updates).tolist(), strict=True):
        told[second] += rows
    assert told == sent


def test_bad_trades_are_sent_and_not_counted() -> None:
    """One more trade each in the stream, none in the manifest."""
    world = World("bad:what=negative:per_s=20")
    wire, _ = world.join()
    world.run(1.0)
    bad = [t for t in wire.trades() if t["p"] < 0]
    assert 15 <= len(bad) <= 25
    assert world.feed.trades == len(wire.trades()) - len(bad)

"""The fan-out: who gets which bytes when. Time is given; sockets are lists."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marketfeed.domain.access import OPEN
from marketfeed.domain.client_messages import BARS, DEFAULT_CHANNELS, QUOTES, CloseCode, Wish
from marketfeed.domain.client_session import ClientSession, Limits
from marketfeed.mds.clients import NOTHING, Client
from marketfeed.mds.fanout import Fanout
from marketfeed.mds.frames import Frames
from marketfeed.wire.websocket import BarOut, Conflated, Heartbeat, QuoteOut, TradesOut


class Setting:
    """A fan-out over the market's state, with time in turns of 50 ms."""

    def __init__(self, market: Any, new_socket: Any) -> None:
        self.market = market
        self.new_socket = new_socket
        self.goodbyes: list[tuple[Client, Any]] = []
        self.state = market.hub.state
        self.fanout = Fanout(Frames(self.state), 50, lambda *pair: self.goodbyes.append(pair))
        self.now_s = 0.0
        market.log.own("A", "B")
        self.state.commit(0.0)

    def client(
        self, *symbols: str, channels: tuple[str, ...] = DEFAULT_CHANNELS, interval_ms: int = 50, **limits: Any
    ) -> Any:
        session = ClientSession(Limits(**limits), lambda _: True, lambda: True, self.now_s, OPEN)
        session.interval_ms = interval_ms
        socket = self.new_socket()
        client = self.fanout.add(session, socket)
        for symbol in symbols:
            self.fanout.activate(client, [self.state.symbols.id(symbol)], Wish(channels, None))
        return client

    def turns(self, count: int = 1) -> None:
        for _ in range(count):
            self.now_s += 0.05
            self.state.commit(self.now_s)
            self.fanout.tick(self.now_s, int(self.now_s * 1e9))


@pytest.fixture
def setting(market: Any, new_socket: Any) -> Setting:
    return Setting(market, new_socket)


def news(client: Any) -> list[Any]:
    """What a client got, heartbeats apart."""
    return [m for m in client.outlet.take() if not isinstance(m, Heartbeat)]


def test_one_write_a_turn_with_the_newest_state(setting: Setting) -> None:
    """Many trades in a turn are one quote, one message of bars, one write."""
    client = setting.client("A")
    for step in range(10):
        setting.market.log.trade("A", step / 5, 10.0 + step)
    setting.turns()
    assert len(client.outlet.frames) == 1
    bar, quote = news(client)
    assert isinstance(bar, BarOut)
    assert (len(bar.bars.start), bar.bars.close[-1]) == (2, 19.0)
    assert isinstance(quote, QuoteOut)
    assert (quote.price, quote.direction, quote.day.trades) == (19.0, 0, 10)
    setting.turns(3)
    assert news(client) == []


def test_clients_get_what_they_asked_for_and_equal_ones_share_the_bytes(setting: Setting) -> None:
    """Channels and symbols are kept apart; two clients with the same wish get the very same object."""
    quotes, bars = setting.client("A", channels=(QUOTES,)), setting.client("A", channels=(BARS,))
    twin, other, idle = setting.client("A", channels=(QUOTES,)), setting.client("B"), setting.client()
    setting.market.log.trade("A", 0, 10.0)
    setting.turns()
    assert quotes.outlet.frames[0] is twin.outlet.frames[0]
    assert [type(m) for m in news(quotes)] == [QuoteOut]
    assert [type(m) for m in news(bars)] == [BarOut]
    assert news(other) == news(idle) == []
    assert quotes.subscription is twin.subscription
    assert setting.fanout.subscriptions == 4
    assert setting.fanout.watched == {0, 1}


def test_a_longer_interval_brings_the_same_bars_in_fewer_messages(setting: Setting) -> None:
    """Every fourth turn, with all that changed in between."""
    fast, slow = setting.client("A"), setting.client("A", interval_ms=200)
    writes = []
    for turn in range(8):
        setting.market.log.trade("A", turn, 10.0 + turn)
        setting.turns()
        writes.append(len(slow.outlet.frames))
    starts = [start for m in news(slow) if isinstance(m, BarOut) for start in m.bars.start]
    assert starts == [start for m in news(fast) if isinstance(m, BarOut) for start in m.bars.start]
    assert writes[-1] <= 3


def test_a_slow_client_is_skipped_told_and_served_the_newest(setting: Setting) -> None:
    """Nothing is written while its socket is full; then one message says what was merged, and the state is whole."""
    client = setting.client("A", buffer_bytes_max=1000)
    client.outlet.buffered_bytes = 5000
    for turn in range(5):
        setting.market.log.trade("A", turn, 10.0 + turn)
        setting.turns()
    assert client.outlet.frames == []
    client.outlet.buffered_bytes = 0
    setting.turns()
    conflated, bar, quote = news(client)
    assert isinstance(conflated, Conflated)
    assert (conflated.count, conflated.max_age_ms) == (10, 250)
    assert len(bar.bars.start) == 5
    assert quote.price == 14.0
    setting.turns()
    assert news(client) == []


def test_a_client_that_takes_nothing_is_told_goodbye_once(setting: Setting) -> None:
    """After the stall time with 4003, and it is out of the fan-out at once; the others notice nothing."""
    stuck, other = setting.client("A", buffer_bytes_max=1000, stall_s=1.0), setting.client("A")
    stuck.outlet.buffered_bytes = 5000
    for turn in range(40):
        setting.market.log.trade("A", turn / 10, 10.0 + turn)
        setting.turns()
    assert [(c, g.code) for c, g in setting.goodbyes] == [(stuck, CloseCode.SLOW_CLIENT)]
    assert setting.fanout.clients == 1
    assert [m.price for m in news(other) if isinstance(m, QuoteOut)] == [10.0 + turn for turn in range(40)]


def test_everybody_has_a_heartbeat_a_second(setting: Setting) -> None:
    """Idle or not; with the watermark of one's own symbols, and of none without symbols."""
    idle, busy = setting.client(), setting.client("A")
    setting.market.log.watermark(5)
    setting.turns(40)
    for client, watermark in ((idle, None), (busy, str((1_790_000_005) * 10**9))):
        beats = [m for m in client.outlet.take() if isinstance(m, Heartbeat)]
        assert [beat.watermark_ts for beat in beats] == [watermark] * 2


def test_a_left_symbol_is_silent_and_a_removed_client_is_forgotten(setting: Setting) -> None:
    """Deactivation and removal take effect at once, and shared subscriptions are let go with their last user."""
    client = setting.client("A", "B")
    setting.fanout.deactivate(client, [setting.state.symbols.id("A")])
    setting.market.log.trade("A", 0, 10.0)
    setting.market.log.trade("B", 0, 20.0)
    setting.turns()
    assert {m.symbol for m in news(client)} == {"B"}
    setting.fanout.remove(client)
    setting.fanout.remove(client)
    assert (setting.fanout.clients, setting.fanout.subscriptions, setting.fanout.watched) == (0, 0, frozenset())
    assert client.subscription is NOTHING


def test_what_all_have_seen_is_forgotten(setting: Setting) -> None:
    """The change log does not grow with time, only with the slowest client's delay."""
    setting.client("A")
    for turn in range(200):
        setting.market.log.trade("A", turn / 10, 10.0)
        setting.turns()
    assert len(setting.state.log) <= 65


def taped(setting: Setting, *symbols: str, **options: Any) -> Any:
    """A client that gets trades of these symbols."""
    client = setting.client(**options)
    setting.fanout.tape_from(client, [setting.state.symbols.id(symbol) for symbol in symbols])
    return client


def traded(client: Any) -> list[tuple[str, int]]:
    """Symbol and offset of each trade that came."""
    return [(m.symbol, offset) for m in news(client) if isinstance(m, TradesOut) for offset in m.offset]


def test_every_trade_comes_to_all_that_are_in_step_by_the_same_bytes(setting: Setting) -> None:
    """However long their intervals; frames are encoded once, and a client of one symbol gets that one alone."""
    twins, slow, one = (
        [taped(setting, "A", "B") for _ in range(2)],
        taped(setting, "A", "B", interval_ms=400),
        taped(setting, "B"),
    )
    for turn in range(16):
        setting.market.log.trade("AB"[turn % 2], turn / 10, 10.0 + turn)
        setting.turns()
    offsets = [("AB"[turn % 2], turn + 1) for turn in range(16)]
    assert twins[0].outlet.frames[5] is twins[1].outlet.frames[5]
    assert traded(twins[0]) == offsets
    assert sorted(traded(slow), key=lambda trade: trade[1]) == offsets
    assert traded(one) == [trade for trade in offsets if trade[0] == "B"]


def test_a_client_without_room_keeps_its_place_and_one_that_lost_it_goes(setting: Setting) -> None:
    """Skipped turns cost no trade; once the ring has let go of the place the end is 4006, and nobody else notices."""
    setting.state.tape._bytes_max = 12_000
    client, other = (taped(setting, "A", buffer_bytes_max=1000) for _ in range(2))
    for lost in (False, True):
        client.outlet.buffered_bytes = 5000
        for turn in range(20 if lost else 5):
            setting.market.log.trade("A", turn / 10, 10.0)
            setting.turns()
        client.outlet.buffered_bytes = 0
        setting.turns()
        if not lost:
            assert [offset for _, offset in traded(client)] == [1, 2, 3, 4, 5]
    assert [(c, g.code) for c, g in setting.goodbyes] == [(client, CloseCode.TAPE_LOST)]
    assert [offset for _, offset in traded(other)] == list(range(1, 26))


def test_one_write_a_turn_with_the_heartbeat_too(setting: Setting) -> None:
    """Trades, quotes, bars and the heartbeat go out together."""
    client = taped(setting, "A")
    setting.fanout.activate(client, [setting.state.symbols.id("A")], Wish(DEFAULT_CHANNELS, None))
    writes = []
    for turn in range(40):
        setting.market.log.trade("A", turn / 10, 10.0)
        setting.turns()
        writes.append(len(client.outlet.frames))
    assert writes == list(range(1, 41))


def test_a_heartbeat_tells_the_position_only_when_it_means_something(setting: Setting) -> None:
    """None while a snapshot is on its way; with trades that wait, neither the newest position nor a watermark."""
    client = taped(setting, "A", interval_ms=60_000)
    setting.market.log.watermark(5)
    setting.turns(20)
    client.settled = False
    setting.turns(20)
    client.settled = True
    assert [m.position for m in client.outlet.take()] == ["topic@0=2", None]
    setting.market.log.trade("A", 1, 10.0)
    setting.turns(20)
    trades, beat = client.outlet.take()
    assert (trades.offset, beat.position, beat.watermark_ts) == ([2], "topic@0=3", str(1_790_000_005 * 10**9))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.booleans()), max_size=60))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_pattern_of_trading_and_stopping_costs_or_repeats_a_trade(
    new_market: Any, new_socket: Any, steps: list[tuple[int, int, bool]]
) -> None:
    """Trades come, clients of different intervals have room or not: each has every trade once, in order, at the end."""
    setting = Setting(new_market(), new_socket)
    clients = [taped(setting, "A", "B", interval_ms=interval) for interval in (50, 100, 350)]
    for trades, client, stops in steps:
        for _ in range(trades):
            setting.market.log.trade("AB"[trades % 2], 1.0, 10.0)
        clients[client].outlet.buffered_bytes = 10**9 if stops else 0
        setting.turns()
    for client in clients:
        client.outlet.buffered_bytes = 0
    setting.turns(8)
    everything = list(range(1, 1 + sum(trades for trades, _, _ in steps)))
    for client in clients:
        assert sorted(offset for _, offset in traded(client)) == everything


def test_an_unauthenticated_client_is_sent_away(setting: Setting) -> None:
    """With its heartbeat, once its time is over."""
    client = setting.client(auth_s=1.0)
    client.session.principal = None
    setting.turns(60)
    assert not client.outlet.take(), "nobody is told anything before it is known who they are"
    assert [(c, g.code) for c, g in setting.goodbyes] == [(client, CloseCode.NOT_AUTHENTICATED)]

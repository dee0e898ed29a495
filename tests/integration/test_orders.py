"""Orders end to end: a feed, its log, mds, PostgreSQL and the order service as processes; killed, overtaken, with gaps.

What must hold is checked from outside: the table of fills against the log, print by print, and the answers that
clients got against what is stored.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import asyncpg
import numpy as np
import pytest
from tests.integration.orders_bench import until
from tests.integration.processes import PARTITIONS, Bench, Process

from marketfeed.adapters.kafka import LogConsumer, trades_topic
from marketfeed.client.market_data import MarketDataClient
from marketfeed.client.orders import OrdersClient
from marketfeed.domain.errors import CallRefused, CallStatus, Unavailable
from marketfeed.domain.order_matching import nanos
from marketfeed.domain.ownership import PartitionReader
from marketfeed.domain.tape import TapeTrades
from marketfeed.domain.trades import NANOS, SymbolTable
from marketfeed.local.stack import Addresses
from marketfeed.prepare.steps import ensure_tables
from marketfeed.runtime.tasks import TaskKit
from marketfeed.wire.v1 import orders_pb2 as pb

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]
# What a client may do after these is ask again.
AGAIN = (CallStatus.UNAVAILABLE, CallStatus.RESOURCE_EXHAUSTED)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@dataclass
class Market:
    """A running feed with mds, and what starts order services on it."""

    bench: Bench
    stack: Addresses
    feed: str
    generator: Process
    market_data: str
    symbols: list[str]
    mds: Process = field(init=False)
    port: int = field(default_factory=free_port)

    async def start_mds(self) -> Process:
        """mds, serving."""
        mds = await self.bench.start(
            "mds", feed=self.feed, kafka=self.stack.kafka, redis=self.stack.redis, postgres=self.stack.postgres,
            public_port=0, grpc_port=self.market_data.rpartition(":")[2], open="yes",
        )  # fmt: skip
        await mds.until(lambda status: status["ready"] and status["rate"])
        return mds

    async def orders(self, port: int | None = None) -> Process:
        """Another process of the order service, ready or standing by."""
        return await self.bench.start(
            "orders", feed=self.feed, postgres=self.stack.postgres, market_data=self.market_data,
            orders_port=port or self.port, orders_http_port=0, open="yes",
            ticks="0:0.000000001", collar_pct=50.0, takeover_s=1.5,
        )  # fmt: skip


@pytest.fixture
async def market(bench: Bench, stack: Addresses, feed: str) -> Market:
    """40 symbols, 1,500 trades a second."""
    await ensure_tables(stack.postgres)
    generator = await bench.generator(rate=1500)
    await bench.ingest(generator, stack.kafka, feed)
    address = f"127.0.0.1:{free_port()}"
    found = Market(bench, stack, feed, generator, address, await bench.symbols(generator))
    found.mds = await found.start_mds()
    return found


class Trader:
    """Submits orders around the market, each until it is answered, and keeps the answers."""

    def __init__(self, client: OrdersClient, prices: MarketDataClient, symbols: Sequence[str], seed: int) -> None:
        self._client = client
        self._prices = prices
        self._symbols = symbols
        self._random = random.Random(seed)
        self._name = f"t{seed}"
        self.requests: dict[str, pb.SubmitOrderRequest] = {}
        self.answers: dict[str, pb.Order] = {}
        self.tries = 0

    async def trade(self, until: asyncio.Event) -> None:
        while not until.is_set():
            with suppress(CallRefused, Unavailable):
                request = await self._request()
                if answer := await self._answered(request, until):
                    self.answers[request.client_order_id] = answer

    async def _request(self) -> pb.SubmitOrderRequest:
        symbol = self._random.choice(self._symbols)
        price = (await self._prices.reference_price(symbol, 5_000)).price_nanos
        key = f"{self._name}-{len(self.requests)}"
        market = self._random.random() < 0.1
        request = pb.SubmitOrderRequest(
            client_order_id=key,
            symbol=symbol,
            side=self._random.choice((pb.SIDE_BUY, pb.SIDE_SELL)),
            type=pb.ORDER_TYPE_MARKET if market else pb.ORDER_TYPE_LIMIT,
            time_in_force=pb.TIME_IN_FORCE_IOC
            if market
            else self._random.choice((pb.TIME_IN_FORCE_GTC, pb.TIME_IN_FORCE_DAY, pb.TIME_IN_FORCE_IOC)),
            quantity_nanos=self._random.randint(1, 300) * NANOS,
            limit_price_nanos=0 if market else round(price * self._random.uniform(0.999, 1.001)),
        )
        self.requests[key] = request
        return request

    async def _answered(self, request: pb.SubmitOrderRequest, until: asyncio.Event) -> pb.Order | None:
        """Ask until there is an answer, or time is up; the service may be killed meanwhile."""
        while not until.is_set():
            self.tries += 1
            try:
                return (await self._client.submit(request, 5.0)).order
            except Unavailable:
                pass
            except CallRefused as refused:
                if refused.status not in AGAIN:
                    raise
            await asyncio.sleep(0.05)
        return None


async def more_answers(traders: Sequence[Trader], count: int) -> None:
    """Wait until they have so many more answers."""

    def answers() -> int:
        return sum(len(trader.answers) for trader in traders)

    wanted = answers() + count
    await until(lambda: answers() >= wanted, "answers", 60)


async def patiently(client: OrdersClient, request: pb.ListOrdersRequest) -> pb.ListOrdersResponse:
    """A page, for up to 15 s: gRPC connects again only some seconds after a process was killed."""
    end_s = time.monotonic() + 15
    while True:
        try:
            return await client.list(request)
        except Unavailable:
            assert time.monotonic() < end_s, "no connection"
            await asyncio.sleep(0.1)


async def everything(client: OrdersClient) -> list[pb.Order]:
    """All orders of the account."""
    found: list[pb.Order] = []
    after = ""
    while True:
        page = await patiently(client, pb.ListOrdersRequest(after=after, limit=1000))
        found += page.orders
        if not page.next_after:
            return found
        after = page.next_after


async def prints_of_the_log(kafka: str, feed: str) -> dict[tuple[int, int, int], tuple[str, int, int, int]]:
    """(partition, offset, index) -> (symbol, event_ts, price, size) of every trade that counts, in nanos."""
    symbols, found = SymbolTable(), {}
    readers = {partition: PartitionReader(partition, symbols) for partition in range(PARTITIONS)}
    log = LogConsumer(kafka, trades_topic(feed))
    await log.assign(dict.fromkeys(readers, 0))
    ends = await log.end_offsets()
    while any(log.positions[p] < ends[p] for p in readers):
        for record in await log.poll(500, 1.0):
            for event in readers[record.partition].read([record]):
                if isinstance(event, TapeTrades):
                    names = [symbols.name(i) for i in event.symbol_id.tolist()]
                    columns = (event.event_ts, nanos(event.price), nanos(event.size))
                    values = zip(names, *(column.tolist() for column in columns), strict=True)
                    keys = zip(event.offset.tolist(), event.index.tolist(), strict=True)
                    found |= {(record.partition, *k): v for k, v in zip(keys, values, strict=True)}
    await log.close()
    return found


async def rows(dsn: str, query: str, *arguments: object) -> list[Any]:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetch(query, *arguments)
    finally:
        await connection.close()


async def check_fills(stack: Addresses, feed: str) -> Counter[int]:
    """Every fill is a print of the log that was for its order, no print is used beyond its size, and orders' sums are
    those of their fills. Returns how many fills each tape gave."""
    fills = await rows(
        stack.postgres,
        "SELECT f.*, o.symbol, o.side, o.limit_price, o.queued_ts FROM orders.fill f"
        " JOIN orders.placed o USING (feed, order_no) WHERE feed = $1 AND f.partition IS NOT NULL",
        feed,
    )
    logged = await prints_of_the_log(stack.kafka, feed)
    used: Counter[tuple[int, int, int]] = Counter()
    for fill in fills:
        name = (fill["partition"], fill["log_offset"], fill["idx"])
        symbol, event_ts, price, _ = logged[name]
        assert (fill["symbol"], fill["event_ts"], fill["price"]) == (symbol, event_ts, price)
        assert event_ts > fill["queued_ts"]
        assert price <= fill["limit_price"] if fill["side"] == pb.SIDE_BUY else price >= fill["limit_price"]
        used[name] += fill["quantity"]
    assert [name for name, quantity in used.items() if quantity > logged[name][3]] == []
    wrong = await rows(
        stack.postgres,
        "SELECT o.order_no FROM orders.placed o LEFT JOIN"
        " (SELECT feed, order_no, sum(quantity) AS q, sum(quantity::numeric * price) AS n FROM orders.fill"
        "  GROUP BY feed, order_no) f USING (feed, order_no)"
        " WHERE feed = $1 AND (coalesce(f.q, 0) <> filled_quantity OR coalesce(f.n, 0) <> filled_notional)",
        feed,
    )
    assert wrong == []
    return Counter(fill["tape"] for fill in fills)


async def check_steps(stack: Addresses, feed: str) -> None:
    """Each order's steps follow each other to where it stands, and the account's numbers have no hole."""
    connection = await asyncpg.connect(stack.postgres)
    try:
        # The service goes on meanwhile, so both tables are read as of one moment.
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            steps = await connection.fetch(
                "SELECT * FROM orders.transition WHERE feed = $1 ORDER BY account, update_no", feed
            )
            placed = await connection.fetch("SELECT order_no, state FROM orders.placed WHERE feed = $1", feed)
    finally:
        await connection.close()
    assert [step["update_no"] for step in steps] == list(range(1, len(steps) + 1))
    stands: dict[int, int] = {}
    for step in steps:
        assert step["from_state"] == stands.get(step["order_no"])
        stands[step["order_no"]] = step["to_state"]
    assert {row["order_no"]: row["state"] for row in placed} == stands


async def test_killed_under_load_no_order_is_lost_and_no_print_used_twice(market: Market) -> None:
    """kill -9 of the order service and of mds while orders come and fill: every answer holds, every fill is real."""
    orders = await market.orders()
    await orders.until(lambda status: status["ready"])
    target, done = f"127.0.0.1:{market.port}", asyncio.Event()
    async with MarketDataClient(market.market_data) as prices, OrdersClient(target) as client:
        traders = [Trader(client, prices, market.symbols, seed) for seed in range(8)]
        async with TaskKit("traders") as tasks:
            for i, trader in enumerate(traders):
                tasks.spawn(f"t{i}", trader.trade(done))
            for round_ in range(3):
                await more_answers(traders, 150)
                await orders.kill()
                if round_ == 1:
                    await market.mds.kill()
                    market.mds = await market.start_mds()
                orders = await market.orders()
            await orders.until(lambda status: status["ready"] and status["working"])
            await more_answers(traders, 150)
            done.set()
        stored = {order.client_order_id: order for order in await everything(client)}
        for trader in traders:
            for key, answer in trader.answers.items():
                order, request = stored[key], trader.requests[key]
                assert order.order_id == answer.order_id
                assert (order.symbol, order.quantity_nanos) == (request.symbol, request.quantity_nanos)
                assert order.update >= answer.update
                assert order.filled_quantity_nanos >= answer.filled_quantity_nanos
                # Asked again, the same order is told.
            again = await client.submit(trader.requests[key])
            assert again.order.order_id == answer.order_id
        assert sum(trader.tries - len(trader.answers) for trader in traders) > 0
    fills = await check_fills(market.stack, market.feed)
    await check_steps(market.stack, market.feed)
    assert set(fills) == {1}
    assert fills[1] > 50


async def test_of_two_processes_one_answers(market: Market) -> None:
    """The one that starts overtakes the other, which stands by, and comes back when that is killed."""
    one = await market.orders()
    await one.until(lambda status: status["ready"])
    other_port, done = free_port(), asyncio.Event()
    async with (
        MarketDataClient(market.market_data) as prices,
        OrdersClient(f"127.0.0.1:{market.port}") as first,
        OrdersClient(f"127.0.0.1:{other_port}") as second,
    ):
        traders = [
            Trader(client, prices, market.symbols, seed) for seed, client in enumerate((first, first, second, second))
        ]
        async with TaskKit("traders") as tasks:
            for i, trader in enumerate(traders):
                tasks.spawn(f"t{i}", trader.trade(done))
            two = await market.orders(other_port)
            await two.until(lambda status: status["ready"])
            await one.until(lambda status: not status["writer"])
            await more_answers(traders[2:3], 20)
            await two.kill()
            await one.until(lambda status: status["writer"])
            await more_answers(traders[:1], 20)
            two = await market.orders(other_port)
            await two.until(lambda status: status["ready"])
            done.set()
        await one.until(lambda status: not status["writer"])
        stored = {order.client_order_id: order.order_id for order in await everything(second)}
        for trader in traders:
            assert all(stored[key] == answer.order_id for key, answer in trader.answers.items())
    await check_fills(market.stack, market.feed)
    await check_steps(market.stack, market.feed)


async def updates(client: OrdersClient, after: int = 0) -> AsyncIterator[pb.OrderUpdate]:
    async with aclosing(client.stream(after)) as messages:
        async for message in messages:
            if message.HasField("update"):
                yield message.update


async def test_a_gap_of_the_feed_suspends_and_fresh_tape_resumes(market: Market) -> None:
    """The feed's connection breaks: an order that rests is suspended and works again, as its stream tells."""
    orders = await market.orders()
    await orders.until(lambda status: status["ready"])
    async with MarketDataClient(market.market_data) as prices, OrdersClient(f"127.0.0.1:{market.port}") as client:
        symbol = market.symbols[0]
        price = (await prices.reference_price(symbol, 5_000)).price_nanos
        request = pb.SubmitOrderRequest(
            client_order_id="rests", symbol=symbol, side=pb.SIDE_BUY, type=pb.ORDER_TYPE_LIMIT,
            time_in_force=pb.TIME_IN_FORCE_GTC, quantity_nanos=NANOS, limit_price_nanos=round(price * 0.6),
        )  # fmt: skip
        answer = await client.submit(request)
        assert answer.order.state == pb.ORDER_STATE_WORKING
        await market.bench.fault(market.generator, kind="disconnect")
        told: list[tuple[int, str]] = []
        async with asyncio.timeout(60), aclosing(updates(client)) as changes:
            async for update in changes:
                told.append((update.order.state, update.order.reason))
                if len(told) == 3:
                    break
        suspended, working = pb.ORDER_STATE_SUSPENDED, pb.ORDER_STATE_WORKING
        assert told == [(working, ""), (suspended, "FEED_GAP"), (working, "")]


async def test_what_callers_are_told(market: Market) -> None:
    """Refusals with reasons, market orders at the reference price, replacing, cancelling, lists, signs of life."""
    orders = await market.orders()
    await orders.until(lambda status: status["ready"])
    async with MarketDataClient(market.market_data) as prices, OrdersClient(f"127.0.0.1:{market.port}") as client:
        symbol = market.symbols[0]
        price = (await prices.reference_price(symbol, 5_000)).price_nanos
        good = pb.SubmitOrderRequest(
            client_order_id="a", symbol=symbol, side=pb.SIDE_BUY, type=pb.ORDER_TYPE_LIMIT,
            time_in_force=pb.TIME_IN_FORCE_GTC, quantity_nanos=5 * NANOS, limit_price_nanos=round(price * 0.6),
        )  # fmt: skip

        async def refusal(**changed: Any) -> tuple[str, str]:
            request = pb.SubmitOrderRequest()
            request.CopyFrom(good)
            for name, value in changed.items():
                setattr(request, name, value)
            with pytest.raises(CallRefused) as refused:
                await client.submit(request)
            return refused.value.status.name, refused.value.reason

        order = (await client.submit(good)).order
        assert (order.account, order.state) == ("paper", pb.ORDER_STATE_WORKING)
        assert await refusal(quantity_nanos=6 * NANOS) == ("ALREADY_EXISTS", "CLIENT_ORDER_ID_TAKEN")
        assert await refusal(client_order_id="b", symbol="NO.SUCH") == ("NOT_FOUND", "UNKNOWN_SYMBOL")
        assert await refusal(client_order_id="b", quantity_nanos=1) == ("INVALID_ARGUMENT", "BAD_LOT")
        assert await refusal(client_order_id="b", side=0) == ("INVALID_ARGUMENT", "MISSING_WORD")
        good.client_order_id, good.limit_price_nanos = "far", round(price * 0.4)
        far = (await client.submit(good)).order
        assert (far.state, far.reason) == (pb.ORDER_STATE_REJECTED, "OUTSIDE_COLLAR")
        market_order = pb.SubmitOrderRequest(
            client_order_id="m", symbol=symbol, side=pb.SIDE_SELL, type=pb.ORDER_TYPE_MARKET, quantity_nanos=3 * NANOS
        )
        filled = await client.submit(market_order)
        assert (filled.order.state, filled.order.filled_quantity_nanos) == (pb.ORDER_STATE_FILLED, 3 * NANOS)
        (fill,) = filled.fills
        assert (fill.partition, fill.quantity_nanos) == (-1, 3 * NANOS)
        assert np.isclose(fill.price_nanos, price, rtol=0.1)
        replaced = await client.replace(
            pb.ReplaceOrderRequest(
                order_id=order.order_id, new_client_order_id="c", quantity_nanos=4 * NANOS,
                limit_price_nanos=order.limit_price_nanos,
            )
        )  # fmt: skip
        assert (replaced.replaced.state, replaced.order.replaces) == (pb.ORDER_STATE_REPLACED, order.order_id)
        cancelled = await client.cancel(pb.CancelOrderRequest(client_order_id="c"))
        assert cancelled.order.state == pb.ORDER_STATE_CANCELLED
        listed = [o.client_order_id for o in await everything(client)]
        assert listed == ["a", "far", "m", "c"]
        page = await client.list(pb.ListOrdersRequest(limit=2))
        assert (len(page.orders), page.next_after) == (2, far.order_id)
        found = await client.get(pb.GetOrderRequest(order_id=filled.order.order_id))
        assert found.fills == filled.fills
        async with asyncio.timeout(10), aclosing(client.stream(order.update)) as messages:
            beat = None
            while beat is None or not beat.tape_fresh:
                message = await anext(messages)
                beat = message.heartbeat if message.HasField("heartbeat") else beat
        assert abs(beat.server_ts - time.time_ns()) < 5 * NANOS


async def test_a_page_places_orders_over_http(market: Market) -> None:
    """By Connect, in JSON: submit, refuse, cancel, and a stream that tells of each change; gRPC sees them, too."""
    orders = await market.orders()
    base = f"{(await orders.until(lambda status: status['ready']))['http']}/marketfeed.v1.Orders"
    async with (
        MarketDataClient(market.market_data) as prices,
        OrdersClient(f"127.0.0.1:{market.port}") as client,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(15)) as http,
    ):
        symbol = market.symbols[0]
        price = (await prices.reference_price(symbol, 5_000)).price_nanos

        async def call(method: str, **message: Any) -> tuple[int, Any]:
            async with http.post(f"{base}/{method}", json=message) as answer:
                return answer.status, await answer.json()

        rest = {
            "clientOrderId": "w1", "symbol": symbol, "side": "SIDE_BUY", "type": "ORDER_TYPE_LIMIT",
            "timeInForce": "TIME_IN_FORCE_GTC", "quantityNanos": str(5 * NANOS), "limitPriceNanos": str(price * 3 // 5),
        }  # fmt: skip
        status, answer = await call("SubmitOrder", **rest)
        assert (status, answer["order"]["state"]) == (200, "ORDER_STATE_WORKING")
        status, answer = await call("SubmitOrder", **{**rest, "quantityNanos": "1"})
        assert (status, answer["code"]) == (409, "already_exists")
        assert answer["details"][0]["debug"]["reason"] == "CLIENT_ORDER_ID_TAKEN"
        sent = json.dumps({"afterUpdate": "0"}).encode()
        body = b"\x00" + len(sent).to_bytes(4, "big") + sent
        kind = {"Content-Type": "application/connect+json"}
        async with http.post(f"{base}/StreamOrders", data=body, headers=kind) as stream:

            async def next_update() -> Any:
                while True:
                    head = await stream.content.readexactly(5)
                    message = json.loads(await stream.content.readexactly(int.from_bytes(head[1:], "big")))
                    if "update" in message:
                        return message["update"]

            first = await next_update()
            assert (first["order"]["clientOrderId"], first["snapshot"]) == ("w1", True)
            bought = {"clientOrderId": "w2", "symbol": symbol, "side": "SIDE_BUY", "type": "ORDER_TYPE_MARKET"}
            status, answer = await call("SubmitOrder", **bought, quantityNanos=str(2 * NANOS))
            assert (status, answer["order"]["state"]) == (200, "ORDER_STATE_FILLED")
            status, answer = await call("CancelOrder", clientOrderId="w1")
            assert (status, answer["order"]["state"]) == (200, "ORDER_STATE_CANCELLED")
            told: list[tuple[str, str]] = []
            while ("w1", "ORDER_STATE_CANCELLED") not in told:
                order = (await next_update())["order"]
                told.append((order["clientOrderId"], order["state"]))
        assert ("w2", "ORDER_STATE_FILLED") in told
        assert [order.client_order_id for order in await everything(client)] == ["w1", "w2"]

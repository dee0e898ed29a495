"""The generator as a whole, over real sockets."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import numpy as np
import pytest

from marketfeed.adapters.finnhub import FinnhubSource
from marketfeed.domain.errors import SettingError
from marketfeed.domain.intake import Limits, refused
from marketfeed.generator.app import market_shape, run, start_of
from marketfeed.generator.settings import GeneratorSettings
from marketfeed.runtime.health import Health
from marketfeed.runtime.logs import get_logger
from marketfeed.runtime.service import ServiceContext
from marketfeed.wire.finnhub import FrameDecoder
from marketfeed.wire.manifest import decode_manifest


@asynccontextmanager
async def generator(**values: Any) -> AsyncIterator[aiohttp.ClientSession]:
    settings = GeneratorSettings(**({"rate": 2000.0, "symbols": 12} | values))
    context = ServiceContext(name="generator", settings=settings, log=get_logger("t"), health=Health("generator"))
    async with asyncio.TaskGroup() as group:
        group.create_task(run(context))
        async with asyncio.timeout(20):
            while not context.health.is_ready:  # noqa: ASYNC110 - health has no event to wait for
                await asyncio.sleep(0.01)
        try:
            url = str(context.health.status_source()["url"]).replace("ws:", "http:")
            async with aiohttp.ClientSession(url) as client:
                yield client
        finally:
            context.stop()


async def subscribed(client: aiohttp.ClientSession, token: str, *symbols: str) -> aiohttp.ClientWebSocketResponse:
    ws = await client.ws_connect(f"/?token={token}")
    for symbol in symbols:
        await ws.send_json({"type": "subscribe", "symbol": symbol})
    return ws


async def test_what_a_client_received_is_the_manifest() -> None:
    """Over a real socket: every trade received is counted, none else; after /stop the manifest stays."""
    async with generator() as client, asyncio.timeout(30):
        names = (await (await client.get("/symbols")).json())["symbols"]
        ws = await subscribed(client, "k", *names)
        rows = 0
        while rows < 1500:
            rows += len((await ws.receive_json())["data"])
        stopped = await (await client.post("/stop")).json()
        while rows < stopped["rows"]:
            rows += len((await ws.receive_json())["data"])
        manifest = decode_manifest(await (await client.get("/manifest/bars")).read())
        assert manifest.rows_of_symbols().sum() == rows == stopped["rows"]
        assert manifest.stopped
        totals = await (await client.get("/manifest")).json()
        assert totals["trades"] + totals["updates"] == rows
        await ws.close()


async def test_pings_come_in_band() -> None:
    """As the vendor sends them."""
    async with generator(ping_interval_s=0.1) as client, asyncio.timeout(10):
        ws = await client.ws_connect("/?token=k")
        assert await ws.receive_json() == {"type": "ping"}
        await ws.close()


async def test_a_second_connection_with_a_key_is_accepted_and_dropped() -> None:
    """The first is not disturbed, and the key is free again after it."""
    async with generator() as client, asyncio.timeout(10):
        first = await subscribed(client, "k", "AAPL")
        second = await client.ws_connect("/?token=k")
        assert (await second.receive()).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
        assert (await first.receive_json())["type"] == "trade"
        await first.close()
        third = await subscribed(client, "k", "AAPL")
        assert (await third.receive_json())["type"] == "trade"
        await third.close()


@pytest.mark.parametrize("path", ["/", "/?token=", "/?token=wrong"])
async def test_a_wrong_key_is_refused_with_401(path: str) -> None:
    """Before any handshake."""
    async with generator(tokens=("right",)) as client, asyncio.timeout(10):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await client.ws_connect(path)
        assert refused.value.status == 401


async def test_a_handshake_can_be_late() -> None:
    """On request the handshake is answered later than the client's patience, and then at once again."""
    async with generator() as client, asyncio.timeout(10):
        fault = {"kind": "slow_handshake", "delay_s": 60, "for_s": 60}
        assert (await client.post("/fault", data=json.dumps(fault))).status == 200
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await client.ws_connect("/?token=k")


async def test_faults_are_taken_by_http() -> None:
    """A refused handshake on request; nonsense is answered with a sentence."""
    async with generator() as client, asyncio.timeout(10):
        answer = await client.post("/fault", data=json.dumps({"kind": "refuse", "status": 429, "for_s": 60}))
        assert answer.status == 200
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await client.ws_connect("/?token=k")
        assert refused.value.status == 429
        wrong = await client.post("/fault", data=b'{"kind":"fire"}')
        assert wrong.status == 400
        assert "fire" in (await wrong.json())["error"]
        assert len((await (await client.get("/fault")).json())["faults"]) == 1


class Listening:
    """Keeps what our client of the vendor's protocol hands over."""

    def __init__(self, names: list[str]) -> None:
        self.decoder = FrameDecoder({name: place for place, name in enumerate(names)})
        self.opened = 0

    def on_open(self) -> None:
        self.opened += 1

    def on_frame(self, frame: bytes, received_ts: int) -> None:
        self.decoder.feed(frame)

    def on_unreadable(self, reason: str, sample: bytes) -> None:
        assert reason == "oversized_frame"

    def on_lost(self, reason: str) -> None:
        pass


async def test_our_client_finds_the_manifest_among_bad_frames() -> None:
    """Every kind of bad frame and trade, stamps running backwards: what intake accepts is what the manifest holds."""
    faults = ("bad:per_s=60", "reversed@0.5+0.5")
    async with generator(fault=faults) as client, asyncio.timeout(40), asyncio.TaskGroup() as group:
        names = (await (await client.get("/symbols")).json())["symbols"]
        listening = Listening(names)
        source = FinnhubSource(str(client._base_url).replace("http:", "ws:"), "k", listening)
        source.set_symbols(names)
        running = group.create_task(source.run())
        total = np.zeros(len(names), np.int64)
        rejected = 0
        stopped = {"rows": 10**9}
        while total.sum() < stopped["rows"]:
            await asyncio.sleep(0.05)
            decoded = listening.decoder.drain()
            judged = refused(decoded.symbol_id, decoded.stamp_ms, decoded.price, decoded.size, time.time_ns(), Limits())
            good = np.ones(len(decoded), np.bool_) if judged is None else judged == 0
            rejected += int((~good).sum()) + len(decoded.rejected)
            total += np.bincount(decoded.symbol_id[good], minlength=len(names))
            if total.sum() > 4000 and stopped["rows"] == 10**9:
                stopped = await (await client.post("/stop")).json()
        manifest = decode_manifest(await (await client.get("/manifest/bars")).read())
        assert manifest.rows_of_symbols().tolist() == total.tolist()
        assert rejected > 40
        running.cancel()


@pytest.mark.parametrize("values", [{"rate": 0.0}, {"symbols": 0}, {"late_share": 2.0}, {"start": "tomorrow"}])
def test_wrong_settings_are_one_sentence(values: dict[str, Any]) -> None:
    """Named by their flag."""
    with pytest.raises(SettingError, match=f"--{next(iter(values)).replace('_', '-')}"):
        market_shape(GeneratorSettings(**values), 1_767_366_000_000)


def test_the_start_may_be_written_in_three_ways() -> None:
    """All mean the same instant."""
    texts = ("2026-01-02T15:00:00Z", "2026-01-02T15:00:00", "1767366000000")
    assert {start_of(text, 0) for text in texts} == {1_767_366_000_000}
    assert start_of("now", 5) == 5

"""Programs written for Finnhub's stream, pointed at `/finnhub` of a real mds: they cannot tell the difference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.integration.processes import Bench, all_logged, rebuilt_log
from tests.integration.test_market_data import logged_trades
from tests.integration.test_mds import (  # common and tape are fixtures
    NAMES,
    Tape,
    common,
    mds_settings,
    service,
    tape,
    until,
)

from marketfeed.domain.trades import NANOS
from marketfeed.local.stack import Addresses
from marketfeed.runtime.tasks import TaskKit
from marketfeed.verify.tape import Rebuilt

pytestmark = pytest.mark.integration
__all__ = ["common", "tape"]

Seconds = dict[tuple[str, int], tuple[Any, ...]]
TOKEN = "a-token-that-clients-share"


def finnhub_url(status: dict[str, Any]) -> str:
    return str(status["public_url"]).replace("http", "ws", 1) + "/finnhub"


async def test_our_own_ingest_takes_the_tape_of_another_marketfeed(
    bench: Bench, stack: Addresses, feed: str, common: dict[str, object]
) -> None:
    """Generator, ingest, log, mds; and from there an ingest that knows Finnhub only: its log is the market's, too."""
    # No late trades: those of seconds before the second one began are none of its business.
    generator = await bench.generator(rate=3000, late_share=0.0)
    first = await bench.ingest(generator, stack.kafka, feed)
    mds = await bench.start("mds", **common, public_port=0, client_token=TOKEN)
    status = await mds.until(lambda status: status["ready"])
    second = await bench.ingest(
        generator, stack.kafka, f"{feed}b", finnhub_url=finnhub_url(status), finnhub_api_key=TOKEN,
        spool_dir=Path(mds.log).parent / "second",
    )  # fmt: skip
    begun = await second.until(lambda status: status["phase"] == "live" and status["watermark"])
    since_s = int(begun["watermark"]) / NANOS + 2
    enough = begun["trades"]["received"] + 15_000
    await second.until(lambda status: status["trades"]["published"] > enough)
    manifest = await bench.stop_market(generator)
    await all_logged(first, manifest)
    expected, found = seconds_of(await rebuilt_log(stack.kafka, feed), since_s), Seconds()

    async def equal() -> bool:
        nonlocal found
        found = seconds_of(await rebuilt_log(stack.kafka, f"{feed}b"), since_s)
        return found == expected

    await until(equal, lambda: sorted(set(found.items()) ^ set(expected.items()))[:5], 30)
    assert sum(row[-1] for row in found.values()) > 5_000
    assert await second.stop() == 0


def seconds_of(rebuilt: Rebuilt, since_s: float) -> Seconds:
    """Prices, volume and number of trades by symbol and second, of the seconds from `since_s` on."""
    bars = rebuilt.bars()
    names = [rebuilt.symbols.name(i) for i in bars.symbol_id.tolist()]
    columns = (bars.open, bars.high, bars.low, bars.close, bars.trades)
    volume = [v / 10**s for v, s in zip(bars.volume.tolist(), bars.size_scale.tolist(), strict=True)]
    rows = zip(volume, *(column.tolist() for column in columns), strict=True)
    seconds = zip(zip(names, bars.start_s.tolist(), strict=True), rows, strict=True)
    return {second: row for second, row in seconds if second[1] >= since_s}


async def test_a_program_of_finnhub_s_documentation_runs_unchanged(
    common: dict[str, object], tape: Tape, tmp_path: Path
) -> None:
    """Subscribe, trades, unsubscribe; 401 for another's token; too many symbols are an error, not the end."""
    heard: list[dict[str, Any]] = []

    async def program(socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            heard.append(json.loads(message.data))

    def prices(symbol: str) -> list[float]:
        return [t["p"] for m in heard if m["type"] == "trade" for t in m["data"] if t["s"] == symbol]

    settings = mds_settings(common, client_token=TOKEN, symbols_max=2)
    del settings["open"]
    async with service("mds", settings, tmp_path) as mds, aiohttp.ClientSession() as http:
        url = finnhub_url(await mds.ready())
        for wrong in (url, f"{url}?token=another"):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await http.ws_connect(wrong)
            assert refused.value.status == 401
        async with http.ws_connect(f"{url}?token={TOKEN}") as socket, TaskKit("program") as tasks:
            running = tasks.spawn("program", program(socket))
            for symbol in NAMES[:3]:
                await socket.send_str(json.dumps({"type": "subscribe", "symbol": symbol}))
            await until(lambda: bool(heard), lambda: heard, 5)
            assert heard == [{"type": "error", "msg": "Subscribing to too many symbols"}]
            await tape.play(0, 5, wall_s=1)
            expected = {name: [trade[4] for trade in logged_trades(tape) if trade[3] == name] for name in NAMES}
            await until(lambda: all(prices(n) == expected[n] for n in NAMES[:2]), lambda: len(heard), 10)
            await socket.send_str(json.dumps({"type": "unsubscribe", "symbol": NAMES[0]}))
            await socket.send_str(json.dumps({"type": "subscribe", "symbol": NAMES[2]}))
            await socket.send_str("this is not JSON")
            await until(lambda: heard[-1]["type"] == "error", lambda: heard[-3:], 5)
            first = {name: len(expected[name]) for name in NAMES}
            await tape.play(5, 10, wall_s=1)
            expected = {name: [trade[4] for trade in logged_trades(tape) if trade[3] == name] for name in NAMES}
            await until(lambda: prices(NAMES[2]) == expected[NAMES[2]][first[NAMES[2]] :], lambda: len(heard), 10)
            assert prices(NAMES[0]) == expected[NAMES[0]][: first[NAMES[0]]]
            await until(lambda: prices(NAMES[1]) == expected[NAMES[1]], lambda: len(prices(NAMES[1])), 10)
            running.cancel()
        assert all(set(t) == {"c", "p", "s", "t", "v"} for m in heard if m["type"] == "trade" for t in m["data"])

"""The contract holds for other languages: a client in Go, generated from the published proto alone, is served."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.integration.test_market_data import serving
from tests.integration.test_mds import EPOCH, NAMES, PARTITIONS, Tape, common, tape, until

from marketfeed.domain.log import TradesRecord, Watermark
from marketfeed.domain.partitions import partition_of
from marketfeed.domain.trades import TradeColumns

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]
__all__ = ["common", "tape"]

BUILD = Path(__file__).parents[1] / "clients" / "go" / "build"
SYMBOL = NAMES[2]
TRADES = 50


@pytest.fixture(scope="module")
def go_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, built."""
    if shutil.which("go") is None:
        pytest.skip("there is no Go here")
    program = tmp_path_factory.mktemp("go") / "client"
    subprocess.run([BUILD, sys.executable, program], check=True, timeout=300)
    return program


async def trade(tape: Tape, stop: asyncio.Event) -> list[float]:
    """A trade every 20 ms, as of now, with a watermark beside it; the prices in their order."""
    partition, one, prices = partition_of(SYMBOL, PARTITIONS), np.zeros(1, np.uint32), []
    while not stop.is_set():
        now = time.time_ns()
        prices.append(10.0 + len(prices) / 100)
        columns = TradeColumns((SYMBOL,), one, np.array([now]), np.array(prices[-1:]), np.ones(1), (None,), one)
        tape.send(partition, TradesRecord(EPOCH, tape._seq[partition], now, columns))
        tape._seq[partition] += 1
        tape.send(partition, Watermark((EPOCH,), now))
        tape._producer.poll()
        await asyncio.sleep(0.02)
    return prices


async def test_a_go_client_gets_prices_trades_and_reasons(
    common: dict[str, object], tape: Tape, tmp_path: Path, go_client: Path
) -> None:
    """A refusal with its reason, a price, and a run of trades without a hole."""
    async with serving(common, tmp_path) as (mds, _):
        stop = asyncio.Event()
        trading = asyncio.ensure_future(trade(tape, stop))
        try:
            status: dict[str, Any] = {}

            async def counts() -> bool:
                status.update(await mds.get("/status") or {})
                return int(status.get("counted", 0)) >= 10

            await until(counts, lambda: status, 20)
            process = await asyncio.create_subprocess_exec(
                go_client, str(status["grpc"]), SYMBOL, str(TRADES), stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            async with asyncio.timeout(60):
                said, complaint = await process.communicate()
        finally:
            stop.set()
            sent = await trading
        assert process.returncode == 0, complaint.decode()
        refused, price, status_line, *trades = [json.loads(text) for text in said.splitlines()]
        assert refused == {"refused": "NotFound", "reason": "UNKNOWN_SYMBOL"}
        assert price["price_nanos"] in {round(p * 1e9) for p in sent}
        assert status_line == {"status": "SYMBOL_STATUS_OK"}
        assert len(trades) >= TRADES
        assert {t["symbol"] for t in trades} == {SYMBOL}
        first = sent.index(trades[0]["price"])
        assert [t["price"] for t in trades] == sent[first : first + len(trades)]

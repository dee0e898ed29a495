"""docs/asyncapi.yaml against a real server: every frame it sends, and every message that it takes, is as described."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from tests.integration.test_market_data import flood
from tests.integration.test_mds import (  # common and tape are fixtures
    NAMES,
    PARTITIONS,
    T0_S,
    Tape,
    common,
    free_port,
    mds_settings,
    service,
    stream_url,
    tape,
    until,
)
from tests.json_schema import check

from marketfeed.domain.client_messages import CHANNELS, CloseCode
from marketfeed.domain.log import Gap
from marketfeed.domain.partitions import partition_of
from marketfeed.domain.trades import NANOS
from marketfeed.runtime.tasks import TaskKit

pytestmark = pytest.mark.integration
__all__ = ["common", "tape"]

DOCUMENT: dict[str, Any] = yaml.safe_load(
    (Path(__file__).parents[2] / "docs" / "asyncapi.yaml").read_text(encoding="utf-8")
)


def described(message: Any, operation: str) -> str:
    """Hold a message to its description; its type."""
    kind = str(message["type"])
    allowed = {one["$ref"].rsplit("/", 1)[1] for one in DOCUMENT["operations"][operation]["messages"]}
    assert kind in allowed
    check(message, DOCUMENT["components"]["messages"][kind]["payload"], DOCUMENT)
    return kind


class Talk:
    """A connection of which everything is held to the document."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, kinds: dict[str, Any]) -> None:
        self._socket = socket
        self.kinds = kinds

    async def say(self, **message: Any) -> None:
        described(message, "toServer")
        await self._socket.send_str(json.dumps(message))

    async def listen(self) -> None:
        async for frame in self._socket:
            message = json.loads(frame.data)
            self.kinds[described(message, "toClient")] = message

    async def has(self, *kinds: str) -> None:
        await until(lambda: set(kinds) <= self.kinds.keys(), lambda: sorted(self.kinds), 20)


async def test_every_frame_of_a_real_server_is_as_described(
    common: dict[str, object], tape: Tape, tmp_path: Path
) -> None:
    """All types there are, in one life of a server from its first hello to its drain."""
    kinds: dict[str, Any] = {}
    settings = mds_settings(common, public_port=free_port())
    async with service("recorder", common, tmp_path), service("mds", settings, tmp_path) as mds:
        url = stream_url(await mds.ready())
        await tape.play(0, 2, wall_s=0.3)
        async with aiohttp.ClientSession() as http, TaskKit("talks") as tasks:
            async with http.ws_connect(url, max_msg_size=0) as socket:
                talk = Talk(socket, kinds)
                listening = tasks.spawn("listen", talk.listen())
                await talk.say(type="auth", id=0, token="any")
                await talk.say(type="subscribe", id=1, symbols=NAMES, channels=list(CHANNELS), **{"from": T0_S})
                await talk.has("hello", "authenticated", "subscribed", "snapshot", "heartbeat")
                await until(lambda: kinds["heartbeat"]["position"] is not None, lambda: kinds["heartbeat"], 10)
                position = kinds["heartbeat"]["position"]
                await tape.play(2, 6, wall_s=1.2)
                partition = partition_of(NAMES[0], PARTITIONS)
                tape.send(partition, Gap((NAMES[0],), T0_S * NANOS, (T0_S + 1) * NANOS, "test", 3))
                await talk.say(type="set", id="s", interval_ms=100)
                await talk.say(type="ping", id=3)
                await talk.say(type="unsubscribe", id=4, symbols=[NAMES[5], "NONE"])
                await talk.say(type="subscribe", symbols=["X"], channels=["depth"])
                await talk.has("trades", "bar", "quote", "gap", "interval", "pong", "unsubscribed", "error")
                listening.cancel()
            async with http.ws_connect(url, max_msg_size=0) as socket:
                talk = Talk(socket, kinds)
                await talk.say(type="resume", id=9, symbols=["*"], channels=list(CHANNELS), position=position)
                # Nothing is read for a while, so that quotes have to be merged; then all of it is.
                await flood(tape, 1_500)
                await tape.play(6, 20, wall_s=1)
                listening = tasks.spawn("listen", talk.listen())
                await talk.has("resumed", "status", "caught_up", "conflated")
                assert kinds["resumed"]["recovered"]
                assert await mds.stop() == 0
                await talk.has("drain")
                await listening
                close_code = socket.close_code
    assert kinds.keys() == {one["$ref"].rsplit("/", 1)[1] for one in DOCUMENT["operations"]["toClient"]["messages"]}
    assert close_code == CloseCode.RESTART
    assert DOCUMENT["x-close-codes"][str(close_code)] == {"name": "restart", "mayReconnect": True}

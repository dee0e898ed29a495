"""Who is let in, on a real mds: by WebSocket, HTTP and gRPC, with good tokens, bad ones and such that end."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from tests.certificates import Authority, Pair
from tests.integration.test_mds import (  # common and tape are fixtures
    NAMES,
    Process,
    Tape,
    common,
    mds_settings,
    service,
    stream_url,
    tape,
    until,
)

from marketfeed.adapters.tokens import new_secret, sign
from marketfeed.client.market_data import MarketDataClient
from marketfeed.client.stream import Reconnected, Stream
from marketfeed.domain.errors import CallRefused, ClientError, Unavailable
from marketfeed.wire.websocket import ResumedOut, Snapshot

__all__ = ["common", "tape"]

pytestmark = pytest.mark.integration

PAGE = "https://page.example"
# A token holds so much longer than it says.
LEEWAY_S = 5.0
EVERYTHING = {"symbols": ["*"]}


class Site:
    """A running mds that asks for tokens, and the issuer who signs them."""

    def __init__(self, mds: Process, status: dict[str, Any], key: Path, http: aiohttp.ClientSession) -> None:
        self.mds = mds
        self.url = str(status["public_url"])
        self.stream = stream_url(status)
        self.grpc = str(status["grpc"])
        self.key = key
        self.http = http

    def token(self, subject: str = "alice", valid_s: float = 60.0, *, secret: bytes = b"", **grant: Any) -> str:
        return self.other_token("me", "marketfeed", subject, valid_s, secret, grant or EVERYTHING)

    def other_token(
        self, issuer: str, audience: str, subject: str, valid_s: float, secret: bytes, grant: dict[str, Any]
    ) -> str:
        return sign("HS256", secret or self.key.read_bytes(), issuer, audience, subject, grant, valid_s)

    @asynccontextmanager
    async def connected(self, *first: object, **headers: str) -> AsyncIterator[Talk]:
        """A WebSocket that has heard hello and said these messages."""
        async with self.http.ws_connect(self.stream, headers=headers) as socket:
            talk = Talk(socket)
            assert (await talk.hear("hello"))["auth_required"] is True
            for message in first:
                await talk.say(message)
            yield talk

    async def get(self, path: str, **headers: str) -> tuple[int, Any, dict[str, str]]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.http.get(self.url + path, headers=named) as answer:
            return answer.status, json.loads(await answer.read()), dict(answer.headers)


class Talk:
    """One WebSocket's messages."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def say(self, message: object) -> None:
        await self.socket.send_str(message if isinstance(message, str) else json.dumps(message))

    async def hear(self, kind: str) -> Any:
        """The next message of a kind."""
        async with asyncio.timeout(10):
            while True:
                frame = await self.socket.receive()
                assert frame.type is aiohttp.WSMsgType.TEXT, (kind, frame, self.socket.close_code)
                message = json.loads(frame.data)
                if message["type"] == kind:
                    return message

    async def end(self, within_s: float = 10.0) -> tuple[int | None, str, list[str]]:
        """(close code, its reason, codes of errors before it)."""
        codes: list[str] = []
        async with asyncio.timeout(within_s):
            while True:
                frame = await self.socket.receive()
                if frame.type is not aiohttp.WSMsgType.TEXT:
                    return self.socket.close_code, str(frame.extra or ""), codes
                message = json.loads(frame.data)
                if message["type"] == "error":
                    assert message["message"]
                    codes.append(message["code"])


def auth(token: str, id_: int = 0) -> dict[str, object]:
    return {"type": "auth", "id": id_, "token": token}


@asynccontextmanager
async def serving(common: dict[str, object], folder: Path, **more: object) -> AsyncIterator[Site]:
    key = folder / "secret"
    key.write_text(new_secret())
    asked = {"open": "no", "jwt_algorithm": "HS256", "jwt_key_file": key, "jwt_issuer": "me", "origins": PAGE}
    settings = mds_settings(common, **{"grpc_port": 0, **asked, **more})
    async with service("mds", settings, folder) as mds, aiohttp.ClientSession() as http:
        site = Site(mds, await mds.ready(), key, http)

        async def tape_is_read() -> bool:
            _, body, _ = await site.get("/v1/symbols", Authorization=f"Bearer {site.token()}")
            return sum(one["price"] is not None for one in body.get("symbols", ())) == len(NAMES)

        await until(tape_is_read, lambda: "mds has not read the tape", 20)
        yield site


def subscribe(*symbols: str, **more: object) -> dict[str, object]:
    return {"type": "subscribe", "id": 1, "symbols": list(symbols), **more}


async def test_each_bad_token_and_each_early_message_ends_with_its_code(
    common: dict[str, object], tape: Tape, tmp_path: Path
) -> None:
    """An error with the code, then 4001; over HTTP 401 with the same code; in gRPC UNAUTHENTICATED with it."""
    await tape.play(0, 5, wall_s=0.2)
    async with serving(common, tmp_path) as site:
        none = "eyJhbGciOiJub25lIn0." + site.token().split(".")[1] + "."
        bad = {
            none: "auth_algorithm",
            "nonsense": "auth_malformed",
            "a" * 9_000: "auth_too_long",
            site.token(valid_s=-60): "auth_expired",
            site.token(secret=b"another secret of thirty-two bytes"): "auth_signature",
            site.other_token("me", "others", "a", 60, b"", {}): "auth_audience",
            site.other_token("you", "marketfeed", "a", 60, b"", {}): "auth_issuer",
            site.token(symbols="*"): "auth_claims",
        }
        async with MarketDataClient(site.grpc, token=lambda: shown) as client:
            for shown, code in bad.items():
                async with site.connected(auth(shown)) as talk:
                    closed, reason, errors = await talk.end()
                    assert (closed, bool(reason), errors) == (4001, True, [code])
                status, body, headers = await site.get("/v1/config", Authorization=f"Bearer {shown}")
                assert (status, body["error"]["code"]) == (401, code)
                assert headers["WWW-Authenticate"].startswith("Bearer")
                with pytest.raises(CallRefused, match=code.upper()):
                    await client.quote(NAMES[0])
        for early in (subscribe("S0"), {"type": "ping", "id": 2}, {"type": "unsubscribe", "symbols": ["S0"]}):
            async with site.connected(early) as talk:
                assert await talk.end() == (4001, "send auth first", ["auth_required"])
        async with site.connected("nonsense", {"type": "fly"}, auth(site.token())) as talk:
            assert [(await talk.hear("error"))["code"] for _ in range(2)] == ["bad_json", "unknown_type"]
            assert (await talk.hear("authenticated"))["subject"] == "alice"
            await talk.say("x" * 20_000)
            assert (await talk.end())[0] == 1009


async def test_a_connection_ends_with_its_token_or_goes_on_with_another(
    common: dict[str, object], tape: Tape, tmp_path: Path
) -> None:
    """4001 `token expired` no later than two heartbeats after; a client that shows a fresh one in time hears on."""
    await tape.play(0, 5, wall_s=0.2)
    async with serving(common, tmp_path) as site:
        short = site.token(valid_s=2.0 - LEEWAY_S)
        renewed = site.token(valid_s=60.0)
        async with site.connected(auth(short), subscribe("S0")) as ends, site.connected(auth(short)) as stays:
            assert (await ends.hear("subscribed"))["symbols"] == {"S0": {"status": "ok"}}
            first = await stays.hear("authenticated")
            await stays.say(auth(renewed, 1))
            again = await stays.hear("authenticated")
            assert int(again["expires_ts"]) > int(first["expires_ts"])
            began_s = time.monotonic()
            assert await ends.end() == (4001, "token expired", [])
            assert time.monotonic() - began_s < 5
            await stays.say(subscribe("S0"))
            assert (await stays.hear("snapshot"))["symbol"] == "S0"
            await stays.say(auth(site.token("bob"), 2))
            assert await stays.end() == (4001, "this token is of somebody else; connect anew with it", ["auth_subject"])


async def test_a_client_that_can_get_tokens_survives_the_end_of_one(
    common: dict[str, object], tape: Tape, tmp_path: Path
) -> None:
    """It connects again with the next one; a client with just one token is told that it is of no use any more."""
    await tape.play(0, 5, wall_s=0.2)
    async with serving(common, tmp_path) as site:
        made = 0

        def fresh() -> str:
            nonlocal made
            made += 1
            return site.token(valid_s=1.0 - LEEWAY_S if made == 1 else 60.0)

        heard: list[object] = []
        async with asyncio.timeout(20):
            async for message in Stream(site.stream, NAMES[:1], token=fresh).messages():
                if isinstance(message, Reconnected | Snapshot | ResumedOut):
                    heard.append(message)
                if isinstance(message, ResumedOut):
                    break
        assert [type(message) for message in heard] == [Snapshot, Reconnected, ResumedOut]
        assert isinstance(heard[2], ResumedOut)
        assert heard[2].recovered
        one = site.token(valid_s=1.0 - LEEWAY_S)
        with pytest.raises(ClientError, match="token expired"):
            await asyncio.wait_for(_listen(Stream(site.stream, NAMES[:1], token=one)), 20)


async def _listen(stream: Stream) -> None:
    async for _ in stream.messages():
        pass


async def test_one_gets_what_one_is_granted_by_every_way(common: dict[str, object], tape: Tape, tmp_path: Path) -> None:
    """Symbols, channels, methods and the wildcard, by WebSocket, HTTP and gRPC alike."""
    await tape.play(0, 5, wall_s=0.2)
    async with serving(common, tmp_path) as site:
        some = site.token(symbols=["S0", "S1"], channels=["quotes"], symbols_max=1)
        async with site.connected(auth(some), subscribe("S0", "S1", "S2", "NOPE")) as talk:
            told = await talk.hear("subscribed")
            assert {name: one["status"] for name, one in told["symbols"].items()} == {
                "S0": "ok", "S1": "limit", "S2": "forbidden", "NOPE": "forbidden",
            }  # fmt: skip
            assert told["channels"] == ["quotes"]
            await talk.say(subscribe("S0", channels=["bars_1s"]))
            assert (await talk.hear("error"))["code"] == "forbidden_channel"
            await talk.say({"type": "ping", "id": 9})
            assert (await talk.hear("pong"))["id"] == 9
        bearer = f"Bearer {some}"
        _, listed, _ = await site.get("/v1/symbols", Authorization=bearer)
        assert [one["symbol"] for one in listed["symbols"]] == ["S0", "S1"]
        for path, status in (
            ("/v1/quote?symbol=S0", 200), ("/v1/quote?symbol=S2", 403), ("/v1/bars?symbol=S0", 403),
            ("/v1/config", 200),
        ):  # fmt: skip
            found, body, _ = await site.get(path, Authorization=bearer)
            assert found == status, body
            assert status == 200 or body["error"]["code"] == "forbidden"
        async with MarketDataClient(site.grpc, token=some) as client:
            assert (await client.quote("S0")).quote.symbol == "S0"
            for refused in (client.quote("S2"), anext(client.quotes(["*"])), anext(client.trades(["S0"]))):
                with pytest.raises(CallRefused, match="FORBIDDEN"):
                    await refused
            acknowledged = (await anext(client.quotes(["S0", "S2"]))).acknowledged
            assert acknowledged.symbols["S2"] != acknowledged.symbols["S0"]
        narrow = site.token(symbols=["*"], methods=["MarketData/GetBars"])
        async with MarketDataClient(site.grpc, token=narrow) as client:
            with pytest.raises(CallRefused, match="FORBIDDEN"):
                await client.quote("S0")


async def test_pages_of_other_origins_and_their_preflights(
    common: dict[str, object], tape: Tape, tmp_path: Path
) -> None:
    """The same list for the stream and for HTTP; a preflight needs no token and gets the header it asks for."""
    await tape.play(0, 5, wall_s=0.2)
    async with serving(common, tmp_path) as site:
        bearer = f"Bearer {site.token()}"
        for origin, status in ((PAGE, 200), ("https://evil.example", 403), ("null", 403), (site.url, 200)):
            found, body, headers = await site.get("/v1/config", Authorization=bearer, Origin=origin)
            assert found == status
            assert status == 200 or body["error"]["code"] == "forbidden_origin"
            assert (headers.get("Access-Control-Allow-Origin") == origin) == (origin == PAGE)
            if status == 200:
                async with site.connected(auth(site.token()), Origin=origin) as talk:
                    await talk.hear("authenticated")
                continue
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                async with site.http.ws_connect(site.stream, headers={"Origin": origin}):
                    pass
            assert refused.value.status == 403
        asked = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
        for origin, status in ((PAGE, 204), ("https://evil.example", 403)):
            async with site.http.options(site.url + "/v1/bars", headers={"Origin": origin, **asked}) as answer:
                assert answer.status == status
                allowed = answer.headers.get("Access-Control-Allow-Headers")
                assert (allowed, answer.headers.get("Access-Control-Allow-Origin")) == (
                    ("Authorization", PAGE) if status == 204 else (None, None)
                )
        status, body, headers = await site.get("/v1/config", Origin=PAGE)
        assert (status, body["error"]["code"], headers["Access-Control-Allow-Origin"]) == (401, "auth_required", PAGE)
        for path in ("/", "/openapi.json"):
            async with site.http.get(site.url + path) as answer:
                assert answer.status == 200, "the page itself and the description hold no data"


async def test_bounds_of_a_principal_of_a_handshake_and_of_silence(
    common: dict[str, object], tape: Tape, tmp_path: Path
) -> None:
    """4005 beyond the connections a principal may have; who sends headers too slowly, or no token, is cut."""
    await tape.play(0, 5, wall_s=0.2)
    async with serving(
        common, tmp_path, principal_connections_max=2, handshake_timeout_s=1.5, auth_timeout_s=1.5
    ) as site:
        alice, bob = auth(site.token("alice")), auth(site.token("bob", symbols=["*"], connections=1))
        async with site.connected(alice) as first, site.connected(alice) as second, site.connected(bob) as his:
            for talk in (first, second, his):
                await talk.hear("authenticated")
            for who in (alice, bob):
                async with site.connected(who) as more:
                    code, _, errors = await more.end()
                    assert (code, errors) == (4005, ["too_many_connections"])
            async with MarketDataClient(site.grpc, token=site.token("alice")) as client:
                with pytest.raises(CallRefused, match="TOO_MANY_CONNECTIONS"):
                    await anext(client.quotes(["S0"]))
            await second.socket.close()
            async with asyncio.timeout(5):
                while True:
                    async with site.connected(alice) as third:
                        frame = json.loads((await third.socket.receive()).data)
                        if frame["type"] == "authenticated":
                            break
                        assert frame["code"] == "too_many_connections"
        async with site.connected() as silent:
            assert await silent.end() == (4001, "no auth within 1.5 s", [])
        host, port = site.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /v1/stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n")
        async with asyncio.timeout(6):
            async with asyncio.TaskGroup() as group:
                slowly = group.create_task(_trickle(writer))
                assert await reader.read() == b"", "the connection is cut without an answer"
                slowly.cancel()
        writer.close()


async def _trickle(writer: asyncio.StreamWriter) -> None:
    """A header line now and then, for ever."""
    while True:
        await asyncio.sleep(0.2)
        writer.write(b"X-Slow: 1\r\n")


async def test_a_key_is_exchanged_while_clients_are_there(
    common: dict[str, object], tape: Tape, tmp_path: Path
) -> None:
    """Tokens of the new key are taken within seconds, those of the old one no longer; connections go on."""
    await tape.play(0, 5, wall_s=0.2)
    async with serving(common, tmp_path) as site:
        old = site.token()
        async with site.connected(auth(old)) as talk:
            await talk.hear("authenticated")
            fresh = tmp_path / "next"
            fresh.write_text(new_secret())
            fresh.rename(site.key)
            async with asyncio.timeout(10):
                while (await site.get("/v1/config", Authorization=f"Bearer {site.token()}"))[0] != 200:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
            assert (await site.get("/v1/config", Authorization=f"Bearer {old}"))[1]["error"]["code"] == "auth_signature"
            await talk.say({"type": "ping", "id": 5})
            assert (await talk.hear("pong"))["id"] == 5


async def test_tls_is_renewed_and_client_certificates_are_asked_for(
    common: dict[str, object], tape: Tape, tmp_path: Path
) -> None:
    """A rotated certificate is shown to new connections; without a client's certificate there is none."""
    await tape.play(0, 5, wall_s=0.2)
    old, new = Authority("old"), Authority("new")
    cert, key = old.server().write(tmp_path, "tls")
    ca, grants = tmp_path / "ca.crt", tmp_path / "grants.json"
    ca.write_bytes(old.cert)
    grants.write_text(json.dumps({"spiffe://x/desk": {"symbols": ["S0"]}}))
    files = {"grpc_cert_file": cert, "grpc_key_file": key, "grpc_client_ca_file": ca, "grpc_grants_file": grants}
    desk = old.client("desk", ["spiffe://x/desk"])
    async with serving(common, tmp_path, **files) as site:
        async with secure(site, old, desk) as client:
            assert (await client.quote("S0")).state.symbol == "S0"
            with pytest.raises(CallRefused, match="spiffe://x/desk may not have quotes of S1"):
                await client.quote("S1")
        for stranger in (None, new.client("desk", ["spiffe://x/desk"])):
            async with secure(site, old, stranger) as client:
                with pytest.raises(Unavailable):
                    await client.quote("S0")
        new.server().write(tmp_path, "tls")
        async with asyncio.timeout(15):
            while True:
                async with secure(site, new, desk) as client:
                    try:
                        assert (await client.quote("S0")).state.symbol == "S0"
                        break
                    except Unavailable:
                        await asyncio.sleep(0.2)


def secure(site: Site, trusted: Authority, shown: Pair | None) -> MarketDataClient:
    credentials = grpc.ssl_channel_credentials(trusted.cert, shown and shown.key, shown and shown.cert)
    return MarketDataClient(site.grpc, credentials=credentials)


async def test_mds_does_not_start_for_nobody(common: dict[str, object], tmp_path: Path) -> None:
    """Exit code 2 and one sentence that says what to set."""
    mds = Process("mds", mds_settings(common, open="no"), tmp_path)
    await mds.start()
    assert mds._process is not None
    async with asyncio.timeout(30):
        assert await mds._process.wait() == 2
    said = (tmp_path / "mds.log").read_text()
    assert "MARKETFEED_OPEN: is not set and no token is: say how clients are let in" in said

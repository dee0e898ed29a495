"""Signing of requests and hearing of watches, against a real HTTP server on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from marketfeed_operator.cluster_session import MountedFile, authorize, watch_session


class Server:
    """Knows one good token; a watch of it says one line and then nothing."""

    def __init__(self) -> None:
        self.good = "first"
        self.seen: list[str] = []
        self.url = ""
        self.more = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request.headers.get("Authorization", ""))
        if self.seen[-1] != f"Bearer {self.good}":
            return web.Response(status=401)
        if request.path.endswith("secrets"):
            return web.Response(status=403)
        if request.query.get("watch") != "true":
            return web.json_response({})
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'{"type":"BOOKMARK"}\n')
        await self.more.wait()
        await response.write(b'{"type":"BOOKMARK"}\n')
        return response


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


async def test_a_token_that_died_is_read_again_and_the_request_tried_once_more(server: Server, tmp_path: Path) -> None:
    """The caller sees no 401 when the file holds a new token, and sees it when it does not."""
    mounted = tmp_path / "token"
    mounted.write_text("first\n")
    async with aiohttp.ClientSession(middlewares=[authorize(MountedFile(mounted))]) as session:
        async with session.get(server.url) as response:
            assert response.status == 200
        server.good = "second"
        async with session.get(server.url) as response:
            assert response.status == 401
        renewed = tmp_path / "new"
        renewed.write_text("second")
        renewed.replace(mounted)
        async with session.get(server.url) as response:
            assert response.status == 200
    assert server.seen == ["Bearer first", "Bearer first", "Bearer first", "Bearer second"]


def test_the_last_token_is_kept_while_the_file_is_being_swapped(tmp_path: Path) -> None:
    """A file that is away for a moment does not make the operator nameless."""
    mounted = tmp_path / "token"
    mounted.write_text("first")
    token = MountedFile(mounted)
    assert token.value() == "first"
    mounted.unlink()
    assert token.reread() == "first"


class Seen:
    """What an observer was told."""

    def __init__(self) -> None:
        self.alive: list[str] = []
        self.lists: list[str] = []
        self.forbidden: list[str] = []

    def heard(self, plural: str) -> None:
        self.alive.append(plural)

    def listed(self, path: str) -> None:
        self.lists.append(path)

    def refused(self, request: str) -> None:
        self.forbidden.append(request)


async def test_each_sign_of_life_of_a_watch_and_each_list_is_told(server: Server, tmp_path: Path) -> None:
    """Headers and each line of a watch are signs of life, bookmarks too; further pages of a list are no list."""
    mounted = tmp_path / "token"
    mounted.write_text("first")
    told = Seen()
    async with watch_session(None, {}, MountedFile(mounted), told) as session:
        for query in ({"limit": "500"}, {"limit": "500", "continue": "more"}):
            async with session.get(f"{server.url}/api/v1/pods", params=query) as response:
                await response.read()
        async with session.post(f"{server.url}/api/v1/pods") as response:
            await response.read()
        assert (told.alive, told.lists) == ([], ["/api/v1/pods"])
        async with session.get(f"{server.url}/apis/apps/v1/deployments", params={"watch": "true"}) as response:
            chunks = aiter(response.content.iter_chunked(1024))
            await anext(chunks)
            assert told.alive == ["deployments", "deployments"]
            server.more.set()
            await anext(chunks)
    assert told.alive == ["deployments"] * 3
    assert told.lists == ["/api/v1/pods"]


async def test_a_request_that_is_forbidden_is_told_with_what_it_asked_for(server: Server, tmp_path: Path) -> None:
    """A list and a watch apart; a 401 is none."""
    mounted = tmp_path / "token"
    mounted.write_text("first")
    told = Seen()
    async with watch_session(None, {}, MountedFile(mounted), told) as session:
        for query in ({}, {"watch": "true"}):
            async with session.get(f"{server.url}/api/v1/secrets", params=query) as response:
                assert response.status == 403
        server.good = "second"
        async with session.get(f"{server.url}/api/v1/pods") as response:
            assert response.status == 401
    assert told.forbidden == ["GET /api/v1/secrets", "GET /api/v1/secrets (watch)"]
    assert told.lists == []

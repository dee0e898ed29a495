"""The authority that vouches for the API server changes under a running operator: against a real server with TLS."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from tests.certificates import Authority

from marketfeed_operator import cluster_session
from marketfeed_operator.cluster import Cluster
from marketfeed_operator.cluster_errors import Unavailable
from marketfeed_operator.kinds import MARKETFEED
from marketfeed_operator.settings import OperatorSettings


class Server:
    """Knows MarketFeed; each connection is for one request, so that each request checks the certificate."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)

    def vouched_by(self, authority: Authority) -> None:
        """From now on new connections are shown a certificate of this authority."""
        self.context.load_cert_chain(*authority.server().write(self._folder, "server"))

    async def answer(self, request: web.Request) -> web.Response:
        response = web.json_response({"resources": [{"name": MARKETFEED.plural}]})
        response.force_close()
        return response


@asynccontextmanager
async def listening(server: Server) -> AsyncIterator[int]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server.context).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def mount(folder: Path, authority: bytes) -> None:
    """Replace the file as the kubelet does, by renaming."""
    (folder / "token").write_text("t")
    (folder / "next").write_bytes(authority)
    (folder / "next").replace(folder / "ca.crt")


@asynccontextmanager
async def connected(port: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cluster]:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(port))
    monkeypatch.setattr(cluster_session, "_RECHECK_S", 0.0)
    cluster = await Cluster.connect(OperatorSettings(service_account_dir=str(folder), request_timeout_s=5.0))
    try:
        yield cluster
    finally:
        await cluster.close()


async def test_another_authority_that_is_mounted_is_trusted_and_the_last_one_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same client goes on; before the file is replaced the server is refused, and after it one of the old
    authority is. Watches see it by another context, and only then."""
    first, second = Authority("first"), Authority("second")
    server = Server(tmp_path)
    server.vouched_by(first)
    mount(tmp_path, first.cert)
    async with listening(server) as port, connected(port, tmp_path, monkeypatch) as cluster:
        assert await cluster.serves(MARKETFEED)
        context = cluster.ssl_context
        assert await cluster.serves(MARKETFEED)
        assert cluster.ssl_context is context
        server.vouched_by(second)
        with pytest.raises(Unavailable, match="certificate"):
            await cluster.serves(MARKETFEED)
        mount(tmp_path, second.cert)
        assert await cluster.serves(MARKETFEED)
        assert cluster.ssl_context is not context
        server.vouched_by(first)
        with pytest.raises(Unavailable, match="certificate"):
            await cluster.serves(MARKETFEED)


async def test_a_file_that_holds_no_certificate_changes_nothing_until_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The last authority that could be used stays; that is said once."""
    first, second = Authority("first"), Authority("second")
    server = Server(tmp_path)
    server.vouched_by(first)
    mount(tmp_path, first.cert)
    async with listening(server) as port, connected(port, tmp_path, monkeypatch) as cluster:
        mount(tmp_path, b"-----BEGIN CERTIFICATE-----\nbroken\n-----END CERTIFICATE-----\n")
        assert await cluster.serves(MARKETFEED)
        assert await cluster.serves(MARKETFEED)
        assert ["cannot be used" in record.message for record in caplog.records] == [True]
        mount(tmp_path, second.cert)
        server.vouched_by(second)
        assert await cluster.serves(MARKETFEED)

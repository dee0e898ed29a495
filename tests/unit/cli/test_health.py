"""`marketfeed health` against a real health server."""

import asyncio
import socket
import subprocess
import sys

import pytest

from marketfeed.cli.health import main
from marketfeed.runtime.health import Health


async def test_the_exit_code_is_the_answer(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """0 once all parts are ready, 1 with the reason before; the port comes from the environment, as the service's."""
    health = Health("try")
    monkeypatch.setenv("MARKETFEED_HTTP_PORT", str(await health.start("127.0.0.1", 0)))
    try:
        health.ready("kafka", False, "no broker answers")
        assert await asyncio.to_thread(main, []) == 1
        assert "/readyz: 503" in (said := capsys.readouterr().err)
        assert "no broker answers" in said
        assert await asyncio.to_thread(main, ["--path", "/healthz"]) == 0
        health.ready("kafka", True)
        assert await asyncio.to_thread(main, []) == 0
        assert capsys.readouterr().err == ""
    finally:
        await health.close()


def test_nobody_there_and_somebody_mute_are_not_ready(capsys: pytest.CaptureFixture[str]) -> None:
    """A refused connection says so; a server that takes it and never answers costs the time given, no more."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = str(mute.getsockname()[1])
        assert main(["--port", port, "--timeout-s", "0.1"]) == 1
        assert "timed out" in capsys.readouterr().err
    assert main(["--port", port]) == 1
    assert "refused" in capsys.readouterr().err


def test_asking_imports_nothing_but_the_standard_library() -> None:
    """A probe that runs every few seconds must not load a service."""
    code = (
        "import sys; from marketfeed.cli.main import main; main(['health', '--port', '1']);"
        "print(sorted({n.partition('.')[0] for n in sys.modules} & {'aiohttp', 'numpy', 'msgspec', 'uvloop', 'grpc'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "[]\n"

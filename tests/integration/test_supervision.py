"""Services under supervision: the generator as a real process, killed, misconfigured, looked at."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from marketfeed.client.http import HttpClient
from marketfeed.domain.errors import SettingError
from marketfeed.local.children import Children
from marketfeed.local.status import Observer
from marketfeed.local.supervision import ServiceProgram, Supervised
from marketfeed.runtime.tasks import TaskKit


def generator(**variables: str) -> ServiceProgram:
    """A quiet generator."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("MARKETFEED_")}
    settings = {"MARKETFEED_RATE": "10", "MARKETFEED_SYMBOLS": "3", **variables}
    return ServiceProgram(name="generator", module="generator", env={**env, **settings})


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Look until the condition holds."""
    for _ in range(600):
        if await condition():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("not within 30 s")


async def test_a_killed_service_comes_back_and_is_told_of_once(tmp_path: Path) -> None:
    """After `kill -9` it is started again, its row says so, its CPU time goes on, and one line told it."""
    said: list[str] = []
    async with Children() as children, HttpClient() as http, TaskKit("test") as tasks:
        service = Supervised(children, generator(), tmp_path, said.append)
        observer = Observer([service], [], http)
        keeper = tasks.spawn("keeper", service.keep_running())

        async def ready() -> bool:
            return (await observer.rows())[0].state == "ready"

        await until(ready)
        before = (await observer.rows())[0]
        assert before.usage.rss_bytes > 1_000_000
        assert service.child is not None
        for _ in range(2):
            first = service.child
            first.kill()
            await first.wait()
            await until(ready)
            assert service.child is not first
        after = (await observer.rows())[0]
        assert after.restarts == 2
        assert after.usage.cpu_s >= before.usage.cpu_s
        assert len(said) == 1
        assert said[0].startswith("generator was killed by SIGKILL")
        end = await service.stop()
        assert end is not None
        assert end.code == 0
        await keeper


async def test_a_wrong_setting_is_not_tried_again(tmp_path: Path) -> None:
    """The service's own sentence ends the supervision."""
    async with Children() as children:
        service = Supervised(children, generator(MARKETFEED_RATE="fast"), tmp_path, lambda _: None)
        with pytest.raises(SettingError, match="generator MARKETFEED_RATE: is 'fast', must be a number"):
            await service.keep_running()
    assert service.restarts == 0

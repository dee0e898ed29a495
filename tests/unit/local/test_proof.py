"""When a run is over, and what its tables are made from."""

from pathlib import Path

import msgspec

from marketfeed.local.probe import Hop, Latency
from marketfeed.local.proof import not_stored, read_latency, used_since
from marketfeed.local.status import Row
from marketfeed.local.usage import Usage


def ingest(**changes: object) -> dict[str, object]:
    """/status of an ingest that has sent everything."""
    idle = {"service": "ingest", "phase": "live", "rate": 0.0, "spool": {"records": 0}}
    return {**idle, "trades": {"unacknowledged": 0, "buffered": 0}, **changes}


def test_nothing_is_waited_for_when_all_is_sent() -> None:
    """Idle ingests and any other service hold nothing back."""
    assert not_stored({"ingest-0": ingest(), "ingest-1": ingest(), "mds": {"service": "mds"}}) == ""


def test_what_is_on_its_way_is_named() -> None:
    """Trades in flight, in the spool or in a standby's buffer, a reader that still reads, a service that is away."""
    assert "still receives" in not_stored({"i": ingest(rate=1.5)})
    assert "is standby" in not_stored({"i": ingest(phase="standby")})
    assert "2 records in its spool" in not_stored({"i": ingest(spool={"records": 2})})
    busy = not_stored({"i": ingest(trades={"unacknowledged": 5, "buffered": 7})})
    assert "5 trades on their way" in busy
    assert "holds 7 trades" in busy
    assert not_stored({"i": None}) == "i does not answer"


def test_cpu_time_is_that_of_the_run() -> None:
    """What a process used before the run began is not counted; one that is new counts from nought."""
    before = [Row("a", "ready", None, None, {}, Usage(0.0, 2.0, 1), 0)]
    after = [
        Row("a", "ready", None, None, {}, Usage(0.0, 5.0, 1), 0),
        Row("b", "ready", None, None, {}, Usage(0.0, 1.0, 1), 0),
    ]
    assert [row.usage.cpu_s for row in used_since(before, after)] == [3.0, 1.0]


def test_a_probe_that_wrote_nothing_gives_no_latency(tmp_path: Path) -> None:
    """A killed probe costs the table, not the run."""
    assert read_latency(tmp_path / "no") is None
    (tmp_path / "half").write_text("{")
    assert read_latency(tmp_path / "half") is None
    latency = Latency(1, 1, 1, [Hop("all", 1.0, 1.0, 1.0)], 0, 0.0)
    (tmp_path / "all").write_bytes(msgspec.json.encode(latency))
    assert read_latency(tmp_path / "all") == latency

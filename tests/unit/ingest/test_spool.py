"""The spool: in order, bounded, sound after a kill at any byte."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marketfeed.domain.errors import SettingError
from marketfeed.ingest.spool import Spool, SpooledRecord


def record(number: int, size: int = 100) -> SpooledRecord:
    value = number.to_bytes(4, "big") + bytes(size)
    return SpooledRecord(number % 8, {"kind": "trades", "traceparent": f"t{number}"}, value, number)


def spool(folder: Path, bytes_max: int = 1_000_000, segment_bytes: int = 1000, fsync: str = "never") -> Spool:
    return Spool(folder, bytes_max, segment_bytes=segment_bytes, fsync=fsync)


def test_what_goes_in_comes_out_unchanged_and_in_order(tmp_path: Path) -> None:
    """Across segments, while writing goes on; acknowledged space comes back."""
    queue = spool(tmp_path)
    for number in range(50):
        assert queue.append(record(number))
    assert [queue.read() for _ in range(30)] == [record(n) for n in range(30)]
    queue.acknowledged(30)
    for number in range(50, 60):
        assert queue.append(record(number))
    assert [queue.read() for _ in range(30)] == [record(n) for n in range(30, 60)]
    assert queue.read() is None
    queue.acknowledged(30)
    assert queue.bytes_used == 0
    assert not list(tmp_path.glob("*.spool"))
    queue.close()


@given(st.lists(st.sampled_from(["append", "read", "ack", "restart"]), max_size=60))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_history_equals_a_queue(tmp_path_factory: pytest.TempPathFactory, steps: list[str]) -> None:
    """Against a list: a restart hands back everything not acknowledged, or more, in order."""
    folder = tmp_path_factory.mktemp("spool")
    queue = spool(folder, segment_bytes=400)
    written, read, acked, number = 0, 0, 0, 0
    for step in steps:
        if step == "append":
            assert queue.append(record(number))
            written, number = written + 1, number + 1
        elif step == "read":
            got = queue.read()
            assert got == (record(number - written + read) if read < written else None)
            read = min(read + 1, written)
        elif step == "ack" and acked < read:
            queue.acknowledged(read - acked)
            acked = read
        elif step == "restart":
            queue.close()
            queue = spool(folder, segment_bytes=400)
            left = list(queue.leftover())
            assert left[len(left) - (written - acked) :] == [record(n) for n in range(number - written + acked, number)]
            queue.discard_leftover()
            written = read = acked = 0
    queue.close()


def test_it_refuses_beyond_its_bound_and_takes_again_after(tmp_path: Path) -> None:
    """Full is an answer, not an error; what was refused leaves nothing behind."""
    queue = spool(tmp_path, bytes_max=1000)
    taken = 0
    while queue.append(record(taken)):
        taken += 1
    assert 0 < taken < 10
    assert queue.bytes_total <= 1000
    assert [queue.read() for _ in range(taken)] == [record(n) for n in range(taken)]
    queue.acknowledged(taken)
    assert queue.append(record(99))
    assert queue.read() == record(99)
    queue.close()


@pytest.mark.parametrize("cut", [1, 7, 8, 9, 60, 120])
def test_a_torn_tail_costs_only_the_torn_record(tmp_path: Path, cut: int) -> None:
    """A kill in the middle of a write loses that record and no other."""
    queue = spool(tmp_path, segment_bytes=10**6)
    for number in range(5):
        queue.append(record(number))
    queue.close()
    path = next(tmp_path.glob("*.spool"))
    path.write_bytes(path.read_bytes()[:-cut])
    again = spool(tmp_path)
    assert list(again.leftover()) == [record(n) for n in range(4)]
    assert again.damaged == 1
    assert again.append(record(9))
    assert again.read() == record(9)
    again.close()


def test_damage_in_the_middle_is_counted_and_the_other_segments_are_read(tmp_path: Path) -> None:
    """A flipped bit fails its check sum."""
    queue = spool(tmp_path, segment_bytes=400)
    for number in range(6):
        queue.append(record(number))
    queue.close()
    first = min(tmp_path.glob("*.spool"))
    data = bytearray(first.read_bytes())
    data[20] ^= 1
    first.write_bytes(data)
    again = spool(tmp_path)
    assert list(again.leftover()) == [record(n) for n in range(2, 6)]
    assert again.damaged == 1
    again.discard_leftover()
    assert again.bytes_total == 0
    again.close()


def test_two_owners_are_refused(tmp_path: Path) -> None:
    """The second is told in one sentence; a closed spool is free."""
    queue = spool(tmp_path, fsync="always")
    assert queue.append(record(1))
    with pytest.raises(SettingError, match="another ingest"):
        spool(tmp_path)
    queue.close()
    spool(tmp_path).close()


def test_a_folder_that_cannot_be_used_says_so(tmp_path: Path) -> None:
    """A file in its place."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingError, match="cannot be used"):
        spool(tmp_path / "file" / "spool")


def test_writing_never_waits_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `interval` only `sync`, which runs in a thread of its own, forces anything; it leaves no file open."""
    synced: list[int] = []
    monkeypatch.setattr("marketfeed.ingest.spool.os.fdatasync", synced.append)
    open_before = len(os.listdir("/proc/self/fd"))
    spool = Spool(tmp_path, 10**6, segment_bytes=300, fsync="interval")
    for number in range(12):
        assert spool.append(SpooledRecord(0, {}, b"x" * 100, number))
    while spool.read() is not None:
        spool.acknowledged(1)
    assert synced == []
    spool.append(SpooledRecord(0, {}, b"x", 1))
    spool.sync()
    assert synced
    spool.close()
    assert len(os.listdir("/proc/self/fd")) == open_before


def test_a_record_damaged_while_it_waits_is_one_lost_record_each(tmp_path: Path) -> None:
    """Whoever counts records with the spool stays in step, however many are damaged."""
    spool = Spool(tmp_path, 10**7, fsync="never")
    for number in range(2000):
        assert spool.append(SpooledRecord(0, {}, b"x" * 100, number))
    (path,) = tmp_path.glob("*.spool")
    path.write_bytes(b"\0" * path.stat().st_size)
    assert [spool.read() for _ in range(2000)] == [None] * 2000
    assert (spool.records_waiting, spool.damaged) == (0, 2000)
    spool.close()

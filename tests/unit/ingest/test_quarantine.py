"""The quarantine is bounded, counted and readable."""

from __future__ import annotations

from marketfeed.ingest.quarantine import Quarantine


def test_the_newest_are_kept_and_all_are_counted() -> None:
    """Samples in a ring, newest first; counts by reason."""
    quarantine = Quarantine(3)
    for number in range(5):
        quarantine.put("price_absurd", "why", f"sample {number}", number, count=2)
    quarantine.put("malformed_frame", "x" * 9999, b"\xff" * 9999, 9)
    page = quarantine.page()
    assert page["counts"] == {"price_absurd": 10, "malformed_frame": 1}
    samples = page["samples"]
    assert isinstance(samples, list)
    assert [sample["at_ts"] for sample in samples] == [9, 4, 3]
    assert max(len(sample["sample"]) for sample in samples) <= 512
    assert len(samples[0]["detail"]) == 512

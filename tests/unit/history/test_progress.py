"""Progress tells share, rate of late and time left."""

from __future__ import annotations

from marketfeed.history.progress import Progress


def test_the_rate_is_that_of_the_last_seconds() -> None:
    """After a slow beginning the rate and the time left are those of now; the total keeps the whole."""
    progress = Progress(1000, now_s=100.0)
    assert progress.status(100.0)["left_s"] is None
    for second in range(1, 21):
        progress.add(rows=1 if second <= 10 else 100, bad_lines=0, bytes_read=second * 40, now_s=100.0 + second)
    progress.add(rows=0, bad_lines=3, bytes_read=800, now_s=120.0)
    assert progress.status(120.0) == {
        "phase": "starting", "percent": 80.0, "rows": 1010, "rows_total": 1262, "bytes": 800, "bytes_total": 1000,
        "bad_lines": 3, "rows_per_s": 100, "left_s": 5.0,
    }  # fmt: skip
    assert progress.total(120.0) == {"rows": 1010, "bad_lines": 3, "seconds": 20.0, "rows_per_s": 50}

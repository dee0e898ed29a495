"""What a session makes of the tape's words; its turns are tested with a real server (test_orders_pipeline.py)."""

from __future__ import annotations

from marketfeed.domain.trades import NANOS
from marketfeed.orders.session import TapeStatus

NOW = 1_790_000_000 * NANOS


def test_tape_is_fresh_while_it_speaks_of_now() -> None:
    """Silence, or a word about long ago, is not fresh; a trade counts where no watermark is known."""
    tape = TapeStatus()
    assert not tape.is_fresh(NOW, 5_000)
    assert tape.age_s(NOW) == -1
    tape = TapeStatus(began=True, heard_ts=NOW, watermark_ts=0, newest_ts=NOW - NANOS)
    assert tape.is_fresh(NOW, 5_000)
    assert not tape.is_fresh(NOW + 6 * NANOS, 5_000)
    tape.heard_ts = NOW + 6 * NANOS
    assert not tape.is_fresh(NOW + 6 * NANOS, 5_000)
    tape.watermark_ts = NOW + 5 * NANOS
    assert tape.is_fresh(NOW + 6 * NANOS, 5_000)

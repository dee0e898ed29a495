"""The manifest as a value."""

import numpy as np

from marketfeed.domain.manifest import SECONDS_COLUMNS, Manifest, ManifestSeconds, join_seconds


def seconds_of(symbol: int, start_s: int) -> ManifestSeconds:
    values = {name: np.array([1], np.int64) for name in SECONDS_COLUMNS}
    return ManifestSeconds(**(values | {"symbol": np.array([symbol]), "start_s": np.array([start_s])}))


def test_rows_of_symbols_counts_trades_and_updates() -> None:
    """What the log must hold of each symbol."""
    seconds = join_seconds([seconds_of(1, 10), seconds_of(1, 11), seconds_of(0, 12)])
    manifest = Manifest(1, 2, 3.0, False, 0, ("A", "B", "C"), (2, 2, 2), (0, 0, 0), (), seconds)
    assert manifest.rows_of_symbols().tolist() == [2, 4, 0]
    assert len(join_seconds([])) == 0

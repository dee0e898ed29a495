"""The manifest's text says what the manifest says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketfeed.domain.manifest import SECONDS_COLUMNS, Manifest, ManifestConnection, ManifestSeconds
from marketfeed.wire.manifest import decode_manifest, encode_manifest

ROWS = st.dictionaries(
    st.tuples(st.integers(1, 5), st.integers(0, 3)), st.lists(st.integers(0, 2**62), min_size=8, max_size=8), max_size=9
)


def manifest_of(rows: dict[tuple[int, int], list[int]]) -> Manifest:
    table = [(symbol, second, *rest) for (second, symbol), rest in sorted(rows.items())]
    columns = np.array(table, np.int64).reshape(-1, len(SECONDS_COLUMNS)).T
    connections = (ManifestConnection(2**60, 0, "open", 4, 5, 6),)
    names = ("A", "B", "X:Ü", "D")
    return Manifest(1, 2, 3.5, True, 0, names, (2, 2, 5, 4), (0, 0, 6, 0), connections, ManifestSeconds(*columns))


@settings(max_examples=25, deadline=None)
@given(ROWS)
def test_what_is_encoded_is_decoded(rows: dict[tuple[int, int], list[int]]) -> None:
    """Every column and the head survive, 64-bit sums included."""
    manifest = manifest_of(rows)
    found = decode_manifest(b"".join(encode_manifest(manifest)))
    for name in SECONDS_COLUMNS:
        assert np.array_equal(getattr(found.seconds, name), getattr(manifest.seconds, name))
    assert (found.symbols, found.connections, found.stopped) == (manifest.symbols, manifest.connections, True)
    assert (found.price_scale, found.size_scale) == (manifest.price_scale, manifest.size_scale)


@pytest.mark.parametrize("text", [b"", b"{}", b'{"manifest":2}', b"<html>"])
def test_anything_else_is_refused_with_a_sentence(text: bytes) -> None:
    """A wrong URL must not look like an empty manifest."""
    with pytest.raises(ValueError, match="manifest"):
        decode_manifest(text)


def test_columns_of_different_length_are_refused() -> None:
    """A cut-off line is not taken for data."""
    head, line = encode_manifest(manifest_of({(1, 0): [1] * 8}))
    with pytest.raises(ValueError, match="differ in length"):
        decode_manifest(head + line.replace(b'"open":[1]', b'"open":[]'))

"""The manifest as text: NDJSON, a head line and then one line per second.

The head holds what is not per second: `{"manifest": 1, "seed", "symbols", "price_scale", "size_scale", "connections",
…}`. Each further line is `{"start_s", "symbol": [places in symbols], "trades": […], …}`, columns of equal length.
Volume and notional are strings, as 64-bit integers are in all our JSON. 120 s of 1,000 symbols are about 7 MB.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np

from marketfeed.domain.manifest import (
    SECONDS_COLUMNS,
    Manifest,
    ManifestConnection,
    ManifestSeconds,
    join_seconds,
)

VERSION = 1
_AS_TEXT = ("volume", "notional")


class _Head(msgspec.Struct):
    manifest: int
    seed: int
    start_ms: int
    rate: float
    stopped: bool
    kept_from_s: int
    symbols: tuple[str, ...]
    price_scale: tuple[int, ...]
    size_scale: tuple[int, ...]
    connections: tuple[ManifestConnection, ...]


class _Second(msgspec.Struct):
    start_s: int
    symbol: list[int]
    trades: list[int]
    updates: list[int]
    volume: list[str]
    notional: list[str]
    open: list[int]
    high: list[int]
    low: list[int]
    close: list[int]


_HEAD_FIELDS = tuple(name for name in _Head.__struct_fields__ if name != "manifest")


def encode_manifest(manifest: Manifest) -> Iterator[bytes]:
    """The lines, each with its newline; each second's rows are encoded when asked for."""
    head = _Head(VERSION, *(getattr(manifest, name) for name in _HEAD_FIELDS))
    yield msgspec.json.encode(head) + b"\n"
    seconds = manifest.seconds
    edges = np.flatnonzero(np.diff(seconds.start_s)) + 1
    for begin, end in zip([0, *edges.tolist()], [*edges.tolist(), len(seconds)], strict=True):
        if begin < end:
            yield msgspec.json.encode(_second(seconds, slice(begin, end))) + b"\n"


def _second(seconds: ManifestSeconds, at: slice) -> dict[str, int | list[int] | list[str]]:
    line: dict[str, int | list[int] | list[str]] = {"start_s": int(seconds.start_s[at.start])}
    for name in SECONDS_COLUMNS:
        if name != "start_s":
            values = getattr(seconds, name)[at].tolist()
            line[name] = [str(value) for value in values] if name in _AS_TEXT else values
    return line


def decode_manifest(text: bytes) -> Manifest:
    """The manifest of `encode_manifest`'s lines. Raises ValueError for anything else."""
    first, _, rest = text.partition(b"\n")
    try:
        head = msgspec.json.decode(first, type=_Head)
        lines = msgspec.json.Decoder(_Second).decode_lines(rest)
    except msgspec.DecodeError as error:
        raise ValueError(f"not a manifest: {error}") from error
    if head.manifest != VERSION:
        raise ValueError(f"manifest version {head.manifest}; this program reads version {VERSION}")
    return Manifest(
        **{name: getattr(head, name) for name in _HEAD_FIELDS}, seconds=join_seconds([_rows(line) for line in lines])
    )


def _rows(line: _Second) -> ManifestSeconds:
    count = len(line.symbol)
    columns = {
        name: np.full(count, line.start_s) if name == "start_s" else np.array(getattr(line, name), np.int64)
        for name in SECONDS_COLUMNS
    }
    if any(len(column) != count for column in columns.values()):
        raise ValueError(f"not a manifest: columns of second {line.start_s} differ in length")
    return ManifestSeconds(**columns)

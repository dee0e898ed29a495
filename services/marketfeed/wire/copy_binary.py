"""PostgreSQL's COPY BINARY format as columns: rows are packed and unpacked without a loop over them.

Only types of fixed width and no NULLs, so every row has the same length and the whole is one structured array. NUMERIC
is given as integer units and a scale (value = units * 10^-scale) and padded to as many base-10,000 digits as the
largest value of the batch needs, which the server accepts and trims. Times go in and come out as Unix seconds and
dates as days since 1970-01-01.

It does not read NUMERIC back: a query that is to be read here splits it into two int8 limbs itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Kind = Literal["int2", "int4", "int8", "float8", "bool", "timestamptz", "date", "numeric"]

SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
EPOCH_2000_S = 946_684_800
EPOCH_2000_DAYS = 10_957

_LIMB = 10**16
_LIMB_DIGITS = 4
_NEGATIVE = 0x4000
_DTYPES: dict[str, str] = {
    "int2": ">i2",
    "int4": ">i4",
    "int8": ">i8",
    "float8": ">f8",
    "bool": "?",
    "timestamptz": ">i8",
    "date": ">i4",
}


@dataclass(frozen=True, slots=True)
class Field:
    """A column of a COPY: its name and type."""

    name: str
    kind: Kind


@dataclass(frozen=True, slots=True, eq=False)
class Numeric:
    """A NUMERIC column: value = units * 10^-scale; units are Python ints (object) or int64, scale >= 0."""

    units: npt.NDArray[Any]
    scale: npt.NDArray[np.int64]


Column = npt.NDArray[Any] | Numeric


def encode_rows(fields: Sequence[Field], columns: Mapping[str, Column]) -> bytes:
    """The whole body of `COPY … FROM STDIN (FORMAT binary)` for equally long columns, by field name."""
    packed = {name: _numeric_cells(c) if isinstance(c, Numeric) else c for name, c in columns.items()}
    dtype = _row_dtype(fields, {name: cells.dtype for name, cells in packed.items()})
    rows = np.zeros(len(packed[fields[0].name]), dtype)
    rows["fields"] = len(fields)
    for field in fields:
        column = packed[field.name]
        rows[field.name + ":length"] = dtype[field.name].itemsize
        if field.kind == "timestamptz":
            rows[field.name] = (column.astype(np.int64) - EPOCH_2000_S) * 1_000_000
        elif field.kind == "date":
            rows[field.name] = column - EPOCH_2000_DAYS
        else:
            rows[field.name] = column
    return SIGNATURE + rows.tobytes() + TRAILER


def decode_rows(fields: Sequence[Field], body: bytes) -> dict[str, npt.NDArray[Any]]:
    """The columns of a `COPY … TO STDOUT (FORMAT binary)`, in native byte order.

    Raises ValueError if the body does not consist of such rows (a NULL, another type).
    """
    dtype = _row_dtype(fields, {})
    payload = len(body) - len(SIGNATURE) - len(TRAILER)
    if payload < 0 or payload % dtype.itemsize or not body.startswith(SIGNATURE[:11]):
        raise ValueError(f"COPY body of {len(body)} bytes does not hold rows of {dtype.itemsize} bytes")
    rows = np.frombuffer(body, dtype, payload // dtype.itemsize, len(SIGNATURE))
    columns: dict[str, npt.NDArray[Any]] = {}
    for field in fields:
        if not (rows[field.name + ":length"] == dtype[field.name].itemsize).all():
            raise ValueError(f"column {field.name} holds a NULL or is not {field.kind}")
        column = rows[field.name].astype(dtype[field.name].newbyteorder("="))
        if field.kind == "timestamptz":
            column = column // 1_000_000 + EPOCH_2000_S
        elif field.kind == "date":
            column = column.astype(np.int64) + EPOCH_2000_DAYS
        columns[field.name] = column
    return columns


def _row_dtype(fields: Sequence[Field], numerics: Mapping[str, np.dtype[Any]]) -> np.dtype[Any]:
    parts: list[Any] = [("fields", ">i2")]
    for field in fields:
        parts.append((field.name + ":length", ">i4"))
        parts.append((field.name, numerics[field.name] if field.kind == "numeric" else _DTYPES[field.kind]))
    return np.dtype(parts)


def _numeric_cells(column: Numeric) -> npt.NDArray[Any]:
    """NUMERIC values in wire form. Digits are base 10,000, so units are first aligned to a whole number of digits."""
    scale = np.asarray(column.scale, np.int64)
    padding = -scale % _LIMB_DIGITS
    limbs = _limbs(np.abs(column.units), padding)
    count = _LIMB_DIGITS * len(limbs)
    dtype = np.dtype(
        [("ndigits", ">i2"), ("weight", ">i2"), ("sign", ">i2"), ("dscale", ">i2"), ("digits", ">i2", count)]
    )
    cells = np.zeros(len(scale), dtype)
    digits = cells["digits"]
    for place in range(count):
        limb = limbs[place // _LIMB_DIGITS]
        digits[:, count - 1 - place] = limb // 10 ** (4 * (place % _LIMB_DIGITS)) % 10_000
    cells["ndigits"] = count
    cells["weight"] = count - 1 - (scale + padding) // _LIMB_DIGITS
    cells["sign"] = np.where(column.units < 0, _NEGATIVE, 0)
    cells["dscale"] = scale
    return cells


def _limbs(units: npt.NDArray[Any], padding: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    """units * 10^padding in limbs of 10^16, the lowest first, as many as the largest one needs."""
    largest = int(units.max()) if len(units) else 0
    if largest < 9 * 10**15:
        rest = units.astype(np.int64) * 10**padding
        return [rest % _LIMB, rest // _LIMB]
    exact = units.astype(object) * (10**padding).astype(object)
    limbs = []
    while largest:
        limbs.append((exact % _LIMB).astype(np.int64))
        exact = exact // _LIMB
        largest = int(exact.max())
    return limbs

"""The plan file: JSON that says which shard serves which symbol.

    {"revision": 3, "weights": [1.0, 1.0], "assigned": {"AAPL": 0, "MSFT": 1}, "overflow": []}

Written by whoever plans (the operator, a person), followed by ingest without a restart. Only `revision` and `assigned`
have to be there.
"""

from __future__ import annotations

import msgspec

from marketfeed.domain.sharding import Plan


class _PlanFile(msgspec.Struct, forbid_unknown_fields=True):
    revision: int
    assigned: dict[str, int]
    overflow: list[str] = []
    weights: list[float] = []


def encode_plan(plan: Plan) -> bytes:
    """The plan as the bytes of its file, symbols sorted so that two versions compare well."""
    body = _PlanFile(plan.revision, dict(sorted(plan.assigned.items())), list(plan.overflow), list(plan.weights))
    return msgspec.json.format(msgspec.json.encode(body), indent=2) + b"\n"


def decode_plan(data: bytes) -> Plan:
    """The plan of a file's bytes. Raises ValueError that says what is wrong and where."""
    try:
        body = msgspec.json.decode(data, type=_PlanFile)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"not a plan: {error}") from error
    if body.revision < 0 or any(shard < 0 for shard in body.assigned.values()):
        raise ValueError("not a plan: revision and shards are not negative")
    if odd := [name for name in (*body.assigned, *body.overflow) if not name]:
        raise ValueError(f"not a plan: {odd[0]!r} is not a symbol")
    return Plan(body.revision, body.assigned, tuple(body.overflow), tuple(body.weights))

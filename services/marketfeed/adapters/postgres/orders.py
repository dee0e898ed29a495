"""The order service's half of PostgreSQL: one writer at a time, readers beside it.

Every transaction of the writer begins with `UPDATE orders.tape_position … WHERE version = expected`. A process that was
overtaken changes no row, raises StalePosition and leaves nothing behind: orders, fills, steps and the tape's place
belong together, whoever is killed and however many write. Unlike the recorder's, these commits wait for the disk, as
an answer that was given cannot be read again from the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import fields
from typing import Any

import asyncpg

from marketfeed.adapters.postgres.connection import close_quietly, connect, open_pool, translated
from marketfeed.domain.errors import StalePosition
from marketfeed.domain.order_desk import DeskState
from marketfeed.domain.order_states import WORKING_STATES, OrderState
from marketfeed.domain.orders import Fill, Order, OrderChange, OrderCommit, OrderType, PrintId, Side, TimeInForce

READ_TIMEOUT_S = 10.0
_RENAMED = {"number": "order_no", "update": "update_no"}
_COLUMNS = [_RENAMED.get(field.name, field.name) for field in fields(Order)]
# What may change once an order is there.
_CHANGING = ("state", "filled_quantity", "filled_notional", "reason", "updated_ts", "update_no", "replaced_by",
             "suspended_until")  # fmt: skip
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM orders.placed"
_WORKING = "state IN (" + ", ".join(str(int(state)) for state in sorted(WORKING_STATES)) + ")"
_UPSERT = (
    f"INSERT INTO orders.placed (feed, {', '.join(_COLUMNS)})"
    f" VALUES ({', '.join(f'${n}' for n in range(1, len(_COLUMNS) + 2))})"
    f" ON CONFLICT (feed, order_no) DO UPDATE SET {', '.join(f'{c} = excluded.{c}' for c in _CHANGING)}"
)
_CLAIM = """
INSERT INTO orders.tape_position AS p (feed, writer, version) VALUES ($1, $2, 1)
ON CONFLICT (feed) DO UPDATE SET writer = $2, version = p.version + 1, updated_at = now()
RETURNING version
"""
_ADVANCE = """
UPDATE orders.tape_position
SET version = version + 1, position = $3, tape = $4, next_order = $5, next_fill = $6, updated_at = now()
WHERE feed = $1 AND version = $2 AND position = $7
"""
_FILL = "fill_no, order_no, quantity, price, event_ts, tape, partition, log_offset, idx"


class OrderWriter:
    """The writing side: one connection. `claim` first; after any error, throw it away and claim anew."""

    def __init__(self, dsn: str, feed: str, writer: str) -> None:
        self._dsn = dsn
        self._feed = feed
        self._writer = writer
        self._connection: asyncpg.Connection | None = None
        self._version = 0

    async def close(self) -> None:
        """Let the connection go."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await close_quietly(connection)

    async def claim(self) -> tuple[str, DeskState]:
        """Become the writer, so that any other is overtaken; the tape's place and the desk's state there.

        Raises Unavailable, SettingError.
        """
        self._connection = await connect(self._dsn, "marketfeed-orders")
        async with translated(self._dsn), self._connection.transaction():
            self._version = await self._connection.fetchval(_CLAIM, self._feed, self._writer)
            row = await self._connection.fetchrow(
                "SELECT position, tape, next_order, next_fill FROM orders.tape_position WHERE feed = $1", self._feed
            )
            orders = await self._connection.fetch(
                f"{_SELECT} WHERE feed = $1 AND {_WORKING} ORDER BY order_no", self._feed
            )
            updates = await self._connection.fetch(
                "SELECT account, update_no FROM orders.account WHERE feed = $1", self._feed
            )
        assert row is not None
        state = DeskState(
            row["next_order"],
            row["next_fill"],
            row["tape"],
            {r["account"]: r["update_no"] for r in updates},
            [_order(r) for r in orders],
        )
        return row["position"], state

    async def find(self, keys: Sequence[tuple[str, str]], numbers: Sequence[int]) -> list[Order]:
        """The orders with these (account, client order id), and those with these numbers. Raises Unavailable."""
        assert self._connection is not None, "OrderWriter.claim has not been called"
        async with translated(self._dsn):
            rows = await self._connection.fetch(
                f"{_SELECT} WHERE feed = $1 AND (account, client_order_id) IN"
                " (SELECT * FROM unnest($2::text[], $3::text[]))"
                f" UNION {_SELECT} WHERE feed = $1 AND order_no = ANY($4::int8[])",
                self._feed,
                [account for account, _ in keys],
                [key for _, key in keys],
                list(numbers),
            )
        return [_order(row) for row in rows]

    async def commit(self, what: OrderCommit) -> None:
        """Write it all, or nothing. Raises StalePosition if another writer was here, Unavailable if the server is
        away, and then it may or may not be written."""
        assert self._connection is not None, "OrderWriter.claim has not been called"
        async with translated(self._dsn), self._connection.transaction():
            done = await self._connection.execute(
                _ADVANCE, self._feed, self._version, what.position, what.tape, what.next_order, what.next_fill,
                what.expected_position,
            )  # fmt: skip
            if done != "UPDATE 1":
                found = await self._connection.fetchrow(
                    "SELECT version, position, writer FROM orders.tape_position WHERE feed = $1", self._feed
                )
                raise StalePosition("orders", (self._version, what.expected_position), found and tuple(found))
            if what.changes:
                await self._write(self._connection, what.changes)
        self._version += 1

    async def _write(self, connection: Any, changes: Sequence[OrderChange]) -> None:
        newest = {change.order.number: change.order for change in changes}
        await connection.executemany(_UPSERT, [(self._feed, *_row(order)) for order in newest.values()])
        fills = [(self._feed, *_fill_row(change.fill)) for change in changes if change.fill is not None]
        if fills:
            await connection.executemany(
                f"INSERT INTO orders.fill (feed, {_FILL}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)", fills
            )
        await connection.executemany(
            "INSERT INTO orders.transition"
            " (feed, account, update_no, order_no, from_state, to_state, reason, at_ts, fill_no)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            [(self._feed, *_step_row(change)) for change in changes],
        )
        updates = {change.order.account: change.order.update for change in changes}
        await connection.executemany(
            "INSERT INTO orders.account (feed, account, update_no) VALUES ($1, $2, $3)"
            " ON CONFLICT (feed, account) DO UPDATE SET update_no = excluded.update_no",
            [(self._feed, account, update) for account, update in updates.items()],
        )


class OrderReader:
    """The reading side: a small pool. `open` first, `close` last. Every call raises Unavailable."""

    def __init__(self, dsn: str, feed: str, connections_max: int = 4) -> None:
        self._dsn = dsn
        self._feed = feed
        self._connections_max = connections_max
        self._pool: asyncpg.Pool | None = None
        self._opening = asyncio.Lock()

    async def open(self) -> None:
        """Connect. Raises Unavailable or SettingError."""
        async with self._opening:
            if self._pool is None:
                self._pool = await open_pool(self._dsn, "marketfeed-orders-read", self._connections_max)

    async def close(self) -> None:
        """Let all connections go."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.terminate()

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[Any]:
        await self.open()
        assert self._pool is not None
        async with (
            translated(self._dsn),
            self._pool.acquire(timeout=READ_TIMEOUT_S) as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            yield connection

    async def is_migrated(self) -> bool:
        """Whether the tables are there."""
        async with self._reading() as connection:
            return await connection.fetchval("SELECT to_regclass('orders.tape_position') IS NOT NULL") is True

    async def version(self) -> int:
        """The writer's version: it rises with every commit, and a writer commits every second; 0 before the first."""
        async with self._reading() as connection:
            found = await connection.fetchval("SELECT version FROM orders.tape_position WHERE feed = $1", self._feed)
        return int(found or 0)

    async def by_number(self, account: str, number: int) -> tuple[Order, list[Fill]] | None:
        """An account's order with its fills, in their order."""
        return await self._one(account, "order_no = $3", number)

    async def by_client_order_id(self, account: str, client_order_id: str) -> tuple[Order, list[Fill]] | None:
        """The same by the key that the caller gave."""
        return await self._one(account, "client_order_id = $3", client_order_id)

    async def _one(self, account: str, condition: str, key: int | str) -> tuple[Order, list[Fill]] | None:
        async with self._reading() as connection:
            where = f"WHERE feed = $1 AND account = $2 AND {condition}"
            row = await connection.fetchrow(f"{_SELECT} {where}", self._feed, account, key)
            if row is None:
                return None
            fills = await connection.fetch(
                f"SELECT {_FILL} FROM orders.fill WHERE feed = $1 AND order_no = $2 ORDER BY fill_no",
                self._feed,
                row["order_no"],
            )
        return _order(row), [_fill(r) for r in fills]

    async def page(self, account: str, after: int, limit: int, *, working_only: bool, symbol: str) -> list[Order]:
        """An account's orders with a number above `after`, the oldest first; of one symbol unless it is empty."""
        only = f" AND {_WORKING}" if working_only else ""
        async with self._reading() as connection:
            rows = await connection.fetch(
                f"{_SELECT} WHERE feed = $1 AND account = $2 AND order_no > $3 AND ($4 = '' OR symbol = $4){only}"
                " ORDER BY order_no LIMIT $5",
                self._feed,
                account,
                after,
                symbol,
                limit,
            )
        return [_order(row) for row in rows]

    async def changed_since(
        self, account: str, update: int, after: int, ceiling: int | None, limit: int
    ) -> tuple[int, list[Order]]:
        """(ceiling, orders with an update number above `after` and up to it, in its order): the working ones and,
        unless `update` is 0, those changed after it.

        Without a ceiling it is the account's newest update number. At most `limit` orders: go on with the number of
        the last and the same ceiling; what has changed meanwhile lies above it.
        """
        async with self._reading() as connection:
            if ceiling is None:
                ceiling = await connection.fetchval(
                    "SELECT update_no FROM orders.account WHERE feed = $1 AND account = $2", self._feed, account
                )
            rows = await connection.fetch(
                f"{_SELECT} WHERE feed = $1 AND account = $2 AND update_no > $3 AND update_no <= $4"
                f" AND ({_WORKING} OR ($5 > 0 AND update_no > $5)) ORDER BY update_no LIMIT $6",
                self._feed,
                account,
                after,
                ceiling or 0,
                update,
                limit,
            )
        return ceiling or 0, [_order(row) for row in rows]


def _row(order: Order) -> list[Any]:
    return [getattr(order, field.name) for field in fields(Order)]


def _order(row: Any) -> Order:
    values = {field.name: row[_RENAMED.get(field.name, field.name)] for field in fields(Order)}
    return Order(
        **values
        | {
            "side": Side(values["side"]),
            "type": OrderType(values["type"]),
            "time_in_force": TimeInForce(values["time_in_force"]),
            "state": OrderState(values["state"]),
            "filled_notional": int(values["filled_notional"]),
        }
    )


def _fill_row(fill: Fill) -> tuple[Any, ...]:
    name = fill.print
    of = (None,) * 4 if name is None else (name.tape, name.partition, name.offset, name.index)
    return (fill.number, fill.order, fill.quantity, fill.price, fill.event_ts, *of)


def _fill(row: Any) -> Fill:
    name = None if row["tape"] is None else PrintId(row["tape"], row["partition"], row["log_offset"], row["idx"])
    return Fill(row["fill_no"], row["order_no"], row["quantity"], row["price"], row["event_ts"], name)


def _step_row(change: OrderChange) -> tuple[Any, ...]:
    order, fill = change.order, change.fill
    number = None if fill is None else fill.number
    return (
        order.account, order.update, order.number, change.before, order.state, order.reason, order.updated_ts, number,
    )  # fmt: skip

"""What callers ask of the desk, and who may ask what: idempotent by client order id, and each account sees its own.

The desk holds working orders only. Whatever a command names is looked up in storage before (`keys_of`, `numbers_of`)
and handed over as `KnownOrders`, which also learns what the desk has done since.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from marketfeed.domain.errors import CallRefused, CallStatus
from marketfeed.domain.order_desk import Desk
from marketfeed.domain.order_validation import Reference
from marketfeed.domain.orders import Order, OrderRequest, ReplaceRequest


@dataclass(frozen=True, slots=True)
class Submit:
    """A new order."""

    account: str
    request: OrderRequest
    reference: Reference


@dataclass(frozen=True, slots=True)
class Cancel:
    """The end of an order, named by its number or, if that is 0, by its client order id."""

    account: str
    number: int
    client_order_id: str


@dataclass(frozen=True, slots=True)
class Replace:
    """Another limit or quantity for an order."""

    account: str
    request: ReplaceRequest
    reference: Reference


Command = Submit | Cancel | Replace


@dataclass(frozen=True, slots=True)
class Answer:
    """The order, and for a replacement the one that it replaced."""

    order: Order
    replaced: Order | None = None


def keys_of(commands: Iterable[Command]) -> list[tuple[str, str]]:
    """The (account, client order id) that commands name."""
    return [(c.account, c.client_order_id if isinstance(c, Cancel) else c.request.client_order_id) for c in commands]


def numbers_of(commands: Iterable[Command]) -> list[int]:
    """The numbers of orders that commands name."""
    return [c.number if isinstance(c, Cancel) else c.request.number for c in commands if not isinstance(c, Submit)]


class KnownOrders:
    """Orders by name as they stand, of those that were looked up and of all that the desk changed since."""

    def __init__(self, desk: Desk, stored: Sequence[Order]) -> None:
        self._desk = desk
        self._seen = 0
        self._by_number: dict[int, Order] = {}
        self._by_key: dict[tuple[str, str], int] = {}
        for order in stored:
            self._put(order)

    def by_key(self, account: str, client_order_id: str) -> Order | None:
        """An account's order by the key it gave."""
        self._learn()
        number = self._by_key.get((account, client_order_id))
        return None if number is None else self._by_number[number]

    def by_number(self, account: str, number: int) -> Order | None:
        """An account's order."""
        self._learn()
        found = self._by_number.get(number)
        return found if found is not None and found.account == account else None

    def _learn(self) -> None:
        for change in self._desk.changes[self._seen :]:
            self._put(change.order)
        self._seen = len(self._desk.changes)

    def _put(self, order: Order) -> None:
        self._by_number[order.number] = order
        self._by_key[order.account, order.client_order_id] = order.number


def carry_out(command: Command, desk: Desk, known: KnownOrders, now_ns: int) -> Answer:
    """Let a command act on the desk. Raises CallRefused; the desk is as it was then."""
    match command:
        case Submit():
            return _submit(command, desk, known, now_ns)
        case Cancel():
            order = _named(command.account, command.number, command.client_order_id, known)
            return Answer(desk.cancel(order, now_ns))
        case Replace():
            return _replace(command, desk, known, now_ns)


def _submit(command: Submit, desk: Desk, known: KnownOrders, now_ns: int) -> Answer:
    request = command.request
    before = known.by_key(command.account, request.client_order_id)
    if before is None:
        return Answer(desk.submit(command.account, request, command.reference, now_ns))
    if before.asks_the_same(request):
        return Answer(before)
    raise key_is_taken(before)


def _replace(command: Replace, desk: Desk, known: KnownOrders, now_ns: int) -> Answer:
    request = command.request
    before = known.by_key(command.account, request.client_order_id)
    if before is not None and not before.replaces_the_same(request):
        raise key_is_taken(before)
    order = _named(command.account, request.number, "", known)
    if before is not None:
        return Answer(before, order)
    return Answer(*desk.replace(order, request, command.reference, now_ns))


def _named(account: str, number: int, client_order_id: str, known: KnownOrders) -> Order:
    found = known.by_number(account, number) if number else known.by_key(account, client_order_id)
    if found is None:
        raise unknown_order()
    return found


def unknown_order() -> CallRefused:
    """The refusal for an order that is not there, or is another account's."""
    return CallRefused(CallStatus.NOT_FOUND, "UNKNOWN_ORDER", "the account has no such order")


def key_is_taken(order: Order) -> CallRefused:
    """The refusal for a client order id that stands for another request."""
    return CallRefused(
        CallStatus.ALREADY_EXISTS,
        "CLIENT_ORDER_ID_TAKEN",
        "this client order id was used for another request; choose a new one",
        order_id=str(order.number),
    )

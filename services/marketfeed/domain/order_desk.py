"""The desk: all working orders, and what commands and the tape do to them, one after the other.

It knows nothing of clocks, servers or storage: the time is an argument, and every step it makes is kept in `changes`
until somebody has stored them. A desk whose changes could not be stored is thrown away and loaded anew, so what it says
counts only once it is stored.

Given the same commands and the same tape it makes the same changes, however the tape is cut into batches. Only a batch
that begins before an order was accepted and ends after it is, as a whole, not for that order.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from marketfeed.domain.errors import CallRefused, CallStatus
from marketfeed.domain.order_book import OrderBook
from marketfeed.domain.order_matching import Print, Prints, is_for, shares, touching
from marketfeed.domain.order_states import OrderReason, OrderState
from marketfeed.domain.order_validation import OrderRules, Reference, expires_ts, market_refusal
from marketfeed.domain.orders import (
    Fill,
    Order,
    OrderChange,
    OrderRequest,
    OrderType,
    PrintId,
    ReplaceRequest,
    TimeInForce,
)
from marketfeed.domain.sessions import Calendar
from marketfeed.domain.trades import NANOS

# An IOC order that no print has decided ends when its symbol's tape is known this far beyond its acceptance …
IOC_TAPE_NS = 1 * NANOS
# … or, if the tape says nothing, after this time by the service's clock.
IOC_PATIENCE_NS = 5 * NANOS
# A DAY order ends when the tape is known up to its end, or so long after it by the clock, with the tape there.
DAY_PATIENCE_NS = 60 * NANOS


@dataclass(slots=True)
class DeskState:
    """What a desk begins with. `updates`: newest update number by account; `tape` counts the tapes."""

    next_order: int = 1
    next_fill: int = 1
    tape: int = 1
    updates: dict[str, int] = field(default_factory=dict)
    orders: Iterable[Order] = ()


class Desk:
    """Orders of one feed. `changes`: the steps since they were last taken, in their order."""

    def __init__(self, state: DeskState, rules: OrderRules, calendar: Calendar) -> None:
        self._rules = rules
        self._calendar = calendar
        self.next_order = state.next_order
        self.next_fill = state.next_fill
        self.tape = state.tape
        self.updates = dict(state.updates)
        self.changes: list[OrderChange] = []
        self.book = OrderBook()
        for order in state.orders:
            self.book.put(order)
        # When the present stream of the tape began; patience counts from then at the earliest.
        self._tape_since = 0

    def submit(self, account: str, request: OrderRequest, reference: Reference, now_ns: int) -> Order:
        """Accept a new order, or reject it for the market's state. Raises CallRefused when there are too many."""
        reason = market_refusal(request, reference, self._rules, now_ns)
        if reason:
            return self._enter(self._new(account, request, now_ns), OrderState.REJECTED, reason)
        if request.type is OrderType.LIMIT:
            self._check_room(account)
        order = self._enter(self._new(account, request, now_ns), OrderState.WORKING, "")
        if request.type is OrderType.MARKET:
            assert reference.price is not None
            return self._fill(order, order.quantity, reference.price, now_ns, None, now_ns)
        return order

    def cancel(self, order: Order, now_ns: int) -> Order:
        """Cancel a working order; one that is cancelled stays so. Raises CallRefused if it has ended otherwise."""
        if order.state is OrderState.CANCELLED:
            return order
        _check_working(order)
        return self._step(order, OrderState.CANCELLED, now_ns, reason=OrderReason.CANCELLED_BY_CALLER.value)

    def replace(self, order: Order, request: ReplaceRequest, reference: Reference, now_ns: int) -> tuple[Order, Order]:
        """(the new order, the replaced one). Raises CallRefused if the order cannot be replaced so."""
        _check_replaceable(order, request)
        asked = replace(_request_of(order), limit_price=request.limit_price, quantity=request.quantity)
        if reason := market_refusal(asked, reference, self._rules, now_ns):
            raise _refused(reason, "the limit price is too far from the market", order)
        new = self._new(order.account, replace(asked, client_order_id=request.client_order_id), now_ns)
        keeps = request.limit_price == order.limit_price and request.quantity <= order.quantity
        new = replace(
            new,
            replaces=order.number,
            expires_ts=order.expires_ts,
            filled_quantity=order.filled_quantity,
            filled_notional=order.filled_notional,
            queued_ts=order.queued_ts if keeps else now_ns,
            priority=order.priority if keeps else new.number,
        )
        replaced = self._step(order, OrderState.REPLACED, now_ns, replaced_by=new.number)
        new = self._enter(new, OrderState.WORKING, "")
        if new.filled_quantity:
            new = self._step(new, OrderState.PARTIALLY_FILLED, now_ns)
        return new, replaced

    def prints(self, prints: Prints, now_ns: int) -> int:
        """Let a batch of the tape act; the number of prints that were looked at one by one."""
        looked_at = 0
        for found in touching(prints, self.book):
            looked_at += 1
            self._print(prints, found, now_ns)
        return looked_at

    def tape_begins(self, recovered: bool, now_ns: int) -> None:
        """A stream of the tape begins. Unless it goes on where the last one ended, every order has a hole up to now."""
        self._tape_since = now_ns
        if not recovered:
            self.tape += 1
            self._hole(list(self.book), 0, now_ns, OrderReason.TAPE_LOST, now_ns)

    def gap(self, symbols: Collection[str], from_ts: int, to_ts: int, now_ns: int) -> None:
        """Trades of these symbols stamped in [from_ts, to_ts] may be missing."""
        books = [self.book.symbols[s] for s in symbols if s in self.book.symbols]
        self._hole([o for book in books for o in book.orders.values()], from_ts, to_ts, OrderReason.FEED_GAP, now_ns)

    def passes(self, watermark_ts: int, now_ns: int) -> None:
        """The tape is had up to `watermark_ts` (0: not known); ends suspensions, IOC orders and days."""
        for order in list(self.book):
            if _has_expired(order, watermark_ts, max(order.expires_ts, self._tape_since), now_ns):
                self._step(order, OrderState.EXPIRED, now_ns, reason=OrderReason.DAY_ENDED.value)
            elif order.state is OrderState.SUSPENDED and watermark_ts > order.suspended_until:
                self._resume(order, now_ns)
            elif order.time_in_force is TimeInForce.IOC:
                self._end_ioc(order, watermark_ts, now_ns)

    def tick(self, now_ns: int) -> None:
        """Time goes by, whether or not the tape says something: IOC orders do not wait for it for long."""
        for book in list(self.book.symbols.values()):
            for order in list(book.watched.values()):
                if order.time_in_force is TimeInForce.IOC:
                    self._end_ioc(order, 0, now_ns)

    def take_changes(self) -> list[OrderChange]:
        """The steps since the last call."""
        taken, self.changes = self.changes, []
        return taken

    def _print(self, prints: Prints, found: Print, now_ns: int) -> None:
        book = self.book.symbols.get(found.symbol)
        if book is None:
            return
        for order in sorted(book.watched.values(), key=lambda o: o.number):
            if order.state is OrderState.SUSPENDED and order.suspended_until < found.event_ts:
                self._resume(order, now_ns)
        name = PrintId(self.tape, prints.partition, int(prints.offset[found.place]), int(prints.index[found.place]))
        for order, part in shares(book, found):
            self._fill(order, part, found.price, found.event_ts, name, now_ns)
        for order in sorted(book.watched.values(), key=lambda o: o.number):
            if order.time_in_force is TimeInForce.IOC and is_for(order, found):
                self._step(order, OrderState.CANCELLED, now_ns, reason=OrderReason.IOC_UNFILLED.value)

    def _end_ioc(self, order: Order, watermark_ts: int, now_ns: int) -> None:
        if watermark_ts >= order.accepted_ts + IOC_TAPE_NS:
            self._step(order, OrderState.CANCELLED, now_ns, reason=OrderReason.IOC_UNFILLED.value)
        elif now_ns >= order.accepted_ts + IOC_PATIENCE_NS:
            self._step(order, OrderState.CANCELLED, now_ns, reason=OrderReason.IOC_NO_TAPE.value)

    def _hole(self, orders: list[Order], from_ts: int, to_ts: int, reason: OrderReason, now_ns: int) -> None:
        for order in sorted(orders, key=lambda o: o.number):
            ended = 0 < order.expires_ts <= from_ts
            if to_ts <= order.queued_ts or ended or (order.suspended_until >= to_ts):
                continue
            if order.time_in_force is TimeInForce.IOC:
                self._step(order, OrderState.CANCELLED, now_ns, reason=reason.value)
            else:
                self._step(order, OrderState.SUSPENDED, now_ns, reason=reason.value, suspended_until=to_ts)

    def _resume(self, order: Order, now_ns: int) -> None:
        self._step(order, order.resting_state, now_ns, reason="")

    def _fill(self, order: Order, quantity: int, price: int, event_ts: int, name: PrintId | None, now_ns: int) -> Order:
        fill = Fill(self.next_fill, order.number, quantity, price, event_ts, name)
        self.next_fill += 1
        assert 0 < quantity <= order.remaining, "a fill is more than what is left of its order"
        whole = quantity == order.remaining
        return self._step(
            order,
            OrderState.FILLED if whole else OrderState.PARTIALLY_FILLED,
            now_ns,
            fill,
            filled_quantity=order.filled_quantity + quantity,
            filled_notional=order.filled_notional + quantity * price,
        )

    def _new(self, account: str, request: OrderRequest, now_ns: int) -> Order:
        """An order without a state; `_enter` gives it one."""
        number = self.next_order
        return Order(
            number=number,
            account=account,
            client_order_id=request.client_order_id,
            symbol=request.symbol,
            side=request.side,
            type=request.type,
            time_in_force=request.time_in_force,
            quantity=request.quantity,
            limit_price=request.limit_price,
            state=OrderState.WORKING,
            filled_quantity=0,
            filled_notional=0,
            reason="",
            accepted_ts=now_ns,
            updated_ts=now_ns,
            update=0,
            replaces=0,
            replaced_by=0,
            queued_ts=now_ns,
            priority=number,
            expires_ts=expires_ts(request.time_in_force, self._calendar, now_ns),
            suspended_until=0,
        )

    def _enter(self, order: Order, state: OrderState, reason: str) -> Order:
        self.next_order += 1
        entered = replace(order, state=state, reason=reason, update=self._next_update(order.account))
        return self._note(OrderChange(None, entered))

    def _step(self, order: Order, state: OrderState, now_ns: int, fill: Fill | None = None, **changed: Any) -> Order:
        update = self._next_update(order.account)
        return self._note(OrderChange(order.state, order.stepped(state, update, now_ns, **changed), fill))

    def _note(self, change: OrderChange) -> Order:
        self.changes.append(change)
        self.book.put(change.order)
        return change.order

    def _next_update(self, account: str) -> int:
        update = self.updates[account] = self.updates.get(account, 0) + 1
        return update

    def _check_room(self, account: str) -> None:
        full = len(self.book) >= self._rules.working_max
        if full or self.book.count_of(account) >= self._rules.account_working_max:
            whose = "the service" if full else "the account"
            message = f"{whose} has as many working orders as it may; cancel some or try later"
            raise CallRefused(CallStatus.RESOURCE_EXHAUSTED, "TOO_MANY_ORDERS", message)


def _has_expired(order: Order, watermark_ts: int, patient_from: int, now_ns: int) -> bool:
    if not order.expires_ts or now_ns < order.expires_ts:
        return False
    return watermark_ts >= order.expires_ts or now_ns >= patient_from + DAY_PATIENCE_NS


def _check_working(order: Order) -> None:
    if not order.is_working:
        raise _refused("NOT_WORKING", f"the order is {order.state.name}", order)


def _check_replaceable(order: Order, request: ReplaceRequest) -> None:
    _check_working(order)
    if order.state is OrderState.SUSPENDED or order.time_in_force is TimeInForce.IOC:
        raise _refused("NOT_REPLACEABLE", "a suspended order, or an IOC order, can only be cancelled", order)
    if request.quantity <= order.filled_quantity:
        raise _refused("ALREADY_FILLED", "the whole quantity must be above what is filled; cancel the order", order)


def _request_of(order: Order) -> OrderRequest:
    return OrderRequest(
        order.client_order_id, order.symbol, order.side, order.type, order.time_in_force, order.quantity,
        order.limit_price,
    )  # fmt: skip


def _refused(reason: str, message: str, order: Order) -> CallRefused:
    state = order.state.name
    return CallRefused(CallStatus.FAILED_PRECONDITION, reason, message, order_id=str(order.number), state=state)

"""Conflated keyed fan-out over WebSocket beside two peers, on one scenario (`load/scenario.py`).

First what the same deliveries cost: 1,000 clients with one symbol, then 500 with watch lists of ten, at turns of 50 ms,
the servers one after the other, in three rounds; what is compared is the ratio within a round. A server that keeps up
delivers all that is possible; one that does not is compared by what it delivered. Then other numbers of clients, and
turns of 10 ms, which are more than a core gives: there a server that does not conflate for each client shows more
deliveries, as it sends what is old already, and its latency says so.

Ours makes bars and quotes of the trades meanwhile, and keeps them for whoever resumes; the peers do not.

centrifuge is measured in two ways: the program conflates (a turn as ours), and the library conflates (every trade is
published, `FlushLatestPublication` keeps the newest for each connection). `websockets` is `broadcast` to a set a turn.
"""

from __future__ import annotations

from statistics import median

from tests.bench.load.run import Figures, play
from tests.bench.load.servers import CENTRIFUGE, CENTRIFUGE_LIBRARY, MARKETFEED, WEBSOCKETS, Missing, Server

ROUNDS = 3
TICK_MS, FAST_MS = 50, 10
# Clients, and how many symbols each follows.
COMPARED = ((1_000, 1), (500, 10))
OTHERS = ((100, 1), (5_000, 1))


def run() -> str:
    """A line for each play, and our ratio to each peer."""
    lines = [f"turns of {TICK_MS} ms:"]
    for clients, follows in COMPARED:
        plays = list[list[Figures]]()
        for number in range(ROUNDS):
            order = [MARKETFEED, WEBSOCKETS, CENTRIFUGE]
            found = [_play(server, clients, TICK_MS, follows, lines) for server in order[number:] + order[:number]]
            plays.append([figures for figures in found if figures is not None])
        lines += _ratios(plays)
    _play(CENTRIFUGE_LIBRARY, COMPARED[0][0], TICK_MS, 1, lines)
    for clients, follows in OTHERS:
        for server in (MARKETFEED, WEBSOCKETS, CENTRIFUGE):
            _play(server, clients, TICK_MS, follows, lines)
    lines.append(f"turns of {FAST_MS} ms:")
    for server in (MARKETFEED, WEBSOCKETS, CENTRIFUGE):
        _play(server, COMPARED[0][0], FAST_MS, 1, lines)
    return "\n  ".join(lines)


def _play(server: Server, clients: int, tick_ms: int, follows: int, lines: list[str]) -> Figures | None:
    try:
        figures = play(server, clients, tick_ms, follows)
    except Missing as missing:
        lines.append(f"{server.name} skipped: {missing}")
        return None
    except RuntimeError as error:
        lines.append(f"{server.name} {clients} clients {tick_ms} ms failed: {error}")
        return None
    lines.append(str(figures))
    return figures


def _ratios(plays: list[list[Figures]]) -> list[str]:
    """Deliveries a core-second, ours by theirs, of each round."""
    lines = []
    for peer in (WEBSOCKETS.name, CENTRIFUGE.name):
        ratios = []
        for found in plays:
            by_name = {figures.server: figures.per_core_second for figures in found}
            if peer in by_name and MARKETFEED.name in by_name:
                ratios.append(by_name[MARKETFEED.name] / by_name[peer])
        if ratios:
            lines.append(
                f"marketfeed / {peer}, deliveries a core-second: {median(ratios):.2f}"
                f" ({min(ratios):.2f} to {max(ratios):.2f} in {len(ratios)} rounds)"
            )
    return lines

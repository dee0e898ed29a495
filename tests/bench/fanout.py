"""Conflated keyed fan-out over WebSocket beside two peers, on one scenario (`load/scenario.py`).

First all that a core gives: 1,000 clients and turns of 10 ms, the servers one after the other, in three rounds; what is
compared is the ratio within a round. Then turns of 50 ms with 100, 1,000 and 5,000 clients.

centrifuge is measured in two ways: the program conflates (a turn as ours), and the library conflates (every trade is
published, `FlushLatestPublication` keeps the newest for each connection). `websockets` is `broadcast` to a set a turn.
"""

from __future__ import annotations

from statistics import median

from tests.bench.load.run import Figures, play
from tests.bench.load.servers import CENTRIFUGE, CENTRIFUGE_LIBRARY, MARKETFEED, WEBSOCKETS, Missing, Server

ROUNDS = 3
SATURATING = (1_000, 10)
PACED_MS = 50
PACED_CLIENTS = (100, 1_000, 5_000)


def run() -> str:
    """A line for each play, and our ratio to each peer."""
    lines, plays = ["all that a core gives:"], list[list[Figures]]()
    for number in range(ROUNDS):
        order = [MARKETFEED, WEBSOCKETS, CENTRIFUGE]
        found = [_play(server, *SATURATING, lines) for server in order[number:] + order[:number]]
        plays.append([figures for figures in found if figures is not None])
    _play(CENTRIFUGE_LIBRARY, *SATURATING, lines)
    lines += _ratios(plays)
    lines.append(f"turns of {PACED_MS} ms:")
    for clients in PACED_CLIENTS:
        for server in (MARKETFEED, WEBSOCKETS, CENTRIFUGE):
            _play(server, clients, PACED_MS, lines)
    return "\n  ".join(lines)


def _play(server: Server, clients: int, tick_ms: int, lines: list[str]) -> Figures | None:
    try:
        figures = play(server, clients, tick_ms)
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

"""The names of the synthetic exchange, so that whoever plans its feed knows them without asking it. Pure.

The first fifty are names people know, the rest are SYM0051, SYM0052, …
"""

from __future__ import annotations

STOCK, CRYPTO, FX = 0, 1, 2

# (symbol, kind, price): ranks 1 to 50, the most traded first. Prices are plausible, not anybody's quotes.
KNOWN: tuple[tuple[str, int, str], ...] = (
    ("AAPL", STOCK, "227.50"), ("NVDA", STOCK, "138.20"), ("TSLA", STOCK, "342.10"), ("MSFT", STOCK, "431.60"),
    ("AMZN", STOCK, "207.90"), ("BINANCE:BTCUSDT", CRYPTO, "67250.00"), ("AMD", STOCK, "141.30"),
    ("META", STOCK, "563.40"), ("GOOGL", STOCK, "171.20"), ("SPY", STOCK, "587.80"), ("QQQ", STOCK, "504.30"),
    ("BINANCE:ETHUSDT", CRYPTO, "3120.00"), ("PLTR", STOCK, "61.40"), ("INTC", STOCK, "24.60"),
    ("AVGO", STOCK, "168.70"), ("NFLX", STOCK, "832.50"), ("JPM", STOCK, "243.10"), ("OANDA:EUR_USD", FX, "1.08345"),
    ("BAC", STOCK, "46.20"), ("COIN", STOCK, "304.60"), ("DIS", STOCK, "113.80"), ("BA", STOCK, "149.70"),
    ("WMT", STOCK, "87.60"), ("XOM", STOCK, "120.40"), ("UBER", STOCK, "71.30"), ("V", STOCK, "310.90"),
    ("MU", STOCK, "102.80"), ("CSCO", STOCK, "57.90"), ("KO", STOCK, "63.10"), ("PFE", STOCK, "25.70"),
    ("T", STOCK, "22.40"), ("BINANCE:SOLUSDT", CRYPTO, "214.00"), ("ORCL", STOCK, "189.20"), ("CRM", STOCK, "330.70"),
    ("COST", STOCK, "921.40"), ("MCD", STOCK, "296.80"), ("HD", STOCK, "405.30"), ("JNJ", STOCK, "153.90"),
    ("PG", STOCK, "170.60"), ("UNH", STOCK, "588.20"), ("LLY", STOCK, "747.90"), ("MRK", STOCK, "99.30"),
    ("PEP", STOCK, "159.40"), ("ADBE", STOCK, "503.70"), ("QCOM", STOCK, "157.60"), ("TXN", STOCK, "201.80"),
    ("NKE", STOCK, "76.20"), ("OANDA:USD_CHF", FX, "1.12870"), ("GS", STOCK, "592.30"), ("IBM", STOCK, "213.40"),
)  # fmt: skip

# Four digits: a name of them all is equally long.
SYMBOLS_MAX = 9_999


def synthetic_symbols(count: int) -> tuple[str, ...]:
    """The names of the `count` most traded symbols, most traded first. Raises ValueError unless 1 to SYMBOLS_MAX."""
    if not 1 <= count <= SYMBOLS_MAX:
        raise ValueError(f"there can be 1 to {SYMBOLS_MAX} symbols, not {count}")
    known = tuple(name for name, _, _ in KNOWN[:count])
    return known + tuple(f"SYM{rank:04d}" for rank in range(len(known) + 1, count + 1))

"""Runs inside a pod: reads a feed's bars from PostgreSQL as anybody with its address would, one line of JSON a bar.

Arguments: the feed's id and the interval. MARKETFEED_POSTGRES is the address.
"""

import asyncio
import json
import os
import sys

import asyncpg

QUERY = """SELECT symbol, extract(epoch FROM start)::bigint, open, high, low, close, volume::float8, trades, source
           FROM bars WHERE feed = $1 AND interval = $2 ORDER BY symbol, start"""


async def main(feed: str, interval: str) -> None:
    """Print the bars."""
    connection = await asyncpg.connect(os.environ["MARKETFEED_POSTGRES"], timeout=20)
    try:
        for row in await connection.fetch(QUERY, feed, interval, timeout=20):
            print(json.dumps(list(row)))
    finally:
        await connection.close(timeout=5)


asyncio.run(main(*sys.argv[1:]))

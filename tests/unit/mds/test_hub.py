"""A trace that begins at ingest goes on until its prices are written to clients."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.unit.collector import Collector

from marketfeed.mds.hub import Hub
from marketfeed.runtime import tracing

TRACE_ID, INGEST_SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_a_trace_reaches_the_clients(market: Any, collector: Collector) -> None:
    """Applying goes on with the record's trace, the next turn to clients with that; an idle turn makes no span."""
    hub: Hub = market.hub
    market.log.own("A")
    market.log.trade("A", 0.5, 10.0)
    tracing.set_up("mds", "one", collector.endpoint)
    record = replace(market.log.records[-1], offset=2, headers={"traceparent": f"00-{TRACE_ID}-{INGEST_SPAN}-01"})
    hub.apply([record])
    hub.tick()
    hub.apply([])
    hub.tick()
    tracing.shut_down()
    applied, sent = collector.spans()
    assert (applied.name, applied.trace_id, applied.parent_id) == ("mds.apply", TRACE_ID, INGEST_SPAN)
    assert (sent.name, sent.trace_id, sent.parent_id) == ("mds.send", TRACE_ID, applied.span_id)

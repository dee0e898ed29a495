"""Traces cost nothing when off and cross processes when on."""

from tests.unit.collector import Collector

from marketfeed.runtime import tracing


def test_off_by_default() -> None:
    """Without an endpoint there is no span and no header."""
    with tracing.span("flush"):
        assert tracing.current_traceparent() is None
    assert not tracing.enabled()


def test_a_trace_goes_on_below_a_remote_parent(collector: Collector) -> None:
    """A span made below a header carries that header's trace id, and is exported on shutdown."""
    tracing.set_up("try", "one", collector.endpoint)
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    with tracing.span("consume", parent=f"00-{trace_id}-b7ad6b7169203331-01"):
        inner = tracing.current_traceparent()
    tracing.shut_down()
    assert inner is not None
    assert inner.split("-")[1] == trace_id
    (span,) = collector.spans()
    assert (span.service, span.name, span.trace_id) == ("marketfeed-try", "consume", trace_id)


def test_work_without_a_cause_begins_no_trace(collector: Collector) -> None:
    """A continued span needs a parent."""
    tracing.set_up("try", "one", collector.endpoint)
    with tracing.continued("idle", None):
        assert tracing.current_traceparent() is None
    tracing.shut_down()
    assert collector.spans() == []

"""Traces: W3C trace context, exported by OTLP when an endpoint is set, otherwise nothing is made at all.

The context crosses Kafka as the header `traceparent`; whoever reads a record continues the trace with `span(…,
parent=header)`. Spans are made per record or flush, never per trade.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_propagator = TraceContextTextMapPropagator()
_tracer: trace.Tracer | None = None
_shut_down: Callable[[], None] | None = None


def set_up(service: str, instance: str, endpoint: str | None) -> None:
    """Begin to export this process's spans to `endpoint` (an OTLP/HTTP base URL); None leaves tracing off."""
    global _tracer, _shut_down
    if endpoint is None:
        return
    # Imported here because loading the exporter costs more than starting a service that does not trace.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({"service.name": f"marketfeed-{service}", "service.instance.id": instance})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint.rstrip("/") + "/v1/traces")))
    _tracer, _shut_down = provider.get_tracer("marketfeed"), provider.shutdown


def shut_down() -> None:
    """Send what is left and stop exporting."""
    global _tracer, _shut_down
    if _shut_down is not None:
        _shut_down()
    _tracer = _shut_down = None


def enabled() -> bool:
    """Whether spans are made."""
    return _tracer is not None


@contextmanager
def span(name: str, parent: str | None = None, **attributes: str | int | float | bool) -> Iterator[None]:
    """Time a block as the span `name`, below the remote `parent` (a traceparent) if one is given."""
    if _tracer is None:
        yield
        return
    context = _propagator.extract({"traceparent": parent}) if parent else None
    with _tracer.start_as_current_span(name, context=context, attributes=attributes):
        yield


@contextmanager
def continued(name: str, parent: str | None, **attributes: str | int | float | bool) -> Iterator[None]:
    """`span` below `parent`, or nothing without one: work that no record caused begins no trace."""
    if parent is None:
        yield
        return
    with span(name, parent, **attributes):
        yield


def current_traceparent() -> str | None:
    """The traceparent of the span that is running, for a record's header; None when there is none."""
    if _tracer is None:
        return None
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    return carrier.get("traceparent")

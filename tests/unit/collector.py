"""An OTLP/HTTP endpoint that keeps the spans it is sent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True, slots=True)
class Span:
    """A span by what joins it to others; ids in hexadecimal, no parent is the empty string."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str


@dataclass
class Collector:
    """What was sent, and where to send it."""

    endpoint: str
    bodies: list[bytes] = field(default_factory=list)

    def spans(self) -> list[Span]:
        """All spans so far, in the order of their end."""
        return [span for body in self.bodies for span in _spans(body)]


def _spans(body: bytes) -> Iterator[Span]:
    for group in ExportTraceServiceRequest.FromString(body).resource_spans:
        (service,) = (one.value.string_value for one in group.resource.attributes if one.key == "service.name")
        for scope in group.scope_spans:
            for span in scope.spans:
                yield Span(service, span.name, span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())


@contextmanager
def listening() -> Iterator[Collector]:
    """A collector on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    found = Collector(f"http://127.0.0.1:{server.server_port}")
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield found
    server.shutdown()
    thread.join()
    server.server_close()

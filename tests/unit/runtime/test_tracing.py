"""Traces cost nothing when off and cross processes when on."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from marketfeed.runtime import tracing


@pytest.fixture
def collector() -> Iterator[tuple[str, list[bytes]]]:
    """An OTLP/HTTP endpoint that keeps what it is sent."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", bodies
    server.shutdown()
    thread.join()
    server.server_close()


def test_off_by_default() -> None:
    """Without an endpoint there is no span and no header."""
    with tracing.span("flush"):
        assert tracing.current_traceparent() is None
    assert not tracing.enabled()


def test_a_trace_goes_on_below_a_remote_parent(collector: tuple[str, list[bytes]]) -> None:
    """A span made below a header carries that header's trace id, and is exported on shutdown."""
    endpoint, bodies = collector
    tracing.set_up("try", "one", endpoint)
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    with tracing.span("consume", parent=f"00-{trace_id}-b7ad6b7169203331-01"):
        inner = tracing.current_traceparent()
    tracing.shut_down()
    assert inner is not None
    assert inner.split("-")[1] == trace_id
    assert any(b"marketfeed-try" in body for body in bodies)

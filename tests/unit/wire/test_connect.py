"""Connect's messages, envelopes and errors."""

from __future__ import annotations

import base64
import json

import pytest
from google.rpc import error_details_pb2
from hypothesis import given
from hypothesis import strategies as st

from marketfeed.domain.errors import CallRefused, CallStatus
from marketfeed.wire.connect import (
    STREAM_TYPES,
    UNARY_TYPES,
    Codec,
    ConnectError,
    check_headers,
    codec_of,
    end_of_stream,
    timeout_s,
)
from marketfeed.wire.v1 import orders_pb2 as pb

REQUESTS = st.builds(
    pb.SubmitOrderRequest,
    client_order_id=st.text(max_size=20),
    symbol=st.text(max_size=8),
    side=st.sampled_from([0, 1, 2]),
    quantity_nanos=st.integers(-(2**63), 2**63 - 1),
)


def opened(data: bytes) -> list[tuple[int, bytes]]:
    """The envelopes of a stream."""
    found = []
    while data:
        size = int.from_bytes(data[1:5], "big")
        found.append((data[0], data[5 : 5 + size]))
        data = data[5 + size :]
    return found


@given(REQUESTS, st.sampled_from((*UNARY_TYPES, *STREAM_TYPES)))
def test_a_message_comes_back_as_it_went(message: pb.SubmitOrderRequest, content_type: str) -> None:
    """In both codecs, alone and enveloped, with 64-bit integers whole."""
    codec = Codec(content_type)
    assert codec.read(codec.write(message), pb.SubmitOrderRequest) == message


@given(st.binary(max_size=200), st.sampled_from((*UNARY_TYPES, *STREAM_TYPES)))
def test_any_bytes_are_a_message_or_a_refusal(data: bytes, content_type: str) -> None:
    """Nothing else comes out of the parser, whatever is sent."""
    refused = None
    try:
        Codec(content_type).read(data, pb.SubmitOrderRequest)
    except ConnectError as error:
        refused = error
    assert refused is None or (refused.http_status in (400, 501) and json.loads(refused.body())["message"])


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_argument"),
        (b"\x00\x00\x00\x00\x03{}", "invalid_argument"),
        (b"\x00\x00\x00\x00\x02{}{}", "invalid_argument"),
        (b"\x01\x00\x00\x00\x02{}", "unimplemented"),
        (b"\x02\x00\x00\x00\x02{}", "invalid_argument"),
        (b"\x00\x00\x00\x00\x02[]", "invalid_argument"),
        (b'\x00\x00\x00\x00\x0c{"side": "x"', "invalid_argument"),
    ],
)
def test_envelopes_that_are_none_are_refused(body: bytes, code: str) -> None:
    """Too short, too long, two of them, compressed, an end, another type, torn."""
    with pytest.raises(ConnectError) as caught:
        Codec(STREAM_TYPES[0]).read(body, pb.SubmitOrderRequest)
    assert caught.value.code == code


def test_unknown_fields_of_newer_clients_are_ignored() -> None:
    """JSON as protobuf does it: enums by name, integers of 64 bits as text."""
    text = b'{"clientOrderId": "a", "side": "SIDE_BUY", "quantityNanos": "1000000000", "colour": "red"}'
    found = Codec(UNARY_TYPES[0]).read(text, pb.SubmitOrderRequest)
    assert (found.client_order_id, found.side, found.quantity_nanos) == ("a", pb.SIDE_BUY, 1_000_000_000)


def test_an_error_has_a_code_a_status_a_sentence_and_its_facts() -> None:
    """The details are gRPC's own, packed, and readable beside."""
    refused = CallRefused(CallStatus.FAILED_PRECONDITION, "STALE", "the price is old", symbol="AAPL")
    error = ConnectError.of_refused(refused)
    assert error.http_status == 400
    told = json.loads(error.body())
    assert (told["code"], told["message"]) == ("failed_precondition", "the price is old")
    (detail,) = told["details"]
    assert detail["debug"] == {"reason": "STALE", "domain": "marketfeed", "metadata": {"symbol": "AAPL"}}
    packed = base64.b64decode(detail["value"] + "=" * (-len(detail["value"]) % 4))
    assert error_details_pb2.ErrorInfo.FromString(packed).reason == "STALE"
    assert opened(error.end()) == [(2, json.dumps({"error": told}).encode())]
    assert opened(end_of_stream()) == [(2, b"{}")]


@pytest.mark.parametrize("status", CallStatus)
def test_every_refusal_has_a_status(status: CallStatus) -> None:
    """None is left without an HTTP status."""
    assert 400 <= ConnectError.of_refused(CallRefused(status, "X", "x")).http_status < 600


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("application/json", "application/json"),
        ("Application/JSON; charset=utf-8", "application/json"),
        ('application/json;charset="UTF-8"', "application/json"),
        ("application/proto", "application/proto"),
        ("application/json; charset=latin-1", None),
        ("application/connect+json", None),
        ("application/grpc", None),
        ("", None),
    ],
)
def test_a_codec_is_named_by_the_content_type(text: str, found: str | None) -> None:
    """Anything but the kinds of the call is none."""
    codec = codec_of(text, UNARY_TYPES)
    assert (codec and codec.content_type) == found


def test_what_headers_may_say() -> None:
    """Milliseconds of at most ten digits, version 1, no compression."""
    assert timeout_s({}) is None
    assert timeout_s({"Connect-Timeout-Ms": "1500"}) == 1.5
    for bad in ("", "-1", "1.5", "1" * 11, "١"):
        with pytest.raises(ConnectError, match="ten digits"):
            timeout_s({"Connect-Timeout-Ms": bad})
    check_headers({"Connect-Protocol-Version": "1", "Content-Encoding": "identity"})
    with pytest.raises(ConnectError, match="must be 1"):
        check_headers({"Connect-Protocol-Version": "2"})
    with pytest.raises(ConnectError, match="as they are"):
        check_headers({"Connect-Content-Encoding": "gzip"})

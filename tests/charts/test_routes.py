"""The chart `routes`: what it makes of its values, and which values it refuses."""

from __future__ import annotations

import pytest
from tests.charts.rendering import Object, Refused, only, template

GATEWAY = {"gateway": {"create": True, "className": "traefik"}}
BOTH = {
    **GATEWAY,
    "feed": "x",
    "httpRoute": {"enabled": True, "hostnames": ["a.example"]},
    "grpcRoute": {"enabled": True, "hostnames": ["g.example"]},
}


def ingress(**values: object) -> Object:
    return only(
        template("routes", {"feed": "x", "ingress": {"enabled": True, "hosts": ["a.example"], **values}}), "Ingress"
    )


def test_nothing_is_made_unasked() -> None:
    """Without a choice there is no way in."""
    assert template("routes", {"feed": "x"}) == []


def test_an_ingress_leads_every_host_to_mds() -> None:
    """Each host gets one rule to the feed's Service, and the class is the one asked for."""
    made = ingress(className="traefik", hosts=["a.example", "b.example"])["spec"]
    assert made["ingressClassName"] == "traefik"
    assert [rule["host"] for rule in made["rules"]] == ["a.example", "b.example"]
    for rule in made["rules"]:
        (path,) = rule["http"]["paths"]
        assert path["path"] == "/"
        assert path["backend"]["service"] == {"name": "x-mds", "port": {"number": 8080}}
    assert "tls" not in made


def test_an_ingress_takes_its_certificate_from_a_secret() -> None:
    """All hosts share the certificate of the Secret named."""
    made = ingress(hosts=["a.example", "b.example"], tls={"secretName": "cert"})["spec"]
    assert made["tls"] == [{"secretName": "cert", "hosts": ["a.example", "b.example"]}]


@pytest.mark.parametrize(
    ("controller", "name", "value"),
    [
        ("haproxytech", "haproxy.org/timeout-tunnel", "1h"),
        ("haproxy-ingress", "haproxy-ingress.github.io/timeout-tunnel", "1h"),
        ("traefik", "traefik.ingress.kubernetes.io/router.entrypoints", "web"),
    ],
)
def test_a_known_controller_gets_its_annotations(controller: str, name: str, value: str) -> None:
    """A controller that closes silent connections is told not to; own annotations win."""
    assert ingress(controller=controller)["metadata"]["annotations"] == {name: value}
    mine = ingress(controller=controller, annotations={name: "mine", "other": "yes"})
    assert mine["metadata"]["annotations"] == {name: "mine", "other": "yes"}


def test_traefik_takes_the_secure_entry_point_with_a_certificate() -> None:
    """With a Secret the router listens on websecure and ends TLS."""
    assert ingress(controller="traefik", tls={"secretName": "cert"})["metadata"]["annotations"] == {
        "traefik.ingress.kubernetes.io/router.entrypoints": "websecure",
        "traefik.ingress.kubernetes.io/router.tls": "true",
    }


def test_an_http_route_lets_a_request_last() -> None:
    """A WebSocket is one request: neither it nor its try at a pod has a limit."""
    (rule,) = only(template("routes", BOTH), "HTTPRoute")["spec"]["rules"]
    assert rule["timeouts"] == {"request": "0s", "backendRequest": "0s"}
    assert rule["backendRefs"] == [{"name": "x-mds", "port": 8080}]


def test_a_grpc_route_leads_to_the_clear_text_port() -> None:
    """All of gRPC goes to 50051; a list of services lets in just those; the headless Service is a choice."""
    (rule,) = only(template("routes", BOTH), "GRPCRoute")["spec"]["rules"]
    assert rule == {"backendRefs": [{"name": "x-mds", "port": 50051}]}
    chosen = {**BOTH["grpcRoute"], "services": ["marketfeed.v1.MarketData"], "headless": True}  # type: ignore[dict-item]
    (rule,) = only(template("routes", {**BOTH, "grpcRoute": chosen}), "GRPCRoute")["spec"]["rules"]
    assert rule["matches"] == [{"method": {"type": "Exact", "service": "marketfeed.v1.MarketData"}}]
    assert rule["backendRefs"] == [{"name": "x-mds-headless", "port": 50051}]


def test_routes_hang_on_the_gateway_made_here_or_on_those_named() -> None:
    """gateway.create and no parentRefs: our own Gateway; parentRefs win."""
    objects = template("routes", BOTH)
    gateway = only(objects, "Gateway")
    for kind in ("HTTPRoute", "GRPCRoute"):
        assert only(objects, kind)["spec"]["parentRefs"] == [{"name": gateway["metadata"]["name"]}]
    shared = {"name": "shared", "namespace": "infra", "sectionName": "https"}
    assert only(template("routes", {**BOTH, "parentRefs": [shared]}), "HTTPRoute")["spec"]["parentRefs"] == [shared]


def test_a_gateway_listens_where_it_is_told_to() -> None:
    """Port 80 in clear text, and 443 only with a certificate."""
    listeners = only(template("routes", BOTH), "Gateway")["spec"]["listeners"]
    assert [(one["protocol"], one["port"]) for one in listeners] == [("HTTP", 80)]
    secure = {**BOTH, "gateway": {"create": True, "className": "traefik", "httpPort": 0, "tls": {"secretName": "cert"}}}
    (listener,) = only(template("routes", secure), "Gateway")["spec"]["listeners"]
    assert (listener["protocol"], listener["port"]) == ("HTTPS", 443)
    assert listener["tls"] == {"mode": "Terminate", "certificateRefs": [{"name": "cert"}]}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"ingress": {"enabled": True, "hosts": ["a"]}}, "feed: name the MarketFeed"),
        ({"feed": "x", "ingress": {"enabled": True}}, "ingress.hosts: name at least one host"),
        ({"feed": "x", "httpRoute": {"enabled": True}}, "parentRefs: name the Gateway"),
        ({"feed": "x", "gateway": {"create": True}}, "gateway.className: name the GatewayClass"),
        ({"feed": "x", "gateway": {"create": True, "className": "t", "httpPort": 0}}, "else it listens nowhere"),
        ({**GATEWAY, "feed": "x", "grpcRoute": {"enabled": True}}, "grpcRoute.hostnames: name at least one host"),
        ({**BOTH, "httpRoute": {"enabled": True}}, "must not take every host"),
        (
            {**BOTH, "grpcRoute": {"enabled": True, "hostnames": ["a.example"]}},
            "a.example is a host of the HTTPRoute, too",
        ),
    ],
)
def test_values_that_cannot_work_are_refused(values: Object, said: str) -> None:
    """The message names the value and says what to do."""
    with pytest.raises(Refused, match=said):
        template("routes", values)

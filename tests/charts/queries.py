"""What a PromQL query reads: its metrics with the labels it asks of them. And what the services really export."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import promql_parser
from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase

# Labels that Prometheus adds to every series of a pod (charts/observability/templates/_relabelings.tpl).
TARGET_LABELS = frozenset({"namespace", "pod", "feed", "component", "shard", "member", "job", "instance"})
# Metrics of others, with their labels; the test on a cluster finds each of them in a real Prometheus.
FOREIGN: Mapping[str, frozenset[str]] = {
    "up": frozenset(),
    "ALERTS": frozenset({"alertname", "alertstate", "severity"}),
    "process_cpu_seconds_total": frozenset(),
    "process_resident_memory_bytes": frozenset(),
    "otelcol_receiver_refused_spans_total": frozenset({"receiver", "transport"}),
    "otelcol_exporter_send_failed_spans_total": frozenset({"exporter"}),
}


@dataclass(frozen=True, slots=True)
class Reading:
    """A metric that a query reads, with the labels that are matched or kept by an aggregation around it."""

    metric: str
    labels: frozenset[str]


def readings(query: str) -> list[Reading]:
    """All metrics of a query. Raises ValueError if it is not PromQL."""
    return list(_readings(promql_parser.parse(query.replace("$__rate_interval", "1m")), frozenset()))


def _readings(node: object, kept: frozenset[str]) -> Iterator[Reading]:
    match node:
        case promql_parser.VectorSelector():
            matched = {matcher.name for matcher in node.matchers.matchers}
            yield Reading(str(node.name), kept | matched)
        case promql_parser.MatrixSelector():
            yield from _readings(node.vector_selector, kept)
        case promql_parser.AggregateExpr():
            by = frozenset(node.modifier.labels) if node.modifier else frozenset()
            yield from _readings(node.expr, kept | by)
        case promql_parser.BinaryExpr():
            yield from _readings(node.lhs, kept)
            yield from _readings(node.rhs, kept)
        case promql_parser.Call():
            for argument in node.args:
                yield from _readings(argument, kept)
        case promql_parser.ParenExpr() | promql_parser.UnaryExpr() | promql_parser.SubqueryExpr():
            yield from _readings(node.expr, kept)
        case promql_parser.NumberLiteral() | promql_parser.StringLiteral():
            return
        case _:
            raise ValueError(f"a part of the query is of a kind this does not know: {type(node).__name__}")


def exported() -> dict[str, frozenset[str]]:
    """Every series name that our processes export, with its labels."""
    for package in ("marketfeed", "marketfeed_operator"):
        for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            if module.name.endswith(".metrics"):
                importlib.import_module(module.name)
    found: dict[str, frozenset[str]] = {}
    for collector in set(REGISTRY._collector_to_names):
        if isinstance(collector, MetricWrapperBase):
            labels = frozenset(collector._labelnames)
            for name in REGISTRY._collector_to_names[collector]:
                found[name] = labels | ({"le"} if name.endswith("_bucket") else set())
    return found

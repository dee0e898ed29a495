"""The MarketFeed resource as types: the one source of the CRD's schema, its defaults, its documentation and this model.

`schema.py` turns these types into the CRD, so that what the API server accepts and what is parsed here cannot differ.
What CEL cannot see (the content of a ConfigMap, the names of a synthetic exchange) is checked here, by `symbols_of`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from marketfeed.domain.synthetic_symbols import synthetic_symbols
from marketfeed_operator.spec_fields import (
    ConfigMapSymbols,
    Ingest,
    Kafka,
    Mds,
    NetworkPolicies,
    Observability,
    Part,
    Postgres,
    PullSecret,
    Redis,
    Retention,
    Rule,
    Source,
    Storage,
    Workload,
    meaning,
)

GROUP = "marketfeed.dev"
VERSION = "v1alpha1"
KIND = "MarketFeed"
SHARDS_MAX = 64
SYMBOLS_MAX = 5_000
SYMBOL_LENGTH_MAX = 64
SYMBOL_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9:._/^=-]*$"
NAME_LENGTH_MAX = 40
PAUSED = "marketfeed.dev/paused"
RESYNC = "marketfeed.dev/resync"
RESTARTED_AT = "marketfeed.dev/restarted-at"

# Rules of the whole resource: its name becomes part of Services' names, which are DNS labels.
RESOURCE_RULES = (
    Rule(
        f"self.metadata.name.size() <= {NAME_LENGTH_MAX} && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
        f"metadata.name must be at most {NAME_LENGTH_MAX} of a-z, 0-9 and -, starting with a letter:"
        " Services are named after it",
    ),
)


class InvalidSpec(Exception):
    """A MarketFeed that cannot become a pipeline: `field` is a path in the resource, `problem` says what to do."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field} {problem}")
        self.field = field
        self.problem = problem


class Spec(Part, frozen=True, kw_only=True):
    """What the pipeline should be."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!(has(self.symbols) && has(self.symbolsFrom))",
            "spec.symbols and spec.symbolsFrom exclude each other; keep one",
            ".symbolsFrom",
        ),
        Rule(
            "!has(self.source.finnhub) || has(self.symbols) || has(self.symbolsFrom)",
            "spec.symbols or spec.symbolsFrom is needed: Finnhub sends only what is subscribed to",
            ".symbols",
        ),
        Rule(
            "!has(self.source.history) || !(has(self.symbols) || has(self.symbolsFrom))",
            "spec.symbols and spec.symbolsFrom are not for source.history: its files name their symbols",
            ".symbols",
        ),
        Rule(
            "!has(self.symbols) || self.shards <= size(self.symbols)",
            "spec.shards must not exceed the number of spec.symbols",
            ".shards",
        ),
        Rule(
            "!has(self.source.generator) || self.shards <= self.source.generator.symbols",
            "spec.shards must not exceed spec.source.generator.symbols",
            ".shards",
        ),
        Rule(
            "!has(self.source.finnhub) || self.shards * self.redundancy <= size(self.source.finnhub.apiKeys)",
            "spec.shards × spec.redundancy must not exceed the number of spec.source.finnhub.apiKeys: one key per pod",
            ".shards",
        ),
        Rule(
            "!has(self.source.history) || (self.shards <= 1 && self.redundancy == 1)",
            "spec.shards and spec.redundancy must be 1 with source.history: one job reads the files",
            ".shards",
        ),
    )
    source: Annotated[Source, meaning("Where trades come from; its kind never changes.")]
    symbols: (
        Annotated[
            tuple[Annotated[str, Meta(min_length=1, max_length=SYMBOL_LENGTH_MAX, pattern=SYMBOL_PATTERN)], ...],
            meaning(
                "Symbols of the feed. A generator without symbols and symbolsFrom sends all it has.",
                min_length=1,
                max_length=SYMBOLS_MAX,
                extra_json_schema={"x-kubernetes-list-type": "set"},
            ),
        ]
        | None
    ) = None
    symbols_from: Annotated[ConfigMapSymbols, meaning("Symbols from a ConfigMap, for long lists.")] | None = None
    shards: Annotated[
        int, meaning("Ingest pods (times redundancy) that share the symbols; 0 reads nothing.", ge=0, le=SHARDS_MAX)
    ] = 1
    redundancy: Annotated[
        int, meaning("Members of each shard: with 2, one may die and nothing is lost.", ge=1, le=2)
    ] = 1
    kafka: Annotated[Kafka, meaning("The log of all trades.")]
    redis: Annotated[Redis, meaning("The hot cache.")]
    postgres: Annotated[Postgres, meaning("The time series.")]
    retention: Annotated[Retention, meaning("How long things are kept.")] = Retention()
    storage: Annotated[Storage, meaning("What is stored beside bars.")] = Storage()
    calendar: Annotated[Literal["24x7", "us-equity"], meaning("Sessions and trade dates.")] = "24x7"
    ingest: Annotated[Ingest, meaning("Pods that read the source.")] = Ingest()
    recorder: Annotated[Workload, meaning("The pod that writes Redis and PostgreSQL.")] = Workload()
    mds: Annotated[Mds, meaning("Pods that serve clients.")] = Mds()
    generator: Annotated[Workload, meaning("The pod of source.generator.")] = Workload()
    image: (
        Annotated[str, meaning("Image of all pods; by default the operator's setting.", min_length=1, max_length=512)]
        | None
    ) = None
    image_pull_secrets: Annotated[
        tuple[PullSecret, ...],
        meaning(
            "Credentials for the image.",
            max_length=8,
            extra_json_schema={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = ()
    network_policies: Annotated[NetworkPolicies, meaning("Which traffic is let through.")] = NetworkPolicies()
    observability: Annotated[Observability, meaning("Where traces go.")] = Observability()


@dataclass(frozen=True, slots=True)
class MarketFeed:
    """A MarketFeed: who it is, and what it should be; `restarted_at`: pods that do not bear this value are replaced."""

    namespace: str
    name: str
    uid: str
    generation: int
    spec: Spec
    paused: bool = False
    restarted_at: str = ""

    @property
    def feed_id(self) -> str:
        """Prefix of topics and keys."""
        return self.spec.kafka.topic_prefix or f"{self.namespace}.{self.name}"


# Feeds are parsed in threads, and msgspec 0.22 crashes the process when two of them are the first to use a type at
# once: one looks into what the other is putting together. A decoder puts it together here, before there is a thread.
SPEC_DECODER = msgspec.json.Decoder(Spec)


def parse(obj: Mapping[str, Any]) -> MarketFeed:
    """The typed MarketFeed of an API object. Raises InvalidSpec for what the schema does not allow.

    The API server has checked the same and filled in defaults; a resource stored by another version may differ.
    """
    metadata = obj.get("metadata", {})
    try:
        spec = msgspec.convert(obj.get("spec", {}), Spec)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    if [spec.source.finnhub, spec.source.generator, spec.source.history].count(None) != 2:
        raise InvalidSpec("spec.source", "needs exactly one of finnhub, generator and history")
    _check_addresses(spec)
    return MarketFeed(
        namespace=str(metadata.get("namespace", "")),
        name=str(metadata.get("name", "")),
        uid=str(metadata.get("uid", "")),
        generation=int(metadata.get("generation", 0)),
        spec=spec,
        paused=is_paused(obj),
        restarted_at=str((metadata.get("annotations") or {}).get(RESTARTED_AT, "")),
    )


def _check_addresses(spec: Spec) -> None:
    """Addresses have a scheme that we speak, a host and, if they name one, a port up to 65535. Raises InvalidSpec.

    The CRD's rules say the same; a resource that was stored under an older CRD never met them.
    """
    for field, address, schemes in _addresses(spec):
        try:
            parts = urlsplit(address)
            valid = parts.port != 0 and parts.scheme in schemes and bool(parts.hostname)
        except ValueError:
            valid = False
        if not valid:
            raise InvalidSpec(
                field, f"has {address!r}; write {schemes[0]}://host:port, with a port from 1 to 65535 if it names one"
            )


def _addresses(spec: Spec) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Each address of a specification, as a URL, with the field that it is in and the schemes it may have."""
    for server in spec.kafka.bootstrap_servers.split(","):
        yield "spec.kafka.bootstrapServers", f"kafka://{server}", ("kafka",)
    if spec.redis.url is not None:
        yield "spec.redis.url", spec.redis.url, ("redis", "rediss")
    if spec.source.finnhub is not None:
        yield "spec.source.finnhub.url", spec.source.finnhub.url, ("wss", "ws")
    if spec.observability.otlp_endpoint is not None:
        yield "spec.observability.otlpEndpoint", spec.observability.otlp_endpoint, ("http", "https")


def is_paused(obj: Mapping[str, Any]) -> bool:
    """Whether the annotation `marketfeed.dev/paused: "true"` tells the operator to leave the feed alone."""
    return (obj.get("metadata", {}).get("annotations") or {}).get(PAUSED) == "true"


def symbols_of(feed: MarketFeed, symbols_text: str | None = None) -> tuple[str, ...]:
    """The symbols that the feed shall have, sorted; none for history, whose files name theirs.

    symbols_text   the content that `symbolsFrom` names; None if the ConfigMap or its key is missing

    Raises InvalidSpec.
    """
    spec = feed.spec
    if spec.source.history is not None:
        return ()
    if spec.symbols_from is not None:
        wanted = _listed(feed, symbols_text)
    elif spec.symbols is not None:
        wanted = spec.symbols
    elif spec.source.generator is not None:
        wanted = synthetic_symbols(spec.source.generator.symbols)
    else:
        raise InvalidSpec("spec.symbols", "is needed: Finnhub sends only what is subscribed to")
    if spec.source.generator is not None:
        known = synthetic_symbols(spec.source.generator.symbols)
        if strange := sorted(set(wanted) - set(known)):
            raise InvalidSpec(
                "spec.symbols",
                f"names {strange[0]!r}, which the generator does not have; with {len(known)} symbols it has {known[0]}"
                f" to {known[-1]}: take one of them, or raise spec.source.generator.symbols",
            )
    return tuple(sorted(set(wanted)))


def _listed(feed: MarketFeed, text: str | None) -> tuple[str, ...]:
    assert feed.spec.symbols_from is not None
    reference = feed.spec.symbols_from.config_map_key_ref
    where = f"key {reference.key!r} of ConfigMap {reference.name!r}"
    if text is None:
        raise InvalidSpec(
            "spec.symbolsFrom", f"names {where}, which is not there; make it in namespace {feed.namespace}"
        )
    lines = [(number, line.partition("#")[0].strip()) for number, line in enumerate(text.splitlines(), 1)]
    named = [(number, symbol) for number, symbol in lines if symbol]
    for number, symbol in named:
        if len(symbol) > SYMBOL_LENGTH_MAX or not re.match(SYMBOL_PATTERN, symbol):
            raise InvalidSpec(
                "spec.symbolsFrom", f"has {symbol[:80]!r} in line {number} of {where}, which is no symbol"
            )
    symbols = tuple(dict.fromkeys(symbol for _, symbol in named))
    if not symbols:
        raise InvalidSpec("spec.symbolsFrom", f"names no symbol: {where} is empty; write one symbol a line")
    if len(symbols) > SYMBOLS_FROM_MAX:
        raise InvalidSpec("spec.symbolsFrom", f"has {len(symbols)} symbols in {where}; {SYMBOLS_FROM_MAX} is the most")
    return symbols


# A plan of so many symbols still fits into one ConfigMap (1 MiB) with the longest names.
SYMBOLS_FROM_MAX = 10_000
_AT = re.compile(r"^(?P<problem>.*?)(?: - at `\$\.?(?P<path>[^`]*)`)?$", re.DOTALL)


def _invalid(text: str) -> InvalidSpec:
    """The library's sentence as field and problem."""
    match = _AT.match(text)
    assert match is not None
    path = match["path"] or ""
    problem = match["problem"]
    return InvalidSpec(
        f"spec.{path}" if path else "spec", f"is not as it has to be: {problem[:1].lower()}{problem[1:]}"
    )

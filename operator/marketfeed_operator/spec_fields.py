"""The parts of a MarketFeed's specification: each field with its meaning, bounds and default, each part with its rules.

A rule is CEL (kubernetes.io/docs/reference/using-api/cel): an expression over `self` (and `oldSelf` when the resource
changes), the sentence a user gets, and the field that the sentence is about. Lists, texts and maps are all bounded, as
the API server refuses rules whose cost it cannot bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

_LIST_SET = {"x-kubernetes-list-type": "set"}
_LIST_ATOMIC = {"x-kubernetes-list-type": "atomic"}
_NAME_PATTERN = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
_KEY_PATTERN = r"^[-._a-zA-Z0-9]+$"
_QUANTITY_PATTERN = r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$"


@dataclass(frozen=True, slots=True)
class Rule:
    """What must hold: a CEL expression, what a user is told otherwise, and the field (below the part) it is about."""

    expression: str
    message: str
    field: str = ""


class Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Base of every part; names are written in camel case, as Kubernetes does."""

    rules: ClassVar[tuple[Rule, ...]] = ()


def meaning(text: str, **more: Any) -> Meta:
    """A field's meaning, with bounds (`ge`, `le`, `min_length`, `max_length`, `pattern`) and schema extensions."""
    return Meta(description=text, **more)


def address_rule(field: str, path: str) -> Rule:
    """That the address in `field`, if there is one, has a host, and that its port, if it names one, is a port.

    `path` is the field's full path, for the sentence. CEL's functions of URLs are Kubernetes' own
    (kubernetes.io/docs/reference/using-api/cel/#kubernetes-url-library).
    """
    own = f"self.{field}"
    port = f"url({own}).getPort()"
    return Rule(
        f"!has({own}) || (isURL({own}) && url({own}).getHostname() != ''"
        f" && ({port} == '' || (int({port}) >= 1 && int({port}) <= 65535)))",
        f"{path} must have a host, and as port, if it names one, a number from 1 to 65535",
        f".{field}",
    )


ObjectName = Annotated[str, Meta(min_length=1, max_length=253, pattern=_NAME_PATTERN)]
DataKey = Annotated[str, Meta(min_length=1, max_length=253, pattern=_KEY_PATTERN)]
Quantity = Annotated[str, Meta(max_length=32, pattern=_QUANTITY_PATTERN)] | int


class KeyRef(Part, frozen=True, kw_only=True):
    """A key of a Secret or ConfigMap in the feed's namespace."""

    name: Annotated[ObjectName, meaning("Name of the object.")]
    key: Annotated[DataKey, meaning("Key of the value in it.")]


class FromSecret(Part, frozen=True, kw_only=True):
    """A value that only a Secret holds."""

    secret_key_ref: Annotated[KeyRef, meaning("Where the value is. Pods read it at their start.")]


class FinnhubSource(Part, frozen=True, kw_only=True):
    """Finnhub's WebSocket, or any that speaks the same protocol."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.url.matches('^wss?://[^ ?#]+$')",
            "spec.source.finnhub.url must be ws://… or wss://… without a query: the key is added from apiKeys",
            ".url",
        ),
        address_rule("url", "spec.source.finnhub.url"),
    )
    url: Annotated[str, meaning("Address of the WebSocket, without the key.", min_length=1, max_length=512)] = (
        "wss://ws.finnhub.io"
    )
    api_keys: Annotated[
        tuple[KeyRef, ...],
        meaning(
            "Secrets' keys that hold one API key each. Every ingest pod has a key of its own,"
            " so shards × redundancy of them are needed.",
            min_length=1,
            max_length=128,
            extra_json_schema={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name", "key"]},
        ),
    ]
    symbols_per_key: Annotated[int, meaning("Most symbols that one key may subscribe to.", ge=1, le=10_000)] = 50


class GeneratorSource(Part, frozen=True, kw_only=True):
    """The project's own synthetic exchange, run by the operator: for trials, load and tests."""

    rate: Annotated[float, meaning("Mean trades a second over all symbols.", ge=0.01, le=1_000_000)] = 1000
    symbols: Annotated[int, meaning("How many symbols the exchange has, the busiest first.", ge=1, le=5_000)] = 50
    seed: Annotated[int, meaning("The same seed makes the same market.", ge=0, le=2_147_483_647)] = 1
    faults: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[a-z_]+[^, ]*$")], ...],
        meaning("Faults to play, such as disconnect@30.", max_length=32, extra_json_schema=_LIST_ATOMIC),
    ] = ()


class Files(Part, frozen=True, kw_only=True):
    """Where trade files are: in a volume or a ConfigMap of the feed's namespace."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.persistentVolumeClaim) != has(self.configMap)",
            "spec.source.history.files needs exactly one of persistentVolumeClaim and configMap",
        ),
        Rule(
            "self.paths.all(p, !p.startsWith('/') && !p.contains('..'))",
            "spec.source.history.files.paths are relative to the volume: no leading / and no ..",
            ".paths",
        ),
    )
    persistent_volume_claim: (
        Annotated[ObjectName, meaning("Name of a PersistentVolumeClaim, mounted read-only.")] | None
    ) = None
    config_map: Annotated[ObjectName, meaning("Name of a ConfigMap; small files only.")] | None = None
    paths: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=512)], ...],
        meaning(
            "Files in the volume, in the order of reading.", min_length=1, max_length=256, extra_json_schema=_LIST_SET
        ),
    ]


class HistorySource(Part, frozen=True, kw_only=True):
    """Trade files in place of a live feed; their format is docs/history-csv.md."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.mode == 'replay' || self.speed == '1'",
            "spec.source.history.speed is for mode replay; an import is as fast as it can be",
            ".speed",
        ),
        Rule(
            "self.mode == 'import' || !self.replace",
            "spec.source.history.replace is for mode import",
            ".replace",
        ),
    )
    mode: Annotated[
        Literal["import", "replay"],
        meaning("import: bars into PostgreSQL. replay: trades through Kafka at the pace of their stamps."),
    ]
    files: Annotated[Files, meaning("The trade files.")]
    speed: Annotated[
        str,
        meaning(
            "How many times faster than real time a replay runs, or max.",
            max_length=16,
            pattern=r"^(max|[0-9]+(\.[0-9]+)?)$",
        ),
    ] = "1"
    replace: Annotated[bool, meaning("Let an import replace live bars of its symbols and days.")] = False


class Source(Part, frozen=True, kw_only=True):
    """Where trades come from: exactly one of the three."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "[has(self.finnhub), has(self.generator), has(self.history)].filter(x, x).size() == 1",
            "spec.source needs exactly one of finnhub, generator and history",
        ),
        Rule(
            "has(self.finnhub) == has(oldSelf.finnhub) && has(self.generator) == has(oldSelf.generator)"
            " && has(self.history) == has(oldSelf.history)",
            "the kind of spec.source cannot be changed; make another MarketFeed",
        ),
    )
    finnhub: Annotated[FinnhubSource, meaning("Finnhub's live trades.")] | None = None
    generator: Annotated[GeneratorSource, meaning("A synthetic exchange that the operator runs.")] | None = None
    history: Annotated[HistorySource, meaning("Trade files.")] | None = None

    @property
    def kind(self) -> str:
        """`finnhub`, `generator` or `history`."""
        return "finnhub" if self.finnhub else "generator" if self.generator else "history"


class ConfigMapSymbols(Part, frozen=True, kw_only=True):
    """Symbols from a ConfigMap: for lists too long for the resource."""

    config_map_key_ref: Annotated[KeyRef, meaning("One symbol a line, # for remarks; changes are followed.")]


class Kafka(Part, frozen=True, kw_only=True):
    """The log of all trades."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.partitions == oldSelf.partitions",
            "spec.kafka.partitions cannot be changed: it decides which partition a symbol is in",
            ".partitions",
        ),
        Rule(
            "has(self.topicPrefix) == has(oldSelf.topicPrefix)"
            " && (!has(self.topicPrefix) || self.topicPrefix == oldSelf.topicPrefix)",
            "spec.kafka.topicPrefix cannot be changed: it names the feed in Kafka, Redis and PostgreSQL",
            ".topicPrefix",
        ),
        Rule(
            "self.bootstrapServers.split(',').all(s, int(s.split(':')[1]) >= 1 && int(s.split(':')[1]) <= 65535)",
            "spec.kafka.bootstrapServers must have a number from 1 to 65535 as the port of every address",
            ".bootstrapServers",
        ),
    )
    bootstrap_servers: Annotated[
        str,
        meaning(
            "Kafka's addresses, host:port, comma-separated.",
            min_length=3,
            max_length=1024,
            pattern=r"^[^\s:,/]+:[0-9]{1,5}(,[^\s:,/]+:[0-9]{1,5})*$",
        ),
    ]
    partitions: Annotated[int, meaning("Partitions of the trades' topic; never changes.", ge=1, le=128)] = 8
    topic_prefix: (
        Annotated[
            str,
            meaning(
                "Id of the feed: prefix of its topics and keys; by default <namespace>.<name>. Never changes.",
                max_length=200,
                pattern=r"^[a-zA-Z0-9]([-._a-zA-Z0-9]*[a-zA-Z0-9])?$",
            ),
        ]
        | None
    ) = None


class Redis(Part, frozen=True, kw_only=True):
    """The hot cache of prices and seconds."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("has(self.url) != has(self.urlFrom)", "spec.redis needs exactly one of url and urlFrom"),
        Rule(
            "!has(self.url) || !self.url.contains('@')",
            "spec.redis.url must not carry a user or password; put the whole URL into a Secret and name it in urlFrom",
            ".url",
        ),
        address_rule("url", "spec.redis.url"),
    )
    url: (
        Annotated[
            str,
            meaning(
                "Address without a password: redis://host:port/db.",
                max_length=512,
                pattern=r"^rediss?://[^\s/]+(/[0-9]+)?$",
            ),
        ]
        | None
    ) = None
    url_from: Annotated[FromSecret, meaning("Address from a Secret.")] | None = None


class Postgres(Part, frozen=True, kw_only=True):
    """The time series of bars."""

    url_from: Annotated[FromSecret, meaning("Connection string postgresql://… from a Secret.")]


class LogRetention(Part, frozen=True, kw_only=True):
    """How long trades stay in Kafka: whichever bound is reached first."""

    gigabytes: Annotated[float, meaning("Most that the trades' topic holds, 10^9 bytes.", ge=0.1, le=100_000)] = 2
    hours: Annotated[float, meaning("Oldest trade that is kept, hours.", ge=0.5, le=87_600)] = 48


class Retention(Part, frozen=True, kw_only=True):
    """How long what is stored is kept."""

    log: Annotated[LogRetention, meaning("Trades in Kafka.")] = LogRetention()
    bars_days: Annotated[int, meaning("Days of 1 s bars in PostgreSQL; coarser bars stay for ever.", ge=1, le=3650)] = (
        30
    )
    trades_days: Annotated[int, meaning("Days of raw trades in PostgreSQL, if stored.", ge=1, le=3650)] = 7


class Storage(Part, frozen=True, kw_only=True):
    """What is stored beside bars."""

    trades: Annotated[Literal["none", "postgres"], meaning("Whether raw trades go to PostgreSQL.")] = "none"


class Resources(Part, frozen=True, kw_only=True):
    """CPU and memory of a container."""

    requests: (
        Annotated[dict[str, Quantity], meaning("What is set aside; cpu and memory replace our defaults.", max_length=8)]
        | None
    ) = None
    limits: (
        Annotated[
            dict[str, Quantity], meaning("What is not exceeded; cpu and memory replace our defaults.", max_length=8)
        ]
        | None
    ) = None


class Toleration(Part, frozen=True, kw_only=True):
    """A taint that pods put up with."""

    key: Annotated[str, meaning("Key of the taint; none for every key.", max_length=253)] | None = None
    operator: Annotated[Literal["Exists", "Equal"], meaning("How key and value are compared.")] = "Equal"
    value: Annotated[str, meaning("Value of the taint.", max_length=253)] | None = None
    effect: (
        Annotated[
            Literal["NoSchedule", "PreferNoSchedule", "NoExecute"],
            meaning("Effect of the taint; none for every one."),
        ]
        | None
    ) = None


class Workload(Part, frozen=True, kw_only=True):
    """How pods of a component run."""

    resources: Annotated[Resources, meaning("CPU and memory.")] = Resources()
    node_selector: (
        Annotated[
            dict[str, Annotated[str, Meta(max_length=63)]], meaning("Labels of the nodes to run on.", max_length=16)
        ]
        | None
    ) = None
    tolerations: Annotated[
        tuple[Toleration, ...], meaning("Taints to put up with.", max_length=16, extra_json_schema=_LIST_ATOMIC)
    ] = ()
    priority_class_name: Annotated[ObjectName, meaning("Priority of the pods.")] | None = None


class Spool(Part, frozen=True, kw_only=True):
    """Disk for trades while Kafka is away."""

    size_gigabytes: Annotated[float, meaning("Size of the spool per pod, 10^9 bytes.", ge=0.05, le=10_000)] = 1
    storage_class_name: (
        Annotated[
            ObjectName,
            meaning(
                "Class of a volume of its own for each pod; by default the node's disk. Both live as long as the pod."
            ),
        ]
        | None
    ) = None


class Ingest(Workload, frozen=True, kw_only=True):
    """The pods that read the source."""

    spool: Annotated[Spool, meaning("Disk for trades while Kafka is away.")] = Spool()


class JwtKeyFrom(Part, frozen=True, kw_only=True):
    """Where the issuer's keys are: public ones are no secret, so a ConfigMap does for them."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.secretKeyRef) != has(self.configMapKeyRef)",
            "spec.mds.auth.jwt.keyFrom needs exactly one of secretKeyRef and configMapKeyRef",
        ),
    )
    secret_key_ref: Annotated[KeyRef, meaning("A Secret's key; for HS256 the secret itself.")] | None = None
    config_map_key_ref: Annotated[KeyRef, meaning("A ConfigMap's key, with a JWKS or a public key as PEM.")] | None = (
        None
    )


class Jwt(Part, frozen=True, kw_only=True):
    """JSON Web Tokens of one issuer; docs/access.md tells what is in them."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.algorithm != 'HS256' || has(self.keyFrom.secretKeyRef)",
            "spec.mds.auth.jwt.keyFrom must be a secretKeyRef for HS256: whoever has the key can make tokens",
            ".keyFrom",
        ),
    )
    issuer: Annotated[str, meaning("The `iss` that tokens have.", min_length=1, max_length=512)]
    audience: Annotated[str, meaning("The `aud` that tokens have.", min_length=1, max_length=512)] = "marketfeed"
    algorithm: Annotated[
        Literal["HS256", "ES256", "RS256", "EdDSA"], meaning("The one algorithm that tokens are signed by.")
    ]
    key_from: Annotated[JwtKeyFrom, meaning("The issuer's keys. Pods follow their changes without a restart.")]


class Auth(Part, frozen=True, kw_only=True):
    """Who is let in."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.open != has(self.jwt)",
            "spec.mds.auth needs exactly one of open: true and jwt",
        ),
    )
    open: Annotated[bool, meaning("Everybody who reaches the Service is served.")] = False
    jwt: Annotated[Jwt, meaning("Whoever shows a JSON Web Token.")] | None = None


class Mds(Workload, frozen=True, kw_only=True):
    """The pods that serve clients."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.clientTokenFrom) || !has(self.auth) || !self.auth.open",
            "spec.mds.auth.open lets everybody in, so clientTokenFrom would be asked for in vain",
            ".auth",
        ),
    )
    replicas: Annotated[int, meaning("Pods of mds.", ge=0, le=100)] = 1
    origins: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=253)], ...],
        meaning(
            "Web pages of other origins that may use the API, https://host; * for all.",
            max_length=64,
            extra_json_schema=_LIST_SET,
        ),
    ] = ()
    client_token_from: (
        Annotated[FromSecret, meaning("One token that all clients share, beside those of `auth.jwt` if there are any.")]
        | None
    ) = None
    auth: (
        Annotated[
            Auth, meaning("Who is let in; without it, and without clientTokenFrom, everybody who reaches the Service.")
        ]
        | None
    ) = None


class NetworkPolicies(Part, frozen=True, kw_only=True):
    """Which traffic is let through, beside what the pipeline's parts need from each other."""

    enabled: Annotated[
        bool, meaning("Whether NetworkPolicies are made: everything is denied but the pipeline's edges.")
    ] = True
    redis_port: Annotated[int, meaning("Port of Redis, where the address is in a Secret.", ge=1, le=65535)] = 6379
    postgres_port: Annotated[int, meaning("Port of PostgreSQL.", ge=1, le=65535)] = 5432
    extra_egress_ports: Annotated[
        tuple[Annotated[int, Meta(ge=1, le=65535)], ...],
        meaning(
            "Further TCP ports that pods may reach, such as those that Kafka's brokers advertise.",
            max_length=32,
            extra_json_schema=_LIST_SET,
        ),
    ] = ()


class Observability(Part, frozen=True, kw_only=True):
    """Where traces go."""

    rules: ClassVar[tuple[Rule, ...]] = (address_rule("otlpEndpoint", "spec.observability.otlpEndpoint"),)
    otlp_endpoint: (
        Annotated[str, meaning("Address for traces by OTLP over HTTP.", max_length=512, pattern=r"^https?://[^\s]+$")]
        | None
    ) = None


class PullSecret(Part, frozen=True, kw_only=True):
    """A Secret with registry credentials."""

    name: Annotated[ObjectName, meaning("Name of the Secret.")]

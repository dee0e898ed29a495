"""The charts `marketfeed-operator` and `marketfeed`: rights, the API, and stores that can be replaced one by one."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from tests.charts.rendering import ROOT, Object, Refused, only, template

NO_VERB = {"*", "deletecollection", "escalate", "impersonate"}
NO_RESOURCE = {"*", "secrets", "namespaces", "nodes", "customresourcedefinitions", "pods/exec"}


def operator(values: Object | None = None) -> list[Object]:
    return template("marketfeed-operator", values)


def variables(objects: list[Object]) -> dict[str, str]:
    (container,) = only(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    return {one["name"]: one["value"] for one in container["env"]}


def feed_of(objects: list[Object]) -> Any:
    """The MarketFeed that the installation's Job applies."""
    (text,) = (one["data"]["marketfeed.json"] for one in objects if "marketfeed.json" in one.get("data", {}))
    return json.loads(text)


def test_the_api_is_kept_on_uninstall() -> None:
    """The CRD is a part of the release that can be switched off, and helm never deletes it."""
    crd = only(operator(), "CustomResourceDefinition")
    assert crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    generated = ROOT / "charts" / "marketfeed-operator" / "files" / "marketfeeds.marketfeed.dev.yaml"
    assert crd["spec"] == yaml.safe_load(generated.read_text())["spec"]
    assert not [one for one in operator({"crds": {"enabled": False}}) if one["kind"] == "CustomResourceDefinition"]


def test_the_operators_rights_are_few() -> None:
    """No Secret, no wildcard; the Lease is one by name, but for `create`, which cannot be."""
    objects = operator()
    rules = only(objects, "Role", "operator")["rules"]
    assert not [rule for rule in rules if NO_VERB & set(rule["verbs"]) or NO_RESOURCE & set(rule["resources"])]
    create, rest = only(objects, "Role", "lease")["rules"]
    assert create["verbs"] == ["create"]
    assert rest["verbs"] == ["get", "update"]
    assert rest["resourceNames"] == [variables(objects)["MARKETFEED_OPERATOR_LEASE_NAME"]]


def test_rights_that_few_clusters_need_are_asked_for() -> None:
    """Finalizers where an admission plugin wants them."""

    def resources(objects: list[Object]) -> set[str]:
        return {name for rule in only(objects, "Role", "operator")["rules"] for name in rule["resources"]}

    assert "marketfeeds/finalizers" not in resources(operator())
    assert "marketfeeds/finalizers" in resources(operator({"rbac": {"finalizers": True}}))


def test_pod_monitors_may_be_made_whenever_their_api_comes() -> None:
    """The right does not depend on what is installed when the chart is rendered."""
    rules = only(operator(), "Role", "operator")["rules"]
    (monitors,) = [rule for rule in rules if "podmonitors" in rule["resources"]]
    assert (monitors["apiGroups"], monitors["verbs"]) == (["monitoring.coreos.com"], ["create", "patch"])


@pytest.mark.parametrize(("named", "served"), [([], ["md"]), (["a", "b"], ["a", "b"])])
def test_an_operator_of_namespaces_needs_no_cluster_role(named: list[str], served: list[str]) -> None:
    """Each gets a Role and a binding, and the operator is told the same list; the release's own by default."""
    objects = operator({"namespaces": named, "rbac": {"aggregate": False}})
    assert not [one for one in objects if one["kind"].startswith("ClusterRole")]
    for kind in ("Role", "RoleBinding"):
        made = [one["metadata"]["namespace"] for one in objects if one["kind"] == kind and "lease" not in str(one)]
        assert made == served
    assert variables(objects)["MARKETFEED_OPERATOR_NAMESPACES"] == ",".join(served)


def test_an_operator_of_the_cluster_has_a_cluster_role() -> None:
    """The same rules for all namespaces; to name some at the same time is refused."""
    objects = operator({"allNamespaces": True})
    assert only(objects, "ClusterRole", "operator")["rules"] == only(operator(), "Role", "operator")["rules"]
    assert variables(objects)["MARKETFEED_OPERATOR_NAMESPACES"] == ""
    with pytest.raises(Refused, match="name some or set allNamespaces, not both"):
        operator({"allNamespaces": True, "namespaces": ["a"]})


def test_settings_become_variables() -> None:
    """What is given wins over what the chart sets, numbers stay whole."""
    found = variables(operator({"settings": {"RESYNC_INTERVAL_S": 1000000, "LOG_LEVEL": "debug"}}))
    assert found["MARKETFEED_OPERATOR_RESYNC_INTERVAL_S"] == "1000000"
    assert found["MARKETFEED_OPERATOR_LOG_LEVEL"] == "debug"
    assert found["MARKETFEED_OPERATOR_IMAGE"] == "marketfeed:0.1.0"


@pytest.mark.parametrize("name", ["NAMESPACES", "LEASE_NAME", "LEASE_NAMESPACE", "HTTP_HOST", "HTTP_PORT"])
def test_settings_that_roles_and_probes_are_made_for_are_refused(name: str) -> None:
    """Another Lease than the Role's, or another port than the probes', would be a replica that never gets ready."""
    with pytest.raises(Refused, match=name):
        operator({"settings": {name: "9999"}})


@pytest.mark.parametrize("name", ["1x", "-x", "X", "x" * 41])
def test_a_feed_s_name_is_one_that_the_api_server_takes(name: str) -> None:
    """Services are named after it, and their names begin with a letter."""
    with pytest.raises(Refused, match="name"):
        template("marketfeed", {"feed": {"enabled": True, "name": name}})


def test_a_whole_installation_shares_names() -> None:
    """The first MarketFeed finds the stores of its release without a word."""
    spec = feed_of(template("marketfeed", {"feed": {"enabled": True}}))["spec"]
    assert spec["kafka"] == {"bootstrapServers": "r-kafka:9092"}
    assert spec["redis"] == {"urlFrom": {"secretKeyRef": {"name": "r-redis", "key": "url"}}}
    assert spec["postgres"] == {"urlFrom": {"secretKeyRef": {"name": "r-postgres", "key": "url"}}}
    assert spec["source"] == {"generator": {"rate": 1000, "symbols": 20, "seed": 1}}


def test_names_follow_a_store_that_is_renamed() -> None:
    """The chart of the store says what it is called."""
    values = {"feed": {"enabled": True}, "redis": {"fullnameOverride": "hot"}, "kafka": {"fullnameOverride": "log"}}
    spec = feed_of(template("marketfeed", values))["spec"]
    assert spec["kafka"]["bootstrapServers"] == "log:9092"
    assert spec["redis"]["urlFrom"]["secretKeyRef"]["name"] == "hot"


def test_every_store_can_be_another() -> None:
    """Strimzi's, CloudNativePG's, a managed one: nothing of the chart's own is left."""
    path = ROOT / "charts" / "marketfeed" / "ci" / "external-values.yaml"
    objects = template("marketfeed", yaml.safe_load(path.read_text()))
    assert not [one for one in objects if one["kind"] == "StatefulSet"]
    spec = feed_of(objects)["spec"]
    assert spec["kafka"]["bootstrapServers"] == "prices-kafka-bootstrap:9092"
    assert spec["postgres"]["urlFrom"]["secretKeyRef"] == {"name": "prices-app", "key": "uri"}
    assert spec["redis"]["urlFrom"]["secretKeyRef"] == {"name": "r-redis", "key": "url"}
    assert only(objects, "Secret", "redis")["stringData"]["url"] == "rediss://:secret@cache.example:6379/0"
    assert "generator" not in spec["source"]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"kafka": {"enabled": False}}, "connections.kafka.bootstrapServers: kafka.enabled is false"),
        ({"redis": {"enabled": False}}, "connections.redis: redis.enabled is false"),
        ({"postgres": {"enabled": False}}, "connections.postgres: postgres.enabled is false"),
        ({"kafka": {"replicas": 2}}, "at '/replicas': value must be one of 1, 3"),
        ({"connections": {"redis": {"url": "http://cache"}}}, "at '/connections/redis/url'"),
        ({"feed": {"name": "Upper"}}, "at '/feed/name'"),
    ],
)
def test_what_is_missing_or_wrong_is_named(values: Object, sentence: str) -> None:
    """A store without an address, and a wrong value of a part, are refused before anything is installed."""
    with pytest.raises(Refused) as refused:
        template("marketfeed", values)
    assert sentence in str(refused.value)


def test_the_first_marketfeed_is_applied_when_its_api_is_there() -> None:
    """A Job after installation, upgrade and rollback, whose failure stays to be read; helm sees no MarketFeed."""
    objects = template("marketfeed", {"feed": {"enabled": True}})
    job = only(objects, "Job")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "post-install,post-upgrade,post-rollback"
    assert "hook-failed" not in job["metadata"]["annotations"]["helm.sh/hook-delete-policy"]
    assert not [one for one in objects if one["kind"] == "MarketFeed"]


def test_helm_test_streams_from_the_marketfeed_by_the_image_itself() -> None:
    """One second of prices through the Service, by a pod that the MarketFeed's NetworkPolicies let in."""
    token = {"secretKeyRef": {"name": "clients", "key": "token"}}
    values = {"test": {"symbols": ["A", "B"]}, "feed": {"name": "us", "spec": {"mds": {"clientTokenFrom": token}}}}
    pod = only(template("marketfeed", values), "Pod", "test")
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    assert pod["metadata"]["labels"]["marketfeed.dev/feed"] == "us"
    (container,) = pod["spec"]["containers"]
    assert container["args"] == ["--url=ws://us-mds:8080/v1/stream", "--symbols=A,B", "--for=1s"]
    assert container["env"] == [{"name": "MARKETFEED_CLIENT_TOKEN", "valueFrom": token}]


def test_helm_test_has_a_token_of_its_own_or_is_none_where_only_web_tokens_are_let_in() -> None:
    """A test that cannot pass would say that a sound installation is broken."""
    jwt = {"issuer": "me", "algorithm": "ES256", "keyFrom": {"configMapKeyRef": {"name": "i", "key": "k"}}}
    values: dict[str, Any] = {"feed": {"spec": {"mds": {"auth": {"jwt": jwt}}}}}
    assert not [one for one in template("marketfeed", values) if one["kind"] == "Pod"]
    token = {"secretKeyRef": {"name": "tests", "key": "jwt"}}
    pod = only(template("marketfeed", {**values, "test": {"tokenFrom": token}}), "Pod", "test")
    assert pod["spec"]["containers"][0]["env"] == [{"name": "MARKETFEED_CLIENT_TOKEN", "valueFrom": token}]

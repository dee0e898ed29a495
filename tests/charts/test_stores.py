"""The charts `redis` and `postgres`: passwords, configuration, and what they refuse."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

import pytest
from tests.charts.rendering import Object, Refused, only, template

STRANGE = "we'i\\r\"d pass/word@:%"


def configuration(chart: str, file: str, values: Object | None = None) -> list[str]:
    text: str = only(template(chart, values), "ConfigMap")["data"][file]
    return [line for line in text.splitlines() if line]


@pytest.mark.parametrize("chart", ["redis", "postgres"])
def test_a_password_is_made_up_and_is_in_the_url(chart: str) -> None:
    """32 letters and digits, another each time, and the connection string has it."""
    first, second = (only(template(chart), "Secret")["stringData"] for _ in range(2))
    assert re.fullmatch(r"[A-Za-z0-9]{32}", first["password"])
    assert first["password"] != second["password"]
    url = urlsplit(first["url"])
    assert url.password == first["password"]
    assert url.hostname == f"r-{chart}.md.svc"


@pytest.mark.parametrize("chart", ["redis", "postgres"])
def test_any_given_password_can_be_read_back_from_the_url(chart: str) -> None:
    """Characters that mean something in a URL are escaped."""
    secret = only(template(chart, {"auth": {"password": STRANGE}}), "Secret")["stringData"]
    assert secret["password"] == STRANGE
    password = urlsplit(secret["url"]).password
    assert password is not None
    assert unquote(password) == STRANGE


@pytest.mark.parametrize("chart", ["redis", "postgres"])
def test_an_existing_secret_is_used_by_name(chart: str) -> None:
    """Then the chart makes none, and mounts the password of that one only."""
    objects = template(chart, {"auth": {"existingSecret": "mine"}})
    assert not [one for one in objects if one["kind"] == "Secret"]
    volumes = only(objects, "StatefulSet")["spec"]["template"]["spec"]["volumes"]
    (auth,) = (one["secret"] for one in volumes if one["name"] == "auth")
    assert auth == {"secretName": "mine", "items": [{"key": "password", "path": "password"}]}


@pytest.mark.parametrize("chart", ["redis", "postgres"])
def test_only_pods_of_marketfeeds_are_let_in(chart: str) -> None:
    """By label in the own namespace, by label and name in others, and by whatever else is given."""
    extra = {"ipBlock": {"cidr": "10.0.0.0/8"}}
    policy = only(template(chart, {"networkPolicy": {"namespaces": ["b"], "from": [extra]}}), "NetworkPolicy")["spec"]
    feed = {"matchExpressions": [{"key": "marketfeed.dev/feed", "operator": "Exists"}]}
    other = {"matchLabels": {"kubernetes.io/metadata.name": "b"}}
    assert policy["ingress"][0]["from"] == [
        {"podSelector": feed},
        {"namespaceSelector": other, "podSelector": feed},
        extra,
    ]
    assert policy["egress"] == []


def test_the_cache_never_evicts() -> None:
    """Not by default, and no value can make it."""
    assert "maxmemory-policy noeviction" in configuration("redis", "server.conf")
    with pytest.raises(Refused, match="maxmemory-policy"):
        template("redis", {"settings": {"maxmemory-policy": "allkeys-lru"}})


def test_the_cache_keeps_a_file_if_asked() -> None:
    """The append-only file and the claim come together."""
    assert "appendonly no" in configuration("redis", "server.conf")
    values = {"persistence": {"enabled": True}}
    assert "appendonly yes" in configuration("redis", "server.conf", values)
    assert "volumeClaimTemplates" in only(template("redis", values), "StatefulSet")["spec"]


def test_redis_takes_the_place_of_valkey_by_values() -> None:
    """Image and names of the programs are all that differs."""
    values = {"image": {"repository": "redis", "tag": "8"}, "paths": {"server": "redis-server", "cli": "redis-cli"}}
    (container,) = only(template("redis", values), "StatefulSet")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "redis:8"
    assert {"name": "SERVER", "value": "redis-server"} in container["env"]


def test_postgres_keeps_its_data_below_the_mount() -> None:
    """PostgreSQL 18's image refuses a volume at the old place, and a volume's own folder may hold lost+found."""
    pod = only(template("postgres"), "StatefulSet")["spec"]["template"]["spec"]
    for container in pod["initContainers"] + pod["containers"]:
        mount = next(one["mountPath"] for one in container["volumeMounts"] if one["name"] == "data")
        folder = next(one["value"] for one in container["env"] if one["name"] == "PGDATA")
        assert mount == "/var/lib/postgresql"
        assert folder == "/var/lib/postgresql/18/docker"


def test_postgres_ends_by_its_fast_shutdown() -> None:
    """Kubernetes' SIGTERM alone would wait for every client to leave."""
    (container,) = only(template("postgres"), "StatefulSet")["spec"]["template"]["spec"]["containers"]
    assert container["lifecycle"]["preStop"]["exec"]["command"][-1] == "kill -INT 1"


def test_the_superuser_has_no_way_in_over_the_network() -> None:
    """By the pod's own socket only; everybody else needs a password."""
    lines = configuration("postgres", "pg_hba.conf")
    assert lines == ["local all all trust", "host all postgres all reject", "host all all all scram-sha-256"]


def test_settings_of_postgres_win_and_keep_their_numbers() -> None:
    """A large number is no power of ten, a switch is on or off."""
    lines = configuration(
        "postgres", "postgresql.conf", {"settings": {"jit": True, "effective_io_concurrency": 1000000}}
    )
    assert {"jit = on", "effective_io_concurrency = 1000000"} <= set(lines)


@pytest.mark.parametrize(
    ("chart", "values", "sentence"),
    [
        ("redis", {"maxmemory": "1Gi"}, "at '/maxmemory': '1Gi' does not match pattern"),
        ("redis", {"ioThreads": 0}, "at '/ioThreads': minimum: got 0, want 1"),
        ("postgres", {"auth": {"username": "Robert'); DROP"}}, "at '/auth/username'"),
        ("postgres", {"maxConnections": "many"}, "at '/maxConnections': got string, want integer"),
        ("postgres", {"resources": {"limit": {}}}, "at '/resources': additional properties 'limit' not allowed"),
    ],
)
def test_a_wrong_value_is_refused_by_name(chart: str, values: Object, sentence: str) -> None:
    """Helm names the value and what it should be, before anything is rendered."""
    with pytest.raises(Refused) as refused:
        template(chart, values)
    assert sentence in str(refused.value)

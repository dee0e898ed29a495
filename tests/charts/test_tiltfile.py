"""The Tiltfile runs, names what is there, and is built as docs/develop-on-kubernetes.md says."""

from __future__ import annotations

import functools
import re

import pytest
import starlark
from tests.charts.rendering import ROOT
from tests.charts.tilt import Tilt, tiltfile

EVERYTHING = {"observability": True, "page": True, "rate": "50"}


@functools.cache
def run(everything: bool = False) -> Tilt:
    return Tilt(dict(EVERYTHING) if everything else {}).run(tiltfile())


def test_only_kind_clusters_are_touched() -> None:
    """A context of another cluster is refused by Tilt itself."""
    assert run().contexts == ["kind-marketfeed", "kind-kind"]


def test_every_image_that_is_built_is_used() -> None:
    """By a pod of the chart, by the MarketFeed, or as the base of one that is."""
    tilt = run()
    in_pods = {
        container["image"].partition(":")[0]
        for one in tilt.objects
        if one["kind"] in ("Deployment", "StatefulSet")
        for container in one["spec"]["template"]["spec"]["containers"]
    }
    in_feeds = {one["spec"]["image"] for one in tilt.objects if one["kind"] == "MarketFeed"}
    bases = {base for image in tilt.images.values() for base in re.findall(r"^FROM (\S+)", image["text"], re.MULTILINE)}
    assert tilt.images.keys() <= in_pods | in_feeds | bases
    assert {"marketfeed", "marketfeed-operator"} <= tilt.images.keys()
    assert tilt.kinds["MarketFeed"] == {"api_version": "marketfeed.dev/v1alpha1", "image": "{.spec.image}"}


def test_an_image_is_built_anew_when_what_it_copies_changes() -> None:
    """Whatever a Dockerfile copies from the checkout is among the files that Tilt watches for it."""
    for name, image in run().images.items():
        for line in re.findall(r"^COPY (?!--from)(.+)$", image["text"], re.MULTILINE):
            for source in line.split()[:-1]:
                path = source.replace("${EXTRA}", "services").rstrip("/")
                assert (ROOT / path).exists(), (name, source)
                assert any(path == one or path.startswith(one + "/") for one in image["only"]), (name, source)


def test_the_operator_is_updated_in_place() -> None:
    """Its sources are copied to where its image has them, into a container that can be written to."""
    tilt = run()
    copied = {step["sync"]: step["to"] for step in tilt.images["marketfeed-operator"]["live_update"]}
    dockerfile = (ROOT / "operator" / "Dockerfile").read_text()
    for local, remote in copied.items():
        inside = remote.removeprefix("/opt/operator/app")
        assert f"COPY {local} /app{inside}" in dockerfile
    assert "COPY --from=build /app /opt/operator/app" in dockerfile
    (operator,) = (one for one in tilt.objects if one["kind"] == "Deployment")
    (container,) = operator["spec"]["template"]["spec"]["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is False


def test_resources_start_in_order() -> None:
    """The feed waits for operator and stores, mds for the feed."""
    resources = run().resources
    assert set(resources["demo"]["needs"]) == {"operator", "kafka", "redis", "postgres"}
    assert resources["mds"]["needs"] == ["demo"]
    assert [one["container"] for one in resources["mds"]["forwards"]] == [8080, 50051]


def test_choices_add_their_resources() -> None:
    """Prometheus, traces and the page are there when they are asked for, and the rate is the one given."""
    assert run(everything=True).resources.keys() - run().resources.keys() == {"prometheus", "traces", "page"}
    (feed,) = (one for one in run(everything=True).objects if one["kind"] == "MarketFeed")
    assert feed["spec"]["source"]["generator"]["rate"] == 50
    assert feed["spec"]["observability"] == {"otlpEndpoint": "http://marketfeed-otel-collector:4318"}
    services = {one["metadata"]["name"] for one in run(everything=True).objects if one["kind"] == "Service"}
    assert {"marketfeed-otel-collector", "marketfeed-kafka", "marketfeed-redis", "marketfeed-postgres"} <= services


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("resource_deps=['base']", "resource_depends=['base']", "resource_depends"),
        ("'marketfeed-' + store", "'marketfed-' + store", "there is no workload marketfed-kafka"),
        ("sync('services/marketfeed/domain'", "sync('services/marketfeed/domian'", "which is not there"),
        ("resource_deps=[FEED]", "resource_deps=['feed']", "unknown so far"),
    ],
)
def test_a_mistake_is_seen(right: str, wrong: str, said: str) -> None:
    """The stand-ins refuse what Tilt would refuse."""
    text = tiltfile()
    assert right in text
    with pytest.raises(starlark.StarlarkError, match=said):
        Tilt().run(text.replace(right, wrong))

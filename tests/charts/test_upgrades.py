"""What a chart makes of what is there already: it asks the API server, as `helm upgrade` lets it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator

import pytest
from tests.charts.rendering import Object, Refused, only, template

from localcluster.control_plane import ControlPlane

Render = Callable[..., list[Object]]


@pytest.fixture
def render(plane: ControlPlane) -> Render:
    """`helm template` that may look things up on the server."""

    def rendered(chart: str, values: Object | None = None, release: str = "r") -> list[Object]:
        return template(chart, values, "--dry-run=server", f"--kubeconfig={plane.kubeconfig}", release=release)

    return rendered


@pytest.fixture
def there(plane: ControlPlane) -> Iterator[Callable[[Object], None]]:
    """Puts an object there, for the test."""
    made: list[Object] = []

    def put(one: Object) -> None:
        plane.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(one))
        made.append(one)

    yield put
    for one in made:
        plane.kubectl("delete", "--ignore-not-found", "--wait=false", "-f", "-", input=json.dumps(one))


@pytest.mark.parametrize("chart", ["redis", "postgres"])
def test_a_made_up_password_is_kept(chart: str, render: Render, there: Callable[[Object], None]) -> None:
    """The Secret of the last revision has the word, unless a password is given."""
    secret = only(render(chart), "Secret")
    there(secret)
    again = only(render(chart), "Secret")
    assert again["stringData"] == secret["stringData"]
    given = only(render(chart, {"auth": {"password": "new"}}), "Secret")
    assert given["stringData"]["password"] == "new"
    assert base64.b64encode(b"new").decode() not in json.dumps(secret)


def test_kafka_keeps_its_number_of_nodes(render: Render, there: Callable[[Object], None]) -> None:
    """Two new and empty voters would outvote the one that knows the topics, so that is refused with what to do."""
    there(only(render("kafka"), "StatefulSet"))
    assert render("kafka")
    with pytest.raises(Refused, match=r"replicas: this Kafka was installed with 1 and keeps them; install another one"):
        render("kafka", {"replicas": 3})
    assert render("kafka", {"replicas": 3}, release="other")


def test_an_api_of_another_release_is_left_alone_while_it_is_the_same(
    render: Render, there: Callable[[Object], None]
) -> None:
    """Helm would refuse to touch it. If it differs, helm is to say so: `--take-ownership` is the answer."""

    def crds(objects: list[Object]) -> list[Object]:
        return [one for one in objects if one["kind"] == "CustomResourceDefinition"]

    (crd,) = crds(render("marketfeed-operator"))
    owner = {"meta.helm.sh/release-name": "r", "meta.helm.sh/release-namespace": "md"}
    crd["metadata"]["annotations"] |= owner
    there(crd)
    assert crds(render("marketfeed-operator")), "its own release goes on to have it"
    assert crds(render("marketfeed-operator", release="other")) == []
    crd["metadata"]["annotations"]["marketfeed.dev/crd-hash"] = "older"
    there(crd)
    assert crds(render("marketfeed-operator", release="other"))

"""The script that applies an installation's MarketFeed, on a real API server, with the rights that the chart gives."""

from __future__ import annotations

import base64
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from tests.charts.rendering import ROOT, Object, template

from localcluster.control_plane import ControlPlane

OWNER = "r-feed-demo"
MEANT_FOR_HELM = ("ConfigMap", "ServiceAccount", "Role", "RoleBinding")


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "apply_feed", ROOT / "charts" / "marketfeed" / "files" / "apply_feed.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


apply_feed: Any = load()


@pytest.fixture(scope="module")
def objects() -> list[Object]:
    return template("marketfeed", {"feed": {"enabled": True}})


@pytest.fixture(scope="module")
def installed(plane: ControlPlane, objects: list[Object]) -> None:
    """What helm has installed before the Job runs, but for the MarketFeed API."""
    ours = [one for one in objects if one["kind"] in MEANT_FOR_HELM and one["metadata"]["name"] == OWNER]
    assert len(ours) == len(MEANT_FOR_HELM)
    plane.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": ours}))


@pytest.fixture(scope="module")
def cluster(plane: ControlPlane, installed: None, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The API server as the Job's service account sees it."""
    account = tmp_path_factory.mktemp("account")
    (account / "token").write_text(plane.kubectl("-n", "md", "create", "token", OWNER).strip())
    (entry,) = yaml.safe_load(plane.kubeconfig.read_text())["clusters"]
    given = entry["cluster"]
    data = given.get("certificate-authority-data")
    ca = base64.b64decode(data) if data else Path(given["certificate-authority"]).read_bytes()
    (account / "ca.crt").write_bytes(ca)
    return apply_feed.Cluster(plane.server, account)


@pytest.fixture
def feed(objects: list[Object]) -> Any:
    (text,) = (one["data"]["marketfeed.json"] for one in objects if "marketfeed.json" in one.get("data", {}))
    return json.loads(text)


@pytest.fixture(scope="module")
def api(plane: ControlPlane, objects: list[Object]) -> Iterator[None]:
    """The MarketFeed API is there, for these tests."""
    (crd,) = (one for one in objects if one["kind"] == "CustomResourceDefinition")
    plane.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(crd))
    plane.kubectl("wait", "--for=condition=Established", "crd/marketfeeds.marketfeed.dev", "--timeout=30s")
    yield
    plane.kubectl("delete", "crd", "marketfeeds.marketfeed.dev")


def found(plane: ControlPlane, name: str = "demo") -> Object:
    resource: Object = json.loads(plane.kubectl("-n", "md", "get", "marketfeed", name, "-o", "json"))
    return resource


# The tests below go on from each other's state: first there is no API, then there is.


def test_before_its_api_is_there_it_is_told_to_come_back(cluster: Any, feed: Any) -> None:
    """An unknown kind is no refusal."""
    with pytest.raises(apply_feed.NotYet, match="404 page not found"):
        apply_feed.apply(cluster, feed, OWNER)


@pytest.mark.usefixtures("api")
def test_the_marketfeed_is_made_and_owned_by_the_release(cluster: Any, plane: ControlPlane, feed: Any) -> None:
    """Applied twice it is one; its owner is the release's ConfigMap, and no other field manager has anything."""
    assert apply_feed.apply(cluster, feed, OWNER) == "MarketFeed demo made"
    feed["spec"]["shards"] = 2
    assert apply_feed.apply(cluster, feed, OWNER) == "MarketFeed demo applied again"
    made = found(plane)
    assert made["spec"]["shards"] == 2
    (owner,) = made["metadata"]["ownerReferences"]
    config_map = json.loads(plane.kubectl("-n", "md", "get", "configmap", OWNER, "-o", "json"))
    assert (owner["kind"], owner["uid"]) == ("ConfigMap", config_map["metadata"]["uid"])


@pytest.mark.usefixtures("api")
def test_a_wrong_spec_is_refused_with_the_fields_name(cluster: Any, feed: Any) -> None:
    """What the API server says is what the Job's log says."""
    feed["spec"]["shards"] = 65
    with pytest.raises(apply_feed.Refused, match=r"spec\.shards"):
        apply_feed.apply(cluster, feed, OWNER)


@pytest.mark.usefixtures("api")
def test_a_marketfeed_of_somebody_else_is_left_alone(cluster: Any, plane: ControlPlane, feed: Any) -> None:
    """Of the same name, but not of this release: taking it over would mean to delete it with the release."""
    apply_feed.apply(cluster, feed, OWNER)
    change = [{"op": "remove", "path": "/metadata/ownerReferences"}]
    plane.kubectl("-n", "md", "patch", "marketfeed", "demo", "--type=json", "-p", json.dumps(change))
    before = found(plane)["metadata"]["generation"]
    with pytest.raises(apply_feed.Refused, match="that this release did not make"):
        apply_feed.apply(cluster, feed, OWNER)
    assert found(plane)["metadata"]["generation"] == before


@pytest.mark.usefixtures("api")
def test_no_other_marketfeed_can_be_touched(cluster: Any, feed: Any) -> None:
    """The Role names the one MarketFeed."""
    feed["metadata"]["name"] = "other"
    with pytest.raises(apply_feed.Refused, match='cannot get resource "marketfeeds"'):
        apply_feed.apply(cluster, feed, OWNER)

"""The operator's rights are minimal: what it did in all the tests before, by the API server's own audit log.

A right that is granted and never used by these tests (they create, scale, repair and delete everything) is too much;
a request that was denied is too little. Exceptions: PodMonitors where nobody can make them, and what happens seldom.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.cluster.conftest import CACHE
from tests.e2e.cluster.kube import Cluster, Object

pytestmark = pytest.mark.timeout(300)

Right = tuple[str, str, str]  # API group, resource, verb

# Granted everywhere, because the Prometheus Operator may be installed after the chart; without its API there is nothing
# that these rights could be used for, and nothing that they allow.
MONITORS: set[Right] = {("monitoring.coreos.com", "podmonitors", verb) for verb in ("create", "patch")}
# Needed only when something happens that a run may not see: a Job whose pod is refused for seconds, of which its events
# tell why, and an event that happens again and is counted. Each has its test: test_a_quota_is_told_and_heals in
# tests/integration/operator, and test_event_recorder.
SELDOM: set[Right] = {("events.k8s.io", "events", verb) for verb in ("list", "patch")}


def audit_events(user: str) -> Iterator[Object]:
    """Completed requests of a user."""
    place = Path(os.environ.get("E2E_AUDIT_LOG") or CACHE / "run" / "logs" / "audit.log")
    if not place.exists():
        pytest.skip(
            "no audit log of the API server here; the local cluster has one, others name theirs in E2E_AUDIT_LOG"
        )
    with place.open() as lines:
        for line in lines:
            if user in line:
                event: Object = json.loads(line)
                if event["user"]["username"] == user and event["stage"] == "ResponseComplete":
                    yield event


def rights_of(event: Object) -> set[Right]:
    """What a request needed; nothing for what everybody may (discovery, its own rights).

    A server-side apply that made its object is a patch that answered 201, and needed the right to create as well.
    """
    reference = event.get("objectRef")
    if reference is None or "resource" not in reference:
        return set()
    name = reference["resource"] + (f"/{reference['subresource']}" if "subresource" in reference else "")
    verbs = {event["verb"]} | (
        {"create"} if event["verb"] == "patch" and event["responseStatus"]["code"] == 201 else set()
    )
    return {(reference.get("apiGroup", ""), name, verb) for verb in verbs}


def granted(cluster: Cluster, account: str) -> set[Right]:
    """Everything that Roles and ClusterRoles bound to the account allow, each verb apart."""
    found: set[Right] = set()
    for kind in ("rolebindings", "clusterrolebindings"):
        for binding in cluster.objects(kind):
            subjects = [
                subject["name"] for subject in binding.get("subjects", []) if subject["kind"] == "ServiceAccount"
            ]
            if account not in subjects:
                continue
            for rule in cluster.get(binding["roleRef"]["kind"].lower(), binding["roleRef"]["name"]).get("rules", []):
                found |= {
                    (group, resource, verb)
                    for group in rule.get("apiGroups", [])
                    for resource in rule.get("resources", [])
                    for verb in rule["verbs"]
                }
    return found


def test_the_operator_has_the_rights_it_uses(installation: Cluster) -> None:
    """Rights granted and rights used are the same set, none is a wildcard, and no request was denied."""
    deployment = installation.objects("deployments", "app.kubernetes.io/name=marketfeed-operator")[0]
    account = deployment["spec"]["template"]["spec"]["serviceAccountName"]
    user = f"system:serviceaccount:{installation.namespace}:{account}"
    used: set[Right] = set()
    denied: list[Right] = []
    for event in audit_events(user):
        rights = rights_of(event)
        used |= rights
        if event.get("annotations", {}).get("authorization.k8s.io/decision") == "forbid":
            denied += rights
    given = granted(installation, account)
    print(f"\n{len(given)} rights granted, {len(used)} used")
    assert not [right for right in given if "*" in right]
    assert denied == []
    assert used, "the operator asked for nothing at all"
    served = installation.find("crd", "podmonitors.monitoring.coreos.com") is not None
    assert sorted(given - used - SELDOM - (set() if served else MONITORS)) == [], "granted and never used"
    assert [right for right in given if right[1] == "secrets"] == []

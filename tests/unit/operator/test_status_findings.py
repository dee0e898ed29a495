"""What is wrong with children, with what to do about it."""

from __future__ import annotations

import pytest
from tests.unit.operator.desired_children import DEFAULTS
from tests.unit.operator.feeds import as_observed, feed

from marketfeed_operator.children_jobs import prepare
from marketfeed_operator.children_services import mds
from marketfeed_operator.observed import FeedState
from marketfeed_operator.status_findings import Finding, findings

REFUSALS = [
    ('pods "x" is forbidden: exceeded quota: small, requested: pods=1', "QuotaExceeded", "raise the quota"),
    ('pods "x" is forbidden: failed quota: small: must specify limits.x', "PodRefused", "by a LimitRange"),
    ('pods "x" is forbidden: maximum memory usage per Container is 64Mi, but limit is 512Mi', "PodRefused",
     "change the LimitRange"),
    ('pods "x" is forbidden: violates PodSecurity "restricted:latest": host namespaces', "PodRefused",
     "something adds to them"),
    ('admission webhook "policy.example" denied the request: no', "PodRefused", "except the namespace"),
    ("something else", "PodRefused", "correct what refuses it"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "reason", "advice"), REFUSALS)
def test_a_refused_pod_is_told_with_what_to_do(words: str, reason: str, advice: str) -> None:
    """In the API server's words, alike for the pods of a Job and of a Deployment; it needs somebody."""
    job = as_observed(prepare(feed(), DEFAULTS))
    refused = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": words}
    deployment = as_observed(mds(feed(), DEFAULTS), settled=False, conditions=[refused])
    name = job["metadata"]["name"]
    for state, child in ((FeedState((job,), refusals={name: words}), name), (FeedState((deployment,)), "demo-mds")):
        (found,) = findings(state)
        assert found == Finding(found.reason, found.message, final=True)
        assert found.reason == reason
        assert found.message.startswith(f"{child} gets no pod: {words}; ")
        assert advice in found.message

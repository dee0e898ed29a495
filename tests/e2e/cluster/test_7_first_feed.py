"""A first MarketFeed by the chart: one command for all, `helm test`, and gone when it is not wanted any more."""

from __future__ import annotations

import time

import pytest
from tests.e2e.cluster.conftest import install
from tests.e2e.cluster.feeds import RELEASE, Feed
from tests.e2e.cluster.kube import Cluster

pytestmark = [pytest.mark.timeout(600), pytest.mark.level(2)]

WANTED = ("feed.enabled=true", "feed.name=first", "feed.spec.source.generator.rate=200", "test.seconds=2")


def test_the_chart_brings_a_feed_and_takes_it_away(installation: Cluster) -> None:
    """The API and a resource of it in one release: applied, streamed from by `helm test`, removed with it."""
    install(installation, *(part for value in WANTED for part in ("--set", value)))
    feed = Feed(installation, "first")
    took_s = feed.ready_within(120)
    said = installation.helm("test", RELEASE, "--timeout", "60s", "--logs", timeout_s=90)
    print(f"\nReady {took_s:.1f} s after helm came back\n{said[-600:]}")
    assert "Phase:          Succeeded" in said
    assert "AAPL" in said
    begun = time.monotonic()
    install(installation)
    installation.until("the feed is gone", lambda: installation.find("marketfeed", "first") is None, 30)
    # The pod of `helm test` has ended, and stays for its log until the next `helm test`, as helm keeps it.
    its_own = f"{feed.selector},app.kubernetes.io/component!=test"
    installation.until("so are its pods", lambda: not installation.objects("pods", its_own), 90)
    print(f"gone {time.monotonic() - begun:.1f} s after the upgrade began")

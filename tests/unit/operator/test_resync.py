"""The periodic look at everything."""

from __future__ import annotations

from marketfeed_operator.resync import by_feed


def test_listed_children_are_sorted_by_their_feed() -> None:
    """Those without a feed and those that are going are nobody's."""
    listed = [
        {"metadata": {"name": "x-mds", "namespace": "n", "labels": {"marketfeed.dev/feed": "x"}}},
        {
            "metadata": {
                "name": "x-old",
                "namespace": "n",
                "labels": {"marketfeed.dev/feed": "x"},
                "deletionTimestamp": "t",
            }
        },
        {"metadata": {"name": "other", "namespace": "n"}},
        {"metadata": {"name": "x-mds", "namespace": "m", "labels": {"marketfeed.dev/feed": "x"}}},
    ]
    assert by_feed("Deployment", listed) == {
        ("n", "x"): {("Deployment", "x-mds")},
        ("m", "x"): {("Deployment", "x-mds")},
    }

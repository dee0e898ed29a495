"""Where pods of a feed are put."""

from __future__ import annotations

from tests.unit.operator.desired_children import prepared, run
from tests.unit.operator.feeds import feed


def test_ingest_pods_are_spread_and_members_of_a_shard_kept_apart() -> None:
    """All shards of a feed share the nodes; another redundancy changes no pod that runs."""
    before = feed(shards=2)
    after = feed(shards=2, redundancy=2)
    for shard in (0, 1):
        found = [
            next(one for one in run(its, prepared(its)).apply if one["metadata"]["name"] == f"demo-ingest-{shard}-0")
            for its in (before, after)
        ]
        assert found[0]["spec"]["template"] == found[1]["spec"]["template"]
        pod = found[0]["spec"]["template"]["spec"]
        for constraint in pod["topologySpreadConstraints"]:
            assert "marketfeed.dev/shard" not in constraint["labelSelector"]["matchLabels"]
        (node, zone) = pod["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
        assert node["podAffinityTerm"]["topologyKey"] == "kubernetes.io/hostname"
        assert node["weight"] > zone["weight"]
        assert node["podAffinityTerm"]["labelSelector"]["matchLabels"]["marketfeed.dev/shard"] == str(shard)

"""The feed as it was when its topics and tables were last prepared, from which it is restored until they are anew.

While a prepare Job is pending, nothing may run that needs what it makes: another Kafka may have no topics yet (and a
broker that makes them by itself makes them wrong), a newer image may want newer tables. So a Deployment that somebody
deletes then is not made of the new specification but of the one before, whose topics and tables are there. A new
leader has to know that one, too, so it is an annotation of the plan's ConfigMap: without symbols, which are in no
pod's template, and with the image spelt out. Whoever deletes both at that time waits for the Job.
"""

from __future__ import annotations

import dataclasses

import msgspec

from marketfeed_operator.children_parts import PodDefaults
from marketfeed_operator.observed import FeedState, annotations_on
from marketfeed_operator.plan import plan_name
from marketfeed_operator.spec import SPEC_DECODER, MarketFeed

PREPARED = "marketfeed.dev/prepared"


def written_down(feed: MarketFeed, defaults: PodDefaults) -> str:
    """What is to be remembered of a feed that is prepared: JSON of a few hundred bytes."""
    image = feed.spec.image or defaults.image
    spec = msgspec.structs.replace(feed.spec, symbols=None, symbols_from=None, image=image)
    return msgspec.json.encode(spec).decode()


def remembered(feed: MarketFeed, state: FeedState) -> str | None:
    """What was written down last; None if nothing was."""
    found = state.named("ConfigMap", plan_name(feed))
    return None if found is None else annotations_on(found).get(PREPARED)


def prepared_before(feed: MarketFeed, state: FeedState) -> MarketFeed | None:
    """The feed as it was prepared last, with no shard or member that is wanted no more; None if nobody can tell."""
    text = remembered(feed, state)
    try:
        spec = SPEC_DECODER.decode(text or "")
    except (msgspec.DecodeError, UnicodeError):
        return None
    shards, redundancy = min(spec.shards, feed.spec.shards), min(spec.redundancy, feed.spec.redundancy)
    return dataclasses.replace(feed, spec=msgspec.structs.replace(spec, shards=shards, redundancy=redundancy))

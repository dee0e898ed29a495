"""The generated files, and the samples, are what the model says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from marketfeed_operator.crd_files import CRD_FILE, contents, main
from marketfeed_operator.crd_page import kind_of, page
from marketfeed_operator.schema import crd
from marketfeed_operator.spec import parse, symbols_of
from marketfeed_operator.spec_status import MEANINGS

ROOT = Path(__file__).parents[3]
SAMPLES = sorted((ROOT / "k8s" / "samples").glob("*.yaml"))


def test_generated_files_are_up_to_date() -> None:
    """`make crd` leaves no difference; the chart has the CRD of the model."""
    for path, text in contents().items():
        assert (ROOT / path).read_text() == text, f"{path} differs: run `make crd`"
    assert yaml.safe_load((ROOT / CRD_FILE).read_text()) == crd()


def test_they_are_written_below_the_folder_given(tmp_path: Path) -> None:
    """Folders are made as they are needed."""
    assert main([str(tmp_path)]) == 0
    assert {path for path in contents() if (tmp_path / path).is_file()} == set(contents())


def test_the_page_has_every_field_rule_and_reason() -> None:
    """Nothing that a user may write or meet is left out."""
    text = page()
    for mark in ("`spec.source.finnhub.apiKeys[].key`", "`status.shardStatus[].lagSeconds`", "| `Degraded` |"):
        assert mark in text
    for reason in MEANINGS:
        assert f"| `{reason}` |" in text
    assert "one key per pod" in text
    assert kind_of({"type": "integer", "minimum": 0, "maximum": 3}) == "integer, 0 to 3"
    assert kind_of({"type": "array", "maxItems": 2, "items": {"type": "string"}}) == "list (at most 2) of string"


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
def test_samples_are_good_feeds(sample: Path) -> None:
    """What we hand out can be parsed, and names its symbols."""
    documents: list[dict[str, Any]] = list(yaml.safe_load_all(sample.read_text()))
    lists = {its["metadata"]["name"]: its["data"] for its in documents if its["kind"] == "ConfigMap"}
    feeds = [its for its in documents if its["kind"] == "MarketFeed"]
    assert feeds
    for its in feeds:
        feed = parse(its)
        listed = feed.spec.symbols_from
        text = lists[listed.config_map_key_ref.name][listed.config_map_key_ref.key] if listed else None
        assert symbols_of(feed, text) or feed.spec.source.history

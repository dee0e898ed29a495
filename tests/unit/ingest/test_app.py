"""A wrong setting is told before anything is connected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from marketfeed.domain.errors import SettingError
from marketfeed.ingest.app import Ingest
from marketfeed.ingest.settings import IngestSettings
from marketfeed.runtime.health import Health
from marketfeed.runtime.logs import get_logger
from marketfeed.runtime.service import ServiceContext


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"shard": "2/2"}, "--shard"),
        ({"symbols": ()}, "--symbols"),
        ({"finnhub_url": "https://finnhub.io"}, "--finnhub-url"),
        ({"spool_dir": Path("/dev/null/spool")}, "--spool-dir"),
        ({"shard": "2"}, "--shard"),
    ],
)
def test_a_wrong_setting_is_refused_by_its_name(tmp_path: Path, wrong: dict[str, Any], name: str) -> None:
    """So that the sentence says what to change."""
    settings = IngestSettings(**{"symbols": ("A",), "spool_dir": tmp_path, **wrong})
    context = ServiceContext(name="ingest", settings=settings, log=get_logger("t"), health=Health("ingest"))
    with pytest.raises(SettingError) as refused:
        Ingest(context)
    assert refused.value.name == name

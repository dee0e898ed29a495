"""The alert rules by Prometheus' own tool: they are well-formed, and each fires when it should and only then."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import yaml
from tests.charts.rendering import ROOT, program

RULES = ROOT / "charts" / "observability" / "rules" / "marketfeed.yaml"
CASES = Path(__file__).with_name("alerts_test.yaml")


def promtool(*arguments: str | Path) -> str:
    done = subprocess.run(
        [program("promtool"), *map(str, arguments)], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def alerts() -> dict[str, dict[str, str]]:
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    return {rule["alert"]: rule for rule in rules}


def test_the_rules_are_well_formed() -> None:
    """promtool reads every rule, its expression and its templates."""
    assert f"{len(alerts())} rules found" in promtool("check", "rules", RULES)


def test_the_cases_pass() -> None:
    """In every case exactly the alerts listed fire."""
    promtool("test", "rules", CASES)


def test_every_alert_has_a_case_that_fires_and_one_that_does_not() -> None:
    """The healthy case feeds every alert's metrics and raises nothing; another raises it."""
    tests = yaml.safe_load(CASES.read_text())["tests"]
    fired = set()
    for case in tests:
        for question in case["promql_expr_test"]:
            for sample in question["exp_samples"]:
                fired.update(re.findall(r'alertname="(\w+)"', sample["labels"]))
    assert fired == alerts().keys()
    healthy = " ".join(series["series"] for series in tests[0]["input_series"])
    assert all(question["exp_samples"] == [] for question in tests[0]["promql_expr_test"])
    for name, rule in alerts().items():
        for metric in re.findall(r"\b(?:marketfeed|otelcol)_\w+", rule["expr"]):
            assert metric in healthy, f"the healthy case has no {metric}, so it does not show that {name} stays quiet"


def test_an_alert_says_what_to_do() -> None:
    """Each has a severity that somebody routes by, a summary, and a description in whole sentences."""
    for name, rule in alerts().items():
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}, name
        assert rule["annotations"].keys() == {"summary", "description"}, name
        assert rule["annotations"]["description"].endswith("."), name

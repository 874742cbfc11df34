"""Rules, alerts and dashboards: that they are well formed, and name what there is."""

import subprocess

import pytest
import yaml
from conftest import ROOT, debian_tool

MONITORING = ROOT / "deploy/monitoring"
RULE_FILES = sorted((MONITORING / "rules").glob("*.yml"))
RULE_TESTS = sorted((MONITORING / "tests").glob("*.yml"))


def rules(kind: str) -> list[dict]:
    """All rules of a kind, "alert" or "record"."""
    groups = [group for path in RULE_FILES for group in yaml.safe_load(path.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"] if kind in rule]


ALERTS = {rule["alert"]: rule for rule in rules("alert")}
ALERT_TESTS = yaml.safe_load((MONITORING / "tests/alerts.yml").read_text())["tests"]


@pytest.fixture(scope="session")
def promtool():
    """Runs promtool; what it says is in the failure."""
    binary = debian_tool("prometheus", "usr/bin/promtool")

    def run(*arguments):
        done = subprocess.run([binary, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    return run


def test_prometheus_accepts_its_configuration(promtool):
    promtool("check", "config", MONITORING / "prometheus.yml")


@pytest.mark.parametrize("path", RULE_FILES, ids=lambda path: path.name)
def test_prometheus_accepts_the_rules(promtool, path):
    promtool("check", "rules", path)


@pytest.mark.parametrize("path", RULE_TESTS, ids=lambda path: path.name)
def test_the_rules_do_what_their_tests_say(promtool, path):
    promtool("test", "rules", path)


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_fires_in_one_test_and_is_silent_in_another(alert):
    tests = [test for test in ALERT_TESTS if test["name"].startswith(f"{alert} ")]
    fires = [test for test in tests if f"{alert} fires" in test["name"]]
    silent = [test for test in tests if f"{alert} is silent" in test["name"]]
    assert fires and silent, f"tests/alerts.yml has {[test['name'] for test in tests]}"
    for test in fires:
        samples = [sample for query in test["promql_expr_test"] for sample in query["exp_samples"]]
        expected = [f'alertname="{alert}", alertstate="firing"' in sample["labels"] for sample in samples]
        assert expected and all(expected), test["name"]
    for test in silent:
        assert all("ALERTS" in query["expr"] and not query["exp_samples"] for query in test["promql_expr_test"]), test["name"]


def test_each_alert_says_how_bad_it_is_and_what_to_do():
    page = (ROOT / "docs/monitoring.md").read_text()
    for name, alert in ALERTS.items():
        assert alert["labels"]["severity"] in ("warning", "critical"), name
        assert set(alert["annotations"]) == {"summary", "description"}, name
        assert f"`{name}`" in page, f"docs/monitoring.md does not explain {name}"

"""Rules, alerts and dashboards: that they are well formed, and name what there is."""

import itertools
import re
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT, debian_tool

MONITORING = ROOT / "deploy/monitoring"
sys.path.insert(0, str(MONITORING))

import dashboards  # noqa: E402

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
        assert all("ALERTS" in query["expr"] and not query["exp_samples"] for query in test["promql_expr_test"]), test[
            "name"
        ]


def test_each_alert_says_how_bad_it_is_and_what_to_do():
    page = (ROOT / "docs/monitoring.md").read_text()
    for name, alert in ALERTS.items():
        assert alert["labels"]["severity"] in ("warning", "critical"), name
        assert set(alert["annotations"]) == {"summary", "description"}, name
        assert f"`{name}`" in page, f"docs/monitoring.md does not explain {name}"


def dashboard_expressions():
    """Name of the dashboard, title of the panel, expression."""
    for name, board in dashboards.BOARDS.items():
        for panel in board["panels"]:
            for target in panel.get("targets", []):
                yield f"{name}: {panel['title']}", target["expr"]
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                yield (
                    f"{name}: ${variable['name']}",
                    re.fullmatch(r"label_values\((.+), \w+\)", variable["query"]["query"])[1],
                )


def test_the_dashboards_are_what_their_generator_writes():
    assert {path for path in dashboards.FOLDER.glob("*.json")} == set(dashboards.written())
    for path, text in dashboards.written().items():
        assert path.read_text() == text, f"python3 deploy/monitoring/dashboards.py writes another {path.name}"


@pytest.mark.parametrize("name", dashboards.BOARDS)
def test_every_variable_is_defined_before_it_is_used(name):
    defined = {"__rate_interval", "__range"}
    for variable in dashboards.BOARDS[name]["templating"]["list"]:
        text = str(variable.get("query"))
        assert set(re.findall(r"\$\{?(\w+)", text)) <= defined, f"${variable['name']}: {text}"
        defined.add(variable["name"])
    assert {"datasource", "run", "instance"} <= defined
    for panel in dashboards.BOARDS[name]["panels"]:
        text = str(panel)
        assert set(re.findall(r"\$\{?(\w+)", text)) <= defined, panel["title"]
        for target in panel.get("targets", []):
            ranges = set(re.findall(r"\[([^\]]*)\]", target["expr"]))
            coarse = {"1m"} if "process_cpu_seconds_total" in target["expr"] else set()
            assert ranges <= {"$__rate_interval", "$__range"} | coarse, f"{panel['title']}: {target['expr']}"
            assert "$run" in target["expr"] or "ALERTS" in target["expr"], f"{panel['title']} shows every run"


def test_promtool_parses_every_expression_of_the_dashboards(promtool, tmp_path):
    """As rules: promtool parses nothing else without a server."""
    values = {"__rate_interval": "20s", "__range": "1800s", "run": "a", "instance": "b"}
    expressions = [re.sub(r"\$(\w+)", lambda match: values[match[1]], expr) for _, expr in dashboard_expressions()]
    records = [{"record": f"expression:{at}", "expr": expr} for at, expr in enumerate(expressions)]
    path = tmp_path / "dashboards.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboards", "rules": records}]}))
    promtool("check", "rules", path)


@pytest.mark.parametrize("name", dashboards.BOARDS)
def test_every_panel_has_a_unit_and_says_what_to_do(name):
    board = dashboards.BOARDS[name]
    assert board["schemaVersion"] == 39 and board["uid"] == f"sapex-{name}"
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    assert panels
    for panel in panels:
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert len(panel["description"]) > 40 and panel["description"].endswith("."), panel["title"]
        assert panel["targets"], panel["title"]
        assert all(target["legendFormat"] for target in panel["targets"]), panel["title"]
        assert {str(each["datasource"]["uid"]) for each in [panel, *panel["targets"]]} == {"${datasource}"}
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


@pytest.mark.parametrize("name", dashboards.BOARDS)
def test_no_panel_covers_another_or_leaves_the_page(name):
    places = [(panel["title"], panel["gridPos"]) for panel in dashboards.BOARDS[name]["panels"]]
    for title, place in places:
        assert 0 <= place["x"] and place["x"] + place["w"] <= 24 and place["y"] >= 0 < place["h"], title
    for (title, a), (other, b) in itertools.combinations(places, 2):
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        above = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert beside or above, f"{title} covers {other}"


def test_grafana_finds_its_data_source_and_its_dashboards():
    provisioning = MONITORING / "grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())["datasources"]
    interval = yaml.safe_load((MONITORING / "prometheus.yml").read_text())["global"]["scrape_interval"]
    assert source["type"] == "prometheus" and source["isDefault"]
    assert source["jsonData"]["timeInterval"] == interval
    (provider,) = yaml.safe_load((provisioning / "dashboards/sapex.yml").read_text())["providers"]
    assert provider["type"] == "file" and provider["options"]["path"] == "/etc/grafana/dashboards"

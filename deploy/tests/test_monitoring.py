"""Rules, alerts and dashboards are well formed and name only existing metrics and labels."""

import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, debian_tool

MONITORING = ROOT / "deploy/monitoring"
sys.path.insert(0, str(MONITORING))

import dashboards  # noqa: E402
import live  # noqa: E402

RULE_FILES = sorted((MONITORING / "rules").glob("*.yml"))
RULE_TESTS = sorted((MONITORING / "tests").glob("*.yml"))


def rules(kind: str) -> list[dict]:
    """Returns all rules of a kind, "alert" or "record"."""
    groups = [group for path in RULE_FILES for group in yaml.safe_load(path.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"] if kind in rule]


ALERTS = {rule["alert"]: rule for rule in rules("alert")}
ALERT_TESTS = yaml.safe_load((MONITORING / "tests/alerts.yml").read_text())["tests"]


@pytest.fixture(scope="session")
def promtool():
    """Returns a function that runs promtool. On failure, the assertion message contains its output."""
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


# Prometheus' own metrics and labels, which queries may use in addition to those of docs/metrics.md.
PROMETHEUS_METRICS = {"up": set(), "ALERTS": {"alertname", "alertstate", "severity", "run"}}
PROMETHEUS_LABELS = {"job", "instance", "run"}
KEYWORDS = {"and", "or", "unless", "bool", "by", "without", "on", "ignoring", "group_left", "group_right", "offset"}


def known_metrics() -> dict[str, set[str]]:
    """Returns the names and labels of all series that a program may export or a rule records."""
    known = dict(PROMETHEUS_METRICS)
    for line in (ROOT / "docs/metrics.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        name = re.fullmatch(r"`(\w+)`", cells[1]) if len(cells) > 6 else None
        if not name:
            continue
        labels = set(re.findall(r"`(\w+)`", cells[4]))
        suffixes = ["_bucket", "_sum", "_count"] if cells[2] == "histogram" else [""]
        known |= {name[1] + suffix: labels | ({"le"} if suffix == "_bucket" else set()) for suffix in suffixes}
    known |= {rule["record"]: labels_by(rule["expr"]) for rule in rules("record")}
    return known


def labels_by(expr: str) -> set[str]:
    """Returns the labels that aggregations keep or that vectors are matched by."""
    return set(re.findall(r"\w+", " ".join(re.findall(r"\b(?:by|on|without|ignoring) ?\(([^)]*)\)", expr))))


def named_in(expr: str) -> tuple[set[str], set[str]]:
    """Returns the metrics and the labels that an expression names."""
    labels = labels_by(expr) | set(re.findall(r"(\w+) ?(?:=~|!=|!~|=) ?\"", expr))
    bare = re.sub(r"\b(?:by|on|without|ignoring|group_left|group_right) ?\([^)]*\)|\"[^\"]*\"|\[[^\]]*\]", " ", expr)
    bare = re.sub(r"\{[^}]*\}", " ", bare)
    words = re.findall(r"(?<![\w.$])([a-zA-Z_:][\w:]*)(?! *\(|\w)", bare)
    return set(words) - KEYWORDS, labels - {"__name__"}


def dashboard_expressions():
    """Yields pairs of dashboard and panel (or variable), and expression."""
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


def every_expression():
    """Yields the expressions of dashboards, alerts and recording rules, each with its origin."""
    yield from dashboard_expressions()
    yield from (
        (rule.get("alert") or rule["record"], rule["expr"]) for kind in ("alert", "record") for rule in rules(kind)
    )


def test_the_dashboards_are_what_their_generator_writes():
    assert {path for path in dashboards.FOLDER.glob("*.json")} == set(dashboards.written())
    for path, text in dashboards.written().items():
        assert path.read_text() == text, f"python3 deploy/monitoring/dashboards.py writes another {path.name}"


def test_every_metric_and_every_label_exists():
    known = known_metrics()
    assert len(known) > 70, sorted(known)
    wrong = []
    for where, expr in every_expression():
        metrics, labels = named_in(expr)
        assert metrics or "__name__" in expr, f"{where}: {expr} names no metric"
        wrong += [f"{where}: no metric {name}" for name in metrics - set(known)]
        allowed = PROMETHEUS_LABELS.union(*(known.get(name, set()) for name in metrics))
        wrong += [
            f"{where}: no label {name} on {sorted(metrics)}" for name in labels - allowed if "__name__" not in expr
        ]
    for name, board in dashboards.BOARDS.items():
        for panel, target in ((panel, target) for panel in board["panels"] for target in panel.get("targets", [])):
            allowed = PROMETHEUS_LABELS.union(*(known.get(name, set()) for name in named_in(target["expr"])[0]))
            used = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            wrong += [f"{name}: {panel['title']}: the legend has {label}" for label in used - allowed]
    assert not wrong, "\n".join(wrong)


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
    """The expressions are checked as rules, because promtool parses nothing else without a server."""
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


# Expressions that have no data in a healthy cluster without TLS.
QUIET = {"ALERTS", "sapex_tls_certificate_expiry_seconds"}


def programs() -> Path:
    """Returns the folder of the newest programs. Skips the test with a message if there are none."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    folders = [Path(os.environ["SAPEX_BIN"])] if "SAPEX_BIN" in os.environ else [target / "release", target / "debug"]
    names = ["learner", "actor-node", "replay-server"]
    built = [folder for folder in folders if all((folder / name).exists() for name in names)]
    if not built:
        pytest.skip(f"SKIPPED: no programs in {' or '.join(map(str, folders))}: cargo build --workspace --bins")
    return max(built, key=lambda folder: min((folder / name).stat().st_mtime for name in names))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A cluster that trains, with a real Prometheus."""
    prometheus = debian_tool("prometheus", "usr/bin/prometheus")
    with live.Cluster(programs(), prometheus, tmp_path_factory.mktemp("cluster")) as cluster:
        live.until(lambda: "Prometheus", cluster.prometheus.is_up, 30, cluster)
        yield cluster


def without_bounds(expr: str) -> str:
    """Returns an alert's expression without its comparisons, so that it has data even if nothing is wrong."""
    name = r"[a-z]\w+"
    return re.sub(rf" (?:[<>]=?|[=!]=) (?:[\d.]+(?: \* \d+)?|{name})", "", expr)


def test_an_alert_without_its_bounds():
    assert without_bounds("a > 0.9 and b == 0") == "a and b"
    assert without_bounds("sum by (run) (loss != loss)") == "sum by (run) (loss)"
    assert without_bounds("min(expiry) - time() < 7 * 86400") == "min(expiry) - time()"


def test_a_real_cluster_has_data_for_every_expression(cluster):
    """Repeats the queries until each has had data once. Some need an evaluation, a checkpoint or two scrapes first."""
    boards = {name: json.loads((dashboards.FOLDER / f"{name}.json").read_text()) for name in dashboards.BOARDS}

    def still_empty(waiting):
        """Returns the expressions without data so far. Variables are queried each time, because processes appear one by
        one."""
        asked = {name: live.Asked(board, cluster.prometheus, 60) for name, board in boards.items()}
        for where in list(waiting):
            board, expr = waiting[where]
            if all(asked[board].values.values()) if board else True:
                if cluster.prometheus.now(asked[board].put_in(expr) if board else expr):
                    del waiting[where]
        return waiting

    waiting = {
        f"{name}: {panel['title']}: {target['refId']}": (name, target["expr"])
        for name, board in boards.items()
        for panel in board["panels"]
        for target in panel.get("targets", [])
    }
    waiting |= {rule["alert"]: (None, without_bounds(rule["expr"])) for rule in rules("alert")}
    waiting |= {rule["record"]: (None, rule["record"]) for rule in rules("record")}
    quiet = {where for where, (_, expr) in waiting.items() if named_in(expr)[0] <= QUIET and "vector(0)" not in expr}
    assert len(quiet) == 3, quiet
    waiting = {where: asked for where, asked in waiting.items() if where not in quiet}
    assert len(waiting) > 90
    live.until(lambda: "\n".join(map(str, still_empty(waiting).items())), lambda: not still_empty(waiting), 90, cluster)

    targets = cluster.prometheus.get("targets")["activeTargets"]
    assert len(targets) == 6 and {target["health"] for target in targets} == {"up"}, targets
    evaluated = [rule for group in cluster.prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert len(evaluated) == len(rules("alert")) + len(rules("record"))
    assert not [rule for rule in evaluated if rule["health"] != "ok"], evaluated


def test_a_real_cluster_exports_no_label_and_no_metric_that_the_page_lacks(cluster):
    known = known_metrics()
    scraped = {"up", "scrape_duration_seconds", "scrape_samples_post_metric_relabeling", "scrape_samples_scraped"}
    scraped |= {"scrape_series_added", "ALERTS_FOR_STATE"}
    series = cluster.prometheus.get("series", **{"match[]": '{__name__=~".+"}'})
    assert len(series) > 100
    wrong = []
    for labels in series:
        name = labels.pop("__name__")
        if name in scraped:
            continue
        if name not in known:
            wrong.append(name)
        else:
            wrong += [f"{name}: {label}" for label in set(labels) - known[name] - PROMETHEUS_LABELS]
    assert not wrong, sorted(set(wrong))
    assert {labels["run"] for labels in series if "run" in labels} == {"pendulum"}

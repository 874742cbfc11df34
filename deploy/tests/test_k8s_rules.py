"""The Prometheus Operator gets the same rules as every other Prometheus.

kustomize cannot read files outside its folder, so it has copies of the rules. SAPEX_WRITE_DOCS=1 writes the copies
again. The Helm chart has a link to the rules, and a test compares the chart with kustomize.
"""

import os
import re

import pytest
import yaml

import k8s

RULES = k8s.ROOT / "deploy/monitoring/rules"
COPIES = {
    "alerts": "monitoring/alerts.yaml",
    "recording": "monitoring/recording.yaml",
    "autoscale": "autoscale/rule.yaml",
}


class Dumper(yaml.SafeDumper):
    """Keeps expressions of several lines as blocks."""


def text(dumper, value):
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


Dumper.add_representer(str, text)


def as_object(name):
    source = f"deploy/monitoring/rules/{name}.yml"
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": f"sapex-{name}", "labels": {"app.kubernetes.io/name": "sapex"}},
        "spec": yaml.safe_load((RULES / f"{name}.yml").read_text()),
    }
    head = f"# A copy of {source}; deploy/tests/test_k8s_rules.py writes it.\n"
    return head + yaml.dump(rule, Dumper=Dumper, sort_keys=False, width=120, allow_unicode=True)


def test_every_file_of_rules_has_a_copy():
    assert {path.stem for path in RULES.glob("*.yml")} == set(COPIES)


@pytest.mark.parametrize("name", COPIES)
def test_copies_are_equal(name):
    path = k8s.K8S / "components" / COPIES[name]
    if os.environ.get("SAPEX_WRITE_DOCS"):
        path.write_text(as_object(name))
    assert path.read_text() == as_object(name), "give SAPEX_WRITE_DOCS=1 to write it anew"


def test_the_demand_is_made_of_our_metrics():
    (group,) = yaml.safe_load((RULES / "autoscale.yml").read_text())["groups"]
    (rule,) = group["rules"]
    documented = set(re.findall(r"^\| `(sapex_\w+)`", (k8s.ROOT / "docs/metrics.md").read_text(), re.MULTILINE))
    used = set(re.findall(r"\bsapex_\w+", rule["expr"]))
    assert used and used <= documented

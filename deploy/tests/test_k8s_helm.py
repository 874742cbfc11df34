"""The Helm chart renders the same objects as kustomize."""

import difflib
import json

import helm_python as helm
import pytest
import yaml

import k8s

CHART = k8s.ROOT / "deploy/helm/sapex"


def render(values):
    with helm.Chart.load(str(CHART)) as chart:
        files = chart.render(values, name="sapex", namespace=k8s.NAMESPACE)
    texts = [text for name, text in files.items() if name.endswith(".yaml")]
    return [each for text in texts for each in yaml.safe_load_all(text) if each]


def ordered(value):
    """Returns a copy with all lists of named items sorted, because their order has no meaning."""
    if isinstance(value, dict):
        return {key: ordered(each) for key, each in value.items()}
    if isinstance(value, list):
        items = [ordered(each) for each in value]
        named = all(isinstance(each, dict) and ("name" in each or "mountPath" in each) for each in items)
        return sorted(items, key=lambda each: json.dumps(each, sort_keys=True)) if named else items
    return value


def by_name(objects):
    return {(each["kind"], each["metadata"]["name"]): ordered(each) for each in objects}


@pytest.mark.parametrize("selection", k8s.SELECTIONS, ids=k8s.selection_id)
def test_the_chart_equals_the_kustomization(selection):
    chart = by_name(render({name: {"enabled": True} for name in selection}))
    kustomization = by_name(k8s.render(*selection))
    assert sorted(chart) == sorted(kustomization)
    for key in chart:
        texts = [yaml.safe_dump(side[key]).splitlines() for side in (kustomization, chart)]
        assert texts[0] == texts[1], "\n".join(difflib.unified_diff(*texts, "kustomize", "helm", lineterm=""))


def test_every_value_arrives():
    values = {
        "env": "Hopper-v5",
        "run": "seventh",
        "registry": "registry.example/sapex",
        "tag": "v7",
        "settings": {"learner.batch_size": 512, "run.env_steps": 3000000, "cluster.hidden": [64, 64], "run.grace": "10s"},
        "replay": {"replicas": 3, "storage": "7Gi"},
        "actor": {"replicas": 9},
        "tls": {"enabled": True},
        "autoscale": {"enabled": True, "maxReplicas": 77},
    }
    objects = render(values)
    settings = k8s.settings(objects)
    assert settings["cluster"]["env"] == "Hopper-v5" and settings["run"]["name"] == "seventh"
    assert settings["endpoints"]["replay"] == [f"tcp://replay-{index}.replay:5601" for index in range(3)]
    assert k8s.named(objects, "StatefulSet", "replay")["spec"]["replicas"] == 3
    assert "replay-2.replay" in k8s.named(objects, "Certificate", "replay")["spec"]["dnsNames"]
    (scaled,) = k8s.of_kind(objects, "ScaledObject")
    assert scaled["spec"]["maxReplicaCount"] == 77
    assert scaled["spec"]["triggers"][0]["metadata"]["query"].endswith('{run="seventh"}')
    for workload in k8s.workloads(objects):
        for container in workload.containers:
            assert container["image"].startswith("registry.example/sapex/") and container["image"].endswith(":v7")
            env = k8s.environment(container)
            assert env["SAPEX__LEARNER__BATCH_SIZE"] == "512" and env["SAPEX__RUN__ENV_STEPS"] == "3000000"
            assert env["SAPEX__CLUSTER__HIDDEN"] == "[64,64]" and env["SAPEX__RUN__GRACE"] == "10s"
    assert k8s.named(render({"actor": {"replicas": 9}}), "Deployment", "actor")["spec"]["replicas"] == 9


def test_unknown_values_are_refused():
    with pytest.raises(helm.HelmError, match="(?i)additional"):
        render({"actors": 9})


def test_the_linter_is_content():
    linted = helm.lint(str(CHART))
    # Severity 1 is a remark (the chart has no icon), 2 a warning, 3 an error.
    assert linted["total_charts_linted"] == 1
    assert not [each for each in linted["messages"] if each["severity"] > 1]


@pytest.mark.parametrize("env", ["Ant-v5", "Hopper-v5", "Humanoid-v5", "Pendulum-v1", "Swimmer-v5", "Walker2d-v5"])
def test_the_digest_is_that_of_kustomize(env, tmp_path):
    config = k8s.config(render({"env": env}))
    (tmp_path / "cluster.toml").write_text(config["data"]["cluster.toml"])
    generator = {"configMapGenerator": [{"name": "sapex", "files": ["cluster.toml"]}]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(generator))
    (generated,) = k8s.build(tmp_path)
    assert config["metadata"]["name"] == generated["metadata"]["name"]

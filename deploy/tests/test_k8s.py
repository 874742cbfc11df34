"""The manifests are consistent and agree with the code. The tests need no API server."""

import json
import math
import re
from datetime import timedelta

import kubernetes_validate
import pytest
import tomllib
from cloudcoil.models.cert_manager import v1 as cert_manager
from cloudcoil.models.keda import v1alpha1 as keda
from cloudcoil.models.prometheus_operator import v1 as prometheus

import k8s

# From the first version that starts sidecars by default to the newest that kubernetes-validate knows.
VERSIONS = ("1.29", "1.31", "1.33", "1.35", "1.37")
CUSTOM = {
    ("cert-manager.io/v1", "Certificate"): cert_manager.Certificate,
    ("cert-manager.io/v1", "Issuer"): cert_manager.Issuer,
    ("keda.sh/v1alpha1", "ScaledObject"): keda.ScaledObject,
    ("monitoring.coreos.com/v1", "PodMonitor"): prometheus.PodMonitor,
    ("monitoring.coreos.com/v1", "PrometheusRule"): prometheus.PrometheusRule,
}
# The fields of jobset.x-k8s.io/v1alpha2 that the manifests use. The jobs inside are checked as Jobs.
JOB_SET_FIELDS = {
    "spec": {"network", "successPolicy", "failurePolicy", "replicatedJobs"},
    "network": {"enableDNSHostnames", "publishNotReadyAddresses"},
    "successPolicy": {"operator", "targetReplicatedJobs"},
    "failurePolicy": {"maxRestarts", "rules"},
    "rules": {"name", "action", "onJobFailureReasons"},
    "replicatedJobs": {"name", "replicas", "template"},
}
RENDERINGS = k8s.every_rendering()
ROLES = {"learner": "learner", "replay": "replay-server", "actor": "actor-node", "evaluator": "actor-node"}

every_rendering = pytest.mark.parametrize("objects", RENDERINGS.values(), ids=RENDERINGS)


def read(path):
    return (k8s.ROOT / path).read_text()


def containers(objects):
    return [(workload, each) for workload in k8s.workloads(objects) for each in workload.containers]


def limit(name):
    """Returns a constant of common/src/limits.rs."""
    (value,) = re.findall(rf"pub const {name}: usize = ([\d_]+);", read("common/src/limits.rs"))
    return int(value.replace("_", ""))


def seconds(duration):
    amount, unit = re.fullmatch(r"(\d+)(s|m|h)", duration).groups()
    return timedelta(**{{"s": "seconds", "m": "minutes", "h": "hours"}[unit]: int(amount)}).total_seconds()


# Schemas.


@pytest.mark.parametrize("version", VERSIONS)
@every_rendering
def test_kubernetes_takes_every_object(objects, version):
    checked = 0
    for each in objects:
        if (each["apiVersion"], each["kind"]) in CUSTOM or each["kind"] == "JobSet":
            continue
        kubernetes_validate.validate(each, version, strict=True)
        checked += 1
    for job_set in k8s.of_kind(objects, "JobSet"):
        for job in job_set["spec"]["replicatedJobs"]:
            as_job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": job["name"]}, **job["template"]}
            kubernetes_validate.validate(as_job, version, strict=True)
    assert checked > 5


@every_rendering
def test_custom_resources_have_no_unknown_field(objects):
    native = {"v1", "apps/v1", "policy/v1", "networking.k8s.io/v1", "scheduling.k8s.io/v1", "jobset.x-k8s.io/v1alpha2"}
    for each in objects:
        if each["apiVersion"] in native:
            continue
        model = CUSTOM[each["apiVersion"], each["kind"]]
        # The models drop unknown fields.
        assert model.model_validate(each).model_dump(by_alias=True, exclude_unset=True) == each
    for job_set in k8s.of_kind(objects, "JobSet"):
        spec = job_set["spec"]
        assert set(spec) <= JOB_SET_FIELDS["spec"]
        for field in ("network", "successPolicy", "failurePolicy"):
            assert set(spec[field]) <= JOB_SET_FIELDS[field]
        for field, items in (("rules", spec["failurePolicy"]["rules"]), ("replicatedJobs", spec["replicatedJobs"])):
            assert all(set(item) <= JOB_SET_FIELDS[field] for item in items)


@every_rendering
def test_every_object_is_in_the_namespace_and_named_once(objects):
    keys = [(each["kind"], each["metadata"]["name"]) for each in objects]
    assert len(set(keys)) == len(keys)
    for each in objects:
        if each["kind"] not in ("PriorityClass", "Namespace"):
            assert each["metadata"].get("namespace") == k8s.NAMESPACE, each["metadata"]
        if each["kind"] != "Namespace":
            assert each["metadata"]["labels"]["app.kubernetes.io/name"] == "sapex", each["metadata"]


# Pods.


@every_rendering
def test_pods_are_restricted(objects):
    assert len(k8s.workloads(objects)) == 3
    for workload in k8s.workloads(objects):
        pod = workload.pod
        context = pod["securityContext"]
        assert context["runAsNonRoot"] is True
        assert (context["runAsUser"], context["runAsGroup"], context["fsGroup"]) == (65532, 65532, 65532)
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        account = k8s.named(objects, "ServiceAccount", pod["serviceAccountName"])
        assert account["automountServiceAccountToken"] is False
        allowed = {"name", "configMap", "secret", "emptyDir", "persistentVolumeClaim"}
        assert all(set(volume) <= allowed for volume in pod["volumes"])
    for _, container in containers(objects):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert not any("hostPort" in port for port in container["ports"])


def test_the_namespace_enforces_that():
    (namespace,) = k8s.build(k8s.K8S / "namespace")
    assert namespace["metadata"]["name"] == k8s.NAMESPACE
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@every_rendering
def test_every_container_has_limits(objects):
    for _, container in containers(objects):
        resources = container["resources"]
        # When a node runs short of memory, pods above their request are killed first.
        assert resources["limits"]["memory"] == resources["requests"]["memory"], container["name"]
        assert "cpu" in resources["requests"], container["name"]


@every_rendering
def test_volumes_are_there_and_in_use(objects):
    for workload in k8s.workloads(objects):
        there = {each["name"] for each in workload.pod["volumes"]} | set(workload.claims)
        mounted = {each["name"] for container in workload.containers for each in container["volumeMounts"]}
        assert mounted == there, workload.component
        for container in workload.containers:
            paths = [each["mountPath"] for each in container["volumeMounts"]]
            assert len(set(paths)) == len(paths)
            assert "/tmp" in paths, "nothing else is writable"
            arguments = container["args"]
            assert arguments[arguments.index("--config") + 1] in paths
            if "--run-dir" in arguments:
                assert arguments[arguments.index("--run-dir") + 1] == "/runs/cluster" and "/runs" in paths
        for volume in workload.pod["volumes"]:
            if "configMap" in volume:
                k8s.named(objects, "ConfigMap", volume["configMap"]["name"])
            if "persistentVolumeClaim" in volume:
                k8s.named(objects, "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"])
            if "secret" in volume:
                issued = [each["spec"]["secretName"] for each in k8s.of_kind(objects, "Certificate")]
                assert volume["secret"]["secretName"] in issued


@every_rendering
def test_probes_ask_the_admin_port_and_no_peer(objects):
    for workload, container in containers(objects):
        ports = {each["name"]: each["containerPort"] for each in container["ports"]}
        admin = k8s.environment(container).get("SAPEX__TELEMETRY__ADMIN", k8s.settings(objects)["telemetry"]["admin"])
        host, number = admin.rsplit(":", 1)
        assert host == "0.0.0.0", "the kubelet comes from outside of the pod"
        paths = {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}
        for probe, path in paths.items():
            get = container[probe]["httpGet"]
            assert get["path"] == path and ports[get["port"]] == int(number), (workload.component, probe)
    for workload in k8s.workloads(objects):
        numbers = [port["containerPort"] for container in workload.containers for port in container["ports"]]
        assert len(set(numbers)) == len(numbers), "containers of a pod share its address"


def test_the_admin_port_serves_what_is_probed():
    for path in ("/healthz", "/readyz", "/metrics"):
        assert f'"{path}"' in read("common/src/admin/mod.rs")


@every_rendering
def test_pods_may_take_their_grace(objects):
    default = tomllib.loads(read("config/default.toml"))["run"]["grace"]
    grace = seconds(k8s.settings(objects)["run"].get("grace", default))
    for workload in k8s.workloads(objects):
        # Sidecars stop after the main container.
        in_turn = 1 + len(workload.pod.get("initContainers", []))
        assert workload.pod["terminationGracePeriodSeconds"] > in_turn * grace, workload.component


# The code.


@every_rendering
def test_images_are_ours(objects):
    (row,) = re.findall(r"^\| images \| (.*?);", read("deploy/README.md"), re.MULTILINE)
    known = set(re.findall(r"`([^`]+)`", row))
    for _, container in containers(objects):
        name, tag = container["image"].rsplit(":", 1)
        assert name in known and tag == "dev"
        suffixes = ("", "-cuda") if container["name"] == "learner" else ("",)
        assert name in {f"sapex/{ROLES[container['name']]}{suffix}" for suffix in suffixes}


def options(program):
    """Returns the long options that a program declares."""
    found = {"config", "set", "preset", "print-config"}
    for crate in (f"{program}/src/main.rs", "common/src/process/args.rs"):
        for name in re.findall(r"#\[arg\([^\]]*long[^\]]*\)\]\n\s+(?:pub )?(\w+):", read(crate)):
            found.add(name.replace("_", "-"))
    return found


@every_rendering
def test_arguments_are_options_of_the_programs(objects):
    for _, container in containers(objects):
        given = {each[2:] for each in container["args"] if each.startswith("--")}
        assert given <= options(ROLES[container["name"]]), container["name"]
        assert "command" not in container, "images have one program each"


@every_rendering
def test_settings_are_known(objects):
    known = tomllib.loads(read("config/default.toml"))
    given = {(section, key) for section, keys in k8s.settings(objects).items() for key in keys}
    for _, container in containers(objects):
        for name in k8s.environment(container):
            prefix, section, key = name.lower().split("__")
            assert prefix == "sapex", name
            given.add((section, key))
    unknown = {f"{section}.{key}" for section, key in given if key not in known.get(section, {})}
    assert not unknown


@every_rendering
def test_ports_are_those_that_all_deployments_agree_on(objects):
    (row,) = re.findall(r"^\| ports \| (.*?) \|", read("deploy/README.md"), re.MULTILINE)
    agreed = {name: int(number) for name, number in re.findall(r"(\w+) (\d+)", row)}
    for workload, container in containers(objects):
        for port in container["ports"]:
            if port["name"] in agreed:
                assert port["containerPort"] == agreed[port["name"]], (workload.component, port)
        replay, weights = k8s.endpoints(objects, container)
        assert {each.rsplit(":", 1)[1] for each in replay} == {str(agreed["replay"])}
        assert weights.endswith(f":{agreed['weights']}")


@every_rendering
def test_endpoints_are_the_pods(objects):
    hosts = {each.component: tuple(f"{host}.{each.service}" for host in each.hosts) for each in k8s.workloads(objects)}
    for _, container in containers(objects):
        replay, weights = k8s.endpoints(objects, container)
        assert tuple(re.sub(r"tcp://(.*):\d+", r"\1", each) for each in replay) == hosts["replay"]
        assert re.sub(r"tcp://(.*):\d+", r"\1", weights) == hosts["learner"][0]


@every_rendering
def test_names_resolve_before_pods_are_ready(objects):
    for workload in k8s.workloads(objects):
        if workload.owner["kind"] != "StatefulSet":
            continue
        service = k8s.named(objects, "Service", workload.service)["spec"]
        assert service["clusterIP"] == "None" and service["publishNotReadyAddresses"] is True
        assert k8s.selects({"matchLabels": service["selector"]}, workload.labels)
        ports = {port["name"]: port["containerPort"] for each in workload.containers for port in each["ports"]}
        assert all(ports[port["targetPort"]] == port["port"] for port in service["ports"])
    for job_set in k8s.of_kind(objects, "JobSet"):
        assert job_set["spec"]["network"] == {"enableDNSHostnames": True, "publishNotReadyAddresses": True}


@every_rendering
def test_selectors_select(objects):
    labels = {each.component: each.labels for each in k8s.workloads(objects)}
    for workload in k8s.workloads(objects):
        if workload.owner["kind"] != "JobSet":
            assert k8s.selects(workload.spec["selector"], workload.labels)
        for each in workload.pod.get("topologySpreadConstraints", []):
            assert k8s.selects(each["labelSelector"], workload.labels)
    budgets = k8s.of_kind(objects, "PodDisruptionBudget")
    assert budgets
    for each in budgets:
        assert [component for component in labels if k8s.selects(each["spec"]["selector"], labels[component])] == [
            each["metadata"]["name"]
        ]
    replay = next(each for each in k8s.workloads(objects) if each.component == "replay")
    (term,) = replay.pod["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert k8s.selects(term["podAffinityTerm"]["labelSelector"], replay.labels)


def test_stateful_sets_keep_their_volumes_and_wait_for_nobody():
    for each in k8s.of_kind(k8s.render(), "StatefulSet"):
        policy = each["spec"]["persistentVolumeClaimRetentionPolicy"]
        assert policy == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    assert k8s.named(k8s.render(), "StatefulSet", "replay")["spec"]["podManagementPolicy"] == "Parallel"
    assert k8s.named(k8s.render(), "StatefulSet", "learner")["spec"]["replicas"] == 1


@every_rendering
def test_actors_are_the_first_to_go(objects):
    classes = {each["metadata"]["name"]: each for each in k8s.of_kind(objects, "PriorityClass")}
    for workload in k8s.workloads(objects):
        name = workload.pod.get("priorityClassName")
        assert (name is not None) == (workload.component == "actor")
        if name:
            assert classes[name]["value"] < 0 and classes[name]["preemptionPolicy"] == "Never"
            assert "globalDefault" not in classes[name]


# Network policies.

PROMETHEUS = {"app.kubernetes.io/name": "prometheus"}
STRANGER = {"app": "stranger"}


def peer_matches(peer, namespace, labels):
    if "namespaceSelector" in peer:
        if not k8s.selects(peer["namespaceSelector"], {"kubernetes.io/metadata.name": namespace}):
            return False
    elif namespace != k8s.NAMESPACE:
        return False
    return k8s.selects(peer.get("podSelector", {}), labels)


def passes(policies, direction, own, peer, port):
    """Returns whether policies allow a connection of `peer` to (Ingress) or from (Egress) pods with labels `own`."""
    about = [each["spec"] for each in policies if k8s.selects(each["spec"]["podSelector"], own)]
    about = [each for each in about if direction in each["policyTypes"]]
    key, side = ("ingress", "from") if direction == "Ingress" else ("egress", "to")
    rules = [rule for each in about for rule in each.get(key, [])]
    return not about or any(
        any(peer_matches(each, *peer) for each in rule[side]) and any(each["port"] == port for each in rule["ports"])
        for rule in rules
    )


def connects(objects, source, target, port):
    """Returns whether source can connect to target, each (namespace, labels). Policies bind only our namespace."""
    policies = k8s.of_kind(objects, "NetworkPolicy")
    leaves = source[0] != k8s.NAMESPACE or passes(policies, "Egress", source[1], target, port)
    return leaves and (target[0] != k8s.NAMESPACE or passes(policies, "Ingress", target[1], source, port))


@every_rendering
def test_only_roles_reach_ports(objects):
    pods = {each.component: (k8s.NAMESPACE, each.labels) for each in k8s.workloads(objects)}
    others = {
        "stranger": (k8s.NAMESPACE, STRANGER),
        "far stranger": ("elsewhere", STRANGER),
        "impostor": ("elsewhere", pods["actor"][1]),
        "prometheus": ("monitoring", PROMETHEUS),
        "false prometheus": ("elsewhere", PROMETHEUS),
    }
    allowed = {("actor", "learner", 5600), ("actor", "replay", 5601), ("learner", "replay", 5601)}
    # The evaluator uses the name of its own pod.
    allowed |= {("learner", "learner", 5600)}
    if any(each["metadata"]["name"] == "prometheus" for each in k8s.of_kind(objects, "NetworkPolicy")):
        allowed |= {("prometheus", target, port) for target in pods for port in (9100, 9101)}
    everybody = pods | others
    seen = {
        (source, target, port)
        for source in everybody
        for target in pods
        for port in (5600, 5601, 9100, 9101, 22)
        if connects(objects, everybody[source], everybody[target], port)
    }
    assert seen == allowed
    dns = ("kube-system", {"k8s-app": "kube-dns"})
    for pod in pods.values():
        assert connects(objects, pod, dns, 53)
        assert not connects(objects, pod, dns, 443)
        assert not connects(objects, pod, ("elsewhere", STRANGER), 53)


# Components.


def test_prometheus_finds_every_container():
    objects = k8s.render("monitoring")
    (monitor,) = k8s.of_kind(objects, "PodMonitor")
    scraped = {each["port"] for each in monitor["spec"]["podMetricsEndpoints"]}
    for workload, container in containers(objects):
        assert k8s.selects(monitor["spec"]["selector"], workload.labels)
        assert scraped & {each["name"] for each in container["ports"]}, container["name"]
        assert monitor["spec"]["jobLabel"] in workload.labels


def test_grafana_gets_every_dashboard():
    maps = [each for each in k8s.of_kind(k8s.render("monitoring"), "ConfigMap") if "cluster.toml" not in each["data"]]
    given = {file: text for each in maps for file, text in each["data"].items()}
    folder = k8s.ROOT / "deploy/monitoring/grafana/dashboards"
    assert given == {path.name: path.read_text() for path in folder.glob("*.json")}
    for each in maps:
        assert each["metadata"]["labels"]["grafana_dashboard"] == "1"
        # kubectl apply keeps a copy of the object in an annotation, which has a size limit.
        assert len(json.dumps(json.dumps(each))) < 256 << 10


def test_autoscaling_follows_the_rule_of_this_run():
    objects = k8s.render("autoscale")
    (scaled,) = k8s.of_kind(objects, "ScaledObject")
    (trigger,) = scaled["spec"]["triggers"]
    (rule,) = k8s.named(objects, "PrometheusRule", "sapex-autoscale")["spec"]["groups"][0]["rules"]
    run = k8s.settings(objects)["run"]["name"]
    assert trigger["metadata"]["query"] == f'{rule["record"]}{{run="{run}"}}'
    # The new number of replicas is the ready replicas * value / threshold.
    assert (trigger["metricType"], trigger["metadata"]["threshold"]) == ("Value", "1")
    assert trigger["metadata"]["ignoreNullValues"] == "false"
    target = scaled["spec"]["scaleTargetRef"]
    assert "replicas" not in k8s.named(objects, target["kind"], target["name"])["spec"]
    behavior = scaled["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    up, down = behavior["scaleUp"], behavior["scaleDown"]
    assert up["stabilizationWindowSeconds"] < down["stabilizationWindowSeconds"]
    per_second = [each["policies"][0]["value"] / each["policies"][0]["periodSeconds"] for each in (up, down)]
    assert per_second[0] > per_second[1]


def test_a_port_holds_all_actors_there_can_be():
    objects = k8s.render("autoscale")
    (scaled,) = k8s.of_kind(objects, "ScaledObject")
    surge = k8s.named(objects, "Deployment", "actor")["spec"]["strategy"]["rollingUpdate"]["maxSurge"]
    surge = int(surge.removesuffix("%")) / 100
    actors = math.ceil(scaled["spec"]["maxReplicaCount"] * (1 + surge))
    # Each server has one more client: the learner at a replay server, the evaluator at the learner.
    assert actors + 1 < limit("CONNECTIONS_MAX")


def test_certificates_name_endpoints_and_roles():
    for components in (("tls",), ("tls", "jobset")):
        objects = k8s.render(*components)
        by_secret = {each["spec"]["secretName"]: each["spec"] for each in k8s.of_kind(objects, "Certificate")}
        for workload, container in containers(objects):
            mounts = {each["mountPath"]: each["name"] for each in container["volumeMounts"]}
            volumes = {each["name"]: each for each in workload.pod["volumes"]}
            certificate = by_secret[volumes[mounts["/etc/sapex/tls"]]["secret"]["secretName"]]
            assert certificate["uris"] == [f"sapex://role/{ROLES[container['name']]}"]
            replay, weights = k8s.endpoints(objects, container)
            servers = {"replay": replay, "learner": [weights]}.get(container["name"], [])
            for endpoint in servers:
                assert re.sub(r"tcp://(.*):\d+", r"\1", endpoint) in certificate["dnsNames"]
            assert ("server auth" in certificate["usages"]) == bool(servers)
            env = k8s.environment(container)
            files = {"CA": "ca.crt", "CERT": "tls.crt", "KEY": "tls.key"}
            assert all(env[f"SAPEX__TLS__{name}"] == f"/etc/sapex/tls/{file}" for name, file in files.items())


def test_the_gpu_goes_to_the_learner_alone():
    for workload, container in containers(k8s.render("gpu")):
        wants = "nvidia.com/gpu" in container["resources"]["limits"]
        assert wants == (container["name"] == "learner") == container["image"].startswith("sapex/learner-cuda:")
        assert (k8s.environment(container).get("SAPEX__LEARNER__DEVICE") == "cuda:0") == wants


def test_a_job_set_ends_with_its_learner_and_at_wrong_settings():
    objects = k8s.render("jobset")
    (job_set,) = k8s.of_kind(objects, "JobSet")
    assert not k8s.of_kind(objects, "StatefulSet", "Deployment")
    assert job_set["spec"]["successPolicy"] == {"operator": "All", "targetReplicatedJobs": ["learner"]}
    (status,) = re.findall(r"pub const EXIT_CONFIG: u8 = (\d+);", read("common/src/process/mod.rs"))
    for workload in k8s.workloads(objects):
        main = workload.pod["containers"][0]["name"]
        fails = {"containerName": main, "operator": "In", "values": [int(status)]}
        rules = workload.spec["podFailurePolicy"]["rules"]
        assert {"action": "FailJob", "onExitCodes": fails} in rules
        assert workload.pod["restartPolicy"] == "Never", "a podFailurePolicy needs it"
        env = k8s.environment(workload.pod["containers"][0])
        assert env["SAPEX__RUN__WHEN_DONE"] == "exit" and int(env["SAPEX__RUN__ENV_STEPS"]) > 0
    (rule,) = job_set["spec"]["failurePolicy"]["rules"]
    assert (rule["action"], rule["onJobFailureReasons"]) == ("FailJobSet", ["PodFailurePolicy"])
    for name in ("learner", "replay"):
        pods = next(each for each in k8s.workloads(objects) if each.component == name).spec["completions"]
        assert k8s.named(objects, "PodDisruptionBudget", name)["spec"]["minAvailable"] == pods


def test_a_changed_setting_starts_pods_anew():
    names = {name: k8s.config(RENDERINGS[name])["metadata"]["name"] for name in ("base", "dev")}
    assert names["base"] != names["dev"]
    for name, config in names.items():
        for workload in k8s.workloads(RENDERINGS[name]):
            assert {"name": "config", "configMap": {"name": config}} in workload.pod["volumes"]


def test_the_page_lists_every_component():
    page = read("docs/kubernetes.md")
    listed = re.findall(r"^\| `(\w+)` \|", page.split("## Components")[1].split("###")[0], re.MULTILINE)
    there = sorted(path.name for path in (k8s.K8S / "components").iterdir())
    assert sorted(listed) == there == sorted(k8s.COMPONENTS)
    assert f"from {VERSIONS[0]} to {VERSIONS[-1]}" in page

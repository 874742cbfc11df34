"""Runs pods with `docker run`. It applies the parts of a pod template that a kubelet applies: command, environment,
mounts, user, read-only root, capabilities, limits, names, probes, and the order and deadline for stopping
containers."""

import os
import subprocess
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import k8s

UNITS = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}


def docker(*arguments, check=True):
    done = subprocess.run(["docker", *map(str, arguments)], capture_output=True, text=True)
    assert not check or done.returncode == 0, f"docker {arguments[0]}: {done.stderr.strip()}"
    return done.stdout.strip()


def size(quantity):
    """Returns the number of bytes of a quantity such as 64Mi."""
    return int(quantity[:-2]) * UNITS[quantity[-2:]]


def cores(quantity):
    """Returns the number of cores of a quantity such as 500m."""
    return int(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)


def get(url, timeout):
    """Returns the HTTP status and the body. A failed connection has status 0. The kubelet accepts 200 to 399."""
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


@dataclass
class Container:
    """A running container and the results of its probes."""

    pod: "Pod"
    spec: dict
    id: str
    started: bool = False
    ready: bool = False
    # The reason why a kubelet would have killed the container.
    condemned: str = ""
    stopping: threading.Event = field(default_factory=threading.Event)

    @property
    def name(self):
        return f"{self.pod.name}/{self.spec['name']}"

    def url(self, path, port="admin"):
        (number,) = (each["containerPort"] for each in self.spec["ports"] if each["name"].startswith(port))
        return f"http://{self.pod.address}:{number}{path}"

    def probe(self, kind):
        probe = self.spec[kind]
        status, _ = get(self.url(probe["httpGet"]["path"], probe["httpGet"]["port"]), probe.get("timeoutSeconds", 1))
        return 200 <= status < 400

    def exposition(self):
        """Returns the metrics page, as Prometheus would read it."""
        return get(self.url("/metrics"), 5)[1]

    def metrics(self):
        """Returns the samples by metric name. If a metric has several series, the last one counts."""
        lines = (line.rsplit(" ", 1) for line in self.exposition().splitlines() if line.startswith("sapex_"))
        return {series.split("{")[0]: float(value) for series, value in lines}

    def watch(self):
        """Runs the probes until the container is stopped: the startup probe first, then liveness and readiness with
        their own periods."""
        startup = self.spec["startupProbe"]
        for _ in range(startup["failureThreshold"]):
            if self.probe("startupProbe"):
                self.started = True
                break
            if self.stopping.wait(startup["periodSeconds"]):
                return
        else:
            self.condemned = "it did not start in time"
            return
        due = dict.fromkeys(("livenessProbe", "readinessProbe"), 0.0)
        failures = 0
        while not self.stopping.wait(0.2):
            for kind in due:
                if time.monotonic() < due[kind]:
                    continue
                due[kind] = time.monotonic() + self.spec[kind]["periodSeconds"]
                passed = self.probe(kind)
                if kind == "readinessProbe":
                    self.ready = passed
                    continue
                failures = 0 if passed else failures + 1
                if failures >= self.spec[kind]["failureThreshold"] and not self.stopping.is_set():
                    self.condemned = f"its liveness probe failed {failures} times"

    def expect_alive(self):
        running = docker("inspect", "--format", "{{.State.Running}}", self.id) == "true"
        assert running and not self.condemned, f"{self.name} has ended {self.condemned}\n{self.log()[-4000:]}"

    def log(self):
        done = subprocess.run(["docker", "logs", self.id], capture_output=True, text=True)
        return done.stdout + done.stderr


class Pod:
    """The containers of one pod. They share an address and volumes."""

    def __init__(self, node, workload, name, aliases):
        self.node, self.workload, self.name, self.aliases = node, workload, name, aliases
        self.containers, self.address = [], ""

    def start(self):
        """Starts the sidecars in order, then the other containers. Each waits until the startup probes of the ones
        before passed."""
        for spec in self.workload.containers:
            for before in self.containers:
                while not before.started:
                    before.expect_alive()
                    time.sleep(0.1)
            self._start(spec)

    def _start(self, spec):
        pod, context = self.workload.pod, spec["securityContext"]
        user = pod["securityContext"]
        limits = spec["resources"]["limits"]
        arguments = ["--name", f"{self.node.network}-{self.name}-{spec['name']}", "--user", f"{user['runAsUser']}:{user['runAsGroup']}"]
        if self.containers:
            arguments += ["--network", f"container:{self.containers[0].id}"]
        else:
            arguments += ["--network", self.node.network, "--hostname", self.name]
            arguments += [each for alias in self.aliases for each in ("--network-alias", alias)]
        arguments += ["--read-only"] if context["readOnlyRootFilesystem"] else []
        arguments += [] if context["allowPrivilegeEscalation"] else ["--security-opt", "no-new-privileges"]
        arguments += [each for name in context["capabilities"]["drop"] for each in ("--cap-drop", name)]
        arguments += ["--memory", size(limits["memory"]), "--memory-swap", size(limits["memory"])]
        arguments += ["--cpus", cores(limits["cpu"])] if "cpu" in limits else []
        arguments += [each for name, value in k8s.environment(spec).items() for each in ("--env", f"{name}={value}")]
        arguments += [each for mount in spec["volumeMounts"] for each in self._mount(mount)]
        image = f"{spec['image'].rsplit(':', 1)[0]}:{self.node.tag}"
        identity = docker("run", "--detach", *arguments, image, *spec["args"])
        container = Container(self, spec, identity)
        self.containers.append(container)
        if not self.address:
            path = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
            self.address = docker("inspect", "--format", path, identity)
        threading.Thread(target=container.watch, daemon=True).start()

    def _mount(self, mount):
        volumes = {each["name"]: each for each in self.workload.pod["volumes"]}
        volume, target = volumes.get(mount["name"]), mount["mountPath"]
        mode = ["readonly"] if mount.get("readOnly") else []
        if volume and "emptyDir" in volume:
            empty = volume["emptyDir"]
            assert empty["medium"] == "Memory"
            return ["--tmpfs", f"{target}:size={size(empty['sizeLimit'])},mode=1777"]
        if volume and "configMap" in volume:
            source = self.node.config_map(volume["configMap"]["name"]) / mount.get("subPath", "")
        elif volume and "secret" in volume:
            source = self.node.secret(volume["secret"], self.workload.pod["securityContext"]["fsGroup"])
        else:
            assert mount["name"] in self.workload.claims
            source = self.node.claim(f"{mount['name']}-{self.name}", self.workload.pod["securityContext"]["fsGroup"])
        return ["--mount", ",".join([f"type=bind,source={source},target={target}", *mode])]

    def stop(self):
        """Stops the main containers, then the sidecars, within one grace period. Returns the exit statuses by container
        name."""
        deadline = time.monotonic() + self.workload.pod["terminationGracePeriodSeconds"]
        sidecars = len(self.workload.pod.get("initContainers", []))
        statuses = {}
        for group in (self.containers[sidecars:], self.containers[:sidecars][::-1]):
            for container in group:
                container.stopping.set()
                docker("kill", "--signal", "TERM", container.id)
            for container in group:
                left = max(0.1, deadline - time.monotonic())
                try:
                    waited = subprocess.run(["docker", "wait", container.id], capture_output=True, text=True, timeout=left)
                    statuses[container.name] = int(waited.stdout)
                except subprocess.TimeoutExpired:
                    statuses[container.name] = "killed after its grace period"
        return statuses


class Node:
    """A network with host names, volumes, and the pods on it. Removes everything at the end."""

    def __init__(self, objects, folder: Path, tag: str, secrets: dict[str, Path]):
        # The images are those of the templates, with the tag `tag`. Each secret is a folder of files.
        self.objects, self.folder, self.tag, self.secrets = objects, folder, tag, secrets
        self.network = f"sapex-k8s-{os.getpid()}"
        self.pods = []

    def __enter__(self):
        docker("network", "create", self.network)
        return self

    def __exit__(self, *_):
        for container in [each for pod in self.pods for each in pod.containers]:
            container.stopping.set()
        # Find containers by name: a container that could not start is not in the list.
        if left := docker("ps", "--all", "--quiet", "--filter", f"name=^/{self.network}-").split():
            docker("rm", "--force", *left, check=False)
        docker("network", "rm", self.network, check=False)

    def config_map(self, name):
        folder = self.folder / "config" / name
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in k8s.named(self.objects, "ConfigMap", name)["data"].items():
            (folder / file).write_text(text)
            (folder / file).chmod(0o444)
        return folder

    def secret(self, volume, group):
        folder = self.folder / "secrets" / volume["secretName"]
        folder.mkdir(parents=True, exist_ok=True)
        for path in self.secrets[volume["secretName"]].iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
            os.chown(folder / path.name, 0, group)
            (folder / path.name).chmod(volume["defaultMode"])
        return folder

    def claim(self, name, group):
        """Creates a volume that belongs to the group fsGroup, as the kubelet does."""
        folder = self.folder / "claims" / name
        folder.mkdir(parents=True, exist_ok=True)
        os.chown(folder, 0, group)
        folder.chmod(0o2770)
        return folder

    def pods_of(self, workload):
        """Yields the workload's pods, not started. The names that its Service would give them are network aliases."""
        hosts = workload.hosts or [f"{workload.component}-{index}" for index in range(workload.spec["replicas"])]
        for host in hosts:
            domain = f"{workload.service}.{k8s.NAMESPACE}.svc.cluster.local"
            aliases = [f"{host}.{workload.service}", f"{host}.{domain}"] if workload.service else []
            self.pods.append(Pod(self, workload, host, aliases))
            yield self.pods[-1]

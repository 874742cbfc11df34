"""A small Slurm cluster: a controller and three nodes, each with its own name and address.

It runs in namespaces (mount, network, host name, processes) below one process. When that process ends, the kernel
removes everything in them: daemons, jobs, network links and mounts.
"""

import os
import signal
import subprocess
import time
from pathlib import Path

NODES = ("n1", "n2", "n3")
NETWORK = "10.77.0"
# Only the backfill scheduler starts heterogeneous jobs. A requeued job waits until its old credentials have expired.
SETTINGS = """
ClusterName=sapex
SlurmctldHost=head
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
PluginDir={libraries}/slurm-wlm
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1
MpiDefault=none
MailProg=/bin/true
KillWait=8
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdParameters=config_overrides
NodeName={nodes} CPUs=32 RealMemory=64000
PartitionName=all Nodes=ALL Default=YES State=UP
"""
# The first process in the namespaces. It creates the network and then reaps orphaned processes.
FIRST = """
set -e
mount -t tmpfs none /run
mkdir /run/netns
hostname head
mount --bind {folder}/hosts /etc/hosts
ip link set lo up
ip link add name switch type bridge
ip address add {network}.1/24 dev switch
ip link set switch up
host=10
for node in {nodes}; do
	host=$((host + 1))
	ip netns add $node
	ip link add name to-$node type veth peer name eth0 netns $node
	ip link set to-$node master switch up
	ip -n $node address add {network}.$host/24 dev eth0
	ip -n $node link set eth0 up
	ip -n $node link set lo up
done
touch {folder}/network
while :; do sleep 1; done
"""
NAMESPACES = ("--mount", "--net", "--uts", "--pid")


def missing_rights() -> str | None:
    """Returns the reason why this machine cannot create network namespaces. `None` if it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    tried = subprocess.run(
        ["unshare", *NAMESPACES, "--fork", "--mount-proc", "sh", "-c", "ip link add name one type bridge && ip link add name two type veth"],
        capture_output=True,
        text=True,
    )
    return None if tried.returncode == 0 else f"no network namespaces here: {tried.stderr.strip()}"


class Cluster:
    """A running Slurm cluster, until `close`. `tools` is the folder with the unpacked Debian packages."""

    def __init__(self, folder: Path, tools: Path):
        self.folder = folder
        # Process id, outside the namespaces, of the first process inside.
        self.target = ""
        libraries = next(tools.glob("usr/lib/*/slurm-wlm")).parent
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("SAPEX", "SLURM", "SBATCH"))},
            "LD_LIBRARY_PATH": f"{libraries}:{libraries}/slurm-wlm",
            "PATH": f"{tools}/usr/bin:{tools}/usr/sbin:{os.environ['PATH']}",
            "SLURM_CONF": f"{folder}/slurm.conf",
        }
        hosts = [f"{NETWORK}.1 head", *(f"{NETWORK}.{11 + i} {node}" for i, node in enumerate(NODES))]
        (folder / "hosts").write_text("\n".join(["127.0.0.1 localhost", *hosts, ""]))
        (folder / "munge.key").write_bytes(os.urandom(128))
        (folder / "munge.key").chmod(0o600)
        (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        (folder / "slurm.conf").write_text(SETTINGS.format(folder=folder, libraries=libraries, nodes=",".join(NODES)))
        (folder / "state").mkdir()
        first = FIRST.format(folder=folder, network=NETWORK, nodes=" ".join(NODES))
        self.holder = subprocess.Popen(
            ["unshare", *NAMESPACES, "--fork", "--kill-child", "--mount-proc", "bash", "-c", first],
            start_new_session=True,
        )
        try:
            until(lambda: (folder / "network").exists(), 10, "the network is there")
            children = Path(f"/proc/{self.holder.pid}/task/{self.holder.pid}/children").read_text()
            self.target = children.split()[0]
            self.start_daemons(tools)
        except BaseException:
            self.close()
            raise

    def start_daemons(self, tools: Path) -> None:
        files = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munged.pid", "log-file": "munged.log", "seed-file": "seed"}
        self.run("munged", "--force", *(f"--{option}={self.folder / name}" for option, name in files.items()))
        self.run("slurmctld-wlm")
        for node in NODES:
            (self.folder / f"spool-{node}").mkdir()
            daemon = f"hostname {node} && exec slurmd-wlm -N {node} -d {tools}/usr/sbin/slurmstepd-wlm"
            self.run("nsenter", f"--net=/run/netns/{node}", "unshare", "--uts", "sh", "-c", daemon)
        until(lambda: self.run("sinfo", "--noheader", "--format=%t").split() == ["idle"], 20, "all nodes are idle")

    def run(self, *command: str, cwd: Path | None = None, **environment: str) -> str:
        """Runs a command on the controller and returns its output."""
        enter = ["nsenter", "--target", self.target, *NAMESPACES, f"--wd={cwd or self.folder}"]
        done = subprocess.run(
            [*enter, *command], env={**self.environment, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}"
        return done.stdout

    def states(self, job: str) -> set[str]:
        """Returns the states of the job's components."""
        shown = self.run("scontrol", "--oneliner", "show", "job", job)
        return {word.removeprefix("JobState=") for word in shown.split() if word.startswith("JobState=")}

    def starts_again(self, job: str) -> None:
        """Waits until a queued job runs. Backfill looks at its queue again only after a change, so this repeatedly
        changes the weight of the first node, which makes it the last choice."""

        def is_so():
            self.run("scontrol", "update", f"NodeName={NODES[0]}", "Weight=2")
            time.sleep(1)
            return self.states(job) == {"RUNNING"}

        until(is_so, 40, f"job {job} starts again")

    def get(self, address: str, path: str) -> str:
        """Sends a GET request to an admin port from the controller and returns the answer."""
        host, port = address.split(":")
        ask = f"exec 3<>/dev/tcp/{host}/{port} && printf 'GET {path} HTTP/1.1\\r\\nHost: {host}\\r\\nConnection: close\\r\\n\\r\\n' >&3 && cat <&3"
        return self.run("timeout", "5", "bash", "-c", ask)

    def running(self, folder: str) -> list[str]:
        """Returns the command lines of the processes that run a program of this folder."""
        shown = self.run("sh", "-c", "for of in /proc/[0-9]*/cmdline; do tr '\\0' ' ' <$of; echo; done")
        return [line for line in shown.splitlines() if line.startswith(folder)]

    def close(self) -> None:
        self.holder.send_signal(signal.SIGKILL)
        self.holder.wait()
        if self.target:
            until(lambda: not Path(f"/proc/{self.target}").exists(), 10, "all processes of the cluster have ended")


def until(is_so, seconds: float, what: str) -> None:
    """Waits until `is_so()` returns true. Fails after `seconds`."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.2)

"""The example of README.md runs exactly as it is printed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from servers import PATIENCE, ROOT, Servers, program, until

TEXT = (ROOT / "clients/python/README.md").read_text()


def block(name: str) -> str:
    found = re.search(rf"^<!-- {name} -->\n```\w*\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    assert found, f"README.md has no block {name}"
    return found[1]


def test_the_example_runs_as_it_is_printed(servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "replay.toml").write_text(block("settings"))
    printed, started = block("server").splitlines()
    assert started == "replay-server --config replay.toml &"
    path = f"{program('replay-server').parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run(["bash", "-ec", printed], cwd=tmp_path, env=environment, check=True, timeout=PATIENCE)
    # The same command as the second one, with its end under the control of this test.
    log = tmp_path / "server.log"
    with log.open("w") as output:
        command = started[: -len(" &")].split()
        server = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=output, stderr=output)
    try:
        until("the server", lambda: True if "listens" in log.read_text() or server.poll() is not None else None)
        if server.poll() is not None and "ddress already in use" in log.read_text():
            pytest.skip("SKIPPED: another process uses port 5555 of the example")
        script = [sys.executable, "-c", block("client")]
        done = subprocess.run(script, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=PATIENCE)
        assert (done.stdout, done.returncode) == (block("output"), 0), done.stderr + log.read_text()
    finally:
        server.kill()
        server.wait(PATIENCE)

"""Tests of the Dockerfile and its images."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from engine import IMAGES, PROGRAMS, ROOT, TAG, binaries, inspect, make_images, run

STAGED = ROOT / "target/images"


def test_hadolint_has_nothing_to_say():
    run(Path(sys.executable).parent / "hadolint", "--no-color", "Dockerfile")


def test_bases_are_pinned_in_the_dockerfile_alone():
    pins = re.findall(r"^ARG BASE_\w+=(\S+):", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert len(pins) == 3
    for pin in pins:
        command = ["git", "grep", "--files-with-matches", "--fixed-strings", f"{pin}:", "--", ":!.devcontainer"]
        found = run(*command).stdout.split()
        assert found == ["Dockerfile"], f"{pin} is also in {found}"


def test_the_development_container_has_the_base_of_the_builds():
    # A Dockerfile cannot take its base from another one, so this base is written twice.
    base = re.search(r"^ARG BASE_BUILD=(\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert base
    assert f"\nFROM {base[1]}\n" in (ROOT / ".devcontainer/Dockerfile").read_text()


def test_small_images_are_small():
    said = make_images()
    for image in ("actor-node", "replay-server"):
        megabytes = re.search(rf"^{image} +([\d.]+) MB, at most 60 ", said, re.MULTILINE)
        assert megabytes, said
        assert 5 < float(megabytes[1]) <= 60


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_runs_as_nobody_and_says_what_it_is(image):
    make_images()
    config = inspect(f"sapex/{image}:{TAG}")["Config"]
    assert config["User"] == "65532:65532"
    labels = config["Labels"]
    if image == "prometheus":
        return
    assert config["Entrypoint"] == [f"/usr/local/bin/{image}"]
    assert labels["org.opencontainers.image.title"] == image
    for label in ("description", "licenses", "version", "revision"):
        assert labels[f"org.opencontainers.image.{label}"], label
    if image != "sapex":
        assert config["Healthcheck"]["Test"] == ["CMD", f"/usr/local/bin/{image}", "health"]


def sections(program: Path) -> str:
    return subprocess.run(["readelf", "--sections", "--wide", program], capture_output=True, text=True).stdout


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_are_stripped_and_their_debug_information_is_kept(program):
    make_images()
    shipped = sections(STAGED / program / "usr/local/bin" / program)
    assert ".gnu_debuglink" in shipped
    assert ".debug_line" not in shipped and ".symtab" not in shipped
    assert ".debug_line" in sections(STAGED / "debug" / f"{program}.debug")


def test_images_find_mujoco_and_its_models():
    make_images()
    about = run(binaries() / "actor-node", "--version").stdout
    if "mujoco yes" not in about:
        pytest.skip("SKIPPED: the programs that are built here are without MuJoCo")
    sealed = ["--rm", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--network", "none"]
    shapes = run("docker", "run", *sealed, f"sapex/sapex:{TAG}", "envs", "HalfCheetah-v5").stdout
    assert "obs_dim = 17" in shapes
    models = {path.name for path in (STAGED / "actor-node/usr/share/sapex/mujoco").iterdir()}
    assert "half_cheetah.xml" in models and "humanoidstandup.xml" in models


def test_the_image_for_gpus_can_be_put_together(tmp_path):
    """The libraries of this image are 5 GB and need a GPU. So a file takes the place of the program, and nothing is
    run."""
    said = make_images()
    program = tmp_path / "learner-cuda/usr/local/bin/learner"
    program.parent.mkdir(parents=True)
    program.write_text("stands for the program\n")
    docker = re.search(r"^docker .*, as (\S+)$", said, re.MULTILINE)[1]
    base = re.search(r"^base/run +(\S+)$", said, re.MULTILINE)[1]
    tag = f"sapex/learner-cuda:{TAG}"
    run(
        *[docker, "build", "--file", "Dockerfile", "--target", "learner-cuda", "--tag", tag],
        *["--build-arg", f"BASE_RUN={base}", "--build-arg", "PROGRAMS=prebuilt", str(tmp_path)],
        env=os.environ | {"DOCKER_BUILDKIT": "1"},
    )
    config = inspect(tag)["Config"]
    run("docker", "rmi", tag)
    assert config["User"] == "65532:65532"
    assert "LD_LIBRARY_PATH=/opt/libtorch-cuda/torch/lib" in config["Env"]
    assert config["Entrypoint"] == ["/usr/local/bin/learner"]

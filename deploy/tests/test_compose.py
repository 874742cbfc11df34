"""Tests of docker-compose.yml without an engine."""

import subprocess

import pytest
import yaml

from engine import ROOT, compose_commands

PROFILES = ["gpu", "tls", "grafana"]


def old_compose() -> str:
    """Returns the version of the Compose written in Python. Skips the test with a message if it is not installed."""
    if "1" not in compose_commands():
        pytest.skip("SKIPPED: docker-compose 1.29 is not installed")
    return "1"


def config(version: str, *options: str) -> dict:
    command = [compose_commands()[version], *options, "config"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    # A warning would mean that something is ignored or that a variable has no value.
    assert done.stderr == ""
    return yaml.safe_load(done.stdout)


@pytest.mark.parametrize("profiles", [[], PROFILES])
@pytest.mark.parametrize("version", ["1", "5"])
def test_both_generations_of_compose_accept_the_file(version, profiles):
    if version == "1":
        old_compose()
    services = config(version, *[word for name in profiles for word in ("--profile", name)])["services"]
    expected = {"learner", "replay-0", "replay-1", "actor", "evaluator", "prometheus"}
    expected |= {name for profile, name in [("gpu", "learner-gpu"), ("tls", "certs"), ("grafana", "grafana")] if profile in profiles}
    # Version 1 also prints the services of profiles that were not requested.
    assert expected == set(services) if version == "5" else expected <= set(services)


@pytest.mark.parametrize("version", ["1", "5"])
def test_both_accept_what_is_laid_over_it(version):
    if version == "1":
        old_compose()
    files = ["docker-compose.yml", "deploy/compose/endless.yml", "deploy/chaos/compose.yml"]
    laid = config(version, *[word for file in files for word in ("--file", file)])
    for role in ("learner", "replay-0", "replay-1", "actor", "evaluator"):
        environment = laid["services"][role]["environment"]
        assert environment["SAPEX__RUN__ENV_STEPS"] == "0" and environment["SAPEX__CLUSTER__ENV"] == "Pendulum-v1"
    assert laid["volumes"]["runs"]["driver_opts"]["type"] == "tmpfs"


def everything() -> dict:
    return config("5", *[word for name in PROFILES for word in ("--profile", name)])["services"]


def test_no_service_has_rights_that_it_does_not_need():
    for name, service in everything().items():
        # Grafana's files belong to Grafana's own user.
        assert service["user"] == ("472:0" if name == "grafana" else "65532:65532"), name
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert name == "certs" or int(service["mem_limit"]) > 0, name
        assert service["pids_limit"], name


def test_ports_are_open_to_this_machine_alone():
    ports = [port for service in everything().values() for port in service.get("ports", [])]
    assert {port["target"] for port in ports} == {3000, 9090, 9100}
    for port in ports:
        assert port["host_ip"] == "127.0.0.1"


def test_one_variable_chooses_the_task(monkeypatch):
    monkeypatch.setenv("SAPEX_ENV", "HalfCheetah-v5")
    told = {name for name, service in everything().items() if service.get("environment", {}).get("SAPEX__CLUSTER__ENV") == "HalfCheetah-v5"}
    assert told == {"learner", "learner-gpu", "replay-0", "replay-1", "actor", "evaluator"}


def test_tls_is_on_with_its_variables_alone():
    paths = {"SAPEX__TLS__CA": "ca.crt", "SAPEX__TLS__CERT": "tls.crt", "SAPEX__TLS__KEY": "tls.key"}
    plain = config("5")["services"]["learner"]["environment"]
    secured = config("5", "--env-file", "deploy/compose/tls.env")["services"]["learner"]["environment"]
    for key, file in paths.items():
        assert plain[key] == ""
        assert secured[key] == f"/etc/sapex/tls/{file}"

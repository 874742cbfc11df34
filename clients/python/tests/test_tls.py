"""Mutual TLS with certificates of `sapex certs`, and what is refused with the wrong ones."""

import socket
import ssl
import subprocess
import threading
from pathlib import Path
from typing import Any, Dict, Iterator, List

import numpy as np
import pytest
from proxy import Proxy
from sapex_replay import InvalidSettings, ReplayClient, Refused, TimedOut, Tls, refusals
from sapex_replay.tls import check_role
from servers import PATIENCE, Server, Servers, program, rows, until


def certs(folder: Path, *args: str) -> Path:
    made = subprocess.run([str(program("sapex")), "certs", str(folder), *args], capture_output=True, timeout=PATIENCE)
    assert made.returncode == 0, made.stderr
    return folder


def of(folder: Path, role: str) -> Tls:
    return Tls(*(str(folder / role / name) for name in ("ca.crt", "tls.crt", "tls.key")))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return certs(tmp_path / "certs")


def secure(servers: Servers, folder: Path, **settings: Any) -> "tuple[Path, Server]":
    """Starts a server with its certificate. The settings of clients have none."""
    config = servers.config(settings)
    mine = of(folder, "replay-server")
    files = {"ca": mine.ca, "cert": mine.cert, "key": mine.key}
    args = [arg for key, path in files.items() for arg in ("--set", f"tls.{key}={path}")]
    return config, servers.start(config, *args)


def both(folder: Path) -> Dict[str, Tls]:
    return {"actor": of(folder, "actor-node"), "learner": of(folder, "learner")}


@pytest.fixture
def nothing_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the relays' sockets, which is empty after a test."""
    sockets = tmp_path / "sockets"
    sockets.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(sockets))
    yield sockets
    until("an empty folder of sockets", lambda: True if not any(sockets.iterdir()) else None, 10)


def test_both_roles_work_over_tls_each_with_its_certificate(servers: Servers, folder: Path, nothing_left: Path) -> None:
    config, server = secure(servers, folder)
    with ReplayClient(server.address, config=config, tls=both(folder)) as client:
        sent = np.random.default_rng(1).normal(size=(640, 4)).astype(np.float32)
        client.insert({**rows(np.arange(640)), "obs": sent})
        batch = client.sample(64)
        np.testing.assert_array_equal(batch["obs"], sent[batch["reward"].astype(int)])
        client.update_priorities(batch.keys, np.ones(64))
        assert [shard.is_up for shard in client.status()] == [True]


def test_the_section_tls_of_the_settings_is_used(servers: Servers, folder: Path) -> None:
    _, server = secure(servers, folder)
    mine = of(folder, "actor-node")
    config = servers.config({"tls.ca": mine.ca, "tls.cert": mine.cert, "tls.key": mine.key}, "actor.toml")
    with ReplayClient(server.address, config=config) as client:
        client.insert(rows(np.arange(8)))
        # The certificate of an actor does not make a learner.
        with pytest.raises(Refused) as caught:
            client.sample(1)
        assert isinstance(caught.value.refusal, refusals.NotAllowed)
        assert caught.value.refusal.request == "a greeting as the learner"
        assert "actor-node" in caught.value.refusal.role
        client.insert(rows(np.arange(8)))


def test_large_batches_pass_in_both_directions(servers: Servers, folder: Path) -> None:
    settings = {"cluster.obs_dim": 20_000, "replay.capacity": 500, "actor.insert_rows": 100, "learner.batch_size": 128}
    config, server = secure(servers, folder, **settings)
    with ReplayClient(server.address, config=config, tls=both(folder)) as client:
        sent = {**rows(np.arange(300), obs_dim=20_000), "next_obs": np.random.rand(300, 20_000).astype(np.float32)}
        client.insert(sent)
        for _ in range(3):
            batch = client.sample(128)
            np.testing.assert_array_equal(batch["next_obs"], sent["next_obs"][batch["reward"].astype(int)])


def test_a_client_goes_on_after_its_connection_was_cut_and_its_server_killed(
    servers: Servers, folder: Path, nothing_left: Path
) -> None:
    config, server = secure(servers, folder)
    proxy = Proxy(server.address)
    with ReplayClient(proxy.address, config=config, tls=both(folder)) as client:
        for number in range(5):
            client.insert(rows(np.arange(32)))
            client.sample(8)
            proxy.cut()
        server.kill()
        server.start()
        client.insert(rows(np.arange(32)))
        assert len(client.sample(8)) == 8
    proxy.close()


@pytest.mark.parametrize(
    "role, reason",
    [
        # `sapex certs` restricts the certificate of a server to serving.
        ("replay-server", "TLS: .*alert unsupported certificate"),
        ("other CA", "TLS: .*alert unknown ca"),
        ("no TLS", "the handshake failed .* does the server want TLS"),
    ],
)
def test_a_client_without_the_right_certificate_learns_why(
    servers: Servers, folder: Path, tmp_path: Path, role: str, reason: str
) -> None:
    config, server = secure(servers, folder)
    tls = None
    if role == "replay-server":
        tls = of(folder, role)
    elif role == "other CA":
        # It trusts the server, and the server does not trust it.
        other = certs(tmp_path / "other")
        tls = Tls(of(folder, "actor-node").ca, of(other, "actor-node").cert, of(other, "actor-node").key)
    with ReplayClient(server.address, config=config, tls=tls) as client:
        with pytest.raises(TimedOut, match=f"is not ready: {reason}"):
            client.insert(rows(np.arange(8)), timeout=3.0)


def test_a_server_of_another_ca_or_for_another_host_is_not_spoken_to(
    servers: Servers, folder: Path, tmp_path: Path
) -> None:
    config, server = secure(servers, folder)
    other = certs(tmp_path / "other")
    mine = of(folder, "actor-node")
    stranger = Tls(of(other, "actor-node").ca, mine.cert, mine.key)
    with ReplayClient(server.address, config=config, tls=stranger) as client:
        with pytest.raises(TimedOut, match="self.signed certificate|unable to get local issuer"):
            client.insert(rows(np.arange(8)), timeout=3.0)
    # The certificate names 127.0.0.1. A proxy stands at another address.
    proxy = Proxy(server.address, "127.0.0.2")
    with ReplayClient(proxy.address, config=config, tls=mine) as client:
        with pytest.raises(TimedOut, match="IP address mismatch"):
            client.insert(rows(np.arange(8)), timeout=3.0)
    proxy.close()


def test_a_server_must_have_the_role_of_a_replay_server() -> None:
    check_role({"subjectAltName": (("DNS", "localhost"), ("URI", "sapex://role/replay-server"), ("URI", "spiffe://x"))})
    for uris in ([], ["sapex://role/learner"], ["sapex://role/replay-server", "sapex://role/learner"]):
        with pytest.raises(OSError, match="expected .*sapex://role/replay-server"):
            check_role({"subjectAltName": tuple(("URI", uri) for uri in uris)})


def test_a_learner_that_poses_as_a_replay_server_is_not_spoken_to(servers: Servers, folder: Path) -> None:
    config = servers.config({})
    its = of(folder, "learner")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(its.cert, its.key)
    context.load_verify_locations(its.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    listener = socket.create_server(("127.0.0.1", 0))
    heard: List[bytes] = []

    def serve() -> None:
        while True:
            try:
                with context.wrap_socket(listener.accept()[0], server_side=True) as connection:
                    heard.append(connection.recv(1))
            except ssl.SSLError:
                continue
            except OSError:
                return

    threading.Thread(target=serve, daemon=True).start()
    address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
    with ReplayClient(address, config=config, tls=of(folder, "actor-node")) as client:
        with pytest.raises(TimedOut, match="names the roles .*sapex://role/learner.*, expected .*replay-server"):
            client.insert(rows(np.arange(8)), timeout=2.0)
    listener.close()
    assert set(heard) <= {b""}, "bytes were sent to it"


def test_files_that_do_not_fit_are_named_before_anything_is_sent(servers: Servers, folder: Path) -> None:
    config = servers.config({})
    mine, other = of(folder, "actor-node"), of(folder, "learner")
    for tls, what in [
        (Tls("absent.crt", mine.cert, mine.key), "tls.ca is absent.crt"),
        (Tls(mine.ca, mine.cert, other.key), "tls.cert and tls.key is .*KEY_VALUES_MISMATCH"),
        (Tls(mine.key, mine.cert, mine.key), "tls.ca is "),
    ]:
        with pytest.raises(InvalidSettings, match=what):
            ReplayClient("tcp://127.0.0.1:9", config=config, tls=tls)


def test_renewed_certificates_are_used_by_the_next_connection(servers: Servers, folder: Path) -> None:
    config, server = secure(servers, folder)
    proxy = Proxy(server.address)
    with ReplayClient(proxy.address, config=config, tls=both(folder)) as client:
        client.insert(rows(np.arange(8)))
        before = Path(of(folder, "actor-node").cert).read_text()
        certs(folder)
        assert Path(of(folder, "actor-node").cert).read_text() != before
        proxy.cut()
        client.insert(rows(np.arange(8)))
    proxy.close()

"""What is built, and when it is built again; archives, packages, keys."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localcluster import __main__, build, host, identities, images, packages, processes
from localcluster.errors import Missing, NotReady, ProcessDied
from localcluster.places import Places
from localcluster.readiness import wait_until


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3), st.text(max_size=5))
def test_a_key_changes_with_every_fact(facts: dict[str, str], more: str) -> None:
    """The same facts give the same key in any order; another value gives another."""
    assert build.key_of(facts) == build.key_of(dict(reversed(facts.items())))
    assert build.key_of({**facts, "x": more}) != build.key_of({**facts, "x": more + "!"})


def test_a_product_is_built_once(tmp_path: Path) -> None:
    """A product is made when its key is new, left alone when it is not, and never half there."""
    told: list[str] = []
    made = build.Build(Places(tmp_path), told.append)
    made._product("thing", "1", lambda out: out.write_text("a") and None)
    made._product("thing", "1", lambda out: out.write_text("b") and None)
    assert (tmp_path / "bin" / "thing").read_text() == "a"
    assert told[-1] == "thing: unchanged"

    def fails(out: Path) -> None:
        out.write_text("half")
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        made._product("thing", "2", fails)
    assert (tmp_path / "bin" / "thing").read_text() == "a"
    made._product("thing", "2", lambda out: out.write_text("c") and None)
    assert (tmp_path / "bin" / "thing").read_text() == "c"


def archive(file: Path, manifest: dict[str, object]) -> Path:
    """A tar archive with an index.json."""
    index = file.with_name("index.json")
    index.write_text(json.dumps({"manifests": [manifest]}))
    with tarfile.open(file, "w") as tar:
        tar.add(index, "index.json")
    return file


def test_an_archive_tells_its_name_and_digest(tmp_path: Path) -> None:
    """Both are read without unpacking it; anything else is refused with the way to make one."""
    named = {"digest": "sha256:1", "annotations": {images.REF_NAME: "localhost/x:dev"}}
    assert images.read_archive(archive(tmp_path / "x.tar", named)) == images.Archived("localhost/x:dev", "sha256:1")
    with pytest.raises(images.NotAnImage, match="buildah push"):
        images.read_archive(archive(tmp_path / "y.tar", {"digest": "sha256:1"}))
    with pytest.raises(images.NotAnImage):
        images.read_archive(tmp_path / "missing.tar")


def test_the_store_s_listing_is_read() -> None:
    """Names and digests from ctr's table."""
    listing = "REF TYPE DIGEST SIZE PLATFORMS LABELS\nlocalhost/x:dev application/x sha256:1 1.0 MiB linux/amd64 -\n"
    assert images.parse_listing(listing) == {"localhost/x:dev": "sha256:1"}


def test_no_service_is_started_by_an_installation(tmp_path: Path) -> None:
    """A policy forbids it for the time of the installation; one that was there stays untouched."""
    policy = tmp_path / "policy-rc.d"
    with packages._no_service_starts(policy):
        assert subprocess.run([str(policy)], check=False).returncode == 101
    assert not policy.exists()
    policy.write_text("mine")
    with packages._no_service_starts(policy):
        assert policy.read_text() == "mine"
    assert policy.read_text() == "mine"


def test_a_missing_program_says_what_to_do(tmp_path: Path) -> None:
    """Before `build` has run, its name is in the message."""
    with pytest.raises(Missing, match="make cluster-build"):
        Places(tmp_path).program("kube")


def test_certificates_are_of_one_authority(tmp_path: Path) -> None:
    """The server's certificate holds for its addresses, tokens are private, the kubeconfig carries everything."""
    keys = identities.Keys(tmp_path / "keys")
    keys.make(["127.0.0.1", "10.96.0.1"])
    for name in ("server", "etcd", "kubelet-client"):
        subprocess.run(["openssl", "verify", "-CAfile", keys.path("ca.crt"), keys.path(f"{name}.crt")], check=True)
    keys.write_tokens([identities.ADMIN, identities.kubelet("n")])
    assert f'{keys.token(identities.ADMIN)},admin,admin,"system:masters"' in Path(keys.path("tokens.csv")).read_text()
    assert os.stat(keys.path("tokens.csv")).st_mode & 0o077 == 0
    assert os.stat(keys.path("ca.key")).st_mode & 0o077 == 0
    keys.write_kubeconfig(identities.ADMIN, "https://x", tmp_path / "kubeconfig")
    config = json.loads((tmp_path / "kubeconfig").read_text())
    assert config["users"][0]["user"]["token"] == keys.token(identities.ADMIN)


def test_a_pid_file_of_another_boot_is_nobody() -> None:
    """A number that was used again, or is from before a restart of the machine, is not our process."""
    _, started = processes.stat(os.getpid())
    assert processes.Known(os.getpid(), started, processes.boot_id()).alive
    assert not processes.Known(os.getpid(), started + 1, processes.boot_id()).alive
    assert not processes.Known(os.getpid(), started, "another boot").alive


def test_processes_start_once_and_stop(tmp_path: Path) -> None:
    """A running program is not started twice; a stubborn one is killed; a dead one is quoted."""
    ours = processes.Processes(tmp_path / "pids", tmp_path / "logs")
    stubborn = processes.Program(name="stubborn", argv=("sh", "-c", "trap '' TERM; echo began; sleep 60 & wait; wait"))
    assert ours.ensure(stubborn)
    assert not ours.ensure(stubborn)
    pid = ours.pid("stubborn")
    wait_until("its first line", lambda: "" if ours.log("stubborn").read_text() else "silent", 5, lambda: None)
    ours.stop("stubborn", stop_s=0.1)
    assert processes.stat(pid)[0] == ""
    assert ours.names() == []
    ours.ensure(processes.Program(name="dies", argv=("sh", "-c", "echo 'no such flag'; exit 3")))
    with pytest.raises(ProcessDied, match="no such flag"):
        wait_until("it", lambda: "not yet", 5, lambda: ours.check("dies"))
    ours.stop("dies")


def test_waiting_ends() -> None:
    """What never becomes ready raises, with the last reason."""
    with pytest.raises(NotReady, match="because"):
        wait_until("it", lambda: "because", 0.0, lambda: None)


def test_mounts_elsewhere_are_not_ours(tmp_path: Path) -> None:
    """Only mounts below the cluster's folders count."""
    assert host.Host(Places(tmp_path)).mounts() == []


def test_errors_of_the_command_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without anything built, `status` says what to do and exits with 1."""
    monkeypatch.setenv("MARKETFEED_CACHE", str(tmp_path))
    assert __main__.main(["status"]) == 1

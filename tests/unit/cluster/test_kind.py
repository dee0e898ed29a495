"""`make cluster KIND=1`, with stand-ins for kind and Docker that write down what they are asked (neither is here)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from localcluster.places import SOURCE

KIND = """#!/bin/sh
echo "$*" >>"$CALLS"
case "$1 $2" in
  "create cluster") cat >"$CALLS.config" ;;
  "get kubeconfig") echo "kind: Config" ;;
esac
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Stand-ins on the path, an image archive in a cache."""
    for name, script in (("kind", KIND), ("docker", "#!/bin/sh\n")):
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)
    archives = tmp_path / "cache" / "images" / "archives"
    archives.mkdir(parents=True)
    (archives / "x.tar").touch()
    return {
        **os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "CALLS": str(tmp_path / "calls"),
        "MARKETFEED_CACHE": str(tmp_path / "cache"), "PYTHON": sys.executable,
    }  # fmt: skip


def run(command: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """The script."""
    argv = [str(SOURCE / "kind-cluster"), command]
    return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=30)


def test_up_makes_a_cluster_with_our_places(environment: dict[str, str], tmp_path: Path) -> None:
    """The configuration is YAML with this machine's paths, images are loaded, the kubeconfig is where others look."""
    done = run("up", environment)
    kubeconfig = tmp_path / "cache" / "cluster" / "run" / "kubeconfig"
    assert done.stdout == f"export KUBECONFIG={kubeconfig}\n", done.stderr
    assert kubeconfig.read_text() == "kind: Config\n"
    calls = (tmp_path / "calls").read_text()
    assert f"load image-archive {tmp_path}/cache/images/archives/x.tar --name marketfeed" in calls
    mounts = yaml.safe_load((tmp_path / "calls.config").read_text())["nodes"][0]["extraMounts"]
    policy = json.loads(Path(mounts[0]["hostPath"]).read_text())
    assert policy["kind"] == "Policy"
    assert Path(mounts[1]["hostPath"]).is_dir()


def test_down_removes_it(environment: dict[str, str], tmp_path: Path) -> None:
    """The cluster and its kubeconfig are gone."""
    run("up", environment)
    assert run("down", environment).returncode == 0
    assert "delete cluster --name marketfeed" in (tmp_path / "calls").read_text()
    assert not (tmp_path / "cache" / "cluster" / "run").exists()


def test_it_does_not_take_the_place_of_a_running_one(environment: dict[str, str], tmp_path: Path) -> None:
    """While the cluster without Docker is up, its files stay as they are."""
    (tmp_path / "cache" / "cluster" / "run" / "pids").mkdir(parents=True)
    done = run("up", environment)
    assert done.returncode == 1
    assert "make cluster-down first" in done.stderr

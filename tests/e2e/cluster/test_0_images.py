"""The images in pods as strict as every pod of the product: not root, nothing writable but what is mounted.

What an image holds is read from its archive in the cache, what it does from pods; `make images` and `make cluster` come
before.
"""

from __future__ import annotations

import functools
import json
import os
import secrets
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from tests.e2e.cluster.conftest import delete_namespace, make_namespace
from tests.e2e.cluster.kube import Cluster
from tests.oci_archive import Image, read_archive

from imagebuild.build import default_cache

OURS = ("marketfeed", "marketfeed-operator")
STACK = {"kafka": "1000:1000", "valkey": "999:999", "postgres": "999:999"}
NOT_WANTED = {"gcc", "cc", "g++", "c++", "clang", "make", "pip", "pip3", "uv", "apt", "apt-get", "curl", "wget"}
FOLDERS = {"/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/opt/marketfeed/bin", "/opt/operator/bin"}


@functools.cache
def image(name: str) -> Image:
    archive = default_cache() / "archives" / f"{name}.tar"
    if not archive.exists():
        pytest.fail(f"{archive} is not there; run `make images`")
    return read_archive(archive)


@pytest.mark.parametrize("name", [*OURS, *STACK])
def test_an_image_brings_no_way_to_make_or_fetch_more(name: str) -> None:
    """No compiler, no installer, no downloader; no file that gives its reader another user's rights; not root."""
    found = image(name)
    programs = {path.rpartition("/")[2] for path in found.files if path.rpartition("/")[0] in FOLDERS}
    assert programs & NOT_WANTED == set()
    assert [path for path in found.files if "/site-packages/pip/" in path or "/ensurepip/" in path] == []
    assert found.config["User"] == STACK.get(name, "65532:65532")


@pytest.mark.parametrize("name", OURS)
def test_our_images_say_what_they_are(name: str) -> None:
    """Version, revision and licence for whoever finds one; code that nobody in the container may change."""
    found = image(name)
    labels = {key.rpartition(".")[2]: value for key, value in found.config["Labels"].items()}
    assert labels["title"] == name
    assert labels["licenses"] == "Apache-2.0"
    assert labels["version"][0].isdigit()
    assert len(labels["revision"]) >= 40
    code = [member for path, member in found.files.items() if "/app/marketfeed" in path]
    assert code
    assert [member.name for member in code if member.uid != 0 or (member.mode & 0o022 and not member.issym())] == []


SECURITY = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> Iterator[Cluster]:
    inside = make_namespace(cluster, f"mf-images-{secrets.token_hex(3)}")
    yield inside
    if not os.environ.get("E2E_KEEP"):
        delete_namespace(inside)


def start(namespace: Cluster, name: str, image_name: str, script: str, **container: Any) -> None:
    """A pod that runs a shell script in an image, with /tmp and /data to write to."""
    mounts = [{"name": "tmp", "mountPath": "/tmp"}, {"name": "data", "mountPath": "/data"}]
    uid = int(STACK.get(image_name, "65532").partition(":")[0])
    namespace.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {
                "enableServiceLinks": False,
                "automountServiceAccountToken": False,
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 5,
                "securityContext": {"runAsUser": uid, "runAsGroup": uid, "fsGroup": uid},
                "containers": [
                    {
                        "name": "main",
                        "image": f"localhost/{image_name}:dev",
                        "imagePullPolicy": "IfNotPresent",
                        "command": ["sh", "-ec", script],
                        "securityContext": SECURITY,
                        "volumeMounts": mounts,
                        **container,
                    }
                ],
                "volumes": [{"name": mount["name"], "emptyDir": {"sizeLimit": "256Mi"}} for mount in mounts],
            },
        }
    )


def works(namespace: Cluster, name: str, *command: str, timeout_s: float = 90) -> str:
    """What a command in the pod prints once it succeeds."""
    return namespace.until(
        f"{' '.join(command)} in {name}",
        lambda: namespace.kubectl("exec", name, "--", *command, timeout_s=30) or " ",
        timeout_s,
        every_s=1.0,
    )


def test_a_service_runs_with_nothing_writable_and_tells_its_health(namespace: Cluster) -> None:
    """The generator by the image's own settings: asked by the binary itself, not root, no writes, seen from outside."""
    start(namespace, "service", "marketfeed", "exec marketfeed generator --rate 100")
    assert works(namespace, "service", "marketfeed", "health").strip() == ""
    assert works(namespace, "service", "id", "-u").strip() == "65532"
    assert works(namespace, "service", "sh", "-c", "touch /opt/marketfeed/app/x || echo refused").strip() == "refused"
    with (
        namespace.forwarded("pod/service", 8081) as port,
        urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=10) as answer,
    ):
        assert json.loads(answer.read())["service"] == "generator"
    namespace.kubectl("delete", "pod", "service")


@pytest.mark.level(2)
def test_the_page_is_in_the_image(namespace: Cluster) -> None:
    """mds serves it from the path that the image names, while it still waits for its servers."""
    start(namespace, "page", "marketfeed", "exec marketfeed mds --open")
    works(namespace, "page", "marketfeed", "health", "--path", "/healthz")
    ask = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:8080/').read().decode())"
    page = works(namespace, "page", "python", "-c", ask)
    assert "<script" in page
    assert "The page is not built" not in page
    namespace.kubectl("delete", "pod", "page")


_KAFKA = """
cat > /tmp/server.properties <<END
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:9093
listeners=PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
log.dirs=/data/logs
END
/opt/kafka/bin/kafka-storage.sh format --cluster-id "$(/opt/kafka/bin/kafka-storage.sh random-uuid)" \
    --config /tmp/server.properties
export KAFKA_HEAP_OPTS="-Xmx256m -Xms256m"
exec /opt/kafka/bin/kafka-server-start.sh /tmp/server.properties
"""


@pytest.mark.level(2)
def test_kafka_starts_by_the_official_scripts(namespace: Cluster) -> None:
    """Format, start, make a topic and ask for the quorum, as the chart does it on either image."""
    start(namespace, "kafka", "kafka", _KAFKA)
    server = ("--bootstrap-server", "127.0.0.1:9092")
    works(namespace, "kafka", "/opt/kafka/bin/kafka-broker-api-versions.sh", *server)
    works(namespace, "kafka", "/opt/kafka/bin/kafka-topics.sh", *server, "--create", "--if-not-exists", "--topic", "t")
    assert "t" in works(namespace, "kafka", "/opt/kafka/bin/kafka-topics.sh", *server, "--list").split()
    quorum = works(namespace, "kafka", "/opt/kafka/bin/kafka-metadata-quorum.sh", *server, "describe", "--status")
    assert "LeaderId:" in quorum
    namespace.kubectl("delete", "pod", "kafka")


@pytest.mark.level(2)
def test_valkey_answers(namespace: Cluster) -> None:
    """Server and client of the image, in memory only."""
    start(namespace, "valkey", "valkey", "exec valkey-server --save '' --bind 127.0.0.1")
    assert works(namespace, "valkey", "valkey-cli", "ping").strip() == "PONG"
    namespace.kubectl("delete", "pod", "valkey")


@pytest.mark.level(2)
def test_postgres_makes_a_database_and_answers(namespace: Cluster) -> None:
    """initdb, the server and psql of the image; its files are in the mounted volume."""
    script = (
        "initdb --auth=trust -D /data/pg -U postgres;"
        "exec postgres -D /data/pg -c unix_socket_directories=/tmp -c listen_addresses=127.0.0.1"
    )
    start(namespace, "postgres", "postgres", script)
    works(namespace, "postgres", "pg_isready", "-h", "127.0.0.1")
    version = works(
        namespace, "postgres", "psql", "-h", "127.0.0.1", "-U", "postgres", "-tAc", "SHOW server_version_num"
    )
    assert int(version) >= 150_000
    namespace.kubectl("delete", "pod", "postgres")

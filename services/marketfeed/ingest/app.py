"""Puts ingest together, starts it as a standby, and ends it in order."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Sequence

from marketfeed.adapters.finnhub import FinnhubSource
from marketfeed.adapters.kafka import LogAdmin, LogConsumer, LogProducer, control_topic, trades_topic
from marketfeed.domain.claims import Claimant
from marketfeed.domain.errors import SettingError, Unavailable
from marketfeed.domain.intake import Limits
from marketfeed.domain.sharding import parse_shard
from marketfeed.domain.trades import SymbolTable
from marketfeed.ingest.assignment import Assigner, Assignment
from marketfeed.ingest.buffer import StandbyBuffer
from marketfeed.ingest.cutter import Cutter
from marketfeed.ingest.owner import Owner
from marketfeed.ingest.pipeline import Pipeline, PipelineOptions
from marketfeed.ingest.quarantine import Quarantine
from marketfeed.ingest.sender import Bounds, Sender
from marketfeed.ingest.settings import IngestSettings
from marketfeed.ingest.spill import Spill
from marketfeed.ingest.spool import Spool
from marketfeed.ingest.status import Parts, Status
from marketfeed.ingest.takeover import TakeoverDesk
from marketfeed.runtime.service import ServiceContext
from marketfeed.runtime.service import main as service_main
from marketfeed.runtime.tasks import TaskKit

_SYNC_S = 0.2
_KAFKA_RETRY_S = 0.5
# Of the shutdown time, what is kept for saying goodbye after everything was sent.
_GOODBYE_S = 3.0
# A Kafka that has acknowledged nothing for so long is not waited for at the end; the spool keeps what is left.
_STUCK_S = 5.0


class Ingest:
    """One shard's process: its parts, wired."""

    def __init__(self, context: ServiceContext[IngestSettings]) -> None:
        """Raises SettingError for a wrong shard, URL, symbols or spool folder."""
        settings = self.settings = context.settings
        self.context = context
        try:
            shard, shards = parse_shard(settings.shard)
        except ValueError as error:
            raise SettingError("--shard", str(error)) from error
        self.assigner = Assigner(settings, shard, shards)
        self.symbols = SymbolTable()
        folder = settings.spool_dir / settings.feed / _folder(shard, shards, settings.member)
        self.spool = Spool(
            folder,
            int(settings.spool_mb * 1e6),
            fsync=settings.spool_fsync,
        )
        self.sender = Sender(
            self._producer,
            trades_topic(settings.feed),
            self.spool,
            Bounds(settings.memory_records, int(settings.memory_mb * 1e6)),
            settings.feed,
            settings.shard,
        )
        self.cutter = Cutter(self.symbols, settings.partitions)
        spill = Spill(folder / "standby", int(settings.buffer_mb * 1e6))
        self.buffer = StandbyBuffer(settings.buffer_trades, spill)
        self.quarantine = Quarantine(settings.quarantine_keep)
        self.pipeline = Pipeline(
            self.symbols, self.cutter, self.sender, self.buffer, self.quarantine, _options(settings)
        )
        self.source = FinnhubSource(
            settings.finnhub_url, settings.finnhub_api_key, self.pipeline, watchdog_s=settings.watchdog_s
        )
        self.claimant = Claimant(settings.shard, _instance(settings.instance), limit=settings.symbols_max)
        self.control = LogConsumer(settings.kafka, control_topic(settings.feed))
        self.desk = TakeoverDesk(
            self.cutter, self.sender, self.pipeline, self.buffer, self.spool, self._trades_reader, settings.shard
        )
        self.owner = Owner(
            self.claimant,
            self.control,
            control_topic(settings.feed),
            settings.feed,
            self.cutter,
            self.sender,
            self.pipeline,
            self.buffer,
            self.desk,
            self._follow,
        )
        self.status = Status(
            Parts(
                settings,
                self.claimant,
                self.source.state,
                self.pipeline,
                self.cutter,
                self.sender,
                self.buffer,
                self.spool,
                self.quarantine,
                self.owner,
                self.assigner,
            ),
            context.health,
        )

    async def run(self) -> None:
        """Until told to stop; then everything received is sent or kept on disk."""
        self._assigned(self.assigner.current())
        self.context.health.status_source = self.status.body
        self.context.health.add_json("/quarantine", self.quarantine.page)
        try:
            async with TaskKit("ingest") as tasks:
                feed = tasks.spawn("feed", self.source.run())
                working = [
                    tasks.spawn("flush", self.pipeline.run()),
                    tasks.spawn("sync", self._sync()),
                    tasks.spawn("status", self.status.run()),
                    tasks.spawn("plan", self.assigner.follow(self._assigned)),
                ]
                owner = tasks.spawn("owner", self._own())
                await self.context.stopping.wait()
                feed.cancel()
                await asyncio.wait([feed])
                await self._drain()
                owner.cancel()
                await self._goodbye()
                for task in working:
                    task.cancel()
        finally:
            await self.sender.producer.close(0.2)
            await self.sender.close_retired()
            await self.control.close()
            self.spool.close()

    async def _own(self) -> None:
        """Wait for Kafka, make the topics if they are missing, then speak for our symbols."""
        settings = self.settings
        admin = LogAdmin(settings.kafka)
        retention_bytes, retention_ms = int(settings.retention_gb * 1e9), int(settings.retention_h * 3_600_000)
        while True:
            try:
                await admin.ensure_topics(settings.feed, settings.partitions, retention_bytes, retention_ms)
                break
            except Unavailable as error:
                self.owner.trouble = str(error)
                await asyncio.sleep(_KAFKA_RETRY_S)
        async with TaskKit("owner") as tasks:
            tasks.spawn("control", self.owner.follow_control(tasks))
            await self.owner.run(tasks)

    async def _sync(self) -> None:
        """Force the spool to disk now and then, in a thread, as a disk may take its time."""
        while True:
            await asyncio.sleep(_SYNC_S)
            if self.settings.spool_fsync == "interval":
                await asyncio.to_thread(self.spool.sync)
            await self.sender.close_retired()

    async def _drain(self) -> None:
        """Send what was received; what Kafka does not take in time goes to the spool for the next start."""
        self.pipeline.send_watermarks()
        while self._worth_waiting():  # noqa: ASYNC110 (acknowledgements are served by the pump)
            await asyncio.sleep(0.01)
        if not self.sender.idle:
            kept = self.sender.keep_unacknowledged()
            self.context.log.warning("Kafka did not take everything in time; it is in the spool", records=kept)

    def _worth_waiting(self) -> bool:
        sender = self.sender
        return not sender.idle and sender.stuck_s < _STUCK_S and self.context.remaining_s() > _GOODBYE_S

    async def _goodbye(self) -> None:
        """A successor need not wait for our silence."""
        if self.sender.idle:
            await self.owner.leave(min(1.0, self.context.remaining_s() / 2))

    def _assigned(self, assignment: Assignment) -> None:
        """The plan's word: claim what is ours now, drop what is nobody's; the rest is served until it is taken over."""
        self.status.assigned(assignment)
        self.claimant.want(assignment.mine, assignment.nobodys)
        self._follow()

    def _follow(self) -> None:
        """Subscribe to what is ours by the plan or still published by us, as far as the connection has room."""
        followed = self.claimant.followed()
        if followed != self.status.followed:
            self.status.followed = followed
            self.pipeline.follow(followed)
            self.source.set_symbols(followed)

    def _producer(self) -> LogProducer:
        return LogProducer(self.settings.kafka, client_id=f"marketfeed-ingest-{self.settings.shard}")

    def _trades_reader(self) -> LogConsumer:
        return LogConsumer(self.settings.kafka, trades_topic(self.settings.feed))


def _options(settings: IngestSettings) -> PipelineOptions:
    return PipelineOptions(
        flush_interval_s=settings.flush_interval_ms / 1e3,
        flush_bytes=int(settings.flush_kb * 1e3),
        dedup=settings.dedup == "frame",
        limits=Limits(price_max=settings.price_max),
    )


def _folder(shard: int, shards: int | None, member: int) -> str:
    """Every process has a spool of its own, hot standbys on one machine included."""
    name = f"shard-{shard}" if shards is None else f"{shard}-of-{shards}"
    return f"{name}-member-{member}" if member else name


def _instance(prefix: str) -> str:
    """A name that no other start of a process has: claims are known by it."""
    return f"{prefix or socket.gethostname()}-{os.getpid()}-{time.time_ns() // 1_000_000:x}"


async def run(context: ServiceContext[IngestSettings]) -> None:
    """The service's main."""
    await Ingest(context).run()


def main(argv: Sequence[str] | None = None) -> int:
    """Read a feed and write every trade to the log."""
    return service_main("ingest", IngestSettings, run, argv, main.__doc__)

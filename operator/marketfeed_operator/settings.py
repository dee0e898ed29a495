"""The operator's settings: one frozen class, read from `MARKETFEED_OPERATOR_*` variables.

The operator shares no code with the services, so it reads its few settings itself. A variable that it does not know is
refused, because a misspelt setting that is silently ignored is the worst kind.
"""

from __future__ import annotations

import os
import socket
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from marketfeed_operator.cluster_errors import OperatorSettingError

PREFIX = "MARKETFEED_OPERATOR_"
_MOUNTED = "/var/run/secrets/kubernetes.io/serviceaccount"


def setting(default: Any, meaning: str) -> Any:
    """A settings field: its default and one sentence with meaning and unit."""
    return field(default=default, metadata={"meaning": meaning})


@dataclass(frozen=True, kw_only=True, slots=True)
class OperatorSettings:
    """Everything that can be set. Times are seconds."""

    namespaces: tuple[str, ...] = setting((), "namespaces whose MarketFeeds are served; none means all")
    image: str = setting("localhost/marketfeed:dev", "image of the pipeline's pods where a MarketFeed names none")
    image_pull_policy: str = setting("IfNotPresent", "pull policy of the same")
    identity: str = setting("", "name of this replica in the Lease; empty means the host's name, which is the pod's")
    lease_name: str = setting("marketfeed-operator", "the Lease that says which replica works")
    lease_namespace: str = setting("", "namespace of the Lease and of nothing else; empty means the pod's own")
    lease_duration_s: float = setting(15.0, "time after which a Lease that is not renewed may be taken")
    renew_deadline_s: float = setting(10.0, "time after which a leader that cannot renew stops working")
    retry_period_s: float = setting(2.0, "pause between two looks at the Lease")
    contact_dead_s: float = setting(
        600.0, "time without an answer about the Lease after which /healthz fails; /readyz does after two durations"
    )
    rollout_deadline_s: int = setting(300, "time without progress after which a rollout counts as stuck")
    workers: int = setting(8, "MarketFeeds that are reconciled at the same time")
    queue_limit: int = setting(10_000, "MarketFeeds that may wait; what is beyond comes back with the next resync")
    reconcile_timeout_s: float = setting(60.0, "longest time of one reconcile")
    backoff_cap_s: float = setting(60.0, "longest pause before a failed reconcile is tried again")
    resync_interval_s: float = setting(120.0, "pause between two looks at everything, whatever events said")
    status_interval_s: float = setting(10.0, "shortest pause between two status writes while no condition changes")
    poll_interval_s: float = setting(10.0, "pause between two questions to a pod's /status")
    poll_timeout_s: float = setting(2.0, "longest wait for a pod's answer")
    poll_concurrency: int = setting(32, "pods that are asked at the same time")
    poll_feed_concurrency: int = setting(4, "pods of one MarketFeed that are asked at the same time")
    status_port: int = setting(8081, "port of the pods' /status")
    status_host: str = setting(
        "", "asked in place of the pod's address, with ?pod=name; for tests outside the pods' net"
    )
    request_timeout_s: float = setting(10.0, "longest time of one request to the API server")
    watch_timeout_s: float = setting(240.0, "time after which a watch is opened anew")
    watch_silence_s: float = setting(70.0, "silence after which a watch is opened anew; bookmarks come every 60 s")
    watch_restart_s: float = setting(150.0, "silence after which the whole watching part is started anew")
    watch_dead_s: float = setting(240.0, "silence of a watch after which /healthz fails")
    blind_dead_s: float = setting(
        300.0, "time without a full view of a namespace that may be read (or of any) after which /healthz fails"
    )
    namespace_retry_s: float = setting(10.0, "pause between two looks at a namespace that may not be read")
    queue_stuck_s: float = setting(180.0, "age of the oldest waiting MarketFeed after which /healthz fails")
    service_account_dir: str = setting(_MOUNTED, "where token, ca.crt and namespace are mounted")
    http_host: str = setting("127.0.0.1", "address that /healthz, /readyz and /metrics listen on")
    http_port: int = setting(8081, "port of the same, 0 for any free one")
    log_format: str = setting("json", "form of log lines: json or text")
    log_level: str = setting("info", "least severity that is logged: debug, info, warning or error")
    shutdown_timeout_s: float = setting(20.0, "time for an orderly end; keep it below the pod's grace period")

    @classmethod
    def load(cls, env: Mapping[str, str] | None = None) -> Self:
        """The settings from the environment.

        Raises OperatorSettingError for a value that cannot be read and for a `MARKETFEED_OPERATOR_*` name that is
        none of the settings.
        """
        env = os.environ if env is None else env
        hints = typing.get_type_hints(cls)
        known = {PREFIX + f.name.upper(): f.name for f in fields(cls)}
        given = {name: text for name, text in env.items() if name.startswith(PREFIX)}
        if unknown := sorted(given.keys() - known.keys()):
            raise OperatorSettingError(unknown[0], "is no setting of the operator; correct or unset it")
        values = {known[name]: _parse(name, text, hints[known[name]]) for name, text in given.items()}
        return cls(**values)

    def own_identity(self) -> str:
        """The name of this replica: the setting, else the host's name (the pod's name in a cluster)."""
        return self.identity or socket.gethostname()

    def own_namespace(self) -> str:
        """The namespace of the Lease: the setting, else the pod's own, else `default`."""
        if self.lease_namespace:
            return self.lease_namespace
        mounted = Path(self.service_account_dir, "namespace")
        return mounted.read_text().strip() if mounted.exists() else "default"

    def summary(self) -> dict[str, object]:
        """Every setting with its value, for one log line at the start. None of them is secret."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


def _parse(name: str, text: str, kind: Any) -> Any:
    if typing.get_origin(kind) is tuple:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    try:
        return kind(text)
    except ValueError:
        expected = {int: "a whole number", float: "a number"}.get(kind, "text")
        raise OperatorSettingError(name, f"is {text!r}, must be {expected}") from None

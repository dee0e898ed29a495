"""The API server: the only client of it beside kopf's watches, which use the same connection rules.

Built on `kubernetes.aio`'s dynamic client. Added here: the mounted token is read again when it changes and after a 401
(bound tokens live an hour), another authority that is mounted is trusted by a new client, each request has a time-out,
a polite "later" (429) is obeyed for a few seconds, and every failure becomes an error of `cluster_errors`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import aiohttp
from kubernetes.aio import client as kubernetes_client
from kubernetes.aio import config as kubernetes_config
from kubernetes.aio import dynamic as kubernetes_dynamic
from kubernetes.aio.config import incluster_config

from marketfeed_operator import metrics
from marketfeed_operator.cluster_errors import ClusterError, Conflict, OperatorSettingError, Unavailable, of_status
from marketfeed_operator.cluster_session import MountedFile, authorize
from marketfeed_operator.kinds import BY_NAME, EVENT, FIELD_MANAGER, Kind
from marketfeed_operator.logs import facts
from marketfeed_operator.settings import OperatorSettings

log = logging.getLogger("operator.cluster")

Object = dict[str, Any]
# The library is not typed throughout; its entrances are the only untyped things here.
_kubernetes_client: Any = kubernetes_client
_kubernetes_dynamic: Any = kubernetes_dynamic
_kubernetes_config: Any = kubernetes_config
_in_cluster: Any = incluster_config
_LATER_TRIES = 3
_LATER_MAX_S = 5.0
_METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


class Cluster:
    """Reads and writes objects. Every call raises a ClusterError if the API server does not do it."""

    def __init__(
        self, configuration: Any, token: MountedFile | None, authority: MountedFile | None, request_timeout_s: float
    ) -> None:
        self.token = token
        self._authority = authority
        self._trusted = authority.value() if authority is not None else ""
        self._api = _kubernetes_client.ApiClient(configuration)
        self._dynamic = _kubernetes_dynamic.DynamicClient(self._api)
        self._retired: Any = None
        self._timeout = aiohttp.ClientTimeout(total=request_timeout_s, sock_connect=min(5.0, request_timeout_s))

    @classmethod
    async def connect(cls, settings: OperatorSettings) -> Self:
        """The cluster that this pod runs in, else the one of KUBECONFIG. Asks the server nothing yet."""
        configuration = _kubernetes_client.Configuration()
        # Retrying is decided here, where it is known which request may be repeated.
        configuration.retries = None
        token, authority = await _configure(configuration, Path(settings.service_account_dir))
        configuration.client_session_kwargs = {"middlewares": [authorize(token)], "trust_env": False}
        return cls(configuration, token, authority, settings.request_timeout_s)

    async def close(self) -> None:
        """Close all connections."""
        await self._api.close()
        if self._retired is not None:
            await self._retired.close()

    @property
    def server(self) -> str:
        """The API server's URL."""
        return str(self._api.configuration.host)

    @property
    def ssl_context(self) -> Any:
        """What connections to the API server are checked with (a client certificate included).

        Another object as soon as another authority is trusted.
        """
        return self._api.rest_client.ssl_context

    async def static_headers(self) -> dict[str, str]:
        """The Authorization header of a kubeconfig; empty where a mounted token or a certificate says who we are."""
        if self.token is not None:
            return {}
        value = await self._api.configuration.get_api_key_with_prefix("BearerToken")
        return {"Authorization": value} if value else {}

    async def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """The object, or None if there is none."""
        try:
            return await self._request("get", kind.path(namespace, name))
        except ClusterError as error:
            if error.status == 404:
                return None
            raise

    async def list_metadata(self, kind: Kind, namespace: str | None, selector: str) -> list[Object]:
        """Metadata of all objects that the label selector matches; in all namespaces without one."""
        found: list[Object] = []
        query = [("labelSelector", selector), ("limit", "500")]
        following: str | None = None
        while True:
            page = [*query, *([("continue", following)] if following else [])]
            answer = await self._request("get", kind.path(namespace), query=page, accept=_METADATA_LIST)
            found += answer.get("items") or []
            following = answer.get("metadata", {}).get("continue")
            if not following:
                return found

    async def check_list(self, kind: Kind, namespace: str | None) -> None:
        """Raises what a list of the kind would: Forbidden where it may not be read. Asks for one object at most."""
        await self._request("get", kind.path(namespace), query=[("limit", "1")], accept=_METADATA_LIST)

    async def find_metadata(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """Metadata of one object, None if there is none. A list of one: it needs the right to list, not to get."""
        query = [("fieldSelector", f"metadata.name={name}")]
        answer = await self._request("get", kind.path(namespace), query=query, accept=_METADATA_LIST)
        return next(iter(answer.get("items") or ()), None)

    async def refusal_of_pods(self, namespace: str, kind: str, name: str, uid: str) -> str | None:
        """Why a controller could make no pod for its object, by its newest event; None if it says nothing.

        A Job has no condition for it, so its events are asked for, and only when it lacks its pod.
        """
        selector = f"regarding.kind={kind},regarding.name={name},regarding.uid={uid},reason=FailedCreate"
        answer = await self._request("get", EVENT.path(namespace), query=[("fieldSelector", selector), ("limit", "50")])
        events = answer.get("items") or []
        newest = max(events, key=_last_seen, default=None)
        return None if newest is None else str(newest.get("note") or "").removeprefix("Error creating: ")

    async def apply(self, wanted: Mapping[str, Any], manager: str = FIELD_MANAGER, status: bool = False) -> Object:
        """Server-side apply, with force: `wanted` is the manager's whole intent. Returns the object as stored."""
        metadata = wanted["metadata"]
        kind = BY_NAME[wanted["kind"]]
        path = kind.path(metadata["namespace"], metadata["name"], "status" if status else None)
        query = [("fieldManager", manager), ("force", "true")]
        answer = await self._request("patch", path, wanted, query=query, content="application/apply-patch+yaml")
        metrics.APPLIES.labels(f"{kind.name}/status" if status else kind.name).inc()
        return answer

    async def create(self, kind: Kind, namespace: str, body: Mapping[str, Any]) -> Object:
        """Create an object; Conflict if there is one of that name."""
        return await self._request("post", kind.path(namespace), body)

    async def replace(self, kind: Kind, namespace: str, name: str, body: Mapping[str, Any]) -> Object:
        """Write the whole object; Conflict if its resourceVersion is not the stored one."""
        return await self._request("put", kind.path(namespace, name), body)

    async def merge(
        self, kind: Kind, namespace: str, name: str, change: Mapping[str, Any], manager: str = FIELD_MANAGER
    ) -> Object:
        """Merge `change` into the object; lists in it replace the stored ones."""
        query = [("fieldManager", manager)]
        return await self._request(
            "patch", kind.path(namespace, name), change, query=query, content="application/merge-patch+json"
        )

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> bool:
        """Delete exactly the object of that uid, its dependents in the background; False if it is gone already."""
        options = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        try:
            await self._request("delete", kind.path(namespace, name), options)
        except Conflict:
            return False  # an object of that name lives, but it is another one
        except ClusterError as error:
            if error.status == 404:
                return False
            raise
        metrics.DELETES.labels(kind.name).inc()
        return True

    async def serves(self, kind: Kind) -> bool:
        """Whether the API server knows the kind."""
        try:
            answer = await self._request("get", kind.root)
        except ClusterError as error:
            if error.status == 404:
                return False
            raise
        return any(resource.get("name") == kind.plural for resource in answer.get("resources", ()))

    async def _request(
        self,
        verb: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        query: list[tuple[str, str]] | None = None,
        content: str = "application/json",
        accept: str = "application/json",
    ) -> Object:
        for attempt in range(_LATER_TRIES):
            try:
                return await self._once(verb, path, body, query or [], content, accept)
            except Unavailable as error:
                pause_s = error.retry_after_s if error.status == 429 else None
                if pause_s is None or pause_s > _LATER_MAX_S or attempt == _LATER_TRIES - 1:
                    raise
                await asyncio.sleep(pause_s)
        raise AssertionError("unreachable")

    async def _trust_what_is_mounted(self) -> None:
        """Go on with a new client when another authority is mounted: a session keeps the one that it was made with.

        Requests that are under way end with the client that they began with; its connections close when they are idle.
        """
        mounted = self._authority.value() if self._authority is not None else ""
        if mounted == self._trusted:
            return
        self._trusted = mounted
        try:
            self._api.configuration.ca_cert_data = mounted
            fresh = _kubernetes_client.ApiClient(self._api.configuration)
        except OSError as error:
            log.warning("the mounted authority cannot be used, going on with the last one", extra=facts(error=error))
            return
        log.info("another authority is mounted, connecting anew")
        past, self._retired, self._api = self._retired, self._api, fresh
        self._dynamic = _kubernetes_dynamic.DynamicClient(fresh)
        if past is not None:
            await past.close()

    async def _once(
        self,
        verb: str,
        path: str,
        body: Mapping[str, Any] | None,
        query: list[tuple[str, str]],
        content: str,
        accept: str,
    ) -> Object:
        request = f"{verb.upper()} {path}"
        await self._trust_what_is_mounted()
        try:
            response = await self._dynamic.request(
                verb,
                path,
                body=body,
                query_params=list(query),
                content_type=content,
                header_params={"Accept": accept},
                _request_timeout=self._timeout,
                serialize=False,
            )
            async with response:
                answer: Object = await response.json()
        except kubernetes_client.ApiException as error:
            metrics.REQUESTS.labels(verb, error.status).inc()
            raise of_status(request, int(error.status or 0), _sentence(error), _retry_after_s(error)) from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            metrics.REQUESTS.labels(verb, 0).inc()
            raise Unavailable(request, 0, str(error) or type(error).__name__) from None
        metrics.REQUESTS.labels(verb, response.status).inc()
        return answer


async def _configure(configuration: Any, mounted: Path) -> tuple[MountedFile | None, MountedFile | None]:
    """Fill in server and credentials; the token and the authority if they are mounted and have to be read again."""
    if (mounted / "token").exists():
        loader = _in_cluster.InClusterConfigLoader(
            str(mounted / "token"), str(mounted / "ca.crt"), try_refresh_token=False
        )
        loader.load_and_set(configuration)
        # The token comes from `authorize`, which reads it again.
        configuration.api_key.clear()
        authority = MountedFile(mounted / "ca.crt")
        configuration.ssl_ca_cert, configuration.ca_cert_data = None, authority.value()
        return MountedFile(mounted / "token"), authority
    try:
        await _kubernetes_config.load_kube_config(
            config_file=os.environ.get("KUBECONFIG"), client_configuration=configuration, persist_config=False
        )
    except kubernetes_config.ConfigException as error:
        raise OperatorSettingError(
            "KUBECONFIG", f"is needed outside a pod and cannot be used ({error}); name a kubeconfig file"
        ) from None
    return None, None


def _sentence(error: Any) -> str:
    """The server's own sentence, which is what a person can act on."""
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return str(error.reason or "no reason given")


def _retry_after_s(error: Any) -> float | None:
    try:
        return float(error.headers["Retry-After"])
    except (TypeError, KeyError, ValueError):
        return None


def _last_seen(event: Object) -> str:
    """When an event happened last: RFC 3339 in UTC, so texts compare as times."""
    series, metadata = event.get("series") or {}, event.get("metadata") or {}
    times = (series.get("lastObservedTime"), event.get("deprecatedLastTimestamp"), event.get("eventTime"))
    return next((str(time) for time in times if time), str(metadata.get("creationTimestamp", "")))

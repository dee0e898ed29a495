"""What the operator survives without a restart: silent watches, dead tokens, refusals, a dead API server or leader."""

from __future__ import annotations

import asyncio
import secrets
import ssl
import time
from pathlib import Path

import pytest
from tests.certificates import Authority
from tests.integration.operator.api_faults import ApiFaults, Fault
from tests.integration.operator.control_plane import ControlPlane
from tests.integration.operator.plane import (
    DEPLOYMENT,
    SECRET,
    Admin,
    FakeKubelet,
    Replica,
    eventually,
    feed,
    replica,
    write_kubeconfig,
)
from tests.integration.operator.rights import install, token_bound_to
from tests.integration.operator.tcp_proxy import TcpProxy

from marketfeed_operator.kinds import BY_NAME, LEASE, MARKETFEED, WATCHED_KINDS

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]
SERVICE = BY_NAME["Service"]


async def ready(admin: Admin, name: str, within_s: float = 40.0) -> None:
    await eventually(lambda: admin.is_condition(name, "Ready", "True"), within_s)


async def repaired_in_s(admin: Admin, within_s: float) -> float:
    """Delete the mds Service and say how long it takes to come back."""
    await admin.delete(SERVICE, "x-mds")
    began = time.monotonic()
    await eventually(lambda: admin.get(SERVICE, "x-mds"), within_s)
    return time.monotonic() - began


async def test_a_killed_leader_is_replaced_within_twenty_seconds(
    plane: ControlPlane, admin: Admin, kubelet: FakeKubelet, settings: dict[str, object], tmp_path: Path
) -> None:
    """Two replicas, one leads and the other is ready and idle; after SIGKILL the other repairs within 20 s, after
    SIGTERM within a few."""
    async with (
        replica(tmp_path, plane.kubeconfig, **settings, identity="a") as first,
        replica(tmp_path, plane.kubeconfig, **settings, identity="b") as second,
    ):
        await admin.apply(feed("x", admin.namespace))
        await ready(admin, "x")
        leader, other = (first, second) if await first.leads() else (second, first)
        assert not await other.leads()
        assert (await other.page("/readyz"))[0] == 200
        assert (await other.page("/healthz"))[0] == 200
        assert await other.metric("marketfeed_operator_reconciles_total") == 0
        leader.process.kill()
        leader.process.wait()
        took_s = await repaired_in_s(admin, 20.0)
        print(f"leader killed: next reconcile after {took_s:.1f} s")
        assert await other.leads()
        async with replica(tmp_path, plane.kubeconfig, **settings, identity="c") as third:
            await eventually(lambda: _answers(third))
            other.process.terminate()
            took_s = await repaired_in_s(admin, 10.0)
            print(f"leader stopped: next reconcile after {took_s:.1f} s")
            assert await third.leads()


async def _answers(operator: Replica) -> bool:
    return operator.log.exists() and "health at" in operator.log.read_text()


async def test_a_watch_that_falls_silent_is_noticed_and_opened_anew(
    plane: ControlPlane, admin: Admin, kubelet: FakeKubelet, settings: dict[str, object], tmp_path: Path
) -> None:
    """All connections freeze without a word: what was deleted meanwhile is repaired once the silence is noticed."""
    async with TcpProxy(plane.port) as proxy:
        server = f"https://127.0.0.1:{proxy.port}"
        kubeconfig = write_kubeconfig(tmp_path / "through-proxy", server, str(plane.ca), plane.token)
        async with replica(tmp_path, kubeconfig, **settings, watch_silence_s=4, request_timeout_s=3) as operator:
            await admin.apply(feed("x", admin.namespace))
            await ready(admin, "x")
            proxy.freeze()
            took_s = await repaired_in_s(admin, 25.0)
            print(f"watch frozen: repaired after {took_s:.1f} s with a silence limit of 4 s")
            assert (await operator.page("/healthz"))[0] == 200
            assert await operator.leads()


async def test_a_silent_watch_that_cannot_be_mended_fails_the_probe(
    plane: ControlPlane, admin: Admin, settings: dict[str, object], tmp_path: Path
) -> None:
    """With watches silent for longer than allowed, /healthz says so by name, although the process runs."""
    limits = {"watch_dead_s": 3, "watch_silence_s": 60, "watch_restart_s": 60}
    async with replica(tmp_path, plane.kubeconfig, **settings, **limits) as operator:
        await eventually(operator.leads)

        async def fails() -> str:
            status, text = await operator.page("/healthz")
            return text if status == 503 else ""

        assert "watch of" in await eventually(fails)


async def test_a_rotated_token_is_picked_up(
    plane: ControlPlane,
    admin: Admin,
    kubelet: FakeKubelet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The mounted token is replaced and the old one dies: both clients go on with the new one, without a restart."""
    chart = await install(plane, admin, tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(plane.port))
    # Short watches, so that each of them has to log in again within the test.
    async with replica(tmp_path, None, **chart.settings, watch_timeout_s=5) as operator:
        await admin.apply(feed("x", admin.namespace))
        await ready(admin, "x")
        fresh = tmp_path / "token.new"
        fresh.write_text(await token_bound_to(admin, "second"))
        fresh.replace(chart.mounted / "token")
        await admin.delete(SECRET, "first")
        # The API server remembers a good token for 10 s.
        await asyncio.sleep(13.0)
        took_s = await repaired_in_s(admin, 10.0)
        print(f"token rotated: repaired after {took_s:.1f} s")
        assert await operator.leads()
        assert await operator.metric("marketfeed_operator_lease_transitions_total") == 1


async def test_a_rotated_authority_is_picked_up(
    plane: ControlPlane, admin: Admin, kubelet: FakeKubelet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All connections are cut and the API server shows a certificate of another authority, whose file is mounted a
    little later: both clients go on with it, without a restart."""
    first, second = Authority("first"), Authority("second")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(*first.server().write(tmp_path, "server"))
    chart = await install(plane, admin, tmp_path)
    (chart.mounted / "ca.crt").write_bytes(first.cert)
    async with (
        ApiFaults(plane.server, str(plane.ca), plane.token, tls) as server,
        TcpProxy(server.port) as line,
    ):
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(line.port))
        async with replica(tmp_path, None, **chart.settings) as operator:
            await admin.apply(feed("x", admin.namespace))
            await ready(admin, "x")
            tls.load_cert_chain(*second.server().write(tmp_path, "server"))
            line.reset()
            await eventually(lambda: _says(operator, "CERTIFICATE_VERIFY_FAILED"))
            fresh = tmp_path / "ca.new"
            fresh.write_bytes(second.cert)
            fresh.replace(chart.mounted / "ca.crt")
            took_s = await repaired_in_s(admin, 30.0)
            print(f"authority rotated: repaired after {took_s:.1f} s")
            assert await operator.leads()
            assert operator.process.poll() is None


async def _says(operator: Replica, words: str) -> bool:
    return words in operator.log.read_text()


async def test_a_replica_that_waits_in_vain_for_the_api_server_is_not_ready(
    plane: ControlPlane, admin: Admin, settings: dict[str, object], tmp_path: Path
) -> None:
    """The API server does not answer it about the Lease: not ready after two Lease durations, not healthy later, and
    both again once it is answered. The replica that leads is as it was."""
    times = {"lease_duration_s": 6, "renew_deadline_s": 4, "retry_period_s": 0.5, "contact_dead_s": 20}
    async with (
        ApiFaults(plane.server, str(plane.ca), plane.token) as faults,
        replica(tmp_path, plane.kubeconfig, **settings, **times, identity="a") as first,
    ):
        await eventually(first.leads)
        kubeconfig = write_kubeconfig(tmp_path / "faults", faults.url, None, None)
        away = Fault(lambda r: "leases" in r.path, 503, 1_000_000)
        faults.faults.append(away)
        async with replica(tmp_path, kubeconfig, **settings, **times, identity="b") as second:
            await eventually(lambda: _answers(second))
            assert await _codes(second) == (200, 503)
            away.times = 0
            await eventually(lambda: _shows(second, (200, 200)))
            away.times = 1_000_000
            await eventually(lambda: _shows(second, (200, 503)))
            await eventually(lambda: _shows(second, (503, 503)), 25.0)
            assert "has not answered about the Lease" in (await second.page("/healthz"))[1]
            assert await _codes(first) == (200, 200)
            away.times = 0
            await eventually(lambda: _shows(second, (200, 200)))
            assert not await second.leads()


async def _codes(operator: Replica) -> tuple[int, int]:
    return (await operator.page("/healthz"))[0], (await operator.page("/readyz"))[0]


async def _shows(operator: Replica, codes: tuple[int, int]) -> bool:
    return await _codes(operator) == codes


async def test_refusals_of_the_api_server_are_waited_out(
    plane: ControlPlane, admin: Admin, kubelet: FakeKubelet, settings: dict[str, object], tmp_path: Path
) -> None:
    """429 with Retry-After is obeyed, 500 is tried again, 410 on a watch leads to a fresh list; all heal by
    themselves."""
    async with ApiFaults(plane.server, str(plane.ca), plane.token) as faults:
        kubeconfig = write_kubeconfig(tmp_path / "faults", faults.url, None, None)
        throttle = Fault(lambda r: r.method == "PATCH", 429, 3, {"Retry-After": "1"})
        broken = Fault(lambda r: r.method == "PATCH" and "deployments" in r.path, 500, 3)
        gone = Fault(lambda r: r.query.get("watch") == "true", 410, 6)
        busy = Fault(lambda r: r.query.get("watch") == "true", 429, 12, {"Retry-After": "1"})
        faults.faults += [throttle, broken, gone, busy]
        async with replica(tmp_path, kubeconfig, **settings) as operator:
            await admin.apply(feed("x", admin.namespace))
            await ready(admin, "x", within_s=60.0)
            assert [len(fault.hits) for fault in (throttle, broken, gone, busy)] == [3, 3, 6, 12]
            assert all(
                later - earlier >= 0.95 for earlier, later in zip(throttle.hits, throttle.hits[1:], strict=False)
            )
            took_s = await repaired_in_s(admin, 10.0)
            print(f"after 429, 500 and 410: repaired after {took_s:.1f} s")
            assert await operator.metric("marketfeed_operator_api_requests_total", status="429") >= 3


async def test_what_is_deleted_while_a_watch_is_away_is_missed_by_nobody(
    plane: ControlPlane, admin: Admin, kubelet: FakeKubelet, settings: dict[str, object], tmp_path: Path
) -> None:
    """No watch can go on, a Service and a feed are deleted, and the watches list anew: the Service comes back and the
    feed does not, long before the next look at everything."""
    async with ApiFaults(plane.server, str(plane.ca), plane.token) as faults:
        kubeconfig = write_kubeconfig(tmp_path / "faults", faults.url, None, None)
        async with replica(tmp_path, kubeconfig, **settings, watch_timeout_s=5) as operator:
            for name in "xy":
                await admin.apply(feed(name, admin.namespace))
            await ready(admin, "x")
            await eventually(lambda: _feeds_shown(operator, 2))
            # kopf tries each watch six times, within 12 s, before it lists.
            away = Fault(lambda r: r.query.get("watch") == "true", 429, 1_000_000)
            faults.faults.append(away)
            watched = len((MARKETFEED, *WATCHED_KINDS))
            await eventually(lambda: _is_at_least(len(away.hits), watched), 30.0)
            await admin.delete(MARKETFEED, "y")
            took_s = await repaired_in_s(admin, 40.0)
            print(f"watches refused: repaired after {took_s:.1f} s")
            away.times = 0
            await eventually(lambda: _feeds_shown(operator, 1))
            assert "watching anew, as deletions may have been missed" in operator.log.read_text()


async def _is_at_least(number: int, wanted: int) -> bool:
    return number >= wanted


async def _feeds_shown(operator: Replica, number: int) -> bool:
    return await operator.metric("marketfeed_operator_feed_info") == number


async def test_a_restart_of_the_api_server_is_survived(
    plane: ControlPlane, admin: Admin, kubelet: FakeKubelet, settings: dict[str, object], tmp_path: Path
) -> None:
    """The API server is killed and comes back: the same process goes on, and repairs."""
    async with replica(tmp_path, plane.kubeconfig, **settings) as operator:
        await admin.apply(feed("x", admin.namespace))
        await ready(admin, "x")
        await asyncio.to_thread(plane.stop_apiserver)
        await asyncio.sleep(5.0)
        await asyncio.to_thread(plane.start_apiserver)
        took_s = await repaired_in_s(admin, 40.0)
        print(f"API server restarted: repaired after {took_s:.1f} s")
        assert operator.process.poll() is None


async def test_invalid_feeds_delay_nobody(
    plane: ControlPlane, admin: Admin, kubelet: FakeKubelet, settings: dict[str, object], tmp_path: Path
) -> None:
    """Three feeds that cannot work beside a good one: each says why, the good one comes up, and they are not tried
    over and over."""
    missing = {"configMapKeyRef": {"name": "nowhere", "key": "symbols"}}
    empty = {"configMapKeyRef": {"name": "empty", "key": "symbols"}}
    async with replica(tmp_path, plane.kubeconfig, **settings) as operator:
        blank = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "empty", "namespace": admin.namespace}}
        await admin.apply(blank | {"data": {"symbols": "# nothing\n"}})
        await admin.apply(feed("missing", admin.namespace, symbolsFrom=missing))
        await admin.apply(feed("empty", admin.namespace, symbolsFrom=empty))
        await admin.apply(
            feed("odd", admin.namespace, symbolsFrom={"configMapKeyRef": {"name": "odd", "key": "symbols"}})
        )
        odd = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "odd", "namespace": admin.namespace}}
        await admin.apply(odd | {"data": {"symbols": "no symbol at all!\n"}})
        await admin.apply(feed("x", admin.namespace))
        await ready(admin, "x")
        for name in ("missing", "empty", "odd"):
            await eventually(lambda name=name: admin.is_condition(name, "Ready", "False"))
            assert (await admin.condition(name, "Ready"))["message"]
        before = await operator.metric("marketfeed_operator_reconciles_total")
        await asyncio.sleep(12.0)
        assert await operator.metric("marketfeed_operator_reconciles_total") - before < 15
        assert await repaired_in_s(admin, 10.0) < 10.0
        # What was missing appears: healed without a restart.
        late = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "nowhere", "namespace": admin.namespace}}
        await admin.apply(late | {"data": {"symbols": "AAPL\nMSFT\n"}})
        await ready(admin, "missing", within_s=40.0)


async def test_a_missing_secret_is_said_and_heals(
    plane: ControlPlane, admin: Admin, kubelet: FakeKubelet, settings: dict[str, object], tmp_path: Path
) -> None:
    """Pods that cannot start for want of a secret make a condition that says so; when they start it is Ready."""
    kubelet.hold("prepare", "CreateContainerConfigError")
    async with replica(tmp_path, plane.kubeconfig, **settings):
        await admin.apply(feed("x", admin.namespace))

        async def said() -> bool:
            found = await admin.get(MARKETFEED, "x")
            conditions = ((found or {}).get("status") or {}).get("conditions") or []
            return any("secret" in (one["message"] + one["reason"]).lower() for one in conditions)

        await eventually(said, within_s=30.0)
        assert "x-mds" not in await admin.names(DEPLOYMENT)
        kubelet.release("prepare")
        await ready(admin, "x")


async def test_a_rollout_without_progress_is_said_and_heals(
    plane: ControlPlane, admin: Admin, kubelet: FakeKubelet, settings: dict[str, object], tmp_path: Path
) -> None:
    """A pod that runs and never becomes ready stalls the feed after the deadline, by name; when it is ready, it is
    Ready and at rest."""
    kubelet.unready("recorder")
    async with replica(tmp_path, plane.kubeconfig, **settings, rollout_deadline_s=6):
        await admin.apply(feed("x", admin.namespace))

        async def stuck() -> bool:
            told = await admin.condition("x", "Stalled")
            return told.get("reason") == "RolloutStuck" and "x-recorder" in told["message"]

        await eventually(stuck, 60.0)
        told = await admin.condition("x", "Ready")
        assert (told["status"], told["reason"]) == ("False", "RolloutStuck")
        assert "its newest pod x-recorder-" in told["message"]
        assert "containers with unready status" in told["message"]
        kubelet.release("recorder")
        await ready(admin, "x")
        for kind in ("Stalled", "Reconciling", "Degraded"):
            await eventually(lambda kind=kind: admin.is_condition("x", kind, "False"))


async def test_a_lease_in_use_elsewhere_keeps_a_replica_idle(
    plane: ControlPlane, admin: Admin, settings: dict[str, object], tmp_path: Path
) -> None:
    """While another holder renews, the replica waits and writes nothing."""
    async with replica(tmp_path, plane.kubeconfig, **settings, identity="a") as first:
        await eventually(first.leads)
        async with replica(tmp_path, plane.kubeconfig, **settings, identity=f"b-{secrets.token_hex(2)}") as second:
            await eventually(lambda: _answers(second), 30.0)
            await asyncio.sleep(5.0)
            assert not await second.leads()
            lease = await admin.get(LEASE, "marketfeed-operator")
            assert lease is not None
            assert lease["spec"]["holderIdentity"] == "a"

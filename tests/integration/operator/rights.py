"""A service account that may do what the chart lets the operator do, and no more, with a real token mounted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.charts.rendering import only, template
from tests.integration.operator.control_plane import ControlPlane
from tests.integration.operator.plane import SECRET, Admin, Object

from marketfeed_operator.cluster_errors import ClusterError
from marketfeed_operator.kinds import Kind

ACCOUNT = "marketfeed-operator"
_RIGHTS = "rbac.authorization.k8s.io/v1"
_KINDS = {
    kind.name: kind
    for kind in (
        Kind("ServiceAccount", "v1", "serviceaccounts"),
        Kind("Role", _RIGHTS, "roles"),
        Kind("RoleBinding", _RIGHTS, "rolebindings"),
        Kind("ClusterRole", _RIGHTS, "clusterroles"),
        Kind("ClusterRoleBinding", _RIGHTS, "clusterrolebindings"),
    )
}
# What a replica that is no pod sets for itself.
_OF_PODS = {"HTTP_HOST", "HTTP_PORT"}


@dataclass(frozen=True)
class Installed:
    """A release of the operator's chart without its pods.

    `mounted`: the account's directory as a pod has it mounted; `settings`: what the Deployment sets, by name.
    """

    admin: Admin
    objects: list[Object]
    mounted: Path
    settings: dict[str, object]

    async def grant(self, namespace: str) -> None:
        """Make the Roles and RoleBindings of a namespace, anew if they were deleted."""
        for one in self.objects:
            if one["metadata"].get("namespace") == namespace:
                await _apply(self.admin, one)

    async def revoke(self, namespace: str) -> None:
        """Delete the RoleBindings of a namespace."""
        kind = _KINDS["RoleBinding"]
        for one in self.objects:
            if one["kind"] == kind.name and one["metadata"]["namespace"] == namespace:
                await self.admin.cluster._request("delete", kind.path(namespace, one["metadata"]["name"]))


async def install(
    plane: ControlPlane, admin: Admin, directory: Path, values: Mapping[str, Any] | None = None
) -> Installed:
    """Account, roles and bindings as the chart makes them of the values, in the namespace of `admin`."""
    quiet = {"crds": {"enabled": False}, "networkPolicy": {"enabled": False}, "podDisruptionBudget": {"enabled": False}}
    objects = template(
        "marketfeed-operator", quiet | dict(values or {}), "--namespace", admin.namespace, release=ACCOUNT
    )
    deployment = only(objects, "Deployment")
    rights = [one for one in objects if one["kind"] in _KINDS]
    assert {one["kind"] for one in rights} | {"Deployment"} == {one["kind"] for one in objects}
    assert deployment["spec"]["template"]["spec"]["serviceAccountName"] == ACCOUNT
    for one in rights:
        await _apply(admin, one)
    mounted = directory / "sa"
    mounted.mkdir()
    (mounted / "ca.crt").write_text(plane.ca.read_text())
    (mounted / "namespace").write_text(admin.namespace)
    (mounted / "token").write_text(await token_bound_to(admin, "first"))
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    given = {one["name"].removeprefix("MARKETFEED_OPERATOR_"): one["value"] for one in container["env"]}
    settings: dict[str, object] = {name.lower(): text for name, text in given.items() if name not in _OF_PODS}
    return Installed(admin, rights, mounted, settings | {"service_account_dir": mounted})


async def _apply(admin: Admin, wanted: Object) -> None:
    metadata = wanted["metadata"]
    path = _KINDS[wanted["kind"]].path(metadata.get("namespace"), metadata["name"])
    query = [("fieldManager", "test"), ("force", "true")]
    await admin.cluster._request("patch", path, wanted, query=query, content="application/apply-patch+yaml")


async def token_bound_to(admin: Admin, secret: str) -> str:
    """A real token of the account that dies with `secret`."""
    await admin.cluster.create(SECRET, admin.namespace, {"metadata": {"name": secret}})
    bound = {"kind": "Secret", "apiVersion": "v1", "name": secret}
    answer = await admin.cluster._request(
        "post",
        f"/api/v1/namespaces/{admin.namespace}/serviceaccounts/{ACCOUNT}/token",
        {"spec": {"boundObjectRef": bound, "expirationSeconds": 3600}},
    )
    return str(answer["status"]["token"])


async def delete_namespace(admin: Admin) -> None:
    """Have the namespace go, with everything in it."""
    await admin.cluster._request("delete", f"/api/v1/namespaces/{admin.namespace}")


async def is_gone(admin: Admin) -> bool:
    """Whether the namespace has gone."""
    try:
        await admin.cluster._request("get", f"/api/v1/namespaces/{admin.namespace}")
    except ClusterError as error:
        return error.status == 404
    return False

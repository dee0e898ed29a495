"""A service account that may do what the chart lets the operator do, and no more, with a real token mounted."""

from __future__ import annotations

from pathlib import Path

from tests.charts.rendering import template
from tests.integration.operator.control_plane import ControlPlane
from tests.integration.operator.plane import SECRET, Admin

ACCOUNT = "operator"


def chart_rules() -> list[dict[str, object]]:
    """The rules of every Role that the operator's chart makes."""
    made = [one for one in template("marketfeed-operator", release="marketfeed-operator") if one["kind"] == "Role"]
    subjects = {"marketfeed-operator-lease", *(one["metadata"]["name"] for one in made)}
    assert len(subjects) == len(made) > 1
    return [rule for one in made for rule in one["rules"]]


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


async def mounted_account(plane: ControlPlane, admin: Admin, directory: Path) -> Path:
    """The account, its rights in the namespace, and a directory as a pod has it mounted."""
    root, group = f"/namespaces/{admin.namespace}", "/apis/rbac.authorization.k8s.io/v1"
    await admin.cluster._request("post", f"/api/v1{root}/serviceaccounts", {"metadata": {"name": ACCOUNT}})
    role = {"metadata": {"name": ACCOUNT}, "rules": chart_rules()}
    await admin.cluster._request("post", f"{group}{root}/roles", role)
    subject = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": admin.namespace}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": ACCOUNT}
    binding = {"metadata": {"name": ACCOUNT}, "subjects": [subject], "roleRef": reference}
    await admin.cluster._request("post", f"{group}{root}/rolebindings", binding)
    mounted = directory / "sa"
    mounted.mkdir()
    (mounted / "ca.crt").write_text(plane.ca.read_text())
    (mounted / "namespace").write_text(admin.namespace)
    (mounted / "token").write_text(await token_bound_to(admin, "first"))
    return mounted

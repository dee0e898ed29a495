"""Definitions of other projects' kinds, so that an API server can judge our objects of them.

Those of the Gateway API, Istio and the Prometheus Operator are the projects' own, from their Go modules. Linkerd's
modules are not on the Go proxy, so its kinds are described here by hand, as strictly as its documentation allows:
only the fields that it knows, with its enumerations.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.e2e.cluster.kube import Object
from tests.e2e.cluster.ways_in import GATEWAY_API, module_folder

ISTIO = "istio.io/api@v1.32.0"
PROMETHEUS_OPERATOR = "github.com/prometheus-operator/prometheus-operator@v0.85.0"

_TEXT = {"type": "string", "minLength": 1, "maxLength": 253}
_TEXTS = {"type": "array", "items": {"type": "string"}, "minItems": 1}


def _object(required: list[str], **properties: Any) -> Object:
    return {"type": "object", "required": required, "properties": properties}


def _list(item: Object) -> Object:
    return {"type": "array", "items": item, "minItems": 1}


_REFERENCE = _object(["group", "kind", "name"], group=_TEXT, kind=_TEXT, name=_TEXT)
_LABELS = {"type": "object", "additionalProperties": {"type": "string"}}
_PROTOCOLS = ["unknown", "HTTP/1", "HTTP/2", "gRPC", "opaque", "TLS"]
_POLICIES = [
    "all-unauthenticated",
    "all-authenticated",
    "cluster-unauthenticated",
    "cluster-authenticated",
    "deny",
    "audit",
]
_LINKERD: dict[tuple[str, str, str], Object] = {
    ("Server", "servers", "v1beta3"): _object(
        ["podSelector", "port"],
        podSelector=_object(["matchLabels"], matchLabels=_LABELS),
        port={"x-kubernetes-int-or-string": True},
        proxyProtocol={"type": "string", "enum": _PROTOCOLS},
        accessPolicy={"type": "string", "enum": _POLICIES},
    ),
    ("AuthorizationPolicy", "authorizationpolicies", "v1alpha1"): _object(
        ["targetRef", "requiredAuthenticationRefs"], targetRef=_REFERENCE, requiredAuthenticationRefs=_list(_REFERENCE)
    ),
    ("MeshTLSAuthentication", "meshtlsauthentications", "v1alpha1"): {
        **_object(
            [],
            identities=_list(
                {"type": "string", "pattern": r"^(\*|[a-z0-9]([-a-z0-9]*[a-z0-9])?)(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"}
            ),
            identityRefs=_list(_object(["kind"], group=_TEXT, kind=_TEXT, name=_TEXT, namespace=_TEXT)),
        ),
        "oneOf": [{"required": ["identities"]}, {"required": ["identityRefs"]}],
    },
    ("NetworkAuthentication", "networkauthentications", "v1alpha1"): _object(
        ["networks"], networks=_list(_object(["cidr"], cidr=_TEXT, **{"except": _TEXTS}))
    ),
}


def linkerd() -> list[Object]:
    """CustomResourceDefinitions of Linkerd's policy kinds."""
    return [_definition(kind, plural, version, spec) for (kind, plural, version), spec in _LINKERD.items()]


def _definition(kind: str, plural: str, version: str, spec: Object) -> Object:
    schema = {"type": "object", "required": ["spec"], "properties": {"spec": spec}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.policy.linkerd.io"},
        "spec": {
            "group": "policy.linkerd.io",
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "versions": [{"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
    }


def published() -> list[Path]:
    """Files and folders with the definitions that other projects publish."""
    monitoring = module_folder(PROMETHEUS_OPERATOR) / "example" / "prometheus-operator-crd"
    return [
        module_folder(GATEWAY_API) / "config" / "crd" / "standard",
        module_folder(ISTIO) / "kubernetes" / "customresourcedefinitions.gen.yaml",
        monitoring / "monitoring.coreos.com_podmonitors.yaml",
        monitoring / "monitoring.coreos.com_prometheusrules.yaml",
    ]

"""Keys, certificates, tokens and kubeconfigs of a cluster, made anew for each.

Components prove who they are by random tokens (the API server's static token file); the names and groups are those
that Kubernetes' own RBAC rules are bound to. The API server proves itself to kubelet and etcd by certificates.
"""

from __future__ import annotations

import base64
import json
import secrets
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from localcluster.errors import CommandFailed
from localcluster.places import system_program

DAYS = 365


@dataclass(frozen=True, slots=True)
class Identity:
    """A user of the API server."""

    name: str
    user: str
    groups: tuple[str, ...] = ()


ADMIN = Identity("admin", "admin", ("system:masters",))
CONTROLLER_MANAGER = Identity("kube-controller-manager", "system:kube-controller-manager")
SCHEDULER = Identity("kube-scheduler", "system:kube-scheduler")
PROXY = Identity("kube-proxy", "system:kube-proxy")
# Test equipment that acts on, or looks at, many kinds of objects; it gets the administrator's rights.
KWOK = Identity("kwok", "marketfeed:kwok", ("system:masters",))
VOLUMES = Identity("directory-volumes", "marketfeed:directory-volumes", ("system:masters",))
POLICIES = Identity("kube-router", "marketfeed:kube-router", ("system:masters",))


def kubelet(node: str) -> Identity:
    """The kubelet of a node, as the Node authorizer knows it."""
    return Identity("kubelet", f"system:node:{node}", ("system:nodes",))


class Keys:
    """The key folder of a cluster."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def path(self, name: str) -> str:
        """The path of a file in the folder."""
        return str(self.folder / name)

    def make(self, addresses: Sequence[str]) -> None:
        """The authority, the server's certificate for these addresses, the client's and the service-account keys."""
        self._openssl("req", "-x509", *_NEW_KEY, self.path("ca.key"), "-out", self.path("ca.crt"), "-days", str(DAYS),
                      "-subj", "/CN=marketfeed-local-cluster",
                      "-addext", "keyUsage=critical,keyCertSign,digitalSignature")  # fmt: skip
        names = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost")
        alternatives = ",".join([*(f"DNS:{name}" for name in names), *(f"IP:{address}" for address in addresses)])
        self._certificate("server", "/CN=kube-apiserver", f"subjectAltName={alternatives}")
        self._certificate("etcd", "/CN=etcd", "subjectAltName=IP:127.0.0.1,DNS:localhost")
        self._certificate("kubelet-client", "/O=system:masters/CN=kube-apiserver-kubelet-client")
        self._openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", self.path("service-account.key"))
        self._openssl(
            "ec", "-in", self.path("service-account.key"), "-pubout", "-out", self.path("service-account.pub")
        )

    def _certificate(self, name: str, subject: str, *extensions: str) -> None:
        added = [part for extension in extensions for part in ("-addext", extension)]
        self._openssl("req", "-x509", *_NEW_KEY, self.path(f"{name}.key"), "-out", self.path(f"{name}.crt"),
                      "-days", str(DAYS), "-subj", subject, "-CA", self.path("ca.crt"), "-CAkey", self.path("ca.key"),
                      "-addext", "basicConstraints=critical,CA:FALSE",
                      "-addext", "extendedKeyUsage=serverAuth,clientAuth", *added)  # fmt: skip

    def _openssl(self, *arguments: str) -> None:
        command = [str(system_program("openssl")), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, umask=0o077)
        if done.returncode != 0:
            raise CommandFailed(" ".join(command[:4]), done.returncode, done.stderr)

    def token(self, identity: Identity) -> str:
        """The token of an identity, made at the first call."""
        file = self.folder / f"{identity.name}.token"
        if not file.exists():
            write_private(file, secrets.token_urlsafe(24))
        return file.read_text()

    def write_tokens(self, identities: Sequence[Identity]) -> None:
        """The API server's token file."""
        lines = [
            f'{self.token(one)},{one.user},{one.user},"{",".join(one.groups)}"\n' if one.groups
            else f"{self.token(one)},{one.user},{one.user}\n"
            for one in identities
        ]  # fmt: skip
        write_private(self.folder / "tokens.csv", "".join(lines))

    def write_kubeconfig(self, identity: Identity, server: str, file: Path) -> None:
        """A kubeconfig that carries everything in itself, so that it can be copied."""
        authority = (self.folder / "ca.crt").read_bytes()
        write_private(file, json.dumps(kubeconfig(server, authority, self.token(identity)), indent=1) + "\n")


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout")


def kubeconfig(server: str, authority: bytes, token: str) -> dict[str, object]:
    """A kubeconfig with one cluster, one user and one context; JSON is YAML."""
    cluster = {"server": server, "certificate-authority-data": base64.b64encode(authority).decode()}
    name = "marketfeed-local"
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": {"token": token}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }


def write_private(file: Path, text: str) -> None:
    """A file that only its owner can read, whole or not at all."""
    draft = file.with_name(file.name + ".new")
    draft.touch(mode=0o600)
    draft.write_text(text)
    draft.replace(file)

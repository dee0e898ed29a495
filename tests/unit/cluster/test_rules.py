"""Only the cluster's iptables rules are removed, and all of them."""

from __future__ import annotations

from localcluster import rules

DUMP = r"""
*nat
:PREROUTING ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SVC-AAAA - [0:0]
:CNI-1111 - [0:0]
:CNI-2222 - [0:0]
:CNI-HOSTPORT-DNAT - [0:0]
:DOCKER - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A PREROUTING -j DOCKER
-A POSTROUTING -s 10.244.0.2/32 -m comment --comment "name: \"marketfeed\" id: \"a\"" -j CNI-1111
-A POSTROUTING -s 10.88.0.2/32 -m comment --comment "name: \"podman\" id: \"b\"" -j CNI-2222
-A KUBE-SERVICES -d 10.96.0.1/32 -j KUBE-SVC-AAAA
-A CNI-1111 -d 10.244.0.0/24 -m comment --comment "name: \"marketfeed\" id: \"a\"" -j ACCEPT
-A CNI-2222 -d 10.88.0.0/16 -m comment --comment "name: \"podman\" id: \"b\"" -j ACCEPT
COMMIT
*filter
:INPUT ACCEPT [0:0]
:KUBE-FIREWALL - [0:0]
-A INPUT -j KUBE-FIREWALL
-A INPUT -p tcp --dport 22 -j ACCEPT
COMMIT
"""


def test_what_is_removed() -> None:
    """Every chain of Kubernetes and of our network goes with what leads to it; podman's and Docker's stay."""
    script = rules.removal(DUMP, "marketfeed")
    assert '-D PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES' in script
    assert {"-X KUBE-SERVICES", "-X KUBE-SVC-AAAA", "-X CNI-1111", "-X KUBE-FIREWALL"} <= set(script.splitlines())
    assert "CNI-2222" not in script
    assert "DOCKER" not in script
    assert "dport 22" not in script
    assert script.count("COMMIT") == 2


def test_shared_chains_stay_while_others_use_them() -> None:
    """The port mapping's shared chains stay beside another CNI network and go when there is none."""
    assert "CNI-HOSTPORT-DNAT" not in rules.removal(DUMP, "marketfeed")
    alone = "\n".join(line for line in DUMP.splitlines() if "podman" not in line)
    assert "-X CNI-HOSTPORT-DNAT" in rules.removal(alone, "marketfeed")


def test_every_chain_is_emptied_before_the_first_is_deleted() -> None:
    """iptables refuses to delete a chain that a rule leads to."""
    lines = rules.removal(DUMP, "marketfeed").splitlines()
    nat = lines[: lines.index("COMMIT")]
    deletes = [at for at, line in enumerate(nat) if line.startswith("-X")]
    flushes = [at for at, line in enumerate(nat) if line.startswith(("-F", "-D"))]
    assert max(flushes) < min(deletes)


def test_nothing_of_ours() -> None:
    """A machine without a cluster gets an empty script and has no leftovers."""
    foreign = "*nat\n:DOCKER - [0:0]\n-A PREROUTING -j DOCKER\nCOMMIT\n"
    assert rules.removal(foreign, "marketfeed") == ""
    assert rules.leftovers(foreign, "marketfeed") == []


def test_leftovers_and_signs_of_kubernetes() -> None:
    """What is left is named by table and chain; Kubernetes' chains are recognised."""
    assert "nat/KUBE-SVC-AAAA" in rules.leftovers(DUMP, "marketfeed")
    assert rules.kubernetes_chains(DUMP) == ["KUBE-FIREWALL", "KUBE-SERVICES", "KUBE-SVC-AAAA"]


def test_target_of_reads_jumps_and_gotos() -> None:
    """A rule leads where -j or -g says; a rule without either leads nowhere."""
    assert rules.target_of("INPUT -p tcp -j KUBE-FIREWALL") == "KUBE-FIREWALL"
    assert rules.target_of("INPUT -g CNI-1") == "CNI-1"
    assert rules.target_of("INPUT -p tcp") == ""

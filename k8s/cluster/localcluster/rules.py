"""Which iptables rules are the cluster's, and the script that removes exactly those. Pure.

kube-proxy and kubelet name their chains KUBE-…; the CNI plugins name theirs CNI-… after a hash, so that of those only
the ones count whose rules speak of our network, or that belong to the port mapping of no other network.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

KUBE = "KUBE-"
CNI = "CNI-"
# Chains that all port mappings of a machine share; empty ones are no harm but are nobody's either.
SHARED = ("CNI-HOSTPORT-DNAT", "CNI-HOSTPORT-MASQ", "CNI-HOSTPORT-SETMARK", "CNI-DN-", "CNI-SN-")


@dataclass(slots=True)
class Table:
    """A table as `iptables-save` prints it: its chains, and its rules without the leading -A."""

    name: str
    chains: list[str] = field(default_factory=list)
    rules: list[str] = field(default_factory=list)


def parse(saved: str) -> list[Table]:
    """The tables of a dump."""
    tables: list[Table] = []
    for line in saved.splitlines():
        if line.startswith("*"):
            tables.append(Table(line[1:].strip()))
        elif line.startswith(":"):
            tables[-1].chains.append(line[1:].split()[0])
        elif line.startswith("-A "):
            tables[-1].rules.append(line[3:])
    return tables


def chain_of(rule: str) -> str:
    """The chain that a rule is in."""
    return rule.split(maxsplit=1)[0]


def target_of(rule: str) -> str:
    """The chain or verdict that a rule leads to."""
    words = rule.split()
    for option in ("-j", "-g"):
        if option in words[:-1]:
            return words[words.index(option) + 1]
    return ""


def is_kubernetes(chain: str) -> bool:
    """Whether a chain is kube-proxy's or kubelet's."""
    return chain.startswith(KUBE)


def our_chains(table: Table, network: str) -> list[str]:
    """The chains of a table that are the cluster's."""
    speaks_of_us = {
        name
        for rule in table.rules
        if f'name: \\"{network}\\"' in rule
        for name in (chain_of(rule), target_of(rule))
        if name.startswith(CNI)
    }
    others = {
        target_of(rule)
        for rule in table.rules
        if "name: \\" in rule and f'name: \\"{network}\\"' not in rule
    }  # fmt: skip
    shared = [] if others else [chain for chain in table.chains if chain.startswith(SHARED)]
    wanted = {*speaks_of_us, *shared} - others
    return [chain for chain in table.chains if is_kubernetes(chain) or chain in wanted]


def removal(saved: str, network: str) -> str:
    """A script for `iptables-restore --noflush` that removes the cluster's chains and the rules that lead to them.

    Empty if there is nothing to remove.
    """
    return "".join(_removal_of(table, network) for table in parse(saved))


def _removal_of(table: Table, network: str) -> str:
    ours = our_chains(table, network)
    leading = list(_leading_to(table, ours, network))
    if not ours and not leading:
        return ""
    lines = [
        *(f"-D {rule}" for rule in leading),
        *(f"-F {chain}" for chain in ours),
        *(f"-X {chain}" for chain in ours),
    ]
    return "\n".join([f"*{table.name}", *lines, "COMMIT", ""])


def _leading_to(table: Table, ours: Sequence[str], network: str) -> Iterator[str]:
    for rule in table.rules:
        inside = chain_of(rule) in ours
        if not inside and (target_of(rule) in ours or f'name: \\"{network}\\"' in rule):
            yield rule


def kubernetes_chains(saved: str) -> list[str]:
    """The names of all KUBE- chains, which tell that some Kubernetes runs on this machine."""
    return sorted({chain for table in parse(saved) for chain in table.chains if is_kubernetes(chain)})


def leftovers(saved: str, network: str) -> list[str]:
    """What of the cluster is still in a dump."""
    found = [f"{table.name}/{chain}" for table in parse(saved) for chain in our_chains(table, network)]
    return found + [
        f"{table.name}: {rule}"
        for table in parse(saved)
        for rule in _leading_to(table, our_chains(table, network), network)
    ]

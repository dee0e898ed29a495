"""Ports: remembered, and replaced when somebody else has taken them."""

import json
import socket
from pathlib import Path

from marketfeed.local.ports import HOST, choose, is_free


def test_a_choice_is_kept_while_its_ports_are_free(tmp_path: Path) -> None:
    """The second start finds the ports of the first, all different, and a new name gets one of its own."""
    first = choose(("a", "b"), tmp_path / "ports.json")
    assert len(set(first.values())) == 2
    assert choose(("a", "b", "c"), tmp_path / "ports.json") | first == choose(("a", "b", "c"), tmp_path / "ports.json")


def test_a_taken_port_is_replaced_and_the_others_stay(tmp_path: Path) -> None:
    """Only the name whose port is taken gets a new one, and the file says so."""
    first = choose(("a", "b"), tmp_path / "ports.json")
    with socket.socket() as taken:
        taken.bind((HOST, first["a"]))
        taken.listen()
        assert not is_free(first["a"])
        second = choose(("a", "b"), tmp_path / "ports.json")
    assert second["b"] == first["b"]
    assert second["a"] != first["a"]
    assert json.loads((tmp_path / "ports.json").read_text()) == second

"""Ports an ordinary user may have."""

from __future__ import annotations

import pathlib
import socket

import pytest

from anynode.aio import ports


def test_low_ports_have_stand_ins() -> None:
    assert [ports.stand_in(port, 1024) for port in (80, 443, 1023, 1024, 8080)] == [10080, 10443, 11023, 1024, 8080]
    assert ports.stand_in(80, 1) == 80


def test_the_lowest_port_is_what_the_kernel_says(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    def refuse(sock: socket.socket, address: object) -> None:
        raise PermissionError

    monkeypatch.setattr(socket.socket, "bind", refuse)
    (tmp_path / "start").write_text("500\n")
    monkeypatch.setattr(ports, "SYSCTL", tmp_path / "start")
    assert ports.lowest_port() == 500
    monkeypatch.setattr(ports, "SYSCTL", tmp_path / "absent")
    assert ports.lowest_port() == 1024

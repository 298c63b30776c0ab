"""Bounded names of methods and topics."""

from __future__ import annotations

from nuropb_rmq.telemetry.names import OTHER, Names


def test_what_is_not_known_is_other() -> None:
    names = Names(["get", "list"])
    assert [names.of(each) for each in ("get", "list", "drop")] == ["get", "list", OTHER]


def test_names_are_admitted_up_to_a_bound() -> None:
    names = Names(["get"], most=3)
    assert [names.admit(each) for each in ("a", "b", "c", "a", "get")] == [
        "a",
        "b",
        OTHER,
        "a",
        "get",
    ]
    assert names.of("c") == OTHER


def test_all_that_are_known_have_room() -> None:
    names = Names(map(str, range(10)), most=3)
    assert names.of("9") == "9"
    assert names.admit("10") == OTHER


def test_what_cannot_be_shown_is_not_admitted() -> None:
    names = Names()
    for name in ("\ud800", "a\nb", "\x00", "x" * 201):
        assert names.admit(name) == OTHER
    assert names.admit("größe/ändern") == "größe/ändern"

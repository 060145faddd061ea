"""Amounts, counts and durations as users read them, and estimates of tokens."""

from __future__ import annotations

import decimal
from decimal import Decimal

import pytest

from ipyrouter.pricing import tokens
from ipyrouter.text.amounts import age, at_least, count, dollars, from_pico, seconds, to_pico, unit_of
from ipyrouter.types import Message


@pytest.mark.parametrize(
    ("amount", "words"),
    [
        (None, "price unknown"),
        (float("nan"), "price unknown"),
        (Decimal(0), "$0"),
        (Decimal("0E-12"), "$0"),
        (0.1, "$0.10"),
        (1, "$1.00"),
        (1.5, "$1.50"),
        (Decimal(2), "$2.00"),
        (Decimal("0.999"), "$1.00"),
        (Decimal("1234.5"), "$1,234.50"),
        (Decimal("0.42"), "$0.42"),
        (Decimal("0.0421"), "$0.042"),
        (Decimal("0.0001234"), "$0.00012"),
        (Decimal("-0.0421"), "−$0.042"),
        (Decimal("-12.3"), "−$12.30"),
        (Decimal("1.23E-12"), "$0.000000000001"),
        (Decimal("5.6E-11"), "$0.000000000056"),
        (Decimal("4E-13"), "less than $1E-12"),
        (Decimal("1E-30"), "less than $1E-12"),
    ],
)
def test_dollars(amount: Decimal | float | None, words: str) -> None:
    assert dollars(amount) == words


@pytest.mark.parametrize(
    ("known", "unknown", "words"),
    [
        ("0.5", 0, "$0.50"),
        ("0", 0, "$0"),
        ("0.5", 1, "at least $0.50, 1 call unpriced"),
        ("0", 1234, "unknown, 1,234 calls unpriced"),
    ],
)
def test_a_sum_says_what_it_leaves_out(known: str, unknown: int, words: str) -> None:
    assert at_least(Decimal(known), unknown) == words


def test_a_count_takes_any_noun() -> None:
    assert [count(number, "row") for number in (0, 1, 2, 1000)] == ["0 rows", "1 row", "2 rows", "1,000 rows"]
    assert at_least(Decimal(1), 2, "answer") == "at least $1.00, 2 answers unpriced"


@pytest.mark.parametrize(
    ("amount", "pico"),
    [("0", 0), ("1", 10**12), ("0.000000000001", 1), ("12.345678901234", 12_345_678_901_234), ("5E-13", 0),
     ("15E-13", 2), ("25E-13", 2), ("26E-13", 3)],
)  # fmt: skip
def test_dollars_are_stored_as_whole_numbers_half_to_even(amount: str, pico: int) -> None:
    assert to_pico(Decimal(amount)) == pico
    assert abs(from_pico(pico) - Decimal(amount)) <= Decimal("5E-13")
    with decimal.localcontext(rounding=decimal.ROUND_UP):  # as a user's notebook may have it
        assert to_pico(Decimal(amount)) == pico


@pytest.mark.parametrize("pico", [0, 1, 10**12, 9 * 10**18])
def test_what_is_stored_comes_back(pico: int) -> None:
    assert to_pico(from_pico(pico)) == pico


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "0.0 ms"), (0.0004, "0.4 ms"), (0.005546, "5.5 ms"), (0.0099, "9.9 ms"), (0.00996, "10 ms"),
        (0.00995, "10 ms"), (0.9995, "1.0 s"), (59.95, "60 s"), (0.01, "10 ms"),
        (0.32, "320 ms"), (0.9994, "999 ms"), (0.9996, "1.0 s"), (1, "1.0 s"), (1.24, "1.2 s"), (59.94, "59.9 s"),
        (59.96, "60 s"), (60, "60 s"), (61.4, "61 s"), (75, "75 s"), (3600, "3,600 s"),
    ],
)  # fmt: skip
def test_durations_change_their_unit_where_they_should(value: float, words: str) -> None:
    assert seconds(value) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (-1, "0 s"), (0, "0 s"), (0.5, "0 s"), (59, "59 s"), (59.9, "59 s"), (60, "1 min"), (119, "1 min"),
        (120, "2 min"),
        (3599, "59 min"), (3600, "1 h"), (7199, "1 h"), (7199.5, "1 h"), (7200, "2 h"), (86_399, "23 h"),
        (86_400, "1 day"), (172_799, "1 day"), (172_800, "2 days"), (200_000, "2 days"),
    ],
)  # fmt: skip
def test_ages_are_cut_to_their_largest_whole_unit(value: float, words: str) -> None:
    assert age(value) == words


@pytest.mark.parametrize(
    ("amounts", "per_call", "head", "words"),
    [
        ([], True, "cost", []),
        ([None, 0.0, float("nan")], True, "cost", ["unknown", "$0", "unknown"]),
        ([Decimal(12), Decimal("0.5")], True, "cost", ["$12.00", "$0.50"]),
        ([Decimal("1234.5"), Decimal("0.00042")], True, "cost", ["$1,234.50000", "$0.00042"]),
        ([Decimal("0.000042"), Decimal("0.000099")], True, "cost per 1,000", ["$0.042", "$0.099"]),
        ([Decimal("0.00042"), Decimal("0.0001")], True, "cost", ["$0.00042", "$0.00010"]),
        ([Decimal("0.0001"), Decimal("0.00004")], True, "cost", ["$0.000100", "$0.000040"]),
        ([Decimal("0.000042")], True, "cost", ["$0.000042"]),  # by itself it is compared with nothing
        ([Decimal("0.00042"), Decimal("0.0099")], False, "cost", ["$0.00042", "$0.00990"]),
        ([Decimal(1), Decimal("0.0000000001")], False, "cost", ["$1.000000", "<$0.000001"]),
        ([Decimal("-0.5"), Decimal("-0.0000000001")], False, "cost", ["−$0.500000", "−<$0.000001"]),
    ],
)
def test_a_column_of_amounts_has_one_unit(
    amounts: list[Decimal | None], per_call: bool, head: str, words: list[str]
) -> None:
    unit = unit_of(amounts, per_call=per_call)
    assert (unit.head("cost"), [unit.words(amount) for amount in amounts]) == (head, words)


def test_a_column_is_not_one_of_prices_of_calls_unless_it_says_so() -> None:
    assert unit_of([Decimal("0.000042"), Decimal("0.000099")]).head("cost") == "cost"


def test_a_column_without_amounts_is_in_cents() -> None:
    assert unit_of([None, 0]).words(1.5) == "$1.50"


def test_a_sum_in_a_column_says_that_it_is_not_all() -> None:
    unit = unit_of([Decimal("0.5")])
    assert [unit.sum(Decimal("0.5"), 0), unit.sum(Decimal("0.5"), 2), unit.sum(Decimal(0), 1)] == [
        "$0.50", "at least $0.50", "unknown",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "number"), [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("é" * 4, 2), ("\ud800", 1)]
)
def test_a_string_is_estimated_by_its_bytes(text: str, number: int) -> None:
    assert tokens.estimate(text) == number


TURNS = (Message("user", "1234"), Message("assistant", "12345678"))


def test_an_estimate_counts_every_part_of_a_request_once() -> None:
    assert tokens.estimate_input("1234") == 1 + 8
    assert tokens.estimate_input("1234", "12345678") == 1 + 2 + 2 * 8
    assert tokens.estimate_input("1234", None, TURNS) == 1 + 1 + 2 + 3 * 8
    assert tokens.estimate_input("1234", "", TURNS, "12" * 8) == 1 + 1 + 2 + 4 + 4 * 8


def test_a_bound_counts_a_token_a_byte() -> None:
    assert tokens.bound_input("é234") == 5 + 8
    assert tokens.bound_input("1234", "12345678", TURNS) == 4 + 8 + 4 + 8 + 4 * 8
    # A schema may be sent in the provider's shape and in words, each longer than it is by itself.
    assert tokens.bound_input("1234", None, (), "é" * 5) == 4 + 8 + 3 * 10 + 1000 + 8

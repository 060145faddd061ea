"""Keys in all their forms, and words that are none."""

from __future__ import annotations

import base64
import random
import string

import pytest

from ipyrouter.errors import LocalModelError, UsageError
from ipyrouter.text import redact


def test_a_key_is_found_in_any_base64_at_any_place() -> None:
    rng = random.Random(7)
    for _ in range(300):
        key = "".join(rng.choices(string.ascii_letters + string.digits + "-_/+=.", k=rng.randrange(12, 60)))
        before = "".join(rng.choices(string.ascii_letters + ":", k=rng.randrange(20)))
        after = "".join(rng.choices(string.ascii_letters, k=rng.randrange(20)))
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            text = encode(f"{before}{key}{after}".encode()).decode()
            left = redact.hide(f"Basic {text}", [key])
            remains = left.removeprefix("Basic ").split(redact.MARK)
            assert len(remains) == 2
            whole = encode(before.encode()).decode().rstrip("=")
            assert len(remains[0]) <= len(whole) + 2
            assert len(remains[1]) <= len(encode(after.encode()).decode()) + 4


def test_every_run_of_eight_characters_is_found() -> None:
    key = "A1b2-C3d4.E5f6_G7h8"
    for begin in range(len(key) - 8):
        for end in range(begin + 8, len(key) + 1):
            text = f"({key[begin:end]})"
            assert redact.hide(text, [key], parts=True) == "(…)"
    assert redact.hide(f"({key[:7]})", [key], parts=True) == f"({key[:7]})"
    assert redact.hide(f"{key[:9]} and {key[4:]}", [key], parts=True) == "… and …"
    assert redact.hide(key + key, [key], parts=True) == "……"


def test_a_key_that_begins_like_another_goes_whole() -> None:
    assert redact.hide("abcdefgh99zzzzzz abcdefgh99", ["abcdefgh99", "abcdefgh99zzzzzz"]) == "… …"


@pytest.mark.parametrize("key", ["one", "EMPTY", "none", "abcdefg", ""])
def test_short_keys_are_words(key: str) -> None:
    assert redact.hide(f"everyone {key} is EMPTY, none", [key], parts=True) == f"everyone {key} is EMPTY, none"


def test_addresses_show_no_password_and_no_key() -> None:
    for address, public in (
        ("https://u:pw@h/v1", "https://REMOVED@h/v1"),
        ("https://token@h/v1", "https://REMOVED@h/v1"),
        ("https://u:p@w@h:8/v1?x=1", "https://REMOVED@h:8/v1?x=1"),
        (
            "https://h/v1?api_key=a&api-version=2&token=b#f",
            "https://h/v1?api_key=REMOVED&api-version=2&token=REMOVED#f",
        ),
        ("https://h/v1?key=a", "https://h/v1?key=REMOVED"),
        ("https://h/v1?q=sk-proj-abcdefghijkl", "https://h/v1?q=REMOVED"),
        ("https://h/v1?api%5Fkey=a", "https://h/v1?api%5Fkey=REMOVED"),
        ("https://h/v1?api-version=2026-01-01&deployment=x", "https://h/v1?api-version=2026-01-01&deployment=x"),
        ("embedded", "embedded"),
    ):
        assert redact.public(address) == public
        assert redact.public(public) == public


def test_errors_show_no_password_of_an_index_and_no_key_of_a_service() -> None:
    assert "hunter22" not in str(LocalModelError("Could not fetch https://ada:hunter22@pypi.example/simple."))
    assert "abcdefgh" not in str(UsageError("Unknown option '-m=sk-proj-abcdefghijkl'."))


@pytest.mark.parametrize("value", ["blok", "much", "gpt-4o", "claude-3-haiku-20240307", 3, -1, None, True, 2.5])
def test_plain_values_are_shown(value: object) -> None:
    assert redact.excerpt(value) == repr(value)


@pytest.mark.parametrize("value", ["sk-x", "A1b2C3d4E5f6G7h8", "x" * 41, ["sk-x"], {"a": "sk-x"}, 10**30, b"sk-x"])
def test_values_that_may_be_keys_are_not(value: object) -> None:
    assert "sk-x" not in redact.excerpt(value)
    assert str(value) not in redact.excerpt(value)


@pytest.mark.parametrize("name", ["has_password", "password_length", "is_secret", "token_type", "keys", 3, None, ""])
def test_names_that_are_none_of_secrets(name: object) -> None:
    assert not redact.secret_name(name)


def test_a_megabyte_is_searched() -> None:
    assert redact.hide("A1b2-C3 " * 131_072, ["A1b2-C3d4.E5f6"], parts=True).startswith("A1b2-C3 ")
    assert redact.fields("password=" * 100_000 + "x")


@pytest.mark.parametrize("key", [f"abcdefgh{chr(0xDCFF)}", f"abcdefgh{chr(0xD83D)}"], ids=ascii)
def test_a_variable_that_is_not_utf_8_breaks_no_error(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("MY_TOKEN", "abcdefgh\udcff")  # as Python reads the byte 255
    assert str(UsageError("One line.")) == "One line."
    assert redact.hide(f"before {key} after", [key]) == f"before {redact.MARK} after"


def test_the_bytes_of_a_key_that_is_not_utf_8_are_found_in_an_address() -> None:
    shown = redact.hide("https://x.y/?key=abcdefgh%FF&n=1", ["abcdefgh\udcff"])
    assert shown == f"https://x.y/?key={redact.MARK}&n=1"

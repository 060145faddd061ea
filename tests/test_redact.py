"""Keys in all their forms, and words that are none."""

from __future__ import annotations

import base64
import copy
import html
import json
import pickle
import random
import re
import string
from urllib.parse import quote, quote_plus

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
    for text in (f"({key[:7]})", f"({key[-7:]}", key[-7:]):
        assert redact.hide(text, [key], parts=True) == text
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
        ("https://h/v1?subscription-key=a", "https://h/v1?subscription-key=REMOVED"),
        ("https://h/v1?X-Amz-Signature=a", "https://h/v1?X-Amz-Signature=REMOVED"),
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


KEY = "pa/ss w+rd&'é\"\\<9~Z"
ESCAPED = {
    "itself": KEY,
    "repr": repr(KEY)[1:-1],
    "JSON": json.dumps(KEY)[1:-1],
    "JSON of PHP": json.dumps(KEY)[1:-1].replace("/", "\\/"),
    "HTML": html.escape(KEY),
    "URL": quote(KEY, safe=""),
    "path": quote(KEY),
    "form": quote_plus(KEY),
    "small hexadecimal digits": re.sub("%..", lambda digits: digits[0].lower(), quote(KEY, safe="")),
}


@pytest.mark.parametrize("form", ESCAPED.values(), ids=ESCAPED)
@pytest.mark.parametrize("parts", [False, True], ids=["whole", "parts"])
def test_a_key_is_found_however_it_is_escaped(form: str, parts: bool) -> None:
    assert redact.hide(f"({form})", ["ordinary", KEY], parts=parts) == "(…)"


@pytest.mark.parametrize("before", range(3))
def test_what_holds_only_the_keys_bits_goes_from_base64(before: int) -> None:
    """Of the characters that hold bits of a key, those that hold bits of a neighbour stay."""
    key = bytes([0xFB, 0xEF, 0x3E] * 4).decode("latin-1").encode().decode()
    data = key.encode()
    whole = base64.b64encode(b"\0" * before + data + b"\0" * 3).decode()
    begin, end = -(-before * 8 // 6), (before + len(data)) * 8 // 6
    assert redact.hide(whole, [key]) == f"{whole[:begin]}…{whole[end:]}"
    safe = whole.replace("+", "-").replace("/", "_")
    assert redact.hide(safe, [key]) == f"{safe[:begin]}…{safe[end:]}"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("sk-abcd****wxyz1!", "…!"),
        ("key: sk-ab…z1.", "key: sk-ab…z1."),  # 7 characters of the key in all
        ("key: sk-ab…yz1.", "key: …."),
        ("(sk-abcdefgh***)", "(…)"),
        ("(***tuvwxyz1)", "(…)"),
        ("(***uvwxyz1)", "(***uvwxyz1)"),
        ("sk-abcd****wxyz1 and sk-abcd••wxyz1.", "… and …."),
        ("sk-abcd****wxyz1****wxyz1.", "…****wxyz1."),
        ("sk-abc*defg", "sk-abc*defg"),  # one asterisk is no mask
        ("****", "****"),
        ("(s***uvwxyz1)", "(…)"),
        ("sk-abcd****wxyz1***tuvwxyz1.", "……."),
    ],
)
def test_a_key_with_a_masked_middle_goes(text: str, left: str) -> None:
    assert redact.hide(text, ["sk-abcdefghijklmnopqrstuvwxyz1"], parts=True) == left


@pytest.mark.parametrize(
    ("text", "whole", "parts"),
    [
        ("abcdefgh and bcdefghi", "… and bcdefghi", "… and bcdefghi"),
        ("", "", ""),
        ("abcdefg", "abcdefg", "abcdefg"),
    ],
)
def test_a_key_of_eight_characters(text: str, whole: str, parts: str) -> None:
    assert redact.hide(text, ["abcdefgh"]) == whole
    assert redact.hide(text, ["abcdefgh"], parts=True) == parts


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("(ab-zzzzzzzz)", "(…)"),  # whole keys, one in the other
        ("yyzzzz**zzzz, zzzz**zzzz.", "…, …."),  # the longer one's beginning goes, too
    ],
)
def test_of_two_keys_the_longer_one_goes_first(text: str, left: str) -> None:
    for keys in (["zzzzzzzz", "ab-zzzzzzzz", "yyzzzzzzzz"], ["yyzzzzzzzz", "ab-zzzzzzzz", "zzzzzzzz"]):
        assert redact.hide(text, keys, parts=True) == left


@pytest.mark.parametrize(
    ("key", "text", "left"),
    [
        ("abcdabcd", "abcd**abcd**abcd", "…**abcd"),  # of what has gone, nothing is a beginning again
        ("sk-abcdxxxxefgh1234", "sk-abcd****xxxxefgh1234, sk-abcd****1234.", "…, …."),  # a key that looks masked
        ("abcdefghijklmnop", "(bcdefghibcdefghi)", "(…)"),  # two parts, one mark
    ],
)
def test_what_stands_beside_what_has_gone(key: str, text: str, left: str) -> None:
    assert redact.hide(text, [key], parts=True) == left


def test_a_key_in_base64_for_addresses_goes() -> None:
    key = "???>>>???>>>"
    whole = base64.b64encode(key.encode()).decode()
    assert "/" in whole
    assert redact.hide(f"({whole}) ({base64.urlsafe_b64encode(key.encode()).decode()})", [key]) == "(…) (…)"


def test_only_parts_are_searched_for_on_demand() -> None:
    assert redact.hide("abcdefgh ij**yz", ["abcdefghijklmnop"]) == "abcdefgh ij**yz"
    assert redact.hide("abcdefgh ij**yz", ["abcdefghijklmnop"], parts=True) == "… ij**yz"
    assert redact.hide("nothing", []) == "nothing"


def test_keys_of_the_environment() -> None:
    environ = {
        "OPENAI_API_KEY": " sk-1 ",
        "MY_KEY": "a",
        "my_token": "b",
        "DB_PASSWORD": "c",
        "SSH_KEY": "/home/u/id",
        "A_TOKEN": "~/token",
        "B_TOKEN": "./token",
        "HOME": "/home/u",
        "KEYBOARD": "us",
        "TOKENIZER": "x",
        "NEXT_TOKEN": "d",
    }
    assert redact.keys_of(environ) == ["sk-1", "a", "b", "c", "d"]


SERVICE = "sk-proj-abcdefghijkl"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"use {SERVICE}.", "use [key removed]."),
        ("https://ada:hunter22@h/x", "https://[key removed]@h/x"),
        ("see https://h/x?api_key=hunter22&a=b#c", "see https://h/x?api_key=REMOVED&a=b#c"),
        ("nothing of that kind", "nothing of that kind"),
    ],
)
def test_what_looks_like_a_key_goes(text: str, left: str) -> None:
    assert redact.scrub(text) == left


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"use {SERVICE}.", "use [key removed]."),
        ('PassWord = "hunter22"', 'PassWord = "[removed]"'),
        ("{'client_secret': 'hunter22'}", "{'client_secret': '[removed]'}"),
        ('key="abcdefghijklmnopqrst"', 'key="[removed]"'),
        ('key="abcdefghijklmnopqrs"', 'key="abcdefghijklmnopqrs"'),
        ("password is hunter22", "password is hunter22"),
        ("DC(a: int = 1, password: str = 'hunter22')", "DC(a: int = 1, password: str = '[removed]')"),
        ("    api_key: dict[str, str] | None = 'hunter22'", "    api_key: dict[str, str] | None = '[removed]'"),
        ("def f(password: str, name='Ada Byron'):", "def f(password: str, name='Ada Byron'):"),
        ("password: str\nname = 'Ada Byron'", "password: str\nname = 'Ada Byron'"),
    ],
)
def test_values_whose_name_says_what_they_are_go_from_what_is_sent(text: str, left: str) -> None:
    assert redact.content(text) == left


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("S(user='ada', password='hunter22')", "S(user='ada', password=[removed])"),
        ("{'api_key': 'a', 'n_tokens': 3}", "{'api_key': [removed], 'n_tokens': 3}"),
        ("token = abc, x=1", "token = [removed], x=1"),
    ],
)
def test_values_of_secret_fields_go_from_a_repr(text: str, left: str) -> None:
    assert redact.fields(text) == left


@pytest.mark.parametrize(
    "name",
    ["password", "APIKey", "api_key", "api_keys", "api_key_2", "old_private_key_pem", "service_token_v2", "token",
     "authToken", "access_tokens", "db_pass", "x-auth", "jwt", "my_secret_thing", "auth_token"],
)  # fmt: skip
def test_names_of_secrets(name: str) -> None:
    assert redact.secret_name(name)


@pytest.mark.parametrize(
    "name",
    ["key", "primary_key", "tokens", "input_tokens", "pass", "first_pass", "eos_token", "next_token", "keyboard",
     "author", "no_password", "secret_count", "my_key_2", "token_x", "_", "42"],
)  # fmt: skip
def test_names_that_only_sound_like_those_of_secrets(name: str) -> None:
    assert not redact.secret_name(name)


@pytest.mark.parametrize(
    "value",
    [
        "  sk-x",
        "Bearer x",
        "AKIAx",
        "see sk-abcdefgh",
        "abcdefghijk1",
        "ABCDEFGHIJK1",
        "1bcdefghijkl",
        "-- abcdef123456 --",
    ],
)
def test_values_that_could_be_keys(value: str) -> None:
    assert redact.like_secret(value)


@pytest.mark.parametrize("value", ["abcdefghij1", "abcdefghijklmnop", "1234567890123", "gpt-6-luna", "", "ask-x"])
def test_values_that_are_words_or_numbers(value: str) -> None:
    assert not redact.like_secret(value)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a b" * 13 + "c", repr("a b" * 13 + "c")),  # 40 characters
        ("a b" * 13 + "cd", "a string of 41 characters"),
        ("a b" * 400, "a string of 1,200 characters"),
        ("A1b2C3d4E5f6G7h8", "a string of 16 characters"),
        (2**64 - 1, "18446744073709551615"),
        (2**64, "a very large number"),
        (-(10**18), "-1000000000000000000"),
        (-1.2345678901234567e-100, "a number of 20 digits"),
        (1.2345678901234567, "1.2345678901234567"),
        (-(2**64 - 1), "a number of 20 digits"),
        ([1], "a value of the type list"),
    ],
)
def test_an_error_shows_a_short_plain_value_or_its_kind(value: object, shown: str) -> None:
    assert redact.excerpt(value) == shown


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("no access for abcdefghijk1 here", "no access for [hidden] here"),
        ("no access for 'abcdefghijk1'", "no access for '[hidden]'"),
        (f"no {SERVICE}", "no [key removed]"),
        ("something ordinary happened", "something ordinary happened"),
        ("at sk-abcde of it", "at [hidden] of it"),  # 8 characters
        ("at sk-abcd of it", "at sk-abcd of it"),
    ],
)
def test_words_of_another_library(words: str, shown: str) -> None:
    assert redact.message(words) == shown


@pytest.mark.parametrize(
    ("word", "shown"),
    [("luna", "luna"), ("x" * 80, "x" * 80), ("x" * 81, "[hidden]"), (SERVICE, "[hidden]"), ("a b" * 27, "[hidden]")],
)
def test_a_name_is_shown_unless_it_could_be_a_key(word: str, shown: str) -> None:
    assert redact.name(word) == shown


REAL = "https://ada:hunter22@h/v1?api_key=s3cret&x=1"
SHOWN = "https://REMOVED@h/v1?api_key=REMOVED&x=1"


def test_an_address_is_printed_and_pickled_without_its_secrets() -> None:
    address = redact.Address(REAL)
    assert (str(address), repr(address), f"{address}", f"{address:>50}") == (SHOWN, repr(SHOWN), SHOWN, f"{SHOWN:>50}")
    assert "" + address == REAL
    for copied in (copy.copy(address), copy.deepcopy(address), copy.deepcopy([address])[0]):
        assert "" + copied == REAL
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        loaded = pickle.loads(pickle.dumps(address, protocol))
        assert type(loaded) is redact.Address
        assert "" + loaded == SHOWN


@pytest.mark.parametrize(
    ("real", "shown"),
    [
        ("hunter22", "REMOVED"),
        ("Bearer ${GATEWAY_TOKEN}", "Bearer ${GATEWAY_TOKEN}"),  # names a variable
        ("${USER}${TOKEN}", "${USER}${TOKEN}"),
        ("Bearer ${GATEWAY_TOKEN}hunter22", "REMOVED"),
        ("x-${GATEWAY_TOKEN}", "REMOVED"),
    ],
)
def test_a_private_value_is_printed_and_pickled_only_where_it_names_a_variable(real: str, shown: str) -> None:
    value = redact.Private(real)
    assert (str(value), repr(value), f"{value}", f"{value:>50}") == (shown, repr(shown), shown, f"{shown:>50}")
    for copied in (value, copy.copy(value), copy.deepcopy(value), copy.deepcopy([value])[0]):
        assert "" + copied == real
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        loaded = pickle.loads(pickle.dumps(value, protocol))
        assert type(loaded) is redact.Private
        assert "" + loaded == shown


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("https://h/a@b", "https://h/a@b"),
        ("https://u:p@h", "https://REMOVED@h"),
        ("https://u:p@h/a/b://c@d", "https://REMOVED@h/a/b://c@d"),
        ("h/v1?token=a", "h/v1?token=REMOVED"),
        ("u:p@h", "REMOVED@h"),
        ("u:p@h:3128/a@b?c=d", "REMOVED@h:3128/a@b?c=d"),
        ("?KEY=a&Sig=b&signature=c&code=d&keyed=e", "?KEY=REMOVED&Sig=REMOVED&signature=REMOVED&code=REMOVED&keyed=e"),
    ],
)
def test_what_of_an_address_is_public(address: str, public: str) -> None:
    assert redact.public(address) == public


@pytest.mark.parametrize(
    ("address", "secrets"),
    [
        ("https://h/v1", []),
        ("https://ada:p%40ss@h/v1", ["p%40ss", "p@ss"]),
        ("https://ada:hunter22@h/v1", ["hunter22"]),
        ("https://onlyakey@h/v1", ["onlyakey"]),
        ("https://h/v1?api_key=a%2Fb&version=2&token=c", ["a/b", "a%2Fb", "c"]),
        ("https://u:same@h/?token=same", ["same"]),
        ("https://[h/v1?token=a", []),  # is not an address
        ("ada:hunter22@proxy:3128", ["hunter22"]),  # as the environment may name a proxy
        ("h/v1?token=a&version=2", ["a"]),
        (redact.Address(REAL), ["hunter22", "s3cret"]),
    ],
)
def test_the_secrets_in_an_address(address: str, secrets: list[str]) -> None:
    assert redact.secrets_in(address) == secrets

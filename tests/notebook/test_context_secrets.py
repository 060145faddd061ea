"""`--with`: what stands under the name of a secret is not sent, and what only sounds alike is."""

from __future__ import annotations

import base64
import collections
import dataclasses
import types
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import ipyrouter
from ipyrouter.notebook.prompt import attachments
from ipyrouter.router import Router

SECRET = "A1b2hunter22"
NAMES = ("password", "passwd", "pwd", "api_key", "apikey", "token", "secret", "credential", "auth", "private_key",
         "apiKey", "DB_PASSWORD", "x-api-key", "client secret", "access_token", "Passwort")  # fmt: skip
PLAIN = ("input_tokens", "n_tokens", "keyboard", "monkey", "author", "key", "primary_key", "token_count", "compass",
         "password_length", "tokenizer", "secretary", "pad_token", "passed", "authors")  # fmt: skip


@dataclasses.dataclass
class Settings:
    host: str
    api_key: str


@dataclasses.dataclass
class Outer:
    name: str
    credentials: Any


Login = collections.namedtuple("Login", "user password")
Typed = np.dtype([("user", "U8"), ("password", "U16")])
ROWS = {"user": ["ada"], "password": [SECRET]}
TWO_LEVELS = pd.MultiIndex.from_tuples([("login", "user"), ("login", "password")])


def described(value: Any) -> str:
    return str(attachments.variables("v", {"v": value})[0])


def one(rows: dict[str, list[Any]]) -> dict[str, Any]:
    return {name: values[0] for name, values in rows.items()}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table, one])
def test_values_under_the_name_of_a_secret_are_removed(make: Any, name: str) -> None:
    text = described(make({"city": ["Rome"], name: [SECRET]}))
    assert SECRET not in text
    assert name in text
    assert "Rome" in text
    assert "[removed]" in text


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table, one])
def test_values_under_names_that_only_sound_alike_stay(make: Any, name: str) -> None:
    text = described(make({"city": ["Rome"], name: ["plain words"]}))
    assert "plain words" in text
    assert "removed" not in text


@pytest.mark.parametrize(
    "value",
    [
        pd.Series([SECRET], name="password"),
        pd.Series({"user": "ada", "password": SECRET}),
        pd.DataFrame(ROWS).set_index("password"),
        pd.DataFrame(ROWS).set_index(["user", "password"]),
        pd.DataFrame(ROWS).T,
        pd.DataFrame([["ada", SECRET]], columns=TWO_LEVELS),
        pd.DataFrame([["ada", SECRET]], columns=["password", "password"]),
        pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([("a", SECRET)], names=["x", "password"])),
        pd.DataFrame([[1]], columns=pd.Index([SECRET], name="token")),
        pd.DataFrame({"o": [{"user": "ada", "password": SECRET}]}),
        pd.DataFrame({"password": [SECRET.encode()]}),
        pd.DataFrame({"password": pd.Categorical([SECRET])}),
        pd.Index([SECRET], name="password"),
        pd.MultiIndex.from_tuples([("ada", SECRET)], names=["user", "password"]),
        pl.Series("password", [SECRET]),
        pl.DataFrame({"o": [{"user": "ada", "password": SECRET}]}),
        pa.table({"o": [{"user": "ada", "password": SECRET}]}),
        pa.RecordBatch.from_pydict(ROWS),
        np.array([("ada", SECRET)], Typed),
        [{"user": "ada", "password": SECRET}],
        {"db": {"login": {"password": SECRET}}},
        {"credentials": {"user": "ada", "x": SECRET}},
        {"credentials": ["x", SECRET]},
        {"password": 987654321},
        {"auth": ("ada", SECRET)},
        collections.OrderedDict(password=SECRET),
        collections.deque([{"password": SECRET}]),
        {1: {"password": SECRET}}.values(),
        {"password": SECRET}.items(),
        collections.defaultdict(str, password=SECRET),
        Settings("h", SECRET),
        [Settings("h", SECRET)],
        Outer("n", {"user": "ada", "x": SECRET}),
        Outer("n", [Login("ada", SECRET)]),
        Login("ada", SECRET),
        [Login("ada", SECRET)],
        types.SimpleNamespace(user="ada", password=SECRET),
        ["x" * 600 + " api_key='" + SECRET + "'"],
        ["use sk-proj-A1b2hunter22abcdef", {"note": "sk-proj-A1b2hunter22abcdef"}],
    ],
    ids=lambda value: type(value).__name__,
)
def test_secrets_in_all_kinds_of_values_are_removed(value: Any) -> None:
    text = described(value)
    assert SECRET not in text
    assert "987654321" not in text
    assert "removed]" in text


def test_the_name_and_type_of_a_secret_column_stay() -> None:
    text = described(pd.DataFrame({"user": ["ada"], "api_key": [SECRET], "n": [1]}))
    assert f"api_key: {pd.DataFrame({'a': ['x']}).dtypes.iloc[0]}" in text
    assert "n: int64" in text
    assert "0,ada,[removed],1" in text
    assert "password: String" in described(pl.DataFrame(ROWS))
    assert "password: string" in described(pa.table(ROWS))
    assert "1 rows × 2 columns" in described(pl.DataFrame(ROWS))


def test_a_key_in_another_form_is_removed_from_what_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_LOGIN", "open/sesame+now==")
    acme = {"sdk": "openai", "base_url": "https://u:pass-word-1@acme.example", "key": "ACME_LOGIN"}
    ipyrouter.use_router(Router({"providers": {"acme": acme}}))
    basic = base64.b64encode(b"user:open/sesame+now==").decode()
    text = described([quote("open/sesame+now==", safe=""), basic, "pass-word-1"])
    for form in ("sesame", basic[8:24], "pass-word-1"):
        assert form not in text

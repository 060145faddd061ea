"""Layers, origins, and one clear line for every mistake."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from ipyrouter import config
from ipyrouter.config import Config
from ipyrouter.errors import ConfigError, UsageError
from ipyrouter.types import TIERS, Candidate


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def test_presets_hold_the_article_and_the_current_names() -> None:
    article = config.load({"preset": "article"})
    assert [str(c) for c in article.tiers["power"].chain] == [
        "openai/gpt-5.4",
        "anthropic/claude-opus-4-6",
        "openai/gpt-4o",
    ]
    assert str(article.tiers["fast"].chain[1]) == "anthropic/claude-3-haiku-20240307"  # the article's claude-haiku-3
    assert [article.tiers[t].max_output_tokens for t in ("fast", "mid", "power")] == [1024, 4096, 8192]
    current = config.load()
    assert current.preset == "current"
    assert current.tiers["fast"].chain[0] == Candidate("openai", "gpt-6-luna")


def test_later_layers_win_and_are_named(home: Path) -> None:
    user = write(home / "config.toml", "[budget]\nday = 5\nmonth = 50\nsession = 9\n")
    project = write(Path.cwd().parent / "ipyrouter.toml", "[budget]\nmonth = 40\nsession = 8\n")
    loaded = config.load({"budget": {"call": 1}}, home=home, environ={"IPYROUTER_BUDGET__SESSION": "2.5"})
    assert [str(loaded.budget.day), str(loaded.budget.month), str(loaded.budget.session)] == ["5", "40", "2.5"]
    assert loaded.origins["budget.day"] == str(user)
    assert loaded.origins["budget.month"] == str(project)
    assert loaded.origins["budget.session"] == "environment"
    assert loaded.origins["budget.call"] == "arguments"
    assert loaded.origins["budget.action"] == "default"
    assert loaded.values["budget.month"] == 40


def test_environment_takes_plain_text_too() -> None:
    assert config.load(environ={"IPYROUTER_PRESET": "article"}).preset == "article"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[budgett]\nday = 1", "unknown key 'budgett'. Did you mean 'budget'?"),
        ("[budget]\ndayy = 1", "unknown key 'budget.dayy'. Did you mean 'day'?"),
        ('[budget]\nday = "much"', "budget.day must be a number, not 'much'."),
        ("[budget]\nday = -1", "budget.day must be a number of at least 0"),
        ("[budget]\nday = nan", "budget.day must be a number"),
        ("[budget]\nday = inf", "budget.day must be a number of at most 1e+06"),
        ('[prices."o/x"]\ninput = inf\noutput = 1', "input must be a number of at most 1e+06"),
        ("[cache]\nttl_days = inf", "cache.ttl_days must be a number of at most 100000"),
        ("[deadlines]\ntotal = inf", "deadlines.total must be a number of at most 1e+06"),
        ('[budget]\naction = "blok"', "Did you mean 'block'?"),
        ("[tiers.fast]\nchain = []", "tiers.fast.chain must be a list that is not empty"),
        ("[tiers.fats]\nchain = ['gpt-4o']", "unknown key 'tiers.fats'. Did you mean 'fast'?"),
        ("[tiers.fast]\nchain = ['acme/small']", "tiers.fast.chain: Unknown provider 'acme'"),
        ("[tiers.fast]\nchain = ['llama']", "tiers.fast.chain: Unknown model 'llama'"),
        ("[providers.acme]\nbase_url = 'http://127.0.0.1'", "providers.acme has no 'sdk'"),
        ("[providers.acme]\nsdk = 'openai'", "providers.acme has no 'base_url'"),
        ("[providers.acme]\nsdk = 'openai'\nbase_url = 'acme.com'", "must be an address"),
        ("[prices.x]\ninput = 1", "prices.'x' has no 'output'"),
        ("[routing]\nfast_below = 0.9\npower_above = 0.1", "is above"),
        ("budget = 3", "budget must be a table"),
        ("[budget\nday = 1", "not valid TOML"),
    ],
)
def test_mistakes_are_told_in_one_line_with_the_file(home: Path, text: str, said: str) -> None:
    file = write(home / "config.toml", text)
    with pytest.raises(ConfigError) as caught:
        config.load(home=home)
    line = str(caught.value)
    assert said in line
    assert str(file) in line
    assert "\n" not in line


def test_a_file_that_is_no_text(home: Path) -> None:
    home.mkdir()
    (home / "config.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        config.load(home=home)


def test_an_unknown_variable_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"IPYROUTER_BUDGT__DAY.*Did you mean 'budget'"):
        config.load(environ={"IPYROUTER_BUDGT__DAY": "1"})


def test_a_project_may_not_say_where_keys_go() -> None:
    write(Path("ipyrouter.toml"), "[providers.openai]\nsdk = 'openai'\nbase_url = 'https://evil.example'\n")
    with pytest.raises(ConfigError, match="where keys are sent"):
        config.load()


def test_http_to_a_stranger_warns() -> None:
    settings = {"providers": {"acme": {"sdk": "openai", "base_url": "http://10.0.0.1/v1"}}}
    assert "unencrypted" in config.load(settings).warnings[0]
    settings["providers"]["acme"]["base_url"] = "http://localhost:8000/v1"
    assert config.load(settings).warnings == ()


def test_config_pickles() -> None:
    loaded = config.load({"preset": "article"})
    copy: Config = pickle.loads(pickle.dumps(loaded))
    assert copy == loaded


def test_candidates_by_name() -> None:
    loaded = config.load()
    assert loaded.candidate("claude-opus-5-5") == Candidate("anthropic", "claude-opus-5-5")
    assert loaded.candidate("openai/gpt-99") == Candidate("openai", "gpt-99")
    assert loaded.candidate("smollm2") == Candidate("local", "smollm2")
    with pytest.raises(UsageError, match="Did you mean 'gpt-6-luna'"):
        loaded.candidate("gtp-6-luna")
    with pytest.raises(UsageError, match=r"Unknown provider 'opnai'.*Did you mean 'openai'"):
        loaded.candidate("opnai/gpt-6-luna")


@pytest.mark.parametrize("key", ["sk-abcdefgh123456789012345", "AIzaSyA1234567890abcdefghijklmnopqrstuv", "", "a b"])
def test_a_key_in_the_place_of_its_variables_name_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load({"providers": {"acme": {"sdk": "openai", "base_url": "https://a.example", "key": key}}})
    assert "providers.acme.key must be the name of a" in str(caught.value)
    assert len(key) < 5 or key not in str(caught.value)


def test_a_choice_that_is_none_names_the_nearest_one() -> None:
    with pytest.raises(
        ConfigError, match=r"must be one of learned, rules, hybrid, not 'rulez'\. Did you mean 'rules'\?$"
    ):
        config.load({"routing": {"mode": "rulez"}})


def test_the_embedded_server_has_one_model() -> None:
    with pytest.raises(UsageError, match=r"Unknown model 'other' of local\. It has one: local/smollm2\."):
        config.load({}).candidate("local/other")


def test_deadlines_follow_the_tier() -> None:
    tiers = config.load(environ={}).tiers
    assert [tiers[tier].deadlines.first_byte for tier in TIERS] == [30, 120, 300]
    assert all(t.deadlines.total >= 2 * t.deadlines.first_byte for t in tiers.values())


@pytest.mark.parametrize(
    ("settings", "first_byte", "setting"),
    [
        ({}, 300, "tiers.power.deadlines.first_byte"),
        (
            {"deadlines": {"first_byte": 7}},
            7,
            "deadlines.first_byte",
        ),  # the user's own wins over our default of the tier
        ({"tiers": {"power": {"deadlines": {"first_byte": 8}}}}, 8, "tiers.power.deadlines.first_byte"),
        (
            {"deadlines": {"first_byte": 7}, "tiers": {"power": {"deadlines": {"first_byte": 8}}}},
            8,
            "tiers.power.deadlines.first_byte",
        ),
        ({"deadlines": {"total": 500}}, 300, "tiers.power.deadlines.first_byte"),
    ],
)
def test_a_deadline_and_the_setting_that_it_comes_from(
    settings: dict[str, Any], first_byte: float, setting: str
) -> None:
    for loaded in (config.load(settings, environ={}), config.override(config.load(environ={}), settings, "%config")):
        assert loaded.tiers["power"].deadlines.first_byte == first_byte
        assert loaded.deadline_setting("power", "first_byte") == setting
    assert config.load(settings, environ={}).deadline_setting("fast", "idle") == "deadlines.idle"

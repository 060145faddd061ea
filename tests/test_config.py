"""Layers, origins, and one clear line for every mistake."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pytest

from ipyrouter import config
from ipyrouter.config import Budget, Config, Deadlines, Price, Provider, Signals, Tier, build, layers, reference, schema
from ipyrouter.config.rules import Number, Setting, rules, setting, settings
from ipyrouter.errors import ConfigError, UsageError
from ipyrouter.notebook.settings import traits
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
    (Path.cwd().parent / ".git").mkdir()
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
    ("text", "message"),
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
def test_mistakes_are_told_in_one_line_with_the_file(home: Path, text: str, message: str) -> None:
    file = write(home / "config.toml", text)
    with pytest.raises(ConfigError) as caught:
        config.load(home=home)
    line = str(caught.value)
    assert message in line
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Wider(Config):
    """A config with one more setting, of which nothing stands anywhere but here."""

    retries: int = field(
        default=3,
        metadata=setting(
            Number(least=0, most=9), "lower", "more than yours", "how often", key="routing.retries", trait="retries"
        ),
    )


def test_a_new_setting_is_one_field() -> None:
    wider = schema.schema_of(Wider)
    schema.validate({"routing": {"retries": 2}}, "a.toml", from_file=True, schema=wider)
    with pytest.raises(ConfigError, match=r"a.toml: routing.retries must be a number of at most 9, not 10"):
        schema.validate({"routing": {"retries": 10}}, "a.toml", from_file=True, schema=wider)
    assert build._values(Wider, {**config.load().data, "routing": {"retries": 2}})["retries"] == 2
    project_data = {"routing": {"retries": 5}}
    assert layers._tighten(project_data, {"routing": {"retries": 6}}, wider) == (project_data, [])
    assert layers._tighten(project_data, {"routing": {"retries": 4}}, wider) == (
        {},
        ["routing.retries (more than yours)"],
    )
    row = "| `retries` | how often | a number from 0 to 9 |  | only a lower value | `IPyRouter.retries` |"
    assert row in reference.reference(Wider).splitlines()
    trait = traits(Wider)["retries"]
    assert (trait.min, trait.max, trait.help) == (0, 9, "how often")


NO_SETTINGS = {  # fields that are no settings: names of entries, and what loading adds
    Config: {"data", "origins", "warnings", "project_warnings", "ignored_files", "folder"},
    Tier: {"name"},
    Provider: {"name", "limit", "supports", "folder"},
}


@pytest.mark.parametrize("cls", [Config, Budget, Deadlines, Price, Provider, Signals, Tier])
def test_every_field_carries_a_rule(cls: type[Any]) -> None:
    without = {item.name for item in fields(cls)} - {item.name for item, _ in rules(cls)}
    assert without == NO_SETTINGS.get(cls, set())
    assert all(rule.help and rule.why for _, rule in rules(cls) if isinstance(rule, Setting))


def test_every_setting_has_a_default_unless_it_may_be_left_out() -> None:
    left_out = {
        "budget.call",
        "budget.session",
        "budget.day",
        "budget.month",
        "trust.projects",
        "store.url",
        "store.offline_day",
    }
    known = set(config.load().values)
    assert {key for key, _ in settings(Config) if "<" not in key} - known == left_out


def project(home: Path, user: str, text: str) -> Config:
    write(home / "config.toml", user)
    write(Path("ipyrouter.toml"), text)
    return config.load(home=home)


def test_a_project_names_its_tags(home: Path) -> None:
    loaded = project(home, "[log]\ntags = ['mine']\n", "[log]\ntags = ['project-x', 'ünï']\n")
    assert loaded.log_tags == ("project-x", "ünï")
    assert loaded.warnings == ()


@pytest.mark.parametrize("tags", ["'x'", "['a b']", "['a,b']", "['']", "[1]", "['" + "x" * 65 + "']", "['a\\u0000']"])
def test_tags_that_cannot_be(home: Path, tags: str) -> None:
    write(home / "config.toml", f"[log]\ntags = {tags}\n".replace("'a\\u0000'", '"a\\u0000"'))
    with pytest.raises(ConfigError, match=r"log\.tags must be a list of at most 20 tags of 1 to 64 printable"):
        config.load(home=home)


@pytest.mark.parametrize(
    ("text", "key", "held"),
    [
        ("[budget]\nday = 1000000", "budget.day", 1.0),
        ("[budget]\naction = 'downgrade'", "budget.action", "block"),
        ("[routing]\nconfirm_tokens = 999999", "routing.confirm_tokens", 50000),
        ("[log]\ncontent = true", "log.content", False),
        ("[log]\ncontent = false", "log.content", False),
        ("[validation]\nescalate = false", "validation.escalate", True),
        ("[cache]\nenabled = false\nttl_days = 900\nmax_mb = 9999", "cache.ttl_days", 30),
        ("[display]\nformat = 'text'", "display.format", "markdown"),
        ('[prices."local/smollm2"]\ninput = 9\noutput = 0', "prices.local/smollm2.input", 0),
        ('[aliases]\n"claude-haiku-3" = "gpt-6.1-sol"', "aliases.claude-haiku-3", "claude-3-haiku-20240307"),
        ("[retired]\nmymodel = 2020-01-01", "retired.mymodel", None),
        ("[successors]\nmymodel = 'gpt-6-luna'", "successors.mymodel", None),
        ("[providers.openai]\nbase_url = 'https://evil.example'", "providers.openai.base_url", None),
        ("[providers.openai]\nkey = 'OTHER_SECRET'", "providers.openai.key", "OPENAI_API_KEY"),
        ("[trust]\nprojects = ['/']", "trust.projects", None),
    ],
)
def test_a_project_may_not_loosen(home: Path, text: str, key: str, held: Any) -> None:
    user = "[budget]\nday = 1.0\naction = 'block'\n[log]\ncontent = false\n"
    loaded = project(home, user, text)
    assert loaded.values.get(key) == held
    assert len(loaded.warnings) == 1
    assert loaded.warnings == loaded.project_warnings
    assert key in loaded.warnings[0]
    assert str(home / "config.toml") in loaded.warnings[0]
    assert "evil" not in loaded.warnings[0]  # the value may be anything


@pytest.mark.parametrize(
    ("text", "key", "held"),
    [
        ("[budget]\nday = 0.5", "budget.day", 0.5),
        ("[budget]\nday = 1.0", "budget.day", 1.0),
        ("[budget]\nmonth = 7", "budget.month", 7),
        ("[budget]\naction = 'block'", "budget.action", "block"),
        ("[routing]\nconfirm_tokens = 10", "routing.confirm_tokens", 10),
        ("[tiers.mid]\nchain = ['gpt-6-luna']", "tiers.mid.chain", ["gpt-6-luna"]),
        ("[tiers.mid]\nmax_output_tokens = 9000", "tiers.mid.max_output_tokens", 9000),
        ("preset = 'article'", "preset", "article"),
        ("[routing]\nmode = 'rules'", "routing.mode", "rules"),
    ],
)
def test_a_project_may_tighten_and_choose_chains(home: Path, text: str, key: str, held: Any) -> None:
    loaded = project(home, "[budget]\nday = 1.0\n", text)
    assert loaded.values[key] == held
    assert loaded.warnings == ()
    assert loaded.origins[key] == str(Path.cwd() / "ipyrouter.toml")


def test_the_environment_and_arguments_are_the_users_own(home: Path) -> None:
    write(home / "config.toml", "[budget]\nday = 1.0\n")
    loaded = config.load({"budget": {"month": 99}}, home=home, environ={"IPYROUTER_BUDGET__DAY": "50"})
    assert (str(loaded.budget.day), str(loaded.budget.month)) == ("50", "99")


LOOSE = "[budget]\nday = 50\n[providers.acme]\nsdk = 'openai'\nbase_url = 'https://acme.example'\n"


@pytest.mark.parametrize("around", [True, False], ids=["a folder around it", "itself"])
def test_a_trusted_project_may_set_all(home: Path, around: bool) -> None:
    folder = Path.cwd().parent if around else Path.cwd()
    loaded = project(home, f'[budget]\nday = 1.0\n[trust]\nprojects = ["{folder}"]\n', LOOSE)
    assert str(loaded.budget.day) == "50"
    assert "acme" in loaded.providers
    assert loaded.warnings == ()


def test_even_a_trusted_project_sets_nothing_that_is_the_users_own(home: Path) -> None:
    own = "[store]\nurl = 'postgresql://eve@h/db'\noffline_day = 9\n[trust]\nprojects = ['/']\n"
    command = LOOSE + "key_command = ['cat', 'key']\n"
    loaded = project(home, f'[trust]\nprojects = ["{Path.cwd()}"]\n', own + command)
    assert (loaded.store_url, loaded.store_offline_day, loaded.providers["acme"].key_command) == (None, None, ())
    assert loaded.trusted_projects == (str(Path.cwd()),)
    (warning,) = loaded.warnings
    assert "Ignored: store.url; store.offline_day; providers.acme.key_command." in warning
    assert config.load({"store": {"url": "service=ours"}}, home=home).store_url == "service=ours"


def test_trust_is_of_folders_and_not_of_names_that_begin_alike(home: Path) -> None:
    loaded = project(home, f'[budget]\nday = 1.0\n[trust]\nprojects = ["{str(Path.cwd())[:-1]}"]\n', LOOSE)
    assert str(loaded.budget.day) == "1.0"
    assert "acme" not in loaded.providers


def test_trust_follows_links_to_where_a_project_really_is(home: Path, tmp_path: Path) -> None:
    inside, outside = tmp_path / "good" / "link", tmp_path / "bad"
    write(outside / "ipyrouter.toml", LOOSE)
    inside.parent.mkdir()
    inside.symlink_to(outside)
    user = '[budget]\nday = 1.0\n[trust]\nprojects = ["{}"]\n'
    write(home / "config.toml", user.format(inside.parent))
    assert str(config.load(home=home, folder=inside).budget.day) == "1.0"
    write(home / "config.toml", user.format(inside))
    assert str(config.load(home=home, folder=outside).budget.day) == "50"


def test_trust_stands_in_the_users_file_only(home: Path) -> None:
    for arguments, environ in (({"trust": {"projects": ["/"]}}, {}), (None, {"IPYROUTER_TRUST__PROJECTS": "['/']"})):
        with pytest.raises(ConfigError, match="in your own config file, where alone it counts"):
            config.load(arguments, home=home, environ=environ)
    write(home / "config.toml", "[trust]\nprojects = ['work']\n")
    with pytest.raises(ConfigError, match="a list of whole paths"):
        config.load(home=home)


SECRET = "sk-proj-CANARYcanary0123456789"


@pytest.mark.parametrize("secret", [SECRET, "A1b2C3d4E5f6G7h8i9"])
@pytest.mark.parametrize(
    "settings",
    [
        lambda key: {"preset": key},
        lambda key: {key: 1},
        lambda key: {"budget": key},
        lambda key: {"budget": {"day": key}},
        lambda key: {"budget": {"action": key}},
        lambda key: {"budget": {key: 1}},
        lambda key: {"budget": {"day": [key]}},
        lambda key: {"log": {"content": key}},
        lambda key: {"providers": key},
        lambda key: {"providers": {key: {"base_url": "https://a.example"}}},
        lambda key: {"providers": {key: {"sdk": "openai"}}},
        lambda key: {"providers": {"acme": key}},
        lambda key: {"providers": {"acme": {"sdk": key}}},
        lambda key: {"providers": {"acme": {"sdk": "openai", "base_url": key}}},
        lambda key: {"providers": {"acme": {"sdk": "openai", "base_url": f"ftp://u:{key}@a.example"}}},
        lambda key: {"providers": {"openai": {"key": key}}},
        lambda key: {"providers": {"openai": {"stream": key}}},
        lambda key: {"providers": {"openai": {key: "x"}}},
        lambda key: {"tiers": {"mid": {"chain": [key]}}},
        lambda key: {"tiers": {"mid": {"chain": key}}},
        lambda key: {"tiers": {"mid": {"chain": [f"{key}/m"]}}},
        lambda key: {"tiers": {"mid": {"chain": [f"local/{key}"]}}},
        lambda key: {"tiers": {key: {"chain": ["gpt-4o"]}}},
        lambda key: {"prices": {key: {"input": 1}}},
        lambda key: {"prices": {"m": {"input": key, "output": 1}}},
        lambda key: {"retired": {"m": key}},
        lambda key: {"routing": {"mode": key}},
        lambda key: {"routing": {"mode": f"the {key}"}},
    ],
)
def test_a_key_in_a_wrong_place_is_not_shown(home: Path, settings: Any, secret: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(settings(secret))
    assert secret not in str(caught.value)
    assert secret not in repr(caught.value)
    (table, inner), *_ = settings(secret).items()
    leaf = inner if isinstance(inner, str) else next(iter(inner.values())) if isinstance(inner, dict) else inner
    if isinstance(inner, dict) and isinstance(leaf, str) and table.isascii():
        with pytest.raises(ConfigError) as caught:  # the same from the environment
            config.load(environ={f"IPYROUTER_{table}__{next(iter(inner))}".upper(): leaf})
        assert secret not in str(caught.value)


def test_a_key_in_a_file_that_is_no_toml_is_not_shown(home: Path) -> None:
    for text in (f"key = {SECRET}", f"{SECRET}", f"[{SECRET}\n", f'"{SECRET}" = 1\n"{SECRET}" = 2'):
        write(home / "config.toml", text)
        with pytest.raises(ConfigError) as caught:
            config.load(home=home)
        assert SECRET not in str(caught.value)


ADDRESS = "https://ada:CANARY@a.example/v1?api_key=CANARY2&api-version=2026-01-01"


def test_an_address_shows_neither_password_nor_key() -> None:
    loaded = config.load({"providers": {"acme": {"sdk": "openai", "base_url": ADDRESS}}})
    provider = loaded.providers["acme"]
    for text in (repr(loaded), repr(provider), str(provider.base_url), f"{provider.address()}", repr(loaded.values),
                 str(dict(loaded.data)), repr(copy.deepcopy(provider)), str(pickle.dumps(loaded))):  # fmt: skip
        assert "CANARY" not in text
    assert "a.example" in repr(provider)
    assert "api-version=2026-01-01" in repr(provider)
    assert "".join(provider.address()) == ADDRESS  # who sends a request sees it


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

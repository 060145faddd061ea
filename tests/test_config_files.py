"""Which config files count, and that nothing in one can do more than fail the load in one line."""

from __future__ import annotations

import json
import os
import pickle
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ipyrouter import cli, config
from ipyrouter.config import files, schema
from ipyrouter.config.rules import Setting
from ipyrouter.errors import ConfigError
from ipyrouter.router import Router

PROJECT = "[budget]\nday = 1\n"


@pytest.fixture(autouse=True)
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of the config file for all users."""
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path / "etc"))
    monkeypatch.setenv("HOME", str(tmp_path / "nowhere"))
    return tmp_path / "etc" / "ipyrouter" / "config.toml"


def write(path: Path, text: str = PROJECT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def fault(home: Path) -> str:
    """Return the line that loading the config fails with."""
    with pytest.raises(ConfigError) as caught:
        config.load(home=home)
    line = str(caught.value)
    assert "\n" not in line
    assert str(home / "config.toml") in line
    return line


# --- what stands in a file ---


@pytest.mark.usefixtures("collector_rests")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a=" + "[" * 5000, "nested too deeply"),
        ("a=" + "{b=" * 5000, "nested too deeply"),
        ("preset=" + "9" * 5000, "a number or a date in it is not a valid one"),
        ("[tiers.fast]\nmax_output_tokens=0x" + "f" * 5000, "must be a whole number of at most 1e+09"),
        ("preset=0x" + "f" * 5000, "preset must be one of current, article, not a very large number"),
        ("[aliases]\na=0x" + "f" * 5000, "must be a string, not a very large number"),
        ("[retired]\nm=2026-01-01T00:00:00", "retired.m must be a date such as 2027-01-14, not a value"),
        ("[retired]\nm=2026-01-01 00:00:00Z", "retired.m must be a date such as"),
        ("[retired]\nm=07:32:00", "retired.m must be a date such as"),
        ("[retired]\nm=2026-02-30", "not valid TOML"),
        ('[providers.p]\nsdk="openai"\nbase_url="http://[::1"', "providers.p.base_url must be an address"),
        ('[providers.p]\nsdk="openai"\nbase_url="http://a:99999"', "providers.p.base_url must be an address"),
        ('[providers.p]\nsdk="openai"\nbase_url="http://a:b"', "providers.p.base_url must be an address"),
        ('[providers.p]\nsdk="openai"\nbase_url="https://"', "providers.p.base_url must be an address"),
        ('[providers.p]\nsdk="openai"\nbase_url="https://a\\u0000b"', "providers.p.base_url must be an address"),
        ('[providers."p\\n"]\nsdk="openai"', "holds control characters"),
        ('[trust]\nprojects=["/a\\u0000"]', "a list of whole paths"),
        ('[trust]\nprojects=["~no-such-user-here/a"]', "a list of whole paths"),
        ("[aliases]\n" + "a." * 50 + "b=1", "aliases.a must be a string, not a value of the type dict"),
        ("a." * 100_000 + "b=1", "a line holds more than 100 dots"),
        ('a."\u2028".' * 100_000 + "b=1", "a line holds more than 100 dots"),
    ],
    ids=lambda value: value[:40],
)
def test_what_cannot_be_a_setting_fails_in_one_line(home: Path, text: str, message: str) -> None:
    write(home / "config.toml", text)
    assert message in fault(home)


@pytest.mark.usefixtures("collector_rests")
@pytest.mark.parametrize("value", ["9" * 5000, "[" * 5000, "2026-02-30", "0x" + "f" * 5000])
def test_a_variable_is_never_more_than_a_wrong_value(value: str) -> None:
    with pytest.raises(ConfigError, match=r"environment variable IPYROUTER_PRESET: preset must be one of"):
        config.load(environ={"IPYROUTER_PRESET": value})


KEYS = st.sampled_from(["openai", "acme/m", "m", "", "a.b", "a\nb", "\x00", "é", "x" * 200])
SCALARS = st.one_of(
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(exclude_categories=("Cs",)), max_size=20),
    st.sampled_from(["http://[::1", "https://a:99999", "~none/x", "/", "\x00", "embedded", "acme/m", "A_KEY"]),
    st.dates(),
    st.datetimes(),
    st.times(),
)  # fmt: skip
ANY = st.recursive(
    SCALARS, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3))
)


def tables(rule: Any) -> st.SearchStrategy[Any]:
    """Return what may stand where a rule holds: mostly its own keys, whose values may be anything."""
    if isinstance(rule, Setting):
        return ANY
    inner = {key: tables(value) for key, value in rule.items() if key != schema.FREE}
    if schema.FREE in rule:
        return st.one_of(ANY, st.dictionaries(KEYS, tables(rule[schema.FREE]), max_size=2))
    return st.one_of(ANY, *([st.fixed_dictionaries({}, optional=inner)] * 4))


def toml(value: Any) -> str:
    """Return a value as TOML, tables inline."""
    if isinstance(value, dict):
        return (
            "{"
            + ", ".join(f"{json.dumps(key).replace(chr(127), '?')} = {toml(inner)}" for key, inner in value.items())
            + "}"
        )
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace(chr(127), "\\u007F")
    return str(value).lower() if isinstance(value, bool) else str(value)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.one_of([st.fixed_dictionaries({key: tables(rule)}) for key, rule in schema.SCHEMA.items()]))
def test_no_toml_does_more_than_fail_in_one_line(home: Path, data: dict[str, Any]) -> None:
    home.mkdir(exist_ok=True)
    for path in (home / "config.toml", Path("ipyrouter.toml")):
        path.write_text("".join(f"{key} = {toml(value)}\n" for key, value in data.items()), "utf-8")
        line = fault_of(home)
        assert line is None or "\n" not in line
        path.unlink()


def fault_of(home: Path) -> str | None:
    """Load and use the config, and return the error in its files, if there is one."""
    try:
        loaded = config.load(home=home, environ={})
    except ConfigError as error:
        return str(error)
    assert pickle.loads(pickle.dumps(loaded)) == loaded
    Router(loaded, home=home).classify("What is a list?")
    return None


# --- which files count ---


def pipe(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.mkdir()


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def large(path: Path) -> None:
    path.write_text("#" * (1 << 20) + "\n")


def endless(path: Path) -> None:
    path.symlink_to(path)


ODD: list[tuple[Callable[[Path], None], str]] = [
    (pipe, "it is not a regular file"),
    (folder, "it is not a regular file"),
    (device, "it is not a regular file"),
    (large, "it is larger than 1 MB"),
]


@pytest.mark.parametrize(("make", "reason"), ODD, ids=lambda value: getattr(value, "__name__", ""))
def test_an_odd_file_of_a_project_is_ignored_and_named(
    home: Path, make: Callable[[Path], None], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path.cwd() / "ipyrouter.toml"
    make(path)
    loaded = config.load(home=home)
    assert loaded.ignored_files == (f"{path} is ignored: {reason}.",)
    assert config.override(loaded, {"budget": {"day": 1}}, "test").ignored_files == loaded.ignored_files
    cli.main(["doctor"])
    assert f"WARN  {path} is ignored: {reason}." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("make", "reason"), [*ODD, (endless, "cannot be read")], ids=lambda value: getattr(value, "__name__", "")
)
def test_an_odd_file_of_the_users_own_is_an_error(home: Path, make: Callable[[Path], None], reason: str) -> None:
    home.mkdir()
    make(home / "config.toml")
    assert reason in fault(home)


def test_a_file_of_exactly_a_megabyte_is_read(home: Path) -> None:
    write(Path("ipyrouter.toml"), PROJECT + "#" * ((1 << 20) - len(PROJECT)))
    assert config.load(home=home).budget.day == 1


def test_a_link_to_an_ordinary_file_counts(home: Path, tmp_path: Path) -> None:
    Path("ipyrouter.toml").symlink_to(write(tmp_path / "shared.toml"))
    assert config.load(home=home).budget.day == 1


root_only = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files to other users"
)


@root_only
@pytest.mark.parametrize("linked", [False, True])
def test_a_project_file_of_another_user_is_ignored(home: Path, tmp_path: Path, linked: bool) -> None:
    path = Path.cwd() / "ipyrouter.toml"
    if linked:
        path.symlink_to(write(tmp_path / "own.toml"))
    else:
        write(path)
    os.chown(path, 65534, 65534, follow_symlinks=False)
    loaded = config.load(home=home)
    assert loaded.budget.day is None
    (line,) = loaded.ignored_files
    trust = f'projects = ["{path.parent}"]'
    assert line.startswith(
        f"{path} is ignored: it belongs to another user. If you trust it, write {trust} under [trust]"
    )
    write(home / "config.toml", f"[trust]\n{trust}\n")
    loaded = config.load(home=home)
    assert loaded.budget.day == 1
    assert loaded.ignored_files == ()


@root_only
def test_a_site_file_of_another_user_is_ignored(home: Path, site: Path) -> None:
    os.chown(write(site), 65534, 65534)
    loaded = config.load(home=home)
    assert loaded.budget.day is None
    assert loaded.ignored_files == (f"{site} is ignored: it belongs to another user.",)


def test_whose_files_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.toml")
    owner = path.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1, raising=False)  # the system's answer, not a function of ours
    assert files.read(path, "anyone") == PROJECT
    with pytest.raises(files.Unusable, match="belongs to another user"):
        files.read(path, "user")
    if owner == 0:
        assert files.read(path, "root or user") == PROJECT


def test_the_site_comes_before_the_user(home: Path, site: Path) -> None:
    write(site, "[budget]\nday = 1\nmonth = 9\n")
    write(home / "config.toml", "[budget]\nday = 2\n")
    loaded = config.load(home=home)
    assert (loaded.budget.day, loaded.budget.month) == (2, 9)
    assert loaded.origins["budget.month"] == str(site)


def test_the_first_of_several_site_folders_wins(
    home: Path, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = write(tmp_path / "etc2" / "ipyrouter" / "config.toml", "[budget]\nday = 2\nmonth = 9\n")
    write(site, "[budget]\nday = 1\n")
    write(Path("relative/ipyrouter/config.toml"), "[budget]\ncall = 7\n")
    monkeypatch.setenv("XDG_CONFIG_DIRS", f"{tmp_path / 'etc'}:relative:{tmp_path / 'etc2'}:")
    loaded = config.load(home=home)
    assert (loaded.budget.day, loaded.budget.month, loaded.budget.call) == (1, 9, None)
    assert loaded.origins["budget.month"] == str(second)


@pytest.mark.skipif(sys.platform != "linux", reason="the folder of Linux")
def test_without_a_variable_the_site_is_etc_xdg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CONFIG_DIRS")
    assert files.site_files({}) == [Path("/etc/xdg/ipyrouter/config.toml")]


def test_the_limits_of_the_site_bind_a_project(home: Path, site: Path) -> None:
    write(site, "[budget]\nday = 1\n")
    write(Path("ipyrouter.toml"), "[budget]\nday = 5\n")
    assert config.load(home=home).budget.day == 1


# --- how far up a project's file is searched ---


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    """A folder two below another."""
    path = tmp_path / "above" / "project" / "notebooks"
    path.mkdir(parents=True)
    return path


@pytest.mark.parametrize("mark", ["folder", "file"])
def test_the_search_goes_up_to_the_repositorys_root(deep: Path, home: Path, mark: str) -> None:
    git = deep.parent / ".git"
    git.mkdir() if mark == "folder" else git.write_text("gitdir: elsewhere")
    outside = write(deep.parent.parent / "ipyrouter.toml")
    loaded = config.load(home=home, folder=deep)
    assert loaded.budget.day is None
    why = "a project's file counts up to the repository's root or your home folder"
    assert loaded.ignored_files == (f"{outside} is ignored: {why}.",)
    write(deep.parent / "ipyrouter.toml", "[budget]\nday = 2\n")
    loaded = config.load(home=home, folder=deep)
    assert loaded.budget.day == 2
    assert loaded.ignored_files == ()


def test_the_search_goes_up_to_the_home_folder(deep: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(deep.parent))
    write(deep.parent.parent / "ipyrouter.toml")
    assert config.load(home=home, folder=deep).budget.day is None
    write(deep.parent / "ipyrouter.toml")
    assert config.load(home=home, folder=deep).budget.day == 1


def test_elsewhere_only_the_folder_itself_counts(deep: Path, home: Path) -> None:
    write(deep.parent / "ipyrouter.toml")
    assert config.load(home=home, folder=deep).budget.day is None
    write(deep / "ipyrouter.toml")
    assert config.load(home=home, folder=deep).budget.day == 1


def test_an_ignored_file_hides_none_above_it(deep: Path, home: Path) -> None:
    (deep.parent / ".git").mkdir()
    (deep / "ipyrouter.toml").mkdir()
    write(deep.parent / "ipyrouter.toml")
    loaded = config.load(home=home, folder=deep)
    assert loaded.budget.day == 1
    assert len(loaded.ignored_files) == 1


def test_a_working_folder_that_is_gone_has_no_project(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert config.load(home=home).budget.day is None


# --- the home folder ---


@pytest.fixture
def routers() -> Iterator[list[Router]]:
    routers: list[Router] = []
    yield routers
    for router in routers:
        router.close()


def test_a_relative_home_stays_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, routers: list[Router]
) -> None:
    first = Path.cwd()
    monkeypatch.setenv("IPYROUTER_HOME", "a relative home of this test")
    routers.append(Router())
    monkeypatch.chdir(tmp_path)
    routers.append(Router())
    assert {router.home for router in routers} == {first / "a relative home of this test"}
    assert Path(routers[0].store.health().path).parent == first / "a relative home of this test"


def test_a_home_of_no_user_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPYROUTER_HOME", "~no-such-user-here/x")
    with pytest.raises(ConfigError, match="there is no such home folder"):
        Router()


def test_the_shipped_files_are_plain() -> None:
    shipped = Path(config.__file__).with_name("defaults.toml")
    assert stat.S_ISREG(shipped.stat().st_mode)
    assert files.parse(shipped.read_text("utf-8"), "defaults.toml")["preset"] == config.default("preset")

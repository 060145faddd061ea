"""`%config IPyRouter…`: settings of the kernel, checked at once."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from traitlets.config import Config

import ipyrouter
from ipyrouter.errors import ConfigError
from ipyrouter.notebook.settings import IPyRouter
from tests.notebook.conftest import Shell


def test_a_setting_reaches_the_router_and_none_takes_it_back(shell: Shell) -> None:
    assert shell.run("%config IPyRouter.max_usd = 1").error is None
    assert ipyrouter.default_router().config.budget.session == Decimal(1)
    assert "budget for this session: $1.00 left" in shell.run("%router status").out
    assert shell.run("%config IPyRouter.max_usd").value == 1
    setting = shell.run("%router config").value.loc["budget.session"]
    assert (setting["value"], setting["from"]) == ("1.0", "%config IPyRouter")
    shell.run("%config IPyRouter.max_usd = None")
    assert ipyrouter.default_router().config.budget.session is None


def test_a_budget_set_here_holds(shell: Shell, requests: list[Any]) -> None:
    shell.run("%config IPyRouter.max_usd = 0.000001\n")
    shell.run("%config IPyRouter.over_budget = 'block'")
    assert "Nothing was sent" in str(shell.run("%%route\nExplain closures").error)
    assert not requests


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("max_us = 1", "ConfigError: IPyRouter has no setting 'max_us'. Did you mean 'max_usd'?"),
        (
            "max_usd = -1",
            "IPyRouter.max_usd = -1: expected a float, in dollars, which should not be less than 0, or None.",
        ),
        ("max_usd_day = 'x' * 5000", "IPyRouter.max_usd_day = 'xxxx"),
        ("fast_below = 2", "IPyRouter.fast_below = 2: expected a float from 0 to 1, or None."),
        ("cache = 'maybe'", "IPyRouter.cache = 'maybe': expected True or False, or None."),
        ("mode = 'x'", "IPyRouter.mode = 'x': expected any of ['learned', 'rules', 'hybrid'], or None."),
        ("max_usd = float('inf')", "must be a number of at most"),
        ("max_usd = 10**400", "too large"),
        ("max_usd = 'much'", "expected a float"),
        ("format = 'jsn'", "expected any of ['markdown', 'text']"),
        ("fast_below = 0.9", "routing.fast_below (0.9) is above routing.power_above (0.7). Swap them."),
    ],
)
def test_a_bad_setting_fails_the_cell_and_changes_nothing(shell: Shell, line: str, message: str) -> None:
    before = ipyrouter.default_router().config
    ran = shell.run(f"%config IPyRouter.{line}")
    assert ran.error is not None
    assert message in ran.out + ran.err
    assert len((ran.out + ran.err).strip().splitlines()) == 1
    assert ipyrouter.default_router().config == before
    assert shell.run("%%route -q\nExplain closures").error is None


def test_help_lists_the_settings(shell: Shell) -> None:
    output = shell.run("%config IPyRouter").out
    assert "IPyRouter.max_usd=<Float>\n    dollars that this session may spend" in output
    assert "IPyRouter" not in shell.run("%unload_ext ipyrouter\n%config").out


def test_an_ipython_config_file_is_checked_too() -> None:
    loaded = Config()
    loaded.IPyRouter.max_usd = 2.0
    assert IPyRouter(config=loaded).chosen() == {"budget": {"session": 2.0}}
    loaded.IPyRouter.max_us = 2.0
    with pytest.raises(ConfigError, match="no setting 'max_us'"):
        IPyRouter(config=loaded)


def test_a_router_that_comes_later_gets_the_settings(shell: Shell, make_router: Any) -> None:
    shell.run("%config IPyRouter.max_usd = 1")
    ipyrouter.use_router(make_router())
    assert "budget for this session: $1.00 left" in shell.run("%router status").out


def test_what_configure_was_given_stays(shell: Shell, make_router: Any) -> None:
    router = make_router()
    router.configure({"budget": {"day": 0.5}})
    ipyrouter.use_router(router)
    shell.run("%route -q Explain closures")
    assert router.config.budget.day == Decimal("0.5")


@pytest.mark.parametrize("key", ["sk-proj-CANARYcanary0123", "A1b2C3d4E5f6G7h8"])
@pytest.mark.parametrize(
    "line",
    ["%config IPyRouter.mode = {!r}", "%config IPyRouter.max_usd = {!r}", "%config IPyRouter.cache = [{!r}]",
     "%%route -m {}/m\nx", "%%route -m {}\nx", "%%route -t {}\nx"],
)  # fmt: skip
def test_a_key_in_a_wrong_place_is_not_shown(shell: Shell, line: str, key: str) -> None:
    ran = shell.run(line.format(key))
    assert ran.error is not None
    assert key not in str(ran.error) + repr(ran.error) + ran.out + ran.err


@pytest.mark.parametrize("line", ["%router report {}", "%router log {}", "%%route {}\nx", "%%route --max-tokens {}\nx"])
def test_what_begins_like_a_key_is_not_shown(shell: Shell, line: str) -> None:
    ran = shell.run(line.format("sk-proj-CANARYcanary0123"))
    assert ran.error is not None
    assert "CANARY" not in str(ran.error) + repr(ran.error) + ran.out + ran.err

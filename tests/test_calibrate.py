"""The dial on a user's own log: shares, cost and expected quality."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest

from ipyrouter.classifier import learn, model
from ipyrouter.errors import UsageError
from ipyrouter.router import Router
from tests.notebook.conftest import Shell, shell  # noqa: F401  a fixture

MakeRouter = Callable[..., Router]
PROMPTS = (
    "rename column a to b", "what does df.shape return", "How do I read a CSV with pandas?",
    "Group sales by month and region, fill the gaps with 0 and plot the three largest regions",
    "Prove that the sample mean converges almost surely, without assuming finite variance",
)  # fmt: skip


def test_the_dial_on_the_log(make_router: MakeRouter) -> None:
    router = make_router(routing={"mode": "learned"})
    for prompt in (*PROMPTS, PROMPTS[0]):
        router.route(prompt)
    frame = router.calibrate()
    assert list(frame.columns) == ["fast", "mid", "power", "cost", "of_power", "quality"]
    assert [name for name in frame.index if name.endswith("(now)")] == ["fast_below 0.35, power_above 0.7 (now)"]
    assert ((frame[["fast", "mid", "power"]].sum(axis=1) - 1).abs() < 1e-9).all()
    now, power = frame.loc["fast_below 0.35, power_above 0.7 (now)"], frame.loc["all power"]
    tiers = [model.classify(prompt).tier for prompt in PROMPTS]  # the repeat counts once
    assert [now[tier] for tier in ("fast", "mid", "power")] == [
        tiers.count(tier) / 5 for tier in ("fast", "mid", "power")
    ]
    assert (power["power"], power["quality"]) == (1, 1)
    assert frame["quality"].is_monotonic_decreasing or frame["quality"].iloc[-1] == 1
    assert frame["quality"].iloc[:-1].is_monotonic_decreasing  # the dial turns towards cheap
    assert "rates of each tier's first model" in frame.attrs["assumption"]


def test_a_dial_of_ones_own_is_among_them(make_router: MakeRouter) -> None:
    router = make_router(routing={"mode": "learned", "fast_below": 0.01, "power_above": 0.02})
    router.route(PROMPTS[-1])
    assert "fast_below 0.01, power_above 0.02 (now)" in router.calibrate().index


def test_what_was_learned_counts(make_router: MakeRouter) -> None:
    router = make_router(routing={"mode": "learned"})
    things = ("closures", "joins", "plots", "dates")
    router.route("How do I write joins for table 99?")
    before = router.calibrate().loc["fast_below 0.35, power_above 0.7 (now)", "fast"]
    rows = [
        learn.Outcome(f"How do I write {things[n % 4]} for table {n}?", "fast", float(n % 4 != 1)) for n in range(28)
    ]
    router.learn(pd.DataFrame(rows))
    after = router.calibrate().loc["fast_below 0.35, power_above 0.7 (now)", "fast"]
    assert (before, after) == (1, 0)


def test_a_log_without_prompts(make_router: MakeRouter) -> None:
    with pytest.raises(UsageError, match="holds no prompts to calibrate with"):
        make_router().calibrate()


def test_the_command(shell: Shell) -> None:  # noqa: F811
    shell.run("%%route -q\nExplain closures")
    ran = shell.run("%router calibrate")
    assert "which was measured on requests that are not yours" in ran.out
    assert ran.value["quality"].iloc[-1] == "100%"

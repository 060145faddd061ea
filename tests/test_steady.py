"""The tier stays where the meaning does: however a prompt is typed, in a conversation, and after a small edit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from ipyrouter import config
from ipyrouter.classifier import model, steadied
from ipyrouter.classifier.request import bare
from ipyrouter.errors import ConfigError, UsageError
from ipyrouter.notebook.prompt.chats import Chats, Turn
from ipyrouter.router import Router
from ipyrouter.types import Classification, Prompt
from tests.notebook.conftest import Shell, shell  # noqa: F401  a fixture
from training import confidence, data
from training.perturb import KINDS

MakeRouter = Callable[..., Router]
LOADED = config.load(environ={})
PROMPTS = data.notebook(held_back=True).prompts[:600]
WITHIN = {"case": 0.985, "whitespace": 0.99, "preamble": 0.985, "punctuation": 0.965, "typos": 0.975, "noise": 0.955}
"""Shares of prompts that keep their tier; a little below what was measured."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_tier_stays_however_a_prompt_is_typed(kind: str) -> None:
    ranks = {"fast": 0, "mid": 1, "power": 2}
    moves = [
        abs(ranks[model.classify(prompt).tier] - ranks[model.classify(KINDS[kind](prompt, 5000 + place)).tier])
        for place, prompt in enumerate(PROMPTS)
    ]
    assert moves.count(0) / len(moves) >= WITHIN[kind]
    assert moves.count(2) / len(moves) <= 0.005


@pytest.mark.parametrize(
    ("polite", "request_"),
    [
        ("Hi! Please rename a to b", "rename a to b"),
        ("Hello there, could you kindly sort df by date?", "sort df by date?"),
        ("Good morning. I hope you are well. I have a quick question: which test fits here?", "which test fits here?"),
        ("I'd be grateful for your help. Sort df", "Sort df"),
        ("Sort df by date. Thank you very much in advance!", "Sort df by date"),
        ("Can you sort df? Thanks :)", "sort df?"),
        ("Bitte, sortiere df. Vielen Dank im Voraus", "sortiere df"),
        ("Sort df by date.", "Sort df by date"),
        ("Sort df by date!!", "Sort df by date"),
        ("Sort df by date ...", "Sort df by date"),
        ("このデータを並べ替えて ください。", "このデータを並べ替えて ください"),
        ("Sort df by date?", "Sort df by date?"),
        ("Thanks...", "Thanks..."),
        # Words that look polite, and are what is asked about.
        ("Hello world in Python", "Hello world in Python"),
        ("high variance estimators", "high variance estimators"),
        ("Thanks!", "Thanks!"),
        ("please", "please"),
        ("", ""),
        ("Translate to French: thank you", "Translate to French:"),
    ],
)
def test_politeness_is_not_the_request(polite: str, request_: str) -> None:
    assert bare(polite) == request_


def at(difficulty: float) -> Classification:
    tier = model.tier_of(difficulty, LOADED.fast_below, LOADED.power_above)
    return Classification(tier, difficulty, 0.6, ("some reason",))


@pytest.mark.parametrize(
    ("difficulty", "previous", "tier"),
    [
        (0.36, "fast", "fast"), (0.34, "mid", "mid"), (0.71, "mid", "mid"), (0.69, "power", "power"),
        (0.45, "fast", "mid"), (0.2, "mid", "fast"), (0.9, "mid", "power"), (0.6, "power", "mid"),
        (0.71, "fast", "power"), (0.34, "power", "fast"), (0.36, "mid", "mid"), (0.36, None, "mid"),
    ],
)  # fmt: skip
def test_near_a_boundary_the_tier_before_stays(difficulty: float, previous: str | None, tier: str) -> None:
    before = None if previous is None else config.as_tier(previous)
    result = steadied(at(difficulty), before, LOADED)
    assert result.tier == tier
    assert result.difficulty == difficulty
    assert (result.tier == at(difficulty).tier) == (result == at(difficulty))
    if result.tier != at(difficulty).tier:
        assert result.reasons[0].startswith(f"stays {tier}, as before")
        assert result.runner_up == at(difficulty).tier


def test_what_is_sent_up_or_decided_by_a_function_is_not_steadied() -> None:
    up = replace(at(0.69), tier="power")
    assert steadied(up, "mid", LOADED) == up


def near(boundary: float, margin: float = 0.05) -> tuple[str, str]:
    """Two prompts of our own that lie on either side of a boundary, and near it."""
    difficulties = {prompt: model.classify(prompt).difficulty for prompt in PROMPTS}
    below = next(prompt for prompt, value in difficulties.items() if boundary - margin < value < boundary)
    above = next(prompt for prompt, value in difficulties.items() if boundary < value < boundary + margin)
    return below, above


def test_the_router_keeps_the_tier_before(make_router: MakeRouter) -> None:
    below, above = near(LOADED.fast_below)
    router = make_router(routing={"mode": "learned"})
    assert router.route(above).tier == "mid"
    assert router.route(above, previous_tier="fast").tier == "fast"
    assert router.preview(below, previous_tier="mid").tier == "mid"
    assert router.route(above, previous_tier="fast", tier="power").tier == "power"
    assert router.classify(above).tier == "mid"  # the prompt by itself
    with pytest.raises(UsageError, match="Unknown tier 'fats'"):
        router.route(above, previous_tier="fats")


def test_a_conversation_keeps_its_tier(shell: Shell) -> None:  # noqa: F811
    below, above = near(LOADED.fast_below)
    shell.run("%config IPyRouter.mode = 'learned'")
    shell.run(f"%%route --chat one\n{below}")
    assert "stays fast, as before" in shell.run(f"%%route --chat one -n\n{above}").out
    assert "stays" not in shell.run(f"%%route -n\n{above}").out


def test_a_cell_that_is_run_again_after_a_small_edit_keeps_its_tier() -> None:
    chats = Chats()
    here = chats.place(name=None, goes_on=False, cell="a")
    chats.keep(here, Turn("Sort the table df by the column date", "ok", "a", 1, "fast"))
    assert chats.tier_before(here, "Sort the table df by the column name", "a") == "fast"
    assert chats.tier_before(here, Prompt.of("Sort the table df by the column name"), "a") == "fast"
    assert chats.tier_before(here, "Sort the table df by the column name", "b") is None
    assert chats.tier_before(here, "Prove that the estimator is consistent", "a") is None
    assert chats.tier_before(chats.place(name=None, goes_on=True, cell="b"), "Why?", "b") == "fast"  # the turn before
    chats.forget()
    assert chats.tier_before(here, "Sort the table df by the column name", "a") is None


def test_unsure_goes_up(make_router: MakeRouter) -> None:
    below, above = near(LOADED.fast_below, 0.02)
    stays, up = (make_router(routing={"mode": "learned", "unsure": unsure}) for unsure in ("stay", "up"))
    assert (stays.classify(below).tier, stays.classify(below).runner_up) == ("fast", "mid")
    assert (up.classify(below).tier, up.classify(below).runner_up) == ("mid", "fast")
    assert up.classify(below).reasons[0] == "could be fast as well, and unsure is up"
    assert up.classify(above) == stays.classify(above)  # it could be less, not more
    assert up.classify("rename column a to b") == stays.classify("rename column a to b")
    with pytest.raises(ConfigError, match="Did you mean 'up'"):
        config.load({"routing": {"unsure": "upp"}})


def test_the_dry_run_says_what_else_it_could_be(shell: Shell) -> None:  # noqa: F811
    below, _ = near(LOADED.power_above, 0.02)
    shell.run("%config IPyRouter.mode = 'learned'")
    assert "mid, could be power (difficulty" in shell.run(f"%%route -n\n{below}").out
    assert "could be" not in shell.run("%%route -n\nrename column a to b").out


@pytest.mark.slow
def test_confidence_is_how_often_the_tier_is_right() -> None:
    sure, right = confidence.measure(model.shipped(), data.notebook(held_back=True))
    assert confidence.error(sure[1::2], right[1::2]) <= 0.035  # the half that nothing was measured on


@pytest.mark.parametrize("author", data.FINAL)
def test_confidence_holds_for_authors_never_seen(author: str) -> None:
    assert confidence.error(*confidence.measure(model.shipped(), data.final(author))) <= 0.05


def test_at_the_same_distance_from_a_boundary_the_clearer_prompt_is_surer() -> None:
    network = model.shipped()
    reading = replace(network.read("rename column a to b"), choices=False)
    clear, vague = (replace(reading, heads=(first, -8.0, *reading.heads[2:])) for first in (4.0, 0.2))
    assert model.clearness(clear) > model.clearness(vague)
    sure = [network.confidence(each, 0.5, LOADED.fast_below, LOADED.power_above) for each in (clear, vague)]
    assert 1 > sure[0] > sure[1] > 0
    nearer = network.confidence(clear, LOADED.fast_below + 0.01, LOADED.fast_below, LOADED.power_above)
    assert sure[0] > nearer


def test_a_kind_of_question_that_is_unknown_is_ranked_by_its_length() -> None:
    network = model.shipped()
    reading = network.read(
        "Which gas do plants take in?\nA. Oxygen\nB. Carbon dioxide\nC. Nitrogen\nD. Helium\nAnswer:"
    )
    strange = replace(reading, hidden=-reading.hidden)
    gains = [replace(strange, heads=(*reading.heads[:2], gain, reading.heads[3])) for gain in (-2.0, 2.0)]
    assert network.difficulty(gains[0]) == network.difficulty(gains[1])
    longer = replace(strange, length=strange.length + 1)
    assert network.difficulty(longer) > network.difficulty(strange)

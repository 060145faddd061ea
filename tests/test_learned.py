"""The learned classifier: what must hold of it, whatever its figures (those are in benchmarks/classifier.py)."""

from __future__ import annotations

import json
import locale
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ipyrouter
from ipyrouter import config
from ipyrouter.classifier import classify, classify_many, learn, learners, lessons, model, rules
from ipyrouter.classifier.request import request_of
from ipyrouter.errors import ConfigError, UsageError
from ipyrouter.router import Router
from ipyrouter.types import Classification
from tests.notebook.conftest import Shell, shell  # noqa: F401  a fixture
from training import data

MakeRouter = Callable[..., Router]
LOADED = config.load(environ={})


@pytest.mark.parametrize(
    ("prompt", "tier"),
    [
        ("rename column a to b", "fast"),
        ("what does df.shape return", "fast"),
        ("How do I read a CSV with pandas?", "fast"),
        ("Translate to French: good morning", "fast"),
        ("Was macht df.head()?", "fast"),
        ("Design a fault-tolerant feature store for fifty teams with exactly-once ingestion and lineage", "power"),
        ("Prove that the sample mean converges almost surely, without assuming finite variance", "power"),
    ],
)
def test_plain_cases(prompt: str, tier: str) -> None:
    assert classify(prompt, LOADED).tier == tier


@pytest.mark.slow
@given(st.text(max_size=400))
@settings(max_examples=200, deadline=None)
def test_any_text_gets_a_difficulty_and_reasons(prompt: str) -> None:
    result = classify(prompt, LOADED)
    assert 0 <= result.difficulty <= 1
    assert 0 <= result.confidence <= 1
    assert result.reasons
    assert result.tier == model.tier_of(result.difficulty, LOADED.fast_below, LOADED.power_above)
    assert classify(prompt, LOADED) == result


def test_one_dial_trades_cost_for_quality() -> None:
    prompts = ["rename a to b", "write a function that merges two tables", "design a distributed cache"] * 2
    cheap = config.load({"routing": {"fast_below": 0.9, "power_above": 0.99}}, environ={})
    expensive = config.load({"routing": {"fast_below": 0.01, "power_above": 0.05}}, environ={})
    ranks = {"fast": 0, "mid": 1, "power": 2}
    for prompt in prompts:
        assert (
            ranks[classify(prompt, cheap).tier]
            <= ranks[classify(prompt, LOADED).tier]
            <= ranks[classify(prompt, expensive).tier]
        )


def test_material_does_not_swamp_the_request() -> None:
    table = "\n".join(f"{i}   name{i}   {i * 3.7:.2f}   2024-01-{i % 28 + 1:02d}" for i in range(60))
    code = "```python\n" + "\n".join(f"x_{i} = transform(x_{i - 1}, design=architecture)" for i in range(80)) + "\n```"
    trace = 'Traceback (most recent call last):\n  File "a.py", line 3, in f\nKeyError: "x"'
    for request, tier in (("rename column a to b", "fast"), ("Prove that this estimator is consistent", "power")):
        assert classify(request, LOADED).tier == tier
        for material in (table, code, trace):
            assert classify(f"{request}\n\n{material}", LOADED).tier == tier, material[:40]


MATERIAL: dict[str, Callable[[int], str]] = {
    "code": lambda lines: (
        "```python\n" + "\n".join(f"left_{n} = frame_{n}.merge(rates)" for n in range(lines)) + "\n```"
    ),
    "traceback": lambda lines: (
        "Traceback (most recent call last):\n"
        + "\n".join(f'  File "a{n}.py", line {n + 3}, in f{n}\n    g{n}(x)' for n in range(lines // 2))
        + '\nKeyError: "x"'
    ),
    "table": lambda lines: "\n".join(f"| {n} | name{n} | {n * 3.7:.2f} |" for n in range(lines)),
    "document": lambda lines: "\n".join(f"> In clause {n} both parties agree on its conditions." for n in range(lines)),
}


@pytest.mark.parametrize("kind", MATERIAL)
def test_contrast_pairs(kind: str) -> None:
    """The same request with short and with long material: harder where the material must be understood."""
    material = MATERIAL[kind]
    for request in ("Why does this fail?", "Explain what this does", "Refactor this", "Review this", "Summarise this"):
        short, long, longest = (
            classify(f"{request}\n\n{material(lines)}", LOADED).difficulty for lines in (4, 80, 400)
        )
        assert short + 0.02 < long < longest, request
        assert longest - short <= 0.25, request  # and no more than that
    for request in ("rename column a to b", "what does df.shape return"):
        tiers = {classify(f"{request}\n\n{material(lines)}", LOADED).tier for lines in (4, 80, 200)}
        assert tiers == {"fast"}, request


def test_kinds_of_material_are_recognised() -> None:
    prompt = (
        "Why does this fail?\n\n```python\nx = 1\ny = 2\n```\n"
        'Traceback (most recent call last):\n  File "a.py", line 1, in f\nKeyError: "x"\n'
        "| a | b |\n|---|---|\n| 1 | 2 |\n> quoted words\nThanks!"
    )
    request = request_of(prompt)
    assert request.text == "Why does this fail?\n\nThanks!"
    assert (request.code, request.traceback, request.table, request.quote) == (4, 3, 3, 1)
    assert request_of("```\nonly code\n```").text  # nothing but material: then it is the request
    assert request_of("One, two, three, and four, please.").table == 0


def test_a_system_prompt_does_not_count(make_router: MakeRouter) -> None:
    router = make_router(routing={"mode": "learned"})
    long = "You are an architect. Design distributed systems and prove theorems. " * 50
    assert router.route("rename column a to b", system=long).tier == "fast"


def test_modes(make_router: MakeRouter) -> None:
    prompt = "Prove this simple theorem about almost sure convergence of martingales"
    assert make_router(routing={"mode": "rules"}).classify(prompt).tier == "fast"  # the article: it says "simple"
    assert make_router(routing={"mode": "hybrid"}).classify(prompt).tier == "fast"
    assert make_router(routing={"mode": "learned"}).classify(prompt).tier == "power"
    assert make_router(routing={"mode": "rules"}).classify("hm").reasons == ("no signal recognised",)
    for verdict, tier in (("power", "power"), (0.1, "fast"), (0.5, "mid")):
        assert make_router(routing={"mode": lambda _, verdict=verdict: verdict}).classify("hm").tier == tier
    own = Classification("mid", 0.4, 1.0, ("mine",))
    assert make_router(routing={"mode": lambda _: own}).classify("hm") == own
    with pytest.raises(UsageError, match="Your classifier returned None"):
        make_router(routing={"mode": lambda _: None}).classify("hm")
    with pytest.raises(ConfigError, match="Did you mean 'learned'"):
        config.load({"routing": {"mode": "leaned"}})


def test_the_articles_signals_are_reasons_where_they_agree() -> None:
    prompt = "rename column a to b"
    signals = rules.signals_of(prompt, LOADED.signals)
    assert signals is not None
    assert classify(prompt, LOADED).reasons[0] == "says “rename”"


def test_no_heavy_import_and_no_locale() -> None:
    code = (
        "import locale, sys\nlocale.setlocale(locale.LC_ALL, 'C')\n"
        "from ipyrouter import config\nfrom ipyrouter.classifier import classify\n"
        "print(classify('Größe der Tabelle ändern 表を作る', config.load(environ={})))\n"
        "assert not {'pandas', 'sklearn', 'torch'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    locale.setlocale(locale.LC_ALL, "")
    assert done.stdout.strip() == str(classify("Größe der Tabelle ändern 表を作る", LOADED))


def test_the_weights_are_small() -> None:
    assert model.WEIGHTS.stat().st_size <= 3_000_000


# --- learning from one's own outcomes ---


def hard_and_easy() -> tuple[str, str]:
    """Two things to ask about; the shipped weights think the first the easier, and the outcomes contradict them."""
    hard, easy = sorted(
        ("widget", "gadget"), key=lambda thing: classify(f"what about {thing} number 0", LOADED).difficulty
    )
    return hard, easy


def outcomes(rows: int = 60) -> pd.DataFrame:
    """A user whose questions about one thing need more than fast, and whose questions about the other do not."""
    hard, easy = hard_and_easy()
    things = [hard if number % 2 else easy for number in range(rows)]
    data = [
        {"prompt": f"what about {thing} number {number}", "tier": "fast", "ok": thing == easy}
        for number, thing in enumerate(things)
    ]
    return pd.DataFrame(data)


def test_learning_moves_what_the_outcomes_say(
    make_router: MakeRouter, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hard, easy = (f"what about {thing} number 999" for thing in hard_and_easy())
    router = make_router(routing={"mode": "learned"})
    before = router.classify(hard).difficulty
    lesson = router.learn(outcomes())
    assert lesson is not None
    assert lesson.gained
    assert "held-back pairs ranked rightly" in capsys.readouterr().out
    assert router.classify(hard).difficulty > max(before, router.classify(easy).difficulty)
    again = make_router(routing={"mode": "learned"})  # it lasts
    assert again.classify(hard) == router.classify(hard)
    assert [path.name for path in (home / "learned").iterdir()] == ["0001.json"]
    router.learn(reset=True)
    assert "Forgot 1 lesson;" in capsys.readouterr().out
    assert router.classify(hard).difficulty == before


def test_pasted_code_teaches(make_router: MakeRouter) -> None:
    def prompt_of(number: int, lines: int) -> str:
        code = "\n".join(f"x_{line} = f({number}, {line})" for line in range(lines))
        return f"What does this return?\n\n```python\n{code}\n```"

    rows = [
        {"prompt": prompt_of(number, lines), "tier": "fast", "ok": lines == 2}
        for number in range(30)
        for lines in (2, 30)
    ]
    router = make_router(routing={"mode": "learned"})
    lesson = router.learn(pd.DataFrame(rows))
    assert lesson is not None
    assert lesson.after == 1
    assert router.classify(prompt_of(99, 28)).difficulty > router.classify(prompt_of(99, 3)).difficulty


def test_nothing_gained_keeps_the_old_weights(
    make_router: MakeRouter, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noise = pd.DataFrame(
        {
            "prompt": [f"{'abcdefgh'[n % 8]}{n}" for n in range(40)],
            "tier": "fast",
            "ok": [(n * 7919) % 3 == 0 for n in range(40)],
        }
    )
    router = make_router(routing={"mode": "learned"})
    lesson = router.learn(noise)
    assert lesson is not None
    if not lesson.gained:
        assert "the old weights stay" in capsys.readouterr().out
        assert not (home / "learned").exists()


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.DataFrame({"prompt": ["a"], "teir": ["fast"], "ok": [1]}), "no column 'tier'.*Did you mean 'teir'"),
        (outcomes(10), "outcomes of 10 prompts; learning needs 20"),
        (outcomes().assign(tier="fats"), "Unknown tier 'fats'"),
        (outcomes().assign(ok=True), "All outcomes are alike"),
        (outcomes().assign(ok=[*([True, False] * 29), True, float("nan")]), "Row 59 of the outcomes has nan in 'ok'"),
        (outcomes().assign(ok=[None, *([True, False] * 29), True]), "Row 0 of the outcomes has None in 'ok'"),
        (outcomes().assign(ok=pd.array([pd.NA, *([1, 0] * 29), 1], "Int64")), "Row 0 of the outcomes has <NA> in 'ok'"),
        (outcomes().assign(ok=[2, *([1, 0] * 29), 1]), "Row 0 of the outcomes has 2 in 'ok'"),
        (outcomes().assign(ok=["good"] * 60), "Row 0 of the outcomes has 'good' in 'ok'"),
    ],
)
def test_bad_outcomes(make_router: MakeRouter, frame: pd.DataFrame, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_router().learn(frame)


@pytest.mark.parametrize("text", ["{", '{"version": 1, "weights": [0.5], "slope": 1, "middle": 0}'])
def test_a_damaged_or_older_lesson_is_ignored(make_router: MakeRouter, home: Path, text: str) -> None:
    (home / "learned").mkdir(parents=True)
    (home / "learned" / "0001.json").write_text(text)
    assert make_router(routing={"mode": "learned"}).classify("rename a to b").tier == "fast"


@pytest.mark.parametrize(
    "damage",
    [
        {"linear": [0.5]}, {"linear": [float("nan")] * 150}, {"linear": ["a"] * 150}, {"linear": 5},
        {"linear": "x" * 150}, {"linear": [1e300] * 150}, {"linear": [10**400] * 150}, {"gains": []}, {"gains": [1]},
        {"gains": [None] * 60}, {"vectors": 5}, {"vectors": "AAAA"}, {"vectors": "ä"}, {"vectors": None},
        {"bias": "1"}, {"bias": None}, {"bias": float("inf")}, {"near": [0]}, {"near": True}, {"rows": "many"},
        {"rows": -1}, {"outcomes": 0}, {"before": float("nan")}, {"after": 7}, {"likeness": -2}, {"choice": 1},
        {"topics": [1]}, {"topics": 3}, {"unknown": 1}, {"version": None}, {"network": 1}, {"network": None},
    ],
)  # fmt: skip
def test_a_lesson_whose_values_are_damaged_gives_way_to_the_one_before(
    make_router: MakeRouter, home: Path, damage: dict[str, object]
) -> None:
    router = make_router(routing={"mode": "learned"})
    lesson = router.learn(outcomes())
    assert lesson is not None
    first = home / "learned" / "0001.json"
    (home / "learned" / "0002.json").write_text(json.dumps({**json.loads(first.read_text()), **damage}))
    again = make_router(routing={"mode": "learned"})
    assert again.lessons.current == lesson
    assert again.classify("what about widget 5") == router.classify("what about widget 5")


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "null", '"text"', "\x00", "{}"])
def test_a_lesson_that_is_something_else_is_ignored(make_router: MakeRouter, home: Path, text: str) -> None:
    (home / "learned").mkdir(parents=True)
    (home / "learned" / "0001.json").write_text(text)
    assert make_router().lessons.current is None


def test_the_log_teaches(make_router: MakeRouter) -> None:
    router = make_router(routing={"mode": "learned"}, fast=["o/ok"], mid=["a/ok"])
    for number in range(30):
        router.route(f"what about {'widget' if number % 2 else 'gadget'} {number}", tier="fast")
        router.feedback("bad" if number % 2 else "good")
    for number in (1, 3):
        router.route(f"what about widget {number}", tier="mid")  # asked again at a higher tier
    lesson = router.learn()
    assert lesson is not None
    assert lesson.rows == 30
    assert lesson.after > 0.5


THINGS = ("closures", "joins", "plots", "dates")


def judged(topic: str, rows: int = 28) -> list[learn.Outcome]:
    """A user whose fast answers about one topic did not do, and whose others did."""
    return [
        learn.Outcome(f"How do I write {THINGS[n % 4]} for table {n}?", "fast", float(THINGS[n % 4] != topic))
        for n in range(rows)
    ]


def test_twenty_rows_are_enough_and_the_user_reads_what_was_learned(
    make_router: MakeRouter, capsys: pytest.CaptureFixture[str]
) -> None:
    router = make_router(routing={"mode": "learned"})
    joins, plots = (f"How do I write {thing} for table 99?" for thing in ("joins", "plots"))
    assert router.classify(joins).tier == router.classify(plots).tier == "fast"
    lesson = router.learn(pd.DataFrame(judged("joins")))
    assert lesson is not None
    assert lesson.rows == lesson.outcomes == 28
    assert router.classify(joins).tier == "mid"
    assert router.classify(plots).tier == "fast"
    joins, plots = (f"How do I write {thing} for my two tables?" for thing in ("joins", "plots"))
    assert router.classify(joins).difficulty > router.classify(plots).difficulty
    out = capsys.readouterr().out
    assert "Learned from 28 outcomes of 28 prompts" in out
    assert "prompts with “joins” need mid" in out


def test_a_lesson_speaks_of_what_it_has_seen_alone(make_router: MakeRouter) -> None:
    router = make_router(routing={"mode": "learned"})
    others = (
        "Prove that the sample mean converges almost surely",
        "Übersetze diesen Absatz ins Französische",
        "Which gas do plants take in?\nA. Oxygen\nB. Carbon dioxide\nC. Nitrogen\nD. Helium\nAnswer:",
    )
    before = [router.classify(prompt) for prompt in others]
    router.learn(pd.DataFrame(judged("joins")))
    assert router.lessons.current is not None
    assert [router.classify(prompt) for prompt in others] == before


@pytest.mark.parametrize("seed", range(5))
def test_noise_teaches_nothing_worse_than_the_shipped_order(seed: int) -> None:
    chance = random.Random(seed)
    words = ["sort", "merge", "plot", "table", "column", "why", "explain", "rename", "join", "fast", "slow", "test"]
    prompts = dict.fromkeys(" ".join(chance.choices(words, k=chance.randrange(3, 12))) for _ in range(120))
    lesson = learn.fit([learn.Outcome(p, "fast", float(chance.random() < 0.5)) for p in prompts], model.shipped())
    assert lesson.before <= lesson.after < 0.65


@pytest.mark.parametrize("cause", ["length", "shipped", "nothing"])
def test_what_was_learned_ranks_others_no_worse_than_length_or_the_shipped_order(cause: str) -> None:
    """On prompts that were not learned from: whatever it is that makes prompts fail, and however noisily."""
    network = model.shipped()
    prompts = data.notebook(held_back=False).prompts[:1600:2]
    shipped = np.array([network.difficulty(reading) for reading in network.read_many(prompts)])
    length = np.array([float(len(prompt)) for prompt in prompts])
    places = {"length": length.argsort().argsort(), "shipped": shipped.argsort().argsort()}
    need = places[cause] / len(prompts) if cause in places else np.full(len(prompts), 0.5)
    short = []
    for seed in range(8):
        chance = np.random.default_rng(seed)
        ok = (chance.random(len(prompts)) > 0.3 + 0.4 * need).astype(float)
        order = chance.permutation(len(prompts))
        mine, others = order[:400], order[400:]
        lesson = learn.fit([learn.Outcome(prompts[i], "fast", ok[i]) for i in mine], network)
        after = np.array([lesson.adjust(prompts[i], shipped[i]) for i in others])
        right = [
            learners.concordance(values, 1 - ok[others], np.ones(len(others)))
            for values in (after, shipped[others], length[others])
        ]
        short.append(right[0] - max(right[1:]))
        assert lesson.choice in ("", learners.SAME_ORDER, learners.LENGTH) or cause != "nothing"
    assert np.mean(short) > -0.03


@pytest.mark.parametrize(("noise", "choice"), [(0.5, "length"), (0.05, "shape, meaning and like prompts")])
def test_what_is_fitted_must_beat_length_too_beyond_noise(noise: float, choice: str) -> None:
    """All of them rank better than the shipped order; only what is much better than length is used."""
    chance = np.random.default_rng(3)
    levels = chance.random(200)
    fitted = levels + noise * chance.normal(size=200)
    values = {"shipped": chance.random(200), "length": levels + 0.5 * chance.normal(size=200)}
    values |= dict.fromkeys(("few", "shape", "hidden", "near"), fitted)
    assert learners._choose(values, levels, np.ones(200)) == choice


def test_an_order_that_is_right_learns_the_level_alone() -> None:
    """What the user calls too hard for fast is what the shipped weights rank highest, but call fast all the same."""
    shipped = {thing: classify(f"How do I write {thing} for table 99?", LOADED).difficulty for thing in THINGS}
    hardest = max(THINGS, key=shipped.__getitem__)
    lesson = learn.fit(judged(hardest), model.shipped())
    assert (lesson.choice, lesson.before, lesson.after) == ("the shipped order", 1, 1)
    for thing, difficulty in shipped.items():
        level = lesson.adjust(f"How do I write {thing} for table 99?", difficulty)
        assert model.tier_of(level, model.FAST_BELOW, model.POWER_ABOVE) == ("mid" if thing == hardest else "fast")


def test_longer_prompts_can_be_what_needs_more() -> None:
    chance = random.Random(1)
    words = [word for row in data.notebook(held_back=False).prompts[:40] for word in row.split()]
    prompts = [" ".join(chance.choices(words, k=length)) for length in range(5, 85)]
    lesson = learn.fit([learn.Outcome(p, "fast", float(len(p.split()) < 45)) for p in prompts], model.shipped())
    assert lesson.gained
    assert lesson.after > 0.95


def test_new_outcomes_count_more_than_old_ones() -> None:
    """The same user a year later: what was hard for the old models is not any more."""
    now, year = time.time(), 365 * 86_400.0
    old = [row._replace(when=now - year, prompt=f"{row.prompt} Then") for row in judged("joins", 40)]
    new = [row._replace(when=now) for row in judged("plots", 40)]
    lesson = learn.fit([*new, *old], model.shipped())
    joins, plots = (f"How do I write {thing} for table 99?" for thing in ("joins", "plots"))
    shipped = {prompt: classify(prompt, LOADED).difficulty for prompt in (joins, plots)}
    level = {prompt: lesson.adjust(prompt, difficulty) for prompt, difficulty in shipped.items()}
    assert level[plots] > shipped[plots] + 0.2
    assert level[plots] > level[joins] + 0.05


@pytest.mark.parametrize(
    ("means", "level"),
    [
        ({"fast": 1.0}, 0.175), ({"fast": 0.0}, 0.525), ({"mid": 1.0}, 0.3), ({"mid": 0.0}, 0.85),
        ({"fast": 0.0, "mid": 1.0}, 0.525), ({"fast": 0.0, "mid": 0.0}, 0.85), ({"fast": 0.0, "power": 1.0}, 0.85),
        ({"fast": 0.0, "mid": 0.0, "power": 1.0}, 0.85), ({"fast": 0.0, "power": 0.0}, 0.175),
        ({"fast": 1.0, "power": 1.0}, 0.175), ({"fast": 1.0, "power": 0.0}, -0.5),
    ],
)  # fmt: skip
def test_the_level_of_a_prompt_is_that_of_the_cheapest_tier_that_did(means: dict[str, float], level: float) -> None:
    assert learn.level_of(means, shipped=0.3) == pytest.approx(level)


def test_many_prompts_read_at_once_are_read_as_one_by_one() -> None:
    prompts = [*data.notebook(held_back=True).prompts[:300], "", "ʘ", "\n\n"]
    network = model.shipped()
    both = zip(prompts, network.read_many(prompts), network.read_many(prompts, words=True), strict=True)
    for prompt, reading, with_words in both:
        alone = network.read(prompt)
        assert reading.heads == with_words.heads == pytest.approx(alone.heads, rel=1e-4, abs=1e-4)
        assert (reading.length, reading.choices, reading.pushes) == (alone.length, alone.choices, ())
        assert [word for word, _ in with_words.pushes] == [word for word, _ in alone.pushes]
        assert [push for _, push in with_words.pushes] == pytest.approx(
            [push for _, push in alone.pushes], rel=1e-3, abs=1e-4
        )


@pytest.mark.parametrize("mode", ["rules", "learned", "hybrid", lambda prompt: min(len(prompt) / 100, 1)])
@pytest.mark.parametrize("unsure", ["stay", "up"])
def test_many_prompts_are_classified_as_one_by_one(mode: Any, unsure: str) -> None:
    chosen = config.load({"routing": {"mode": mode, "unsure": unsure}})
    prompts = [*data.notebook(held_back=True).prompts[:60], "simple", "analyze this, step by step"]
    for prompt, together in zip(prompts, classify_many(prompts, chosen), strict=True):
        alone = classify(prompt, chosen)
        assert (together.tier, together.reasons, together.runner_up) == (alone.tier, alone.reasons, alone.runner_up)
        assert together.difficulty == pytest.approx(alone.difficulty, abs=1e-4)
        assert together.confidence == pytest.approx(alone.confidence, abs=1e-4)
    assert classify_many([], chosen) == []


def test_times_of_outcomes(make_router: MakeRouter) -> None:
    frame = pd.DataFrame(judged("joins")).drop(columns="when")
    assert lessons.from_frame(frame.assign(time="1970-01-02"))[0].when == 86_400
    assert lessons.from_frame(frame.assign(time=None))[0].when is None
    with pytest.raises(UsageError, match="'time' does not hold times"):
        make_router().learn(frame.assign(time="yesterday or so"))


def test_a_prompt_asked_again_with_other_spaces_is_the_same(make_router: MakeRouter) -> None:
    router = make_router(fast=["o/ok"], mid=["a/ok"])
    router.route("what about  Widgets", tier="fast")
    router.route("What about widgets ", tier="mid")
    ((prompt, tier, ok, when),) = lessons.from_log(router.store)
    assert (prompt, tier, ok) == ("what about  Widgets", "fast", 0.0)
    assert when is not None
    assert abs(when - time.time()) < 86_400


def test_feedback_from_the_notebook(shell: Shell) -> None:  # noqa: F811
    assert "There is no answer yet." in str(shell.run("%router good").error)
    shell.run("%%route -q -o mine\nExplain closures")
    assert shell.run("%router bad").out == "Noted: bad.\n"
    assert list(ipyrouter.cost_log()["feedback"]) == ["bad"]
    assert shell.run("%router good mine").out == "Noted: good.\n"
    assert list(ipyrouter.cost_log()["feedback"]) == ["good"]
    assert "'nothing' is not a variable that holds an answer." in str(shell.run("%router good nothing").error)
    assert "learning needs 20" in str(shell.run("%router learn").error)
    assert "Forgot 0 lessons" in shell.run("%router learn --reset").out


def test_spaces_around_a_prompt_mean_nothing() -> None:
    for prompt in (
        "What is a list?",
        "Draw up a migration plan from pandas 1 to pandas 3",
        "Prove it.\n\nThen\nexplain.",
    ):
        assert model.classify(f"  \n{prompt} \n\n  ") == model.classify(prompt)


def test_a_question_with_choices_is_an_exam_question() -> None:
    question = "Which gas do plants take in?\nA. Oxygen\nB. Carbon dioxide\nC. Nitrogen\nD. Helium\nAnswer:"
    assert model.classify(question).reasons == ("reads like an exam question",)
    short, long = (model.classify(question.replace("plants", "plants " * times)) for times in (1, 60))
    assert short.difficulty < long.difficulty  # nothing else being known, the longer question is the harder one
    assert "exam" not in model.classify("Rename A. to B. in this sentence: plan A. or plan B.").reasons[0]

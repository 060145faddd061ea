"""The classifier's network and its pieces of words: computed as they are meant, on weights made for the purpose."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipyrouter import config
from ipyrouter.classifier import classify, model
from ipyrouter.classifier.pieces import split, words_of

VOCABULARY = ["▁", "▁sort", "ed", "▁the", "▁table", "表", "▁0", "▁?"]
KNOWN = {piece: number for number, piece in enumerate(VOCABULARY)}


@pytest.fixture
def small(tmp_path: Path) -> tuple[model.Model, dict[str, np.ndarray]]:
    """A network of two dimensions a piece, two windows and three hidden values, and its arrays."""
    chance = np.random.default_rng(1)

    def some(*shape: int) -> np.ndarray:
        return chance.normal(size=shape).astype(np.float32)

    about = {"mid_at": 0.5, "power_at": 0.5, "length_weight": 1.0, "gain_middle": 0.0}
    arrays = {
        "vocabulary": np.frombuffer("\n".join(VOCABULARY).encode(), dtype=np.uint8),
        "table": chance.integers(-127, 128, (len(VOCABULARY), 2), dtype=np.int8),
        "scale": np.array([0.01, 0.02], dtype=np.float32),
        "window": some(2, 6),
        "window_bias": some(2),
        "inner": some(3, 10),
        "inner_bias": some(3),
        "outer": some(4, 3),
        "outer_bias": some(4),
        "about": np.frombuffer(json.dumps(about).encode(), dtype=np.uint8),
    }
    np.savez(tmp_path / "small.npz", **arrays)
    return model.Model(tmp_path / "small.npz"), arrays


def by_hand(arrays: dict[str, np.ndarray], pieces: list[int], figures: list[float]) -> list[float]:
    """The heads, one number at a time."""
    vectors = [arrays["table"][piece] * arrays["scale"] for piece in pieces]
    beyond = np.zeros(2)
    summed = np.zeros(4)
    for at, vector in enumerate(vectors):
        before = vectors[at - 1] if at else beyond
        after = vectors[at + 1] if at + 1 < len(vectors) else beyond
        threes = [before @ arrays["window"][:, :2], vector @ arrays["window"][:, 2:4], after @ arrays["window"][:, 4:]]
        summed += np.concatenate([vector, np.maximum(sum(threes) + arrays["window_bias"], 0)])
    entered = np.concatenate([summed / 2 / math.sqrt(len(pieces)), figures])
    hidden = np.maximum(arrays["inner"] @ entered + arrays["inner_bias"], 0)
    return list(arrays["outer"] @ hidden + arrays["outer_bias"])


@pytest.mark.parametrize(
    ("prompt", "pieces", "material"),
    [
        ("Sorted?", [1, 2, 7], [0, 0]),
        ("sort THE table 12", [1, 3, 4, 6], [0, 0]),
        ("sort\n> the table\n| a | b |", [1], [1, 1]),
        ("ʘ", [0], [0, 0]),
        ("", [0], [0, 0]),
    ],
)
def test_the_network_computes_what_its_arrays_say(
    small: tuple[model.Model, dict[str, np.ndarray]], prompt: str, pieces: list[int], material: list[int]
) -> None:
    network, arrays = small
    table, quote = material
    lines = [0.0, 0.0, math.log1p(table) / 2, math.log1p(quote) / 2]
    figures = [math.log(len(pieces)) / 3, math.sqrt(len(pieces)) / 5, *lines]
    assert network.read(prompt).heads == pytest.approx(by_hand(arrays, pieces, figures), rel=1e-4, abs=1e-5)


def test_every_word_has_its_push(small: tuple[model.Model, dict[str, np.ndarray]]) -> None:
    network, _ = small
    assert [word for word, _ in network.read("Sorted the 37 tables?").pushes] == ["sorted", "the", "0", "tables", "?"]
    # A long word of a script without spaces may be a whole sentence: its pieces are shown.
    assert {word for word, _ in network.read("表表表表表表表表表表").pushes} == {"", "表"}


def test_words() -> None:
    assert words_of("Don't sort df_2,  PLEASE") == ["don", "'", "t", "sort", "df", "_", "0", ",", "please"]
    assert words_of("ﬁle Ａ １２") == ["file", "a", "0"]
    assert words_of("कॉलम का नाम बदलो।") == ["कॉलम", "का", "नाम", "बदलो।"]


def test_the_longest_piece_first() -> None:
    assert split("sorted", KNOWN) == (1, 2)
    assert split("tables", KNOWN) == (4,)  # the s is unknown
    assert split("表x表", KNOWN) == (0, 5, 5)


@given(st.text(max_size=200))
def test_any_text_splits(text: str) -> None:
    known = {"▁": 0, **{chr(number): number for number in range(97, 123)}}
    for word in words_of(text):
        assert all(number == 0 or chr(number) in word for number in split(word, known))


@pytest.mark.parametrize(
    "prompt", ["解释一下为什么合并之后行数变多了，应该怎么检查", "Beweise, dass der Schätzer konsistent ist"]
)
def test_reasons_are_words_of_the_prompt(prompt: str) -> None:
    (reason, *_) = classify(prompt, config.load(environ={})).reasons
    _, _, rest = reason.partition(": ")
    words = [word.strip("“” ") for word in rest.split("”, “")]
    assert words
    assert all(word in prompt.lower() and len(word) < len(prompt) / 2 for word in words)


@pytest.mark.parametrize("shape", [(1, 64, 288), (13, 64, 288), (14, 64, 288), (1000, 64, 288), (128, 166), (700, 64)])
def test_a_product_in_slices_is_the_product(shape: tuple[int, ...]) -> None:
    chance = np.random.default_rng(2)
    left = chance.normal(size=shape[:2]).astype(np.float32)
    right = chance.normal(size=shape[1:]).astype(np.float32)
    np.testing.assert_allclose(model.serial_product(left, right), left @ right, rtol=1e-4, atol=1e-4)


CLASSIFY = """
import os, time
from ipyrouter.classifier import model

def ticks():
    used = {}
    for task in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{task}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        used[int(task)] = int(fields[11]) + int(fields[12])
    return used

model.classify("warm up " * 500)
before = ticks()
began, number = time.process_time(), 0
while time.process_time() - began < 2:
    number += 1  # what was read once is not computed again
    long = f"Explain why merge {number} has more rows than either table, step by step. " * 60
    model.classify(long)
    model.classify_many([long, *(f"Rename column {number} to {n}" for n in range(number % 40))])
after = ticks()
others = sum(count - before.get(task, 0) for task, count in after.items() if task != os.getpid())
print(len(after), others, after[os.getpid()] - before[os.getpid()])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads each thread's processor time from /proc")
def test_no_other_thread_computes() -> None:
    """A BLAS library's threads wait for each other: on a busy machine a classification took 70 ms instead of .1."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "4", "OMP_NUM_THREADS": "4"}
    done = subprocess.run([sys.executable, "-c", CLASSIFY], env=environment, capture_output=True, text=True, check=True)
    _, others, main = map(int, done.stdout.split())
    assert main > 20 * others

"""A typo is read as the word that was meant; what is no prose, or no word that is near, is read as it stands."""

from __future__ import annotations

import itertools
import string
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipyrouter.classifier import model, spelling
from ipyrouter.classifier.pieces import words_of
from ipyrouter.classifier.spelling import LONGEST, MOST, Spelling, one_edit
from training import data
from training import spelling as made

WORDS = ["the", "column", "table", "merge", "columns", "spalte", "größe", "cable", "a" * LONGEST]
OTHERS = ["fable", "tales"]
READ = Spelling(WORDS, OTHERS)


def edits(word: str, letters: str) -> Iterator[str]:
    """All that one letter more, less or other, or two neighbours swapped make of a word."""
    for at in range(len(word) + 1):
        yield from (word[:at] + letter + word[at:] for letter in letters)
        yield from (word[:at] + letter + word[at + 1 :] for letter in letters if at < len(word))
        yield word[:at] + word[at + 1 :]
        yield word[:at] + word[at + 1 : at + 2] + word[at : at + 1] + word[at + 2 :]


TYPOS = {word: set(edits(word, string.ascii_lowercase + "ä")) for word in WORDS}


@pytest.mark.parametrize("word", WORDS)
def test_every_typo_finds_its_word(word: str) -> None:
    for typo in {typo for typo in TYPOS[word] if len(typo) <= LONGEST}.difference(WORDS):
        near = [known for known in WORDS if typo in TYPOS[known] and known[0] == typo[0]]
        assert READ.nearest(typo) == (near[0] if near else typo)  # the commonest
        assert near or typo[0] != word[0]


@given(st.text("abc", min_size=1, max_size=6), st.text("abc", max_size=6))
def test_one_edit(word: str, other: str) -> None:
    assert one_edit(word, other) == (word != other and word in edits(other, "abc"))


@given(
    st.lists(st.text("abcdé", min_size=1, max_size=6), min_size=1, max_size=30, unique=True),
    st.text("abcdé", min_size=1, max_size=6),
)
def test_the_commonest_that_is_near_is_found(words: list[str], word: str) -> None:
    near = [known for known in words if known[0] == word[0] and one_edit(word, known)]
    assert Spelling(words, []).nearest(word) == (near[0] if near else word)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("merge the tabel", {"tabel": "table"}),
        ("Mrege the COLUMNS", {"mrege": "merge"}),
        ("MERGE THE COLUNM", {"colunm": "column"}),
        ("(tabel), colum? tabel…", {"tabel": "table", "colum": "column"}),
        ("welche Spaltte hat die Größse", {"welche": "welche", "spaltte": "spalte", "größse": "größe"}),
        ("qwertz", {"qwertz": "qwertz"}),
        # As they should be: in a list, too short, too long.
        ("table fable Tales, teh", {}),
        ("a" * (LONGEST + 1), {}),
        # Code, names, paths and what is quoted.
        ("df_colum my.colum colum() colum[0] colum2 2colum", {}),
        ("`colum` 'colum' \"colum\" “colum” colum=3 /colum/ --colum @colum #colum", {}),
        ("getColum theCOLUM COLUM", {}),
        # Other scripts.
        ("таблца столбцы", {}),
        ("στήλη 表tabel", {}),
        ("", {}),
    ],
)
def test_only_words_of_prose_are_read_as_others(text: str, meant: dict[str, str]) -> None:
    assert READ.meant(text) == meant


@given(st.text(max_size=300))
def test_any_text_has_its_words(text: str) -> None:
    for word, other in READ.meant(text).items():
        assert word.isalpha()
        assert other == word or other in WORDS


def test_without_words_nothing_is_changed() -> None:
    empty = Spelling([], OTHERS)
    empty.prepare()
    assert empty.meant("merge the tabel") == {}


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The words that are searched for, one entry a search."""
    searches: list[str] = []
    nearest = Spelling.nearest
    monkeypatch.setattr(Spelling, "nearest", lambda self, word: searches.append(word) or nearest(self, word))
    return searches


def test_a_prompt_costs_a_bounded_number_of_searches(looked_up: list[str]) -> None:
    network = model.Model()
    unknown = [f"{''.join(letters)}xq" for letters in itertools.islice(itertools.product("jkvwzq", repeat=4), 1000)]
    network.read(" ".join(unknown))
    assert 0 < len(looked_up) <= MOST
    assert looked_up == unknown[: len(looked_up)]  # the same ones each time
    network.read_many([" ".join(unknown)])
    assert len(looked_up) <= MOST  # each is searched for once


def test_what_was_looked_up_is_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spelling, "_REMEMBERED", 3)
    read = Spelling(WORDS, OTHERS)
    for first in string.ascii_lowercase:
        assert read.meant(f"tabel {first}xqzj") == {"tabel": "table", f"{first}xqzj": f"{first}xqzj"}
        assert read._meant.cache_info().currsize <= 3


# --- the shipped words ---


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("Explain how to merge two columns", "Explian how to mrege two colunms"),
        ("design an architecture for distributed training", "desing an architecure for distribbuted trainig"),
        ("Erkläre die Ergebnisse der Regression", "Erkläre die Ergebnise der Regresion"),
    ],
)
def test_a_typo_does_not_change_the_reading(right: str, wrong: str) -> None:
    network = model.shipped()
    assert network.read(wrong).heads == pytest.approx(network.read(right).heads, abs=1e-4)
    assert network.read_many([wrong])[0].heads == pytest.approx(network.read(right).heads, abs=1e-4)
    assert [word for word, _ in network.read(wrong).pushes] == words_of(wrong)  # a reason names what was typed


def test_the_shipped_words_are_those_of_the_training() -> None:
    with np.load(model.WEIGHTS) as saved:
        words, rare = (saved[name].tobytes().decode().split("\n") for name in ("words", "rare_words"))
    assert len({*words, *rare}) == len(words) + len(rare)
    assert max(map(len, words + rare)) <= LONGEST
    own = made.common_words(data.notebook(held_back=False, paraphrased=True).prompts, 3)
    assert len(own) > 5000
    assert set(own) <= set(words)


def test_the_words_are_the_common_ones_of_requests() -> None:
    prompts = ["Merge the table", "merge THE tables", "merge the tabel's größe", "größe\n\n    merge = größe", "größe"]
    assert made.common_words(prompts, 3) == ["größe", "merge", "the"]
    assert made.common_words(prompts, 4) == []


def test_the_words_are_written_beside_the_weights() -> None:
    """A retraining's weights get them too; what else is in the file stays."""
    with np.load(model.WEIGHTS) as saved:
        before = {name: saved[name] for name in saved if not name.endswith("words")}
    requests = ["merge qqcolumnqq"] * 3 + ["qqrareqq", "qqrareqq", "qqonceqq"]
    after = made.add(before, requests, ["qqexamqq qqoneqq", "qqexamqq"], ["▁Qqknownqq", "qqpartqq", "▁merge", "▁qq8"])
    assert after["words"].tobytes().decode().split() == ["merge", "qqcolumnqq"]
    assert after["rare_words"].tobytes().decode().split() == ["qqexamqq", "qqknownqq", "qqrareqq"]
    assert all(after[name] is before[name] for name in before)


def test_a_network_reads_typos_by_its_own_words(tmp_path: Path) -> None:
    with np.load(model.WEIGHTS) as saved:
        arrays = dict(saved)
    wrong, right = "merge the dataframmes", "merge the dataframes"
    for words, same in ((b"dataframes", True), (b"columns", False)):
        np.savez(tmp_path / "weights.npz", **{**arrays, "words": np.frombuffer(words, np.uint8)})
        network = model.Model(tmp_path / "weights.npz")
        assert (network.read(wrong).heads == network.read(right).heads) == same

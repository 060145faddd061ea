"""The requests that we wrote ourselves: no row twice, and what judges the classifier apart from what trains it."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import pytest

from training import data

pytestmark = pytest.mark.slow
FOLDER = Path(__file__).parent.parent / "training"


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FOLDER / name).read_text("utf-8").splitlines()]


def held_back(prompt: str) -> bool:
    return zlib.crc32(prompt.encode()) % 3 == 0


def test_requests_are_whole_and_distinct() -> None:
    requests = rows("notebook_requests.jsonl")
    assert {row["tier"] for row in requests} == {"fast", "mid", "power"}
    assert all(row["prompt"].strip() and row["author"] and row["language"] for row in requests)
    assert len({row["prompt"] for row in requests}) == len(requests)


def test_paraphrases_are_of_requests_held_back() -> None:
    known = {row["prompt"] for row in rows("notebook_requests.jsonl")}
    for row in rows("paraphrases.jsonl"):
        assert row["prompt"] in known
        assert held_back(row["prompt"])
        assert row["paraphrase"] not in known


@pytest.mark.parametrize("author", data.FINAL)
def test_the_final_authors_are_never_trained_on(author: str) -> None:
    final = set(data.final(author).prompts)
    assert final
    trained, judged = (set(data.notebook(held_back=held).prompts) for held in (False, True))
    assert not final & (trained | judged)
    assert not trained & judged
    assert not any(map(held_back, trained))
    assert final.isdisjoint(data.notebook(keep=lambda row: row["author"] == author).prompts)

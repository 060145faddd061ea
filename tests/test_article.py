"""The article's experiment runs from end to end, and its requests and draws are the same at every run."""

from __future__ import annotations

import subprocess
import sys

from benchmarks import models, workload
from benchmarks.article import CLAIMED
from tests.conftest import ROOT


def test_requests_and_draws_are_those_of_the_seed() -> None:
    requests = workload.requests(300, 1)
    assert requests == workload.requests(300, 1) != workload.requests(300, 2)
    assert {request.needs for request in requests} == {"fast", "mid", "power"}
    assert 0.2 < 1 - len({request.prompt for request in requests}) / len(requests) < 0.5
    for request in requests[:50]:
        whole = models.draw("gpt-4o", request, 100_000)
        assert whole == models.draw("gpt-4o", request, 100_000)
        cut = models.draw("gpt-4o", request, 4)
        assert (cut.written, cut.cut, cut.first) == (4, True, whole.first)
        assert cut.total < whole.total


def test_the_experiment_runs() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.article", "--requests", "8"],
        capture_output=True, text=True, check=False, timeout=120, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for strategy in CLAIMED:
        assert done.stdout.count(f"\n{strategy:<16}") == 3, done.stdout

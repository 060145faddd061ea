"""From the data to ``ipyrouter/classifier/weights.bin``, reproducibly: python -m training.train.

Needs numpy, scipy and scikit-learn (the extra `training`). Splits are by hash and solvers have
no chance in them, but the number of threads moves their last digits, and with them a threshold by a step.
"""

from __future__ import annotations

import argparse
import json
import random
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import vstack
from sklearn.linear_model import LogisticRegression, Ridge

from ipyrouter.classifier.features import BUCKETS
from ipyrouter.classifier.model import HEADS, WEIGHTS
from training import data

_C = 20.0  # of the tier heads; the higher, the less they are held back
_ALPHA = 100.0  # of the gain head
_LENGTH_WEIGHT = (
    0.5  # standard deviations of gain that a prompt e times as long is worth: the safest guess out of domain
)
_OWN_WEIGHT = 20.0  # a notebook's own requests count more than UncommonRoute's
_DROPPED = 0.15  # of the words of the noisy copy of each request
_DOWN = 10.0  # agreements that one power request sent to fast is worth


def main() -> None:
    """Train, calibrate, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=data.SHARED)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    parser.add_argument("--leave-out", action="append", default=[], help="a correctness file to leave out")
    options = parser.parse_args()
    write(options.out, *train(options.data, options.leave_out))
    print(f"wrote {options.out}: {options.out.stat().st_size / 1e6:.2f} MB")


def train(
    folder: Path, leave_out: list[str] | None = None, hold: Any = None, own: data.Labelled | None = None
) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
    """Return the heads' weights (a row a head: buckets, figures, bias) and the calibration.

    ``own`` are the requests of our own to train on, instead of all but the third held back. ``hold`` maps a data set's
    name to the rows of it that are left out (an index array), for in-domain evaluation.
    """
    hold = hold or {}
    own = own or data.notebook(held_back=False, paraphrased=True)
    uncommon = data.uncommon(folder)
    kept = _without(hold.get("uncommonroute"), len(uncommon.prompts))
    prompts = [uncommon.prompts[i] for i in kept] + own.prompts
    tiers = np.concatenate([uncommon.tiers[kept], own.tiers])
    authors = np.concatenate([uncommon.authors[kept], own.authors])
    weights = np.where(authors == "uncommonroute", 1.0, _OWN_WEIGHT)
    requests = data.matrix(prompts)
    noisy = data.matrix([_noisy(prompt, seed) for seed, prompt in enumerate(prompts)])

    exams, gains, exam_weights = [], [], []
    for name in data.PAIRS:
        if name in (leave_out or []):
            continue
        part = data.outcomes(name, folder)
        rows = _without(hold.get(name), len(part.prompts))
        gain = (part.strong - part.weak)[rows]
        exams.append(data.matrix([part.prompts[i] for i in rows]))
        gains.append(gain - gain.mean())
        exam_weights.append(np.full(len(rows), 1.0))
    exam, gain = vstack(exams).tocsr(), np.concatenate(gains)

    heads = _tier_heads(requests, noisy, tiers, weights)
    ridge = Ridge(alpha=_ALPHA, solver="lsqr").fit(exam, gain, np.concatenate(exam_weights))
    heads.append(np.append(ridge.coef_, ridge.intercept_))
    kind = np.concatenate([np.zeros(requests.shape[0]), np.ones(exam.shape[0])])
    heads.append(_logistic(vstack([requests, exam]).tocsr(), kind == 1, np.ones(len(kind))))

    predicted = ridge.predict(exam) / (spread := float(np.std(ridge.predict(exam))))
    predicted += (
        _LENGTH_WEIGHT * 4 * exam[:, BUCKETS].toarray().ravel()
    )  # the first figure is the length's logarithm / 4
    calibration = {
        **_thresholds(requests, noisy, tiers, weights, authors, heads[:2]),
        "gain_spread": spread,
        "gain_middle": float(np.median(predicted)),
        "length_weight": _LENGTH_WEIGHT,
    }
    return np.array(heads), calibration


def _without(held: np.ndarray[Any, Any] | None, size: int) -> np.ndarray[Any, Any]:
    return np.arange(size) if held is None else np.setdiff1d(np.arange(size), held)


def _logistic(x: Any, y: Any, weights: Any, start: Any = None) -> np.ndarray[Any, Any]:
    """Fit a head; from ``start``, a head fitted to nearly the same rows, it takes a third of the time."""
    used = np.unique(x.indices)  # most buckets are empty: without them it is several times as fast
    model = LogisticRegression(C=_C, max_iter=400, solver="newton-cg", warm_start=start is not None)
    if start is not None:
        model.coef_, model.intercept_ = start[used][None, :], start[-1:]
    model.fit(x[:, used], y, weights)
    head = np.zeros(x.shape[1] + 1)
    head[used], head[-1] = model.coef_[0], model.intercept_[0]
    return head


def _tier_heads(
    x: Any, noisy: Any, tiers: Any, weights: Any, starts: Sequence[Any] = (None, None)
) -> list[np.ndarray[Any, Any]]:
    both, twice = vstack([x, noisy]).tocsr(), np.tile(weights, 2)
    return [
        _logistic(both, np.tile(tiers, 2) >= level, twice, start) for level, start in zip((1, 2), starts, strict=True)
    ]


def _thresholds(x: Any, noisy: Any, tiers: Any, weights: Any, authors: Any, heads: Sequence[Any]) -> dict[str, float]:
    """Find where the tier heads change their mind on requests of an author whom they have not seen.

    The measure: agreement, less _DOWN for a power request sent to fast, which a person feels the most.
    """
    chance = np.zeros((2, len(tiers)))
    for author in np.unique(authors):
        at = authors == author
        for level, head in enumerate(_tier_heads(x[~at], noisy[~at], tiers[~at], weights[~at], heads)):
            chance[level, at] = 1 / (1 + np.exp(-(x[at] @ head[:-1] + head[-1])))
    mid, power = chance
    best = (-np.inf, 0.5, 0.5)
    for least in np.arange(0.1, 0.61, 0.02):
        for most in np.arange(0.2, 0.71, 0.02):
            said = np.where(power >= most, 2, np.where(mid < least, 0, 1))
            value = float(np.sum(weights * ((said == tiers) - _DOWN * ((said == 0) & (tiers == 2)))))
            best = max(best, (value, float(least), float(most)))
    return {"mid_at": round(best[1], 4), "power_at": round(best[2], 4)}


def typos(prompt: str, seed: int) -> str:
    """Return the prompt with about one typo in twelve words: a swap, a drop or a doubled letter."""
    chance = random.Random(seed)
    words = prompt.split(" ")
    for index, word in enumerate(words):
        if len(word) > 3 and word.isalpha() and chance.random() < 1 / 12:
            at = chance.randrange(1, len(word) - 1)
            words[index] = chance.choice(
                [
                    word[:at] + word[at + 1] + word[at] + word[at + 2 :],
                    word[:at] + word[at + 1 :],
                    word[:at] + word[at] + word[at:],
                ]
            )
    return " ".join(words)


def _noisy(prompt: str, seed: int) -> str:
    """Return the prompt with typos and without some of its words, so that no single word decides."""
    chance = random.Random(seed)
    words = typos(prompt, seed).split(" ")
    return " ".join(word for word in words if chance.random() >= _DROPPED) or prompt


def write(path: Path, heads: np.ndarray[Any, Any], calibration: dict[str, Any]) -> None:
    """Write the weights: a line of JSON, then the buckets as compressed bytes, one a head."""
    hashed, rest = heads[:, :BUCKETS], heads[:, BUCKETS:]
    scales = np.abs(hashed).max(axis=1) / 127
    table = np.rint(hashed / scales[:, None]).astype(np.int8).T
    about = {
        "heads": HEADS,
        "scales": [float(scale) for scale in scales],
        "figures": [[round(float(v), 6) for v in row[:-1]] for row in rest],
        "biases": [round(float(row[-1]), 6) for row in rest],
        **calibration,
    }
    path.write_bytes(json.dumps(about).encode() + b"\n" + zlib.compress(table.tobytes(), 9))


if __name__ == "__main__":
    main()

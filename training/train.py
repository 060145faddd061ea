"""From the data to ``ipyrouter/classifier/weights.npz``: python -m training.train, about half an hour on two cores.

Needs the extra `training`. Labelled requests fit the teacher; the teacher judges them and many variations of them, and
the student learns from both. Seeds are fixed, but the number of threads moves the last digits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ipyrouter.classifier.request import request_of
from training import confidence, data, spelling, strangers, student, teacher
from training.augment import varied
from training.encoder import Encoder, embed, tokens_of
from training.gains import Gains
from training.weights import Matrix, about, options

_UNCOMMON = 0.2  # a notebook's own requests count more than UncommonRoute's
_OWN_LABEL = 0.5  # of a labelled request's target; the rest is what the teacher thinks
_REQUESTS, _QUESTIONS = 9, 3  # variations of each
_NOT_FAST = 3.0  # how much more the head "at least mid" learns from a power request: users feel those the most
_TIERS_OF_QUESTIONS = 0.1  # how much the tier heads learn from exam questions
_MID_AT, _POWER_AT = 0.5, 0.45  # where the tier heads change their mind
_LENGTH_WEIGHT = 1.5  # standard deviations of gain that a question e times as long is worth


@dataclass(frozen=True)
class Schooling:
    """All that costs time and does not change with the exam files that are left out."""

    encoder: Encoder  # as it came
    labelled: int  # of the requests: these come first, their variations after them
    requests: student.Lessons
    questions: dict[str, student.Lessons]  # by file, without their gains
    plain: dict[str, Matrix]  # the questions' embeddings by that encoder
    gains: dict[str, Matrix]
    lengths: dict[str, Matrix]  # logarithms of the questions' characters


def main() -> None:
    """Train, write."""
    chosen = options(__doc__)
    write(chosen.out, train(school(chosen.data)))
    spelling.improve(chosen.out, chosen.data)  # first: what follows reads prompts by it
    strangers.improve(chosen.out, chosen.data)
    confidence.improve(chosen.out)
    print(f"wrote {chosen.out}: {chosen.out.stat().st_size / 1e6:.2f} MB")


def school(folder: Path, own: data.Labelled | None = None) -> Schooling:
    """Fit the teacher and let it judge.

    ``own`` are the requests of our own to learn from, instead of all but the third held back.
    """
    own = own or data.notebook(held_back=False, paraphrased=True)
    uncommon = data.uncommon(folder, held_back=False)
    prompts = own.prompts + uncommon.prompts
    tiers = np.concatenate([own.tiers, uncommon.tiers])
    counts = np.repeat([1.0, _UNCOMMON], [len(own.prompts), len(uncommon.prompts)])

    fitted = teacher.fit([request_of(prompt).text for prompt in prompts], tiers, counts)
    requests = _judged(fitted, prompts, _REQUESTS, exam=0, tiers=tiers)

    encoder = Encoder()
    questions, plain, gains, lengths = {}, {}, {}, {}
    for name in data.PAIRS:
        part = data.outcomes(name, folder, held_back=False)
        questions[name] = _judged(fitted, part.prompts, _QUESTIONS, exam=1)
        plain[name] = embed(encoder, tokens_of([request.text for request in questions[name].requests]))
        gains[name] = part.strong - part.weak
        lengths[name] = np.array([np.log1p(len(prompt.strip())) for prompt in part.prompts])
    return Schooling(encoder, len(prompts), requests, questions, plain, gains, lengths)


def train(schooling: Schooling, leave_out: Sequence[str] = ()) -> dict[str, Matrix]:
    """Return the arrays of the weights file; ``leave_out`` names exam files that the student does not see."""
    names = [name for name in schooling.questions if name not in leave_out]
    sizes = {name: len(schooling.gains[name]) for name in names}
    gains = Gains(
        np.concatenate([schooling.plain[name][: sizes[name]] for name in names]),
        np.concatenate([schooling.gains[name] for name in names]),
        np.repeat(names, list(sizes.values())),
    )
    parts, middles = [schooling.requests], []
    for name in names:
        part = schooling.questions[name]
        targets = part.targets.copy()
        targets[:, 2] = gains(schooling.plain[name])
        parts.append(replace(part, targets=targets))
        middles.append(targets[: sizes[name], 2] + _LENGTH_WEIGHT * schooling.lengths[name])
    lessons = student.Lessons(
        [request for part in parts for request in part.requests],
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("targets", "weights", "embeddings")),
    )
    seen = [request.text for request in lessons.requests[: schooling.labelled]]
    arrays = student.teach(lessons, student.choose_pieces(seen), schooling.encoder)
    figures = {
        "mid_at": _MID_AT,
        "power_at": _POWER_AT,
        "length_weight": _LENGTH_WEIGHT,
        "gain_middle": float(np.median(np.concatenate(middles))),
    }
    return about(arrays, figures)


def write(path: Path, arrays: Mapping[str, Matrix]) -> None:
    """Write the weights file."""
    np.savez(path, **arrays)  # compressed, it would take ten milliseconds longer to read


def _judged(
    fitted: teacher.Teacher, prompts: list[str], more: int, exam: int, tiers: Matrix | None = None
) -> student.Lessons:
    """Return prompts and variations of them with their tiers: half a label's where there is one, half the teacher's."""
    requests = [request_of(prompt) for prompt in prompts]
    texts, sources, same = varied([request.text for request in requests], more * len(requests), seed=exam)
    requests += [replace(requests[source], text=text) for text, source in zip(texts, sources, strict=True)]
    chances, embeddings = fitted.judge([request.text for request in requests])
    targets = np.stack(
        [1 - chances[:, 0], chances[:, 2], np.zeros(len(requests)), np.full(len(requests), exam)], axis=1
    )
    weights = np.tile([_TIERS_OF_QUESTIONS, _TIERS_OF_QUESTIONS, 1, 1] if exam else [1, 1, 0, 1], (len(requests), 1))
    if tiers is not None:
        hard = np.stack([tiers >= 1, tiers == 2], axis=1)
        targets[: len(prompts), :2] = (1 - _OWN_LABEL) * targets[: len(prompts), :2] + _OWN_LABEL * hard
        weights[: len(prompts), 0] = np.where(tiers == 2, _NOT_FAST, 1)
    like_source = np.concatenate([np.zeros(len(prompts), dtype=bool), same])
    origin = np.array(sources)[same]
    targets[like_source], weights[like_source] = targets[origin], weights[origin]
    return student.Lessons(requests, targets, weights, embeddings)


if __name__ == "__main__":
    main()

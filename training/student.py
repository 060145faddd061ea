"""The student: the small network of ipyrouter/classifier/model.py, taught to agree with the teacher on many prompts."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ipyrouter.classifier.model import figures_of
from ipyrouter.classifier.pieces import split, words_of
from ipyrouter.classifier.request import RequestText
from training.encoder import Encoder, batches, pad, vocabulary

_PIECES = 24_000  # that the student knows
_DIMENSIONS, _WINDOWS, _HIDDEN = 64, 96, 128
_IMITATED = 64  # principal components of the teacher's embedding
_ROUNDS = 12
_BATCH = 128
_RATE = 3e-3
Matrix = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Lessons:
    """What is taught: the requests' targets in the order of HEADS, their weights, and the teacher's embeddings.

    Shapes: (prompts, 4), (prompts, 4), (prompts, 512).
    """

    requests: list[RequestText]
    targets: Matrix
    weights: Matrix
    embeddings: Matrix


class Student(nn.Module):
    """Pieces, windows of three, their mean, one hidden layer, the heads; and, for training, the teacher's embedding."""

    def __init__(self, table: Matrix, heads: int) -> None:
        super().__init__()
        self.table = nn.Embedding.from_pretrained(torch.from_numpy(table), freeze=False)
        self.window = nn.Linear(3 * _DIMENSIONS, _WINDOWS)
        self.inner = nn.Linear(_DIMENSIONS + _WINDOWS + 6, _HIDDEN)
        self.outer = nn.Linear(_HIDDEN, heads)
        self.imitation = nn.Linear(_HIDDEN, _IMITATED)
        self.dropout = nn.Dropout(0.1)

    def forward(self, pieces: Sequence[Sequence[int]], figures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the heads and the imitated embedding."""
        padded, mask, lengths = pad(pieces)
        vectors = self.table(padded) * mask
        beside = functional.pad(vectors, (0, 0, 1, 1))
        threes = torch.cat([beside[:, :-2], beside[:, 1:-1], beside[:, 2:]], dim=2)
        windows = torch.relu(self.window(threes)) * mask
        pooled = torch.cat([vectors, windows], dim=2).sum(dim=1) * 0.5 / lengths.sqrt()
        hidden = torch.relu(self.inner(self.dropout(torch.cat([pooled, figures], dim=1))))
        return self.outer(hidden), self.imitation(hidden)


def choose_pieces(texts: Sequence[str]) -> list[int]:
    """Return the numbers of the encoder's pieces that the student knows: those of these strings, then frequent ones."""
    names = vocabulary()
    lower = {name: number for number, name in reversed(list(enumerate(names))) if name == name.lower() and number > 2}
    words = Counter(word for text in texts for word in words_of(text))
    needed: Counter[int] = Counter()
    for word, count in words.items():
        for number in split(word, lower):
            needed[number] += count
    chosen = [number for number, count in needed.most_common() if count > 1]
    chosen += sorted(set(lower.values()).difference(chosen))
    return chosen[:_PIECES]


def teach(lessons: Lessons, chosen: list[int], encoder: Encoder, seed: int = 0) -> dict[str, Matrix]:
    """Return the arrays of the student's weights file, but for its calibration."""
    torch.manual_seed(seed)
    chance = np.random.default_rng(seed)
    names = vocabulary()
    known = {names[number]: place for place, number in enumerate(chosen)}
    pieces_of = functools.cache(functools.partial(split, known=known))
    pieces = [
        [number for word in words_of(request.text) for number in pieces_of(word)] or [0] for request in lessons.requests
    ]
    figures = torch.tensor(
        [figures_of(request, len(some)) for request, some in zip(lessons.requests, pieces, strict=True)]
    )
    start = _components(encoder.table[chosen].numpy(), _DIMENSIONS)
    targets, weights = (torch.from_numpy(array).float() for array in (lessons.targets, lessons.weights))
    imitated = torch.from_numpy(_components(lessons.embeddings, _IMITATED))
    student = Student(0.5 * start, targets.shape[1])
    optimiser = torch.optim.Adam(student.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, _RATE, total_steps=_ROUNDS * len(batches(pieces, _BATCH)), pct_start=0.05
    )
    for _ in range(_ROUNDS):
        student.train()
        for rows in batches(pieces, _BATCH, chance):
            heads, imitation = student([pieces[row] for row in rows], figures[rows])
            loss = _loss(heads, targets[rows], weights[rows]) + 0.3 * functional.mse_loss(imitation, imitated[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return _arrays(student, [names[number] for number in chosen])


def _loss(heads: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the cross entropy of the heads that are chances, and the squared error of the gain, the third."""
    chances = functional.binary_cross_entropy_with_logits(heads, targets.clamp(0, 1), reduction="none")
    squares = (heads - targets) ** 2
    losses = torch.cat([chances[:, :2], squares[:, 2:3], chances[:, 3:]], dim=1)
    return (losses * weights).sum() / len(heads)


def _components(values: Matrix, count: int) -> Matrix:
    """Return the principal components, scaled to one on the whole."""
    centred = values - values.mean(axis=0)
    _, directions = np.linalg.eigh(np.cov(centred[:: max(1, len(centred) // 20_000)], rowvar=False))
    scores: Matrix = centred @ directions[:, ::-1][:, :count]
    return (scores / scores.std()).astype(np.float32)


def _arrays(student: Student, names: list[str]) -> dict[str, Matrix]:
    values = {name: value.detach().numpy() for name, value in student.named_parameters()}
    table = values["table.weight"]
    scale = np.abs(table).max(axis=0) / 127
    window = values["window.weight"].T  # (3 pieces, windows): the three places one beside the other
    return {
        "vocabulary": np.frombuffer("\n".join(names).encode(), dtype=np.uint8),
        "table": np.rint(table / scale).astype(np.int8),
        "scale": scale.astype(np.float32),
        "window": np.concatenate(np.split(window, 3), axis=1),
        "window_bias": values["window.bias"],
        "inner": values["inner.weight"],
        "inner_bias": values["inner.bias"],
        "outer": values["outer.weight"],
        "outer_bias": values["outer.bias"],
    }

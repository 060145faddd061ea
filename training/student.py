"""The student: the small network of ipyrouter/classifier/model.py, taught to agree with the teacher on many prompts."""

from __future__ import annotations

import functools
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ipyrouter.classifier.model import figures_of
from ipyrouter.classifier.pieces import BEGINNING, split, words_of
from ipyrouter.classifier.request import RequestText
from training.encoder import Encoder, batches, embed, pad, tokens_of, vocabulary
from training.weights import Matrix

_PIECES = 24_000  # that the student knows
_DIMENSIONS, _WINDOWS, _HIDDEN = 64, 96, 128
_IMITATED = 64  # principal components of the teacher's embedding
_ROUNDS = 12
_BATCH = 128
_RATE = 3e-3
_HELD = 0.01  # what a piece pays for the squared distance from where its meaning put it
_ALIKE, _NEIGHBOURS = 0.6, 4  # cosine of meanings, and the most neighbours in a script that a piece may give way to
_PUT, _SWAPPED, _LATIN = 0.8, 0.5, 0.5  # shares: of requests put into a script, of their pieces, and of Latin script
_FEWEST = 150  # pieces of a script


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
    """Return the arrays of the student's weights file, but for its calibration.

    The encoder puts words of one meaning close together, whatever their language. So what a piece means to it is where
    the piece begins, and near which it is held. And in many requests, pieces give way to others of like meaning in one
    script, which leaves the tier as it is: that teaches most of what the student knows of other languages.
    """
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
    meanings = _meanings([names[number] for number in chosen], encoder)
    scripts = _neighbours(meanings, [_script(names[number]) for number in chosen])
    start = 0.5 * _components(meanings, _DIMENSIONS)
    home = torch.from_numpy(start.copy())
    targets, weights = (torch.from_numpy(array).float() for array in (lessons.targets, lessons.weights))
    imitated = torch.from_numpy(_components(lessons.embeddings, _IMITATED))
    student = Student(start, targets.shape[1])
    optimiser = torch.optim.Adam(student.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, _RATE, total_steps=_ROUNDS * len(batches(pieces, _BATCH)), pct_start=0.05
    )
    for _ in range(_ROUNDS):
        student.train()
        for rows in batches(pieces, _BATCH, chance):
            some = [_put(pieces[row], scripts, chance) if chance.random() < _PUT else pieces[row] for row in rows]
            heads, imitation = student(some, figures[rows])
            loss = _loss(heads, targets[rows], weights[rows]) + 0.3 * functional.mse_loss(imitation, imitated[rows])
            used = torch.unique(torch.tensor([piece for one in some for piece in one]))
            loss += _HELD * ((student.table.weight[used] - home[used]) ** 2).sum() / len(rows)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return _arrays(student, [names[number] for number in chosen])


def _meanings(names: Sequence[str], encoder: Encoder) -> Matrix:
    """Return what the encoder makes of each piece as a text of its own, (pieces, 512)."""
    return embed(encoder, tokens_of([name.replace(BEGINNING, "") or name for name in names]))


def _script(name: str) -> str:
    """Return the script of a piece's first letter as Unicode names it, "" where it has none."""
    letter = next(filter(str.isalpha, name), "")
    return unicodedata.name(letter, "").partition(" ")[0] if letter else ""


def _neighbours(meanings: Matrix, scripts: Sequence[str]) -> list[list[list[int]]]:
    """Return for each script, Latin first, the pieces of it that mean nearly the same as each piece."""
    of = np.array(scripts)
    common = [script for script, count in Counter(scripts).most_common() if script and count >= _FEWEST]
    common.sort(key=lambda script: script != "LATIN")
    neighbours: list[list[list[int]]] = [[] for _ in common]
    for places in np.array_split(np.arange(len(meanings)), 20):
        alike = meanings[places] @ meanings.T  # cosines: the encoder's embeddings have length 1
        alike[np.arange(len(places)), places] = 0.0
        for script, found in zip(common, neighbours, strict=True):
            there = np.flatnonzero(of == script)
            part = alike[:, there]
            nearest = np.argpartition(-part, _NEIGHBOURS, axis=1)[:, :_NEIGHBOURS]
            for row, some, own in zip(part, nearest, of[places], strict=True):
                found.append([int(there[one]) for one in some if own and row[one] >= _ALIKE])
    return neighbours


def _put(pieces: list[int], scripts: list[list[list[int]]], chance: np.random.Generator) -> list[int]:
    """Return pieces, some of them with their neighbours in one script instead, which is Latin most often."""
    neighbours = scripts[0 if chance.random() < _LATIN else chance.integers(1, len(scripts))]
    return [
        others[chance.integers(len(others))] if draw < _SWAPPED and (others := neighbours[piece]) else piece
        for piece, draw in zip(pieces, chance.random(len(pieces)), strict=True)
    ]


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

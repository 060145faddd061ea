"""The teacher: a sentence encoder fitted to labelled requests. Large and slow: only the student is shipped."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from training.encoder import SIZE, Encoder, Tokens, batches, embed, tokens_of

_ROUNDS = 5
_BATCH = 48
_RATE, _HEAD_RATE = 2e-4, 1e-3
_DROPPED = 0.08  # of the pieces of a prompt, drawn again each time, so that no single one decides
_SPREAD = SIZE**0.5  # brings embeddings of length 1 to about one a dimension


class Teacher(nn.Module):
    """Three tiers from an embedding that changes with the labels."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(SIZE, 256), nn.ReLU(), nn.Dropout(0.3), nn.Linear(256, 3))

    def forward(self, tokens: Tokens) -> torch.Tensor:
        """Return the logits of the tiers (strings, 3)."""
        logits: torch.Tensor = self.head(self.encoder(tokens) * _SPREAD)
        return logits

    def judge(self, texts: Sequence[str]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Return the probabilities of the tiers (strings, 3) and the embeddings (strings, 512)."""
        self.eval()
        embeddings = embed(self.encoder, tokens_of(texts))
        with torch.no_grad():
            logits = self.head(torch.from_numpy(embeddings) * _SPREAD)
        return torch.softmax(logits, dim=1).numpy(), embeddings


def fit(texts: Sequence[str], tiers: np.ndarray[Any, Any], weights: np.ndarray[Any, Any], seed: int = 0) -> Teacher:
    """Return a teacher fitted to strings with tiers 0 to 2, each with its weight."""
    torch.manual_seed(seed)
    chance, dropped = np.random.default_rng(seed), random.Random(seed)
    tokens = tokens_of(texts)
    target, weight = torch.from_numpy(tiers), torch.from_numpy(weights).float()
    teacher = Teacher()
    groups = [(teacher.encoder, _RATE), (teacher.head, _HEAD_RATE)]
    optimiser = torch.optim.AdamW(
        [{"params": part.parameters(), "lr": rate} for part, rate in groups], weight_decay=0.01
    )
    steps = _ROUNDS * len(batches(tokens, _BATCH))
    # A hundred steps of warming up, then down to nothing.
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min(1.0, (step + 1) / 100) * (1 - step / steps)
    )
    for _ in range(_ROUNDS):
        teacher.train()
        for rows in batches(tokens, _BATCH, chance):
            pieces = [[n for n in tokens[row] if dropped.random() >= _DROPPED] or tokens[row] for row in rows]
            losses = functional.cross_entropy(teacher(pieces), target[rows], reduction="none", label_smoothing=0.05)
            loss = (losses * weight[rows]).sum() / weight[rows].sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return teacher

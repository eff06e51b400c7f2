"""What accumulators lose over the length of a sum: K products of real operands, and of drawn ones.

Truncation, which no build has, stands beside them: each partial sum cut to BF16 in place of
rounded.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from compiler.checkpoints import load, model_inputs, reference
from hdl.spec.config import AcceleratorConfig
from sim.model import accumulate, codec

__all__ = ["SUMS", "sum_lines", "sums"]

Array = np.ndarray
SUMS = "sums"
_FORMATS = ("posit8", "e4m3")
_ACCUMULATORS = ("bf16", "fp32", "fused", "exact")
_TRUNCATED = "bf16, cut"
_OPERANDS = "operands alone"
_LENGTHS = (64, 128, 256, 512, 768, 1536)
_DRAWN = (64, 256, 1024, 4096)
_LAYER, _TOKENS, _COLUMNS = 3, 128, 64


def _real() -> tuple[Array, Array]:
    """What meets in the second feed-forward matrix of a layer of MiniLM: its inputs over the
    project's text, in fp32, and its weights, both with K last."""
    model = load("minilm")
    before = reference.forward(model, model_inputs("minilm", _TOKENS)).blocks[_LAYER - 1]
    block = model.blocks[_LAYER]
    assert block.attention_norm is not None, "BERT has one behind each half"
    middle = reference.normalise(block.attention_norm, before + reference.attend(
        block.attention, before))
    ffn = block.feed_forward
    hidden = reference.activate(ffn.activation, reference.linear(ffn.up, middle))
    return hidden, ffn.down.weight[:_COLUMNS]


def _drawn() -> tuple[Array, Array]:
    """Normal numbers, of deviation 1 and 1 / 20."""
    rng = np.random.default_rng(0)
    return (rng.normal(0, 1, (_TOKENS, max(_DRAWN))), rng.normal(0, 0.05, (_COLUMNS, max(_DRAWN))))


def _cut(a: Array, b: Array, dim: int) -> Array:
    """Sums of K-tiles in BF16, each partial sum cut towards zero; float64 holds all of them."""
    def cut(values: Array) -> Array:
        words = values.view(np.int64) & ~np.int64((1 << 45) - 1)
        return words.view(np.float64)

    total = np.zeros((len(a), b.shape[1]))
    for start in range(0, a.shape[1], dim):
        tile = np.zeros_like(total)
        for k in range(start, min(start + dim, a.shape[1])):
            tile = cut(tile + a[:, k, None] * b[k])
        total = tile if start == 0 else cut(total + tile)
    return total


def sums() -> list[dict[str, Any]]:
    """The root mean square of the error of sums over that of the sums, of accumulators, and before
    them of what rounding the operands to the format does; ``ModelUnavailable``."""
    found = []
    for operands, (a, b), lengths in (("MiniLM", _real(), _LENGTHS), ("drawn", _drawn(), _DRAWN)):
        for fmt in _FORMATS:
            encoding = AcceleratorConfig(fmt).format.encodings[0]
            x, w = (codec.decode(encoding, codec.encode(encoding, values)) for values in (a, b.T))
            for k in lengths:
                true = x[:, :k] @ w[:k]  # within 2^-53 of each term
                unrounded = a[:, :k].astype(np.float64) @ b.T[:k].astype(np.float64)
                found.append(_entry(operands, fmt, _OPERANDS, k, true, unrounded))
                for acc in (_TRUNCATED, *_ACCUMULATORS):
                    config = AcceleratorConfig(fmt, acc="bf16" if acc == _TRUNCATED else acc)
                    own = (_cut(x[:, :k], w[:k], config.dim) if acc == _TRUNCATED
                           else accumulate.product(config, x[:, :k], w[:k]))
                    found.append(_entry(operands, fmt, acc, k, own, true))
    return found


def _entry(operands: str, fmt: str, acc: str, k: int, own: Array, true: Array) -> dict[str, Any]:
    error = np.sqrt(np.mean((own - true) ** 2) / np.mean(true ** 2))
    return {"operands": operands, "fmt": fmt, "acc": acc, "k": k, "error": float(f"{error:.3g}")}


def sum_lines(entries: Sequence[dict[str, Any]]) -> Iterator[str]:
    """A table as lines of Markdown: errors in per cent; ``exact`` is BF16's own rounding."""
    for number, operands in enumerate(dict.fromkeys(entry["operands"] for entry in entries)):
        own = [entry for entry in entries if entry["operands"] == operands]
        lengths = list(dict.fromkeys(entry["k"] for entry in own))
        if number:
            yield ""
        yield f"| {operands}, K | {' | '.join(map(str, lengths))} |"
        yield "|---" * (len(lengths) + 1) + "|"
        for fmt, acc in dict.fromkeys((entry["fmt"], entry["acc"]) for entry in own):
            errors = [f"{100 * entry['error']:.2f}" for entry in own
                      if (entry["fmt"], entry["acc"]) == (fmt, acc)]
            yield f"| {fmt}, {acc} | {' | '.join(errors)} |"

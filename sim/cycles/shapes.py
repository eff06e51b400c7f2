"""Models by their shapes alone, for the cycle model: ``SHAPES``."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from compiler.checkpoints.description import (
    Attention,
    Block,
    FeedForward,
    Linear,
    Norm,
    Polynomial,
    Rotary,
    Tokens,
    Transformer,
)

__all__ = ["SHAPES", "bert_base", "bert_integer", "llama_1b"]


def _zeros(*shape: int) -> np.ndarray:
    """Zeros without memory of their own."""
    return np.broadcast_to(np.float32(0), shape)


def _linear(outputs: int, inputs: int, bias: bool = True) -> Linear:
    return Linear(_zeros(outputs, inputs), _zeros(outputs) if bias else None)


def bert_base(layers: int = 12) -> Transformer:
    """BERT-base: width 768, 12 heads, 3,072 in the feed-forward."""
    width, hidden = 768, 3072
    norm = Norm(_zeros(width), _zeros(width), 1e-12)
    square = _linear(width, width)
    block = Block(Attention(square, square, square, square, 12, 12), norm,
                  FeedForward(_linear(hidden, width), _linear(width, hidden), "gelu"), norm, False)
    table = _zeros(512, width)
    return Transformer("bert-base", Tokens(table, table, table[0], norm), (block,) * layers)


def bert_integer(layers: int = 12) -> Transformer:
    """The same with polynomial attention, norms by magnitudes and ReLU."""
    model = bert_base(1)
    block, embedding = model.blocks[0], model.embedding
    norm = Norm(_zeros(768), _zeros(768), 1e-12, kind="l1")
    kernel = Polynomial(2, (1.0,) * block.attention.heads, (0.1,) * block.attention.heads)
    block = replace(block, attention=replace(block.attention, kernel=kernel), attention_norm=norm,
                    feed_forward=replace(block.feed_forward, activation="relu"),
                    feed_forward_norm=norm)
    return replace(model, name="bert-base-integer", embedding=replace(embedding, norm=norm),
                   blocks=(block,) * layers)


def llama_1b(layers: int = 16) -> Transformer:
    """Llama-3.2-1B: width 2,048, 32 heads of 64 on 8, 8,192 in the feed-forward, 128,256 words."""
    width, hidden, keys = 2048, 8192, 512
    norm, table = Norm(_zeros(width), None, 1e-5), _zeros(128_256, width)
    square, narrow = _linear(width, width, False), _linear(keys, width, False)
    wide = _linear(hidden, width, False)
    attention = Attention(square, narrow, narrow, square, 32, 8, Rotary(500_000.0, False), True)
    block = Block(attention, norm, FeedForward(wide, _linear(width, hidden, False), "silu", wide),
                  norm, True)
    return Transformer("llama-3.2-1b", Tokens(table), (block,) * layers, norm, Linear(table))


SHAPES: dict[str, Callable[[], Transformer]] = {
    "bert-base": bert_base, "bert-base-integer": bert_integer, "llama-3.2-1b": llama_1b}

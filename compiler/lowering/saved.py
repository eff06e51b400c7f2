"""What a layer's forward pass leaves for its backward pass."""

from dataclasses import dataclass, field

from compiler.lowering.values import Value, View

__all__ = ["Saved"]


@dataclass
class Saved:
    """Values of one layer over rows positions, filled while it is traced.

    Reading one of them later keeps its memory until then; nothing else changes.

    Attributes
    ----------
    attention_given, feed_forward_given: what the projections read, rows × d.
    queries, keys, values: after a rotary embedding, rows × (heads · size).
    probabilities: (sequences · heads · S) × S, a sequence's heads below one another.
    heads: the heads' sums side by side.
    attention_norm_input, feed_forward_norm_input: rows × d.
    up, gate: before the activation, rows × F; ``gate`` of gated layers alone.
    hidden: what ``down`` reads.
    """

    attention_given: Value = field(init=False)
    queries: View = field(init=False)
    keys: View = field(init=False)
    values: View = field(init=False)
    probabilities: Value = field(init=False)
    heads: Value = field(init=False)
    attention_norm_input: Value = field(init=False)
    feed_forward_given: Value = field(init=False)
    feed_forward_norm_input: Value = field(init=False)
    up: Value = field(init=False)
    gate: Value | None = None
    hidden: Value = field(init=False)

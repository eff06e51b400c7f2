"""MobileBERT: narrow layers between bottlenecks, several feed-forwards in each, no statistics."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from compiler.checkpoints.checkpoint import Take
from compiler.checkpoints.description import Block, Bottleneck, FeedForward, Linear, Norm, Tokens
from compiler.checkpoints.families.bert import NAMES as _BERT
from compiler.checkpoints.families.bert import PLAIN, plan
from compiler.checkpoints.family import Family, Head, Plan
from compiler.checkpoints.parts import Parts
from compiler.checkpoints.settings import Settings

__all__ = ["FAMILIES"]


def _plan(settings: Settings) -> Plan:
    settings.require("normalization_type", ["no_norm"], "no_norm")
    settings.require("trigram_input", [True], "true")
    settings.require("use_bottleneck", [True], "true")
    found = plan(settings)
    narrow = settings.count("intra_bottleneck_size", 128)
    if narrow % found.heads:
        raise settings.refuse("num_attention_heads",
                              f"a divisor of intra_bottleneck_size = {narrow}")
    shared = settings.flag("key_query_shared_bottleneck", True)
    settings.require("use_bottleneck_attention", [not shared],
                     f"{str(not shared).lower()}, where key_query_shared_bottleneck is "
                     f"{str(shared).lower()}")
    return replace(found, norm="affine", head_size=narrow // found.heads,
                   table_width=settings.count("embedding_size", 128), options={
                       "narrow": narrow, "shared": int(shared),
                       "layers": settings.count("num_feedforward_networks", 4)})


class _Parts(Parts):
    """Gain and shift of a norm behind a linear layer alone go into that layer."""

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        self.narrow = self.plan.options["narrow"]
        self.rows |= {"output": self.narrow, "down": self.narrow}
        self.columns |= {"query": self.narrow, "key": self.narrow, "up": self.narrow}
        if not self.plan.options["shared"]:
            self.columns["value"] = self.narrow

    def _folded(self, take: Take, name: str, outputs: int, inputs: int) -> Linear:
        """Linear layer ``name``.dense and the norm ``name``.LayerNorm as one linear layer."""
        linear = self.dense(take, f"{name}.dense", outputs, inputs)
        norm = self.norm_named(take, f"{name}.LayerNorm", outputs)
        return Linear(linear.weight * norm.gain[:, None], linear.bias * norm.gain + norm.shift)

    def block(self, take: Take, index: int) -> Block:
        layer, narrow, wide = f"{self.prefix}encoder.layer.{index}", self.narrow, self.plan.width

        def norm(name: str, width: int = narrow) -> Norm:
            return self.norm_named(take, f"{layer}.{name}.LayerNorm", width)

        def feed_forward(name: str) -> FeedForward:
            return FeedForward(
                self.dense(take, f"{layer}.{name}intermediate.dense", self.plan.hidden, narrow),
                self.dense(take, f"{layer}.{name}output.dense", narrow, self.plan.hidden),
                self.plan.activation)

        stack = tuple((feed_forward(f"ffn.{part}."), norm(f"ffn.{part}.output"))
                      for part in range(self.plan.options["layers"] - 1))
        shared = None
        if self.plan.options["shared"]:
            shared = self._folded(take, f"{layer}.bottleneck.attention", narrow, wide)
        around = Bottleneck(
            self._folded(take, f"{layer}.bottleneck.input", narrow, wide), shared,
            self.dense(take, f"{layer}.output.bottleneck.dense", wide, narrow),
            norm("output.bottleneck", wide))
        return Block(self.attention(take, str(index), index), norm("attention.output"),
                     feed_forward(""), norm("output"), False, stack=stack, bottleneck=around)

    def tokens(self, take: Take) -> Tokens:
        """Before the embedding's norm stand sums alone: each of these takes the gain."""
        plan, name, width = self.plan, f"{self.prefix}embeddings", self.plan.width
        rows = self.dense(take, f"{name}.embedding_transformation", width, 3 * plan.table_width)
        norm = self.norm_named(take, f"{name}.LayerNorm", width)
        table, positions, segments = (
            take(f"{name}.{kind}_embeddings.weight", (count, columns)) for kind, count, columns in (
                ("word", plan.vocabulary, plan.table_width), ("position", plan.positions, width),
                ("token_type", plan.segments, width)))
        # As stored, what comes next stands before the word itself, what came before it behind.
        after, own, before = np.split(rows.weight, 3, axis=1)
        weight = np.concatenate([before, own, after], axis=1) * norm.gain[:, None]
        segments = segments * norm.gain
        return Tokens(table, (positions + rows.bias) * norm.gain + norm.shift, segments[0],
                      segments=segments, neighbours=True, row_projection=Linear(weight))

    def head_norm(self, take: Take, name: str, width: int) -> Norm:
        return Norm(take(f"{name}.weight", (width,)), take(f"{name}.bias", (width,)), self.plan.eps)

    def last_weight(self, take: Take, head: Head, table: np.ndarray, shape: tuple[int, int]
                    ) -> tuple[np.ndarray, tuple[str, ...]]:
        """Of the masked language model beside the table what makes it as wide as the layers."""
        if head.outputs != "vocabulary":
            return super().last_weight(take, head, table, shape)
        words, width = shape[0], self.plan.table_width
        rest = take("cls.predictions.dense.weight", (self.plan.width - width, words))
        own, notes = super().last_weight(take, head, table, (words, width))
        return np.concatenate([own, rest.T], axis=1), notes


def _heads(settings: Settings) -> Mapping[str, Head]:
    pooled = ("mobilebert.pooler.dense" if settings.flag("classifier_activation", True) else None)
    masked = Head("masked language model", "cls.predictions.decoder", "vocabulary",
                  "cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm",
                  bias_name="cls.predictions.bias", tied=True, optional=True,
                  copies=("cls.predictions.dense", "cls.predictions.decoder.bias"))
    return {
        **PLAIN,
        "SequenceClassification": Head("sequence classification", "classifier", dense=pooled,
                                       activation="tanh", pooling="first"),
        "MaskedLM": masked, "PreTraining": masked}


FAMILIES = (Family(
    ("mobilebert",), "MobileBERT", ("MobileBert",),
    {part: name for part, name in _BERT.items() if part in (
        "table", "query", "key", "value", "output")}, _plan, ("mobilebert.", ""), _heads,
    unused=("pooler.", "cls.seq_relationship.", "embeddings.position_ids"), parts=_Parts),)

"""BERT encoders from safetensors: ``load_bert``."""

from pathlib import Path

from compiler.checkpoints.checkpoint import Checkpoint, CheckpointError, LazyBlocks, Take
from compiler.checkpoints.description import (
    Activation,
    Attention,
    Block,
    FeedForward,
    Linear,
    Norm,
    Pooling,
    Tokens,
    Transformer,
)
from compiler.checkpoints.folder import Folder, activation
from compiler.checkpoints.settings import Settings, read_json

__all__ = ["load_bert"]

_ARCHITECTURES = ("BertModel", "BertForMaskedLM", "BertForPreTraining")
_WORDS = "embeddings.word_embeddings.weight"
# Tensors of training's heads, and of the pooler that only they use.
_UNUSED = ("pooler.", "cls.", "bert.pooler.", "embeddings.position_ids",
           "bert.embeddings.position_ids")


class _Layers:
    """Names and shapes of the tensors, each taken by ``take(name, shape)``."""

    def __init__(self, settings: Settings, checkpoint: Checkpoint) -> None:
        self.width = settings.count("hidden_size")
        self.hidden = settings.count("intermediate_size")
        self.heads = settings.count("num_attention_heads")
        if self.width % self.heads:
            raise settings.refuse("num_attention_heads",
                                  f"a divisor of hidden_size = {self.width}")
        self.eps = settings.positive("layer_norm_eps", 1e-12)
        self.activation: Activation = activation(settings)
        self.vocabulary = settings.count("vocab_size")
        self.longest = settings.count("max_position_embeddings")
        self.segments = settings.count("type_vocab_size", 2)
        self.prefix = "bert." if f"bert.{_WORDS}" in checkpoint else ""
        old = f"{self.prefix}embeddings.LayerNorm.gamma" in checkpoint
        self.gain, self.shift = ("gamma", "beta") if old else ("weight", "bias")

    def linear(self, take: Take, name: str, outputs: int, inputs: int) -> Linear:
        name = f"{self.prefix}{name}"
        return Linear(take(f"{name}.weight", (outputs, inputs)), take(f"{name}.bias", (outputs,)))

    def norm(self, take: Take, name: str) -> Norm:
        name = f"{self.prefix}{name}.LayerNorm"
        return Norm(take(f"{name}.{self.gain}", (self.width,)),
                    take(f"{name}.{self.shift}", (self.width,)), self.eps)

    def tokens(self, take: Take) -> Tokens:
        table, positions, segments = (
            take(f"{self.prefix}embeddings.{name}_embeddings.weight", (rows, self.width))
            for name, rows in (("word", self.vocabulary), ("position", self.longest),
                               ("token_type", self.segments)))
        return Tokens(table, positions, segments[0], self.norm(take, "embeddings"))

    def block(self, take: Take, index: int) -> Block:
        layer = f"encoder.layer.{index}"
        query, key, value = (
            self.linear(take, f"{layer}.attention.self.{name}", self.width, self.width)
            for name in ("query", "key", "value"))
        output = self.linear(take, f"{layer}.attention.output.dense", self.width, self.width)
        return Block(
            Attention(query, key, value, output, self.heads, self.heads),
            self.norm(take, f"{layer}.attention.output"),
            FeedForward(self.linear(take, f"{layer}.intermediate.dense", self.hidden, self.width),
                        self.linear(take, f"{layer}.output.dense", self.width, self.hidden),
                        self.activation),
            self.norm(take, f"{layer}.output"), pre_norm=False)


def load_bert(path: Path, name: str | None = None) -> Transformer:
    """The encoder in folder ``path`` (``config.json``, ``model.safetensors``).

    Where the folder says how sentences are pooled (``modules.json``), that is the pooling, else
    there is none. Poolers and heads of training are left out. All shapes are checked here, a
    layer is read when it is asked for. ``CheckpointError`` for what is damaged or not supported.
    """
    folder = Folder.open(path)
    settings, checkpoint = folder.settings, folder.checkpoint
    settings.require("model_type", ["bert"], "bert")
    settings.require("architectures", [[name] for name in _ARCHITECTURES],
                     f"one of {', '.join(_ARCHITECTURES)}: other heads are not supported, the "
                     "nearest is BertModel")
    settings.require("position_embedding_type", ["absolute"], "absolute")
    settings.require("is_decoder", [False], "false: only encoders are supported")
    layers = _Layers(settings, checkpoint)
    count = settings.count("num_hidden_layers")
    layers.tokens(checkpoint.check)
    for index in range(count):
        layers.block(checkpoint.check, index)
    checkpoint.finish(_UNUSED, f"a BERT of {count} layers")
    return Transformer(name or folder.path.name, layers.tokens(checkpoint.read),
                       LazyBlocks(count, lambda index: layers.block(checkpoint.read, index)),
                       pooling=_pooling(folder.path))


def _pooling(folder: Path) -> Pooling:
    """What ``modules.json`` of Sentence Transformers says follows the encoder."""
    path = folder / "modules.json"
    if not path.exists():
        return "none"
    kinds, chosen = [], []
    for module in read_json(path, list):
        where = Settings(module if isinstance(module, dict) else {}, str(path))
        kinds.append(str(where.get("type")).rsplit(".", 1)[-1])
        if kinds[-1] == "Pooling":
            pooled = read_json(folder / str(where.get("path")) / "config.json", dict)
            chosen += [name for name, value in pooled.items()
                       if name.startswith("pooling_mode_") and value is True]
    supported: dict[tuple[tuple[str, ...], tuple[str, ...]], Pooling] = {
        (("Transformer",), ()): "none",
        (("Transformer", "Pooling"), ("pooling_mode_cls_token",)): "first",
        (("Transformer", "Pooling"), ("pooling_mode_mean_tokens",)): "mean",
        (("Transformer", "Pooling", "Normalize"), ("pooling_mode_mean_tokens",)): "mean_l2",
    }
    found = supported.get((tuple(kinds), tuple(chosen)))
    if found is None:
        raise CheckpointError(
            f"{path}: modules must be Transformer, then Pooling of the first or of the mean, then "
            f"Normalize after the mean alone, not {', '.join(kinds)} with "
            f"{', '.join(chosen) or 'no pooling'}")
    return found

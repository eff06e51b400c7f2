"""Trained adapters in files, in the names and layout of peft, and merged into a model.

A folder holds ``adapter_config.json`` and ``adapter_model.safetensors``, as ``PeftModel`` reads
them; one file that ends in ``.safetensors`` holds the same tensors, with the configuration among
its metadata. A head that reads the mean of the positions is none that transformers knows: it goes
to ``head.safetensors`` next to them. A head of spans is ``qa_outputs``, as there.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from compiler.checkpoints.checkpoint import CheckpointError, Safetensors, finite
from compiler.checkpoints.description import Linear, Patches, Pooling, Transformer
from compiler.checkpoints.settings import Settings
from compiler.training.gradients.numerics import Exact
from compiler.training.gradients.parameters import linears, parameters, with_parameters
from compiler.training.gradients.weights import Adapter, Weights
from compiler.training.names import Names, names_of

__all__ = ["AdapterSet", "load_adapters", "merge", "save_adapters", "written_here"]

_CONFIG, _TENSORS, _HEAD = "adapter_config.json", "adapter_model.safetensors", "head.safetensors"
_HEAD_NAMES = ("head.weight", "head.bias")
_SPANS = "qa_outputs"


@dataclass(frozen=True)
class AdapterSet:
    """Adapters by linear layer (``blocks.0.query``), all of one rank and scale, and a ``head``
    with the ``pooling`` that it reads, where one was trained."""

    layers: Mapping[str, Adapter]
    head: Linear | None = None
    pooling: Pooling = "none"

    def __post_init__(self) -> None:
        if not self.layers:
            raise ValueError("adapters must be of one layer at least")
        kinds = {(len(own.a), own.scale) for own in self.layers.values()}
        if len(kinds) > 1:
            raise ValueError(f"adapters must be of one rank and scale, not {sorted(kinds)}")

    @property
    def rank(self) -> int:
        return len(next(iter(self.layers.values())).a)

    @property
    def alpha(self) -> float:
        return next(iter(self.layers.values())).scale * self.rank


def merge(model: Transformer, adapters: AdapterSet, numerics: Exact | None = None) -> Transformer:
    """``model`` with W + scale · B A in place of W, and the head, which then says what it is for.

    In fp32, or as ``numerics`` merges in training: rounding those weights again changes nothing, so
    that inference with them has the bits of the training's forward pass. ``ValueError`` for
    adapters of other shapes or layers.
    """
    _fit(model, adapters)
    if adapters.head is not None:
        task = "question answering" if adapters.pooling == "none" else "sequence classification"
        model = replace(
            model, head=adapters.head, pooling=adapters.pooling, transform=None, cap=None,
            labels=model.labels if len(model.labels) == len(adapters.head.weight) else (),
            task=model.task if isinstance(model.embedding, Patches) else task)
    weights = Weights(parameters(model), numerics or Exact(np.float32), adapters.layers)
    changed = {f"{name}.weight": weights.stored(f"{name}.weight").astype(np.float32)
               for name in adapters.layers}
    return with_parameters(model, changed)


def _fit(model: Transformer, adapters: AdapterSet, where: str = "") -> None:
    """``CheckpointError`` where a layer or a shape is not the model's."""
    blocks = [linears(block) for block in model.blocks]
    for layer, own in adapters.layers.items():
        _, index, part = layer.split(".")
        linear = blocks[int(index)].get(part) if int(index) < len(blocks) else None
        if linear is None:
            raise CheckpointError(f"{where}adapter of {layer}: {model.name} has no such layer")
        outputs, inputs = linear.weight.shape
        for name, found, wanted in (("A", own.a.shape, (adapters.rank, inputs)),
                                    ("B", own.b.shape, (outputs, adapters.rank))):
            if found != wanted:
                raise CheckpointError(f"{where}{name} of {layer} must be of shape {wanted} in "
                                      f"{model.name}, not {found}")
    head = adapters.head
    if head is not None and head.weight.shape[1] != model.width:
        raise CheckpointError(f"{where}head must have {model.width} inputs for {model.name}, "
                              f"not {head.weight.shape[1]}")


# Writing

def save_adapters(path: Path, model: Transformer, adapters: AdapterSet) -> None:
    """Write ``adapters`` of ``model`` to folder ``path``, or to one file where it ends in
    ``.safetensors``; each file appears whole or not at all. ``OSError``."""
    _fit(model, adapters)
    names = names_of(model)
    spans = adapters.head is not None and adapters.pooling == "none"
    tensors, head = _tensors(names, model, adapters, spans), _head_tensors(adapters, spans)
    config = _config(names, model, adapters, spans)
    # What transformers asks of a file before it reads it.
    metadata = {"format": "pt", "pooling": adapters.pooling}
    if path.suffix == ".safetensors":
        _write(path, tensors | head, metadata | {_CONFIG: json.dumps(config)})
        return
    path.mkdir(parents=True, exist_ok=True)
    _write(path / _TENSORS, tensors, metadata)
    if head:
        _write(path / _HEAD, head, metadata)
    _replace(path / _CONFIG, json.dumps(config, indent=2).encode() + b"\n")


def _tensors(names: Names, model: Transformer, adapters: AdapterSet, spans: bool
             ) -> dict[str, np.ndarray]:
    found = {}
    for layer, own in adapters.layers.items():
        module = names.module(layer, spans or model.task == "masked language model")
        b = names.to_halves(model, layer, own.b)
        found[f"{module}.lora_A.weight"] = np.ascontiguousarray(own.a, np.float32)
        found[f"{module}.lora_B.weight"] = np.ascontiguousarray(b, np.float32)
    if spans:
        found |= {f"base_model.model.{_SPANS}.{part}": values
                  for part, values in _parts(adapters.head).items()}
    return found


def _head_tensors(adapters: AdapterSet, spans: bool) -> dict[str, np.ndarray]:
    if adapters.head is None or spans:
        return {}
    return {f"head.{part}": values for part, values in _parts(adapters.head).items()}


def _parts(head: Linear) -> dict[str, np.ndarray]:
    parts = {"weight": head.weight} | ({} if head.bias is None else {"bias": head.bias})
    return {name: np.ascontiguousarray(values, np.float32) for name, values in parts.items()}


def _config(names: Names, model: Transformer, adapters: AdapterSet, spans: bool
            ) -> dict[str, object]:
    parts = {layer.rpartition(".")[2] for layer in adapters.layers}
    return {
        "peft_type": "LORA", "task_type": "QUESTION_ANS" if spans else names.task_type,
        "base_model_name_or_path": model.name, "inference_mode": True, "r": adapters.rank,
        "lora_alpha": adapters.alpha, "lora_dropout": 0.0, "bias": "none",
        "fan_in_fan_out": False, "target_modules": names.targets(parts),
        "modules_to_save": [_SPANS] if spans else None}


def _write(path: Path, tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    from safetensors.numpy import save

    _replace(path, save(tensors, metadata))


def _replace(path: Path, content: bytes) -> None:
    whole = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        whole.write_bytes(content)
        os.replace(whole, path)
    finally:
        whole.unlink(missing_ok=True)


# Reading

def written_here(folder: Path) -> bool:
    """Whether ``save_adapters`` wrote ``folder``: a head beside the tensors, or the pooling that it
    says with them, which peft does not."""
    try:
        return (folder / _HEAD).exists() or "pooling" in Safetensors(folder / _TENSORS).metadata()
    except CheckpointError:
        return False


def load_adapters(path: Path, model: Transformer) -> AdapterSet:
    """The adapters for ``model`` in a folder or a file as ``save_adapters`` or peft writes them.

    ``CheckpointError`` in one line for what is damaged, not supported, or not of this model.
    """
    file = Safetensors(path / _TENSORS if path.is_dir() else path)
    settings = _settings(path, file)
    names = names_of(model)
    matrices: dict[str, dict[str, np.ndarray]] = {}
    head: dict[str, np.ndarray] = {}
    spans = False
    for tensor in file.shapes:
        own = names.layer(tensor)
        if own is not None:
            if len(file.shapes[tensor]) != 2:
                raise CheckpointError(f"{file.path}: tensor {tensor} must be a matrix, "
                                      f"not of shape {file.shapes[tensor]}")
            matrices.setdefault(own[0], {})[own[1]] = _finite(file, tensor)
        elif tensor in _HEAD_NAMES:
            head[tensor.removeprefix("head.")] = _finite(file, tensor)
        elif tensor.rpartition(".")[0].endswith(_SPANS):
            head[tensor.rpartition(".")[2]], spans = _finite(file, tensor), True
        else:
            raise CheckpointError(f"{file.path}: tensor {tensor} has no place in adapters of "
                                  f"{model.name}")
    source = file
    if path.is_dir() and (path / _HEAD).exists():
        source = Safetensors(path / _HEAD)
        head |= {name.removeprefix("head."): _finite(source, name) for name in source.shapes}
    rank, scale = _rank_and_scale(settings)
    layers = {}
    for layer, pair in matrices.items():
        for part in ("A", "B"):
            if part not in pair:
                raise CheckpointError(f"{file.path}: lora_{part} of {layer} is missing")
        layers[layer] = Adapter(pair["A"], pair["B"], scale)
        if len(pair["A"]) != rank:
            raise CheckpointError(f"{file.path}: A of {layer} must have {rank} rows, "
                                  f"as {settings.where} says, not {len(pair['A'])}")
    if not layers:
        raise CheckpointError(f"{file.path} must hold lora_A and lora_B of one layer at least")
    found = AdapterSet(layers, _head(head, source),
                       "none" if spans else _pooling(source, model) if head else "none")
    _fit(model, found, f"{file.path}: ")
    reordered = {layer: replace(own, b=names.from_halves(model, layer, own.b))
              for layer, own in layers.items()}
    return replace(found, layers=reordered)


def _settings(path: Path, file: Safetensors) -> Settings:
    if path.is_dir():
        return Settings.from_json(path / _CONFIG)
    text = file.metadata().get(_CONFIG)
    if text is None:
        settings = path.with_name(_CONFIG)
        if not settings.exists():
            raise CheckpointError(f"{path} does not say rank and alpha: {_CONFIG} must be next to "
                                  "it or in its metadata")
        return Settings.from_json(settings)
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: {_CONFIG} in its metadata must be JSON: {error}") from error
    return Settings(values if isinstance(values, dict) else {}, f"{path}, {_CONFIG}")


def _rank_and_scale(settings: Settings) -> tuple[int, float]:
    settings.require("peft_type", ["LORA"], "LORA")
    settings.require("bias", ["none"], "none: biases are frozen")
    for name in ("fan_in_fan_out", "use_dora", "lora_bias"):
        settings.require(name, [False], "false")
    for name in ("rank_pattern", "alpha_pattern"):
        settings.require(name, [{}], "empty: all adapters have one rank and scale")
    settings.require("layer_replication", [], "null")
    rank, alpha = settings.count("r"), settings.positive("lora_alpha")
    return rank, alpha / (rank ** 0.5 if settings.flag("use_rslora", False) else rank)


def _finite(file: Safetensors, name: str) -> np.ndarray:
    return finite(file.path, name, file.load(name))


def _head(parts: dict[str, np.ndarray], file: Safetensors) -> Linear | None:
    if not parts:
        return None
    weight, bias = parts.get("weight"), parts.get("bias")
    if parts.keys() - {"weight", "bias"} or weight is None or weight.ndim != 2 or (
            bias is not None and bias.shape != weight.shape[:1]):
        raise CheckpointError(f"{file.path}: a head must be a weight and a bias that fit, not "
                              f"{', '.join(f'{name} {w.shape}' for name, w in parts.items())}")
    return Linear(weight, bias)


def _pooling(file: Safetensors, model: Transformer) -> Pooling:
    told = file.metadata().get("pooling", model.pooling)
    if told not in ("first", "mean", "mean_l2"):
        raise CheckpointError(f"{file.path}: pooling must be first, mean or mean_l2, not {told!r}")
    return told

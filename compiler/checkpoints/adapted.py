"""Adapters of peft merged into a checkpoint's tensors, whatever the family: ``Adapted``.

W + scale · B A takes the place of each tensor that an adapter names, in fp32, when it is read; what
was trained whole, a head say, takes the place of its tensor.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compiler.checkpoints.checkpoint import CheckpointError, Safetensors, Shape, Store, finite
from compiler.checkpoints.pickled import Pickled
from compiler.checkpoints.settings import Settings

__all__ = ["Adapted"]

_CONFIG, _FILES = "adapter_config.json", ("adapter_model.safetensors", "adapter_model.bin")
_ROOT = "base_model.model."
_PAIR = re.compile(r"(.+)\.lora_([AB])(?:\.default)?\.weight")
# What files of several releases put into names besides the module's own.
_INSERTED = re.compile(r"\.(?:base_layer|modules_to_save(?:\.default)?|original_module)(?=\.)")


@dataclass(frozen=True)
class _Delta:
    """What is added to a tensor: scale · B A, or its transpose."""

    a: str
    b: str
    scale: float


class Adapted:
    """The tensors of ``store`` with the adapters in folder ``path``. ``prefixes``: what may stand
    before a tensor's name in a model with a head and not in a file of the base model.
    ``transposed``: the model's linear layers are stored inputs × outputs.
    ``CheckpointError`` for what is damaged, not supported, or not of this checkpoint."""

    def __init__(self, store: Store, path: Path, prefixes: tuple[str, ...],
                 transposed: bool = False) -> None:
        self.path, self._store, self._prefixes = store.path, store, prefixes
        self._transposed = transposed
        self._settings = Settings.from_json(path / _CONFIG)
        self._check_settings()
        self._file = _opened(path)
        self.shapes: dict[str, Shape] = dict(store.shapes)
        self._deltas: dict[str, _Delta] = {}
        self._whole: dict[str, str] = {}
        self._find()

    def _check_settings(self) -> None:
        settings = self._settings
        settings.require("peft_type", ["LORA"], "LORA")
        settings.require("use_dora", [False], "false")
        settings.require("lora_bias", [False], "false")
        settings.require("layer_replication", [], "null")
        settings.require("bias", ["none", "all", "lora_only"], "none, all or lora_only")
        if settings.flag("fan_in_fan_out", False) != self._transposed:
            stored = "inputs × outputs" if self._transposed else "outputs × inputs"
            raise settings.refuse("fan_in_fan_out", f"{str(self._transposed).lower()} for linear "
                                  f"layers that are stored {stored}")
        settings.count("r")
        for name in ("alpha_pattern", "rank_pattern"):
            patterns = settings.get(name) or {}
            if not isinstance(patterns, dict) or not all(
                    re.fullmatch(r"[\w.]+", module) for module in patterns):
                raise settings.refuse(name, "an object by the ends of modules' names")

    def _of(self, module: str, setting: str, pattern: str) -> tuple[Settings, str]:
        """Where the value for ``module`` stands: in ``pattern``, else in ``setting``."""
        patterns = self._settings.get(pattern) or {}
        own = next((name for name in patterns if f".{module}".endswith(f".{name}")), None)
        if own is None:
            return self._settings, setting
        return Settings(patterns, f"{self._settings.where}: {pattern}"), own

    def _scale(self, module: str, rank: int) -> float:
        settings, name = self._of(module, "r", "rank_pattern")
        if settings.count(name) != rank:
            raise settings.refuse(name, f"{rank}, the rank of the matrices of {module}")
        settings, name = self._of(module, "lora_alpha", "alpha_pattern")
        alpha = settings.positive(name)
        return alpha / (rank ** 0.5 if self._settings.flag("use_rslora", False) else rank)

    def _find(self) -> None:
        """Where each tensor of the adapters goes."""
        pairs: dict[str, dict[str, str]] = {}
        for name in self._file.shapes:
            plain = _INSERTED.sub("", name.removeprefix(_ROOT))
            match = _PAIR.fullmatch(plain)
            if match is not None:
                pairs.setdefault(match[1], {})[match[2]] = name
            elif "lora_" in plain:
                raise CheckpointError(f"{self._file.path}: tensor {name} must be lora_A or lora_B "
                                      "of a linear layer")
            else:
                self._whole[self._place(plain, name)] = name
        for module, pair in pairs.items():
            for part in "AB":
                if part not in pair:
                    raise CheckpointError(f"{self._file.path}: lora_{part} of {module} is missing")
            self._add(module, self._place(f"{module}.weight", pair["A"]), pair["A"], pair["B"])
        for pattern in ("alpha_pattern", "rank_pattern"):
            for name in self._settings.get(pattern) or {}:
                if not any(f".{module}".endswith(f".{name}") for module in pairs):
                    raise self._settings.refuse(pattern, "an object by the ends of modules' names "
                                                f"that have adapters, as {name} is not")
        if not pairs and not self._whole:
            raise CheckpointError(f"{self._file.path} must hold lora_A and lora_B of one layer at "
                                  "least")
        if (self._settings.get("bias") or "none") != "none" and not any(
                name.endswith(".bias") for name in self._whole):
            raise self._settings.refuse("bias", "none where the file holds no bias")
        for name, source in self._whole.items():
            self.shapes[name] = self._file.shapes[source]

    def _add(self, module: str, name: str, a: str, b: str) -> None:
        shapes = self._file.shapes[a], self._file.shapes[b]
        if len(shapes[0]) != 2 or len(shapes[1]) != 2 or shapes[0][0] != shapes[1][1]:
            raise CheckpointError(f"{self._file.path}: lora_A and lora_B of {module} must be "
                                  f"matrices of one rank, not {shapes[0]} and {shapes[1]}")
        wanted = (shapes[1][0], shapes[0][1])
        if self.shapes[name] != (wanted[::-1] if self._transposed else wanted):
            raise CheckpointError(f"{self._file.path}: the product of lora_B and lora_A of "
                                  f"{module} must be of shape {self.shapes[name]}, not {wanted}")
        self._deltas[name] = _Delta(a, b, self._scale(module, shapes[0][0]))

    def _place(self, plain: str, name: str) -> str:
        """The checkpoint's tensor that ``plain`` is, with or without the prefix of the model."""
        for prefix in self._prefixes:
            for found in (plain, plain.removeprefix(prefix), prefix + plain):
                if found in self._store.shapes:
                    return found
        raise CheckpointError(f"{self._file.path}: tensor {name} has no place in {self.path}")

    def load(self, name: str) -> np.ndarray:
        """The tensor as fp32; ``CheckpointError`` for a type that cannot be read."""
        if name in self._whole:
            return self._read(self._whole[name])
        values, delta = self._store.load(name), self._deltas.get(name)
        if delta is None:
            return values
        change = np.float32(delta.scale) * (self._read(delta.b) @ self._read(delta.a))
        return values + (change.T if self._transposed else change)

    def _read(self, name: str) -> np.ndarray:
        return finite(self._file.path, name, self._file.load(name))


def _opened(path: Path) -> Store:
    if (path / _FILES[0]).exists():
        return Safetensors(path / _FILES[0])
    if (path / _FILES[1]).exists():
        return Pickled(path / _FILES[1])
    raise CheckpointError(f"{path} must hold {' or '.join(_FILES)} beside {_CONFIG}")

"""What a pass reads and what it leaves: weights as they are stored, adapters, gradients by name."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from compiler.training.gradients.numerics import Array, Exact

__all__ = ["INNER_LOG2", "Adapter", "Run", "Weights", "lora_names"]

INNER_LOG2 = 3
"""Of adapters beside their matrices T = x Aᵀ is stored over 2 to this power and s · B times it:
one is near 1 and the other near 2^-6, where posits and E4M3 keep least of it."""


def lora_names(linear: str) -> tuple[str, str]:
    """The names of A and B of the adapter of a linear layer, ``blocks.0.query`` say."""
    return f"{linear}.lora_a", f"{linear}.lora_b"


@dataclass(frozen=True)
class Adapter:
    """An adapter: W + ``scale`` · B A, ``a`` rank × inputs and ``b`` outputs × rank."""

    a: Array
    b: Array
    scale: float


class Weights:
    """``arrays`` (``parameters``) as ``numerics`` stores them, each converted once.

    ``adapters``: by linear layer, their arrays as the masters have them; ``set`` renews one of
    them, or an array of the model, after an update. ``beside``: they stay apart from the matrices,
    as ``beside.Beside`` has them.
    """

    def __init__(self, arrays: Mapping[str, Array], numerics: Exact,
                 adapters: Mapping[str, Adapter] | None = None, beside: bool = False) -> None:
        self._arrays = dict(arrays)
        self._numerics = numerics
        self.beside = beside
        self._adapters = dict(adapters or {})
        wrong = [name for name in self._adapters if f"{name}.weight" not in self._arrays]
        if wrong:
            raise ValueError(f"{wrong[0]} has no weight that an adapter could be added to")
        self._kept: dict[str, Array] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def set(self, name: str, values: Array) -> None:
        """``name`` is a parameter's, or one of ``lora_names``."""
        linear, _, part = name.rpartition(".")
        if part in ("lora_a", "lora_b"):
            old = self._adapters[linear]
            a, b = (values, old.b) if part == "lora_a" else (old.a, values)
            self._adapters[linear] = Adapter(a, b, old.scale)
            for key in (name,) if self.beside else (f"{linear}.weight", name):
                self._kept.pop(f"stored {key}", None)
        else:
            self._arrays[name] = values
            self._kept.pop(f"stored {name}", None)
            self._kept.pop(f"wide {name}", None)

    def stored(self, name: str) -> Array:
        """The array in the format; a matrix with an adapter is merged with it, unless that is
        beside it."""
        return self._once(f"stored {name}", lambda: self._merged(name))

    def wide(self, name: str) -> Array:
        """The array in BF16."""
        return self._once(f"wide {name}",
                          lambda: self._numerics.wide_constant(self._arrays[name]))

    def adapter(self, linear: str) -> Adapter | None:
        """The adapter of a linear layer, its arrays in the format; beside its matrix B is
        2^INNER_LOG2 · scale · B."""
        own = self._adapters.get(linear)
        if own is None:
            return None
        a, b = (f"stored {name}" for name in lora_names(linear))
        constant = self._numerics.constant
        return Adapter(
            self._once(a, lambda: constant(own.a)),
            self._once(b, lambda: self._scaled(own) if self.beside else constant(own.b)),
            own.scale)

    def _once(self, key: str, make) -> Array:
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def _scaled(self, own: Adapter) -> Array:
        n = self._numerics
        factor = n.wide_constant(np.asarray(own.scale * 2.0 ** INNER_LOG2))
        return n.stored(n.lane(n.wide_constant(own.b) * factor))

    def _merged(self, name: str) -> Array:
        """Q(W₀ + scale · B A), W₀, A and B rounded before; B A leaves the array rounded once."""
        numerics = self._numerics
        plain = self._once(f"plain {name}", lambda: numerics.constant(self._arrays[name]))
        adapter = None if self.beside else self.adapter(name.removesuffix(".weight"))
        if adapter is None:
            self._kept.pop(f"plain {name}")
            return plain
        added = numerics.product(adapter.b, adapter.a)
        scale = numerics.wide_constant(np.asarray(adapter.scale))
        return numerics.stored(numerics.lane(numerics.lane(added * scale) + plain))


@dataclass
class Run:
    """One pass forward and back: ``gradients`` collects those of the names ``wanted``.

    ``outputs``: the site of the gradient of what linear layers give, by what they are called
    together (``parameters.output_sites``); adapters beside their matrices share it.
    """

    numerics: Exact
    weights: Weights
    wanted: Collection[str]
    outputs: Mapping[str, str] = field(default_factory=dict)
    gradients: dict[str, Array] = field(default_factory=dict)

    def wants(self, names: Iterable[str]) -> bool:
        return any(name in self.wanted for name in names)

    def add(self, name: str, gradient: Array) -> None:
        """``gradient`` where it is wanted; several add up, as those of a table that is a head."""
        if name in self.wanted:
            old = self.gradients.get(name)
            self.gradients[name] = gradient if old is None else self.numerics.lane(old + gradient)

"""What is trained and how: frozen and validated; every refusal is one line.

    Training(LowRank(("q", "v"), rank=8), AdamW(), rate=1e-3, steps=466, batch=32)
"""

import math
from dataclasses import dataclass
from typing import Literal

from compiler.checkpoints.description import Transformer
from compiler.training.gradients.parameters import block_name, linears, tied
from compiler.training.gradients.softmax import BACKWARD
from compiler.training.gradients.weights import lora_names

__all__ = ["OPTIMISERS", "PARTS_OF", "PLACES", "SCHEDULES", "AdamW", "LowRank", "Momentum",
           "Optimiser", "Sgd", "Training", "WholeMatrices"]

# Targets as the command line and the adapters' files of others call them for short.
PARTS_OF = {"q": "query", "k": "key", "v": "value", "output": "output", "gate": "gate",
            "up": "up", "down": "down"}
SCHEDULES = ("linear", "cosine")
PLACES = ("merged", "beside")
# A share 1 − β₂ of g² that is below half a unit of a BF16 v is lost: v then only grows.
_BETA2_SAFE, _BETA2_STEPS = 0.99, 500


def _whole(name: str, value: object, low: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ValueError(f"{name} must be a whole number of at least {low}, not {value!r}")


def _between(name: str, value: object, low: float, high: float, *, open_low: bool = False,
             open_high: bool = False) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not (low < value if open_low else low <= value) or not (
            value < high if open_high else value <= high):
        start = f"above {low:g}" if open_low else f"at least {low:g}"
        end = "" if math.isinf(high) else (
            f" and below {high:g}" if open_high else f" and at most {high:g}")
        raise ValueError(f"{name} must be a number {start}{end}, not {value!r}")


def _positive(name: str, value: object) -> None:
    _between(name, value, 0, math.inf, open_low=True, open_high=True)


def _targets(targets: tuple[str, ...]) -> None:
    if isinstance(targets, str) or not targets:
        raise ValueError(f"targets must be some of {', '.join(PARTS_OF)}, not {targets!r}")
    for target in targets:
        if target in ("embedding", "embeddings", "positions", "table"):
            raise ValueError(f"targets must not name {target!r}: the gradient of an embedding "
                             "table is a scatter, which no command does")
        if target not in PARTS_OF:
            raise ValueError(f"targets must be some of {', '.join(PARTS_OF)}, not {target!r}")
    twice = [target for target in targets if targets.count(target) > 1]
    if twice:
        raise ValueError(f"targets must name {twice[0]!r} once")


@dataclass(frozen=True)
class LowRank:
    """W + (alpha / rank) · B A for each target of each layer, A and B trained; ``alpha`` None is
    2 · rank, which keeps the factor a power of two.

    ``place``: the sum is ``merged`` in the format after each update, or A and B stay ``beside`` W:
    two thin products more, and what is less than half a unit of W's items is not lost.
    """

    targets: tuple[str, ...] = ("q", "k", "v", "output", "up", "down")
    rank: int = 8
    alpha: float | None = None
    dropout: float = 0.0
    place: Literal["merged", "beside"] = "merged"

    def __post_init__(self) -> None:
        _targets(self.targets)
        _whole("rank", self.rank, 1)
        if self.alpha is None:
            object.__setattr__(self, "alpha", 2.0 * self.rank)
        _positive("alpha", self.alpha)
        if self.dropout != 0:
            raise ValueError(f"dropout must be 0, not {self.dropout!r}: no command draws random "
                             "numbers")
        if self.place not in PLACES:
            raise ValueError(f"adapters must be one of {', '.join(PLACES)}, not {self.place!r}")

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    def names(self, linear: str) -> tuple[str, ...]:
        """What is trained of a layer called ``linear``."""
        return lora_names(linear)


@dataclass(frozen=True)
class WholeMatrices:
    """The targets' own matrices are trained, their biases are not."""

    targets: tuple[str, ...] = ("q", "k", "v", "output", "up", "down")

    def __post_init__(self) -> None:
        _targets(self.targets)

    def names(self, linear: str) -> tuple[str, ...]:
        """What is trained of a layer called ``linear``."""
        return (f"{linear}.weight",)


@dataclass(frozen=True)
class Sgd:
    """w −= η (g + decay · w)."""

    decay: float = 0.0

    def __post_init__(self) -> None:
        _between("decay", self.decay, 0, 1)


@dataclass(frozen=True)
class Momentum:
    """m = momentum · m + g; w −= η (m + decay · w)."""

    momentum: float = 0.9
    decay: float = 0.0

    def __post_init__(self) -> None:
        _between("momentum", self.momentum, 0, 1, open_high=True)
        _between("decay", self.decay, 0, 1)


@dataclass(frozen=True)
class AdamW:
    """m += (1 − β₁)(g − m), v += (1 − β₂)(g² − v); w −= η' m / √(v + ε²) + η · decay · w.

    η' is η with both corrections of the start, √(1 − β₂ᵗ) / (1 − β₁ᵗ).
    """

    beta1: float = 0.9
    beta2: float = 0.99
    eps: float = 1e-8
    decay: float = 0.0

    def __post_init__(self) -> None:
        _between("beta1", self.beta1, 0, 1, open_high=True)
        _between("beta2", self.beta2, 0, 1, open_high=True)
        # ε² must be a normal number of BF16.
        _between("eps", self.eps, 2.0 ** -62, 1)
        _between("decay", self.decay, 0, 1)

    def correction(self, step: int) -> float:
        """What the rate of update ``step``, from 1 on, is multiplied by."""
        return math.sqrt(1 - self.beta2 ** step) / (1 - self.beta1 ** step)


Optimiser = Sgd | Momentum | AdamW
OPTIMISERS: dict[str, type[Optimiser]] = {"adamw": AdamW, "momentum": Momentum, "sgd": Sgd}


@dataclass(frozen=True)
class Training:
    """A run of ``steps`` updates.

    Attributes
    ----------
    method: adapters, or the matrices themselves.
    optimiser, rate: the rule and its largest rate η.
    head: train the head too, weight and bias.
    schedule, warmup: η rises from 0 over the share ``warmup`` of the steps, then falls to 0 along a
        line or half a cosine.
    clip: gradients of a larger norm, all together, are scaled down to it; ``None``: none are.
    batch, micro: sequences of a step, and how many go through the network at once (``None``:
        all); their gradients add up.
    recompute: keep the input of every N-th layer and compute the rest again on the way back; 0
        keeps everything.
    backward: the softmax's form, ``softmax.BACKWARD``.
    scale_log2: gradient tensors are scaled so that their largest magnitude is below 2 to this power
        (``None``: what suits the format, ``scaling.target_log2``).
    seed: of adapters, new heads and the order of examples.
    """

    method: LowRank | WholeMatrices = LowRank()
    optimiser: Optimiser = AdamW()
    rate: float = 1e-3
    steps: int = 1
    head: bool = True
    schedule: Literal["linear", "cosine"] = "linear"
    warmup: float = 0.06
    clip: float | None = 1.0
    batch: int = 32
    micro: int | None = None
    recompute: int = 0
    backward: Literal["ordinary", "centred"] = "ordinary"
    seed: int = 0
    scale_log2: int | None = None

    def __post_init__(self) -> None:
        for name, kinds in (("method", LowRank | WholeMatrices), ("optimiser", Optimiser)):
            if not isinstance(getattr(self, name), kinds):
                raise ValueError(f"{name} must be one of "
                                 f"{', '.join(kind.__name__ for kind in kinds.__args__)}, "
                                 f"not {getattr(self, name)!r}")
        _positive("rate", self.rate)
        for name, low in (("steps", 1), ("batch", 1), ("recompute", 0), ("seed", 0)):
            _whole(name, getattr(self, name), low)
        if self.micro is None:
            object.__setattr__(self, "micro", self.batch)
        _whole("micro", self.micro, 1)
        if self.batch % self.micro:
            raise ValueError(f"micro must be a divisor of batch = {self.batch}, not {self.micro}")
        for name, allowed in (("schedule", SCHEDULES), ("backward", BACKWARD)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, "
                                 f"not {getattr(self, name)!r}")
        _between("warmup", self.warmup, 0, 1, open_high=True)
        if self.clip is not None:
            _positive("clip", self.clip)
        if self.scale_log2 is not None and (
                not isinstance(self.scale_log2, int) or not -16 <= self.scale_log2 <= 16):
            raise ValueError("scale-log2 must be a whole number from -16 to 16, "
                             f"not {self.scale_log2!r}")

    @property
    def beside(self) -> bool:
        """Whether adapters are trained that stay beside their matrices."""
        return isinstance(self.method, LowRank) and self.method.place == "beside"

    @property
    def warm_steps(self) -> int:
        return math.ceil(self.warmup * self.steps)

    def rate_at(self, step: int) -> float:
        """η of update ``step``, 1 to ``steps``; none of them is 0."""
        warm = self.warm_steps
        if step <= warm:
            return self.rate * step / warm
        done = (step - 1 - warm) / (self.steps - warm)
        if self.schedule == "linear":
            return self.rate * (1 - done)
        return self.rate * (1 + math.cos(math.pi * done)) / 2

    def warnings(self) -> list[str]:
        """What is allowed but likely to disappoint, a line each."""
        beta2 = getattr(self.optimiser, "beta2", 0.0)
        if beta2 > _BETA2_SAFE and self.steps > _BETA2_STEPS:
            return [f"beta2 of {beta2:g} over {self.steps} steps: in BF16 the second moment hardly "
                    f"falls any more beyond {_BETA2_STEPS} steps; {_BETA2_SAFE:g} is safe"]
        return []

    def layers(self, model: Transformer) -> list[str]:
        """The linear layers that are trained, ``blocks.0.query`` say; ``ValueError`` where the
        model has no such layer or is too narrow for the rank."""
        found = []
        for index in range(len(model.blocks)):
            own = linears(model.blocks[index])
            for target in self.method.targets:
                part = PARTS_OF[target]
                if part not in own:
                    have = [short for short, long in PARTS_OF.items() if long in own]
                    raise ValueError(f"targets of {model.name} must be some of {', '.join(have)}, "
                                     f"not {target!r}")
                narrow = min(own[part].weight.shape)
                if isinstance(self.method, LowRank) and self.method.rank > narrow:
                    raise ValueError(f"rank must be from 1 to {narrow}, the smaller side of "
                                     f"{target} in {model.name}, not {self.method.rank}")
                found.append(f"{block_name(index)}.{part}")
        return found

    def trained(self, model: Transformer) -> list[str]:
        """The names of everything that is trained; ``ValueError`` as ``layers``."""
        found = [name for layer in self.layers(model) for name in self.method.names(layer)]
        if not self.head:
            return found
        if model.head is None:
            raise ValueError(f"head of {model.name} cannot be trained: it has none")
        if tied(model):
            raise ValueError(f"head of {model.name} cannot be trained: it is the embedding's "
                             "table, whose gradient is a scatter")
        return [*found, "head.weight", *(["head.bias"] if model.head.bias is not None else [])]

"""Rotary embeddings as ``config.json`` describes them, in either generation: ``rotary``."""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from compiler.checkpoints.checkpoint import CheckpointError
from compiler.checkpoints.description import Rotary
from compiler.checkpoints.settings import Settings, shown

__all__ = ["Rope", "head_size", "rotary"]

Rates = tuple[np.ndarray, float]
Scaling = Callable[[Settings, Settings, np.ndarray, float], Rates]


@dataclass(frozen=True)
class Rope:
    """``items``: how many of a head's are rotated, its first ones. ``longest``: the most positions
    that the rates are right for; ``None``: any number."""

    rotary: Rotary
    items: int
    longest: int | None


def head_size(settings: Settings, width: int, heads: int, name: str = "head_dim") -> int:
    """Given, or the width's share; even, for it is rotated."""
    if settings.get(name) is None and width % heads:
        raise CheckpointError(f"{settings.where}: width {width} must be a multiple of the "
                              f"{heads} heads, or {settings.prefix}{name} given")
    size = settings.count(name, width // heads)
    if size % 2:
        raise CheckpointError(f"{settings.where}: heads must be of an even size to be rotated, "
                              f"not {size}")
    return size


def rotary(settings: Settings, size: int, *, share: float = 1.0, kind: str | None = None,
           base: float = 10000.0, interleaved: bool = False) -> Rope:
    """That of heads of ``size`` items.

    ``share``: of a head's items that are rotated where the settings do not say. ``kind``: the
    kind of layer, where settings have an object for each. ``CheckpointError`` for a scaling that
    is not known.
    """
    name, own = _own(settings, kind)
    inner = Settings(own, f"{settings.where}: {name}")
    theta = (inner if inner.get("rope_theta") is not None else settings).positive(
        "rope_theta", base)
    part = inner if inner.get("partial_rotary_factor") is not None else settings
    share = part.positive("partial_rotary_factor", share)
    items = int(size * share) if share <= 1 else 0
    if items % 2 or (size - items) % 2 or not 2 <= items <= size:
        raise part.refuse("partial_rotary_factor",
                          f"such that an even number of a head's {size} items is rotated")
    scaling = str(own.get("rope_type", own.get("type", "default")))
    rates = theta ** (-2.0 * np.arange(items // 2) / items)
    longest = None
    if scaling in _LIMITED:
        longest = _trained(settings, inner)
    elif scaling in _SCALINGS:
        rates, factor = _scaled(_SCALINGS[scaling], settings, inner, rates, theta)
        return Rope(Rotary(theta, interleaved, tuple(rates.tolist()), factor), items, None)
    elif scaling != "default":
        raise CheckpointError(f"{inner.where} must be null or of type "
                              f"{', '.join(('default', *_SCALINGS, *_LIMITED))}, not {shown(own)}")
    if scaling == "longrope":
        rates, factor = _scaled(_longrope, settings, inner, rates, theta)
        return Rope(Rotary(theta, interleaved, tuple(rates.tolist()), factor), items, longest)
    return Rope(Rotary(theta, interleaved), items, longest)


def _scaled(scaling: Scaling, settings: Settings, inner: Settings, rates: np.ndarray,
            theta: float) -> Rates:
    """What ``scaling`` makes of ``rates``; numbers that are each allowed may not be together."""
    try:
        with np.errstate(all="ignore"):
            found, factor = scaling(settings, inner, rates, theta)
    except ArithmeticError:
        found, factor = rates, math.inf
    if not (np.isfinite(found).all() and math.isfinite(factor)):
        raise CheckpointError(f"{inner.where} must scale rates to finite numbers, "
                              f"not {shown(inner.values)}")
    return found, factor


def _own(settings: Settings, kind: str | None) -> tuple[str, dict[str, Any]]:
    """The object that says it, and its name; empty where there is none."""
    name = "rope_parameters" if settings.get("rope_parameters") is not None else "rope_scaling"
    value = settings.get(name)
    if value is None:
        return name, {}
    if not isinstance(value, dict):
        raise settings.refuse(name, "an object or null")
    if kind is not None and isinstance(value.get(kind), dict):
        return f"{name}.{kind}", value[kind]
    return name, value


def _trained(settings: Settings, inner: Settings) -> int:
    """Positions that the model was trained on before its rates were scaled."""
    for place in (inner, settings):
        if place.get("original_max_position_embeddings") is not None:
            return place.count("original_max_position_embeddings")
    return settings.count("max_position_embeddings")


def _numbers(inner: Settings, name: str, count: int) -> np.ndarray:
    values = inner.get(name)
    if (not isinstance(values, list) or len(values) != count
            or not all(isinstance(value, int | float) and not isinstance(value, bool)
                       and 0 < value <= sys.float_info.max for value in values)):
        raise inner.refuse(name, f"{count} numbers above 0")
    return np.array(values, float)


def _linear(settings: Settings, inner: Settings, rates: np.ndarray, theta: float) -> Rates:
    return rates / inner.positive("factor"), 1.0


def _llama3(settings: Settings, inner: Settings, rates: np.ndarray, theta: float) -> Rates:
    """Slow pairs by the factor, fast ones not, between them a mixture of both."""
    factor, low = inner.positive("factor"), inner.positive("low_freq_factor")
    high, trained = inner.positive("high_freq_factor"), _trained(settings, inner)
    if high <= low:
        raise inner.refuse("high_freq_factor", f"above low_freq_factor = {low}")
    turns = trained * rates / (2 * math.pi)
    share = np.clip((turns - low) / (high - low), 0, 1)
    return (1 - share) * rates / factor + share * rates, 1.0


def _yarn(settings: Settings, inner: Settings, rates: np.ndarray, theta: float) -> Rates:
    """Pairs by how often they turn over the length of training; cosines and sines grow."""
    trained = _trained(settings, inner)
    factor = inner.positive("factor", settings.count("max_position_embeddings") / trained)
    size = 2 * len(rates)

    def pair(turns: float) -> float:
        """The pair that turns so often over the length of training."""
        return size * math.log(trained / (turns * 2 * math.pi)) / (2 * math.log(theta))

    first, last = pair(inner.positive("beta_fast", 32)), pair(inner.positive("beta_slow", 1))
    if inner.flag("truncate", True):
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, size - 1)
    last = last if last != first else last + 0.001
    slow = np.clip((np.arange(len(rates)) - first) / (last - first), 0, 1)
    return slow * rates / factor + (1 - slow) * rates, _yarn_factor(inner, factor)


def _yarn_factor(inner: Settings, factor: float) -> float:
    def growth(share: float) -> float:
        return 0.1 * share * math.log(factor) + 1 if factor > 1 else 1.0

    if inner.get("attention_factor") is not None:
        return inner.positive("attention_factor")
    if inner.get("mscale") is not None and inner.get("mscale_all_dim") is not None:
        return growth(inner.positive("mscale")) / growth(inner.positive("mscale_all_dim"))
    return growth(1.0)


def _longrope(settings: Settings, inner: Settings, rates: np.ndarray, theta: float) -> Rates:
    """A divisor for each pair, as it is up to the length of training."""
    return (rates / _numbers(inner, "short_factor", len(rates)),
            _long_factor(settings, inner))


def _long_factor(settings: Settings, inner: Settings) -> float:
    """What cosines and sines grow by for longer texts."""
    if inner.get("attention_factor") is not None:
        return inner.positive("attention_factor")
    trained = _trained(settings, inner)
    factor = settings.count("max_position_embeddings") / trained
    if inner.get("factor") is not None:
        factor = inner.positive("factor")
    return math.sqrt(1 + math.log(factor) / math.log(trained)) if factor > 1 else 1.0


_SCALINGS: dict[str, Scaling] = {"linear": _linear, "llama3": _llama3, "yarn": _yarn}
# Right up to the length of training: beyond it the rates follow the length of the text.
_LIMITED = ("dynamic", "longrope")

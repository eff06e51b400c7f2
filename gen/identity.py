"""When two components are the same hardware, and what one is made of.

All that ``elaborate`` can read is the component itself: its class, its signature and what its
constructor stored. Two components that agree in these are equal inside, without converting both.
"""

from collections.abc import Mapping
from dataclasses import is_dataclass
from enum import Enum

from amaranth.hdl import Shape
from amaranth.lib import data, wiring

from hdl.spec.config import AcceleratorConfig
from hdl.spec.surroundings import Surroundings

__all__ = ["class_name", "latency_of", "parameters", "plain", "surely_equal"]

_AMARANTH = ("_MustUse__", "_Component__")  # what every component has from Amaranth itself


def parameters(component: wiring.Component) -> dict[str, object]:
    """What the constructor of ``component`` stored, its ports excepted, by name."""
    members = component.signature.members
    return {name: value for name, value in vars(component).items()
            if not name.startswith(_AMARANTH) and name not in members}


def surely_equal(one: wiring.Component, other: wiring.Component) -> bool:
    """Whether both are equal in all that ``elaborate`` reads.

    ``False`` where they are not, or where a value cannot be compared.
    """
    if type(one) is not type(other) or one.signature != other.signature:
        return False
    mine, others = parameters(one), parameters(other)
    return mine.keys() == others.keys() and all(
        _equal(value, others[name]) for name, value in mine.items())


def _equal(one: object, other: object) -> bool:
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, tuple | list) and isinstance(other, tuple | list):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, int | str | float | Enum | Shape | data.Layout | type) or is_dataclass(one):
        return one == other
    return False  # a signal, say: equal only if it is the same one


def class_name(component: wiring.Component) -> str:
    """Module and name of the class."""
    return f"{type(component).__module__}.{type(component).__qualname__}"


def latency_of(component: wiring.Component) -> int | None:
    """Clock cycles from an input to the output that it causes, where the component says so."""
    latency = getattr(component, "latency", None)
    return getattr(component, "LATENCY", None) if latency is None else latency


def plain(value: object) -> object:
    """``value`` in what JSON has; a configuration as its hash, a format by its name."""
    if isinstance(value, AcceleratorConfig):
        return f"{value.hash:#018x}"
    if isinstance(value, Surroundings):
        return value.as_dict()
    if isinstance(value, Enum):
        return value.name
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, data.Layout):
        return {str(name): plain(field.shape) for name, field in value}
    if isinstance(value, Shape):
        return f"signed({value.width})" if value.signed else value.width
    return getattr(value, "name", None) or str(value)

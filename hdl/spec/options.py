"""Values of a frozen description with what is to be known of each: text, usual value, names."""

from dataclasses import Field, dataclass, field, fields
from typing import Any

__all__ = ["Option", "option", "options_of", "require_integer", "require_name",
           "require_power_of_two", "require_switch"]


@dataclass(frozen=True)
class Option:
    """A value of a description as shown to a user: its name, what it is, what it is unless
    chosen, and the names that it may have, of one that is a name. ``flag``: what it is called on a
    command line. ``switch``: true or false."""

    name: str
    text: str
    usual: str
    allowed: tuple[str, ...]
    flag: str
    switch: bool


def option(default: object, text: str, usual: str = "", allowed: tuple[str, ...] = (),
           flag: str = "") -> Any:
    """A field of a dataclass with what is to be known of it (``Option``); ``flag``: where it is not
    the field's name."""
    usual = usual or str(default)
    return field(default=default, metadata={"text": text, "usual": usual, "allowed": allowed,
                                            "flag": flag})


def options_of(kind: type) -> tuple[Option, ...]:
    """Every value of a dataclass whose fields are all ``option``, in their order."""
    def flag(item: Field) -> str:
        return "--" + (item.metadata["flag"] or item.name.replace("_", "-"))

    return tuple(Option(item.name, **{**item.metadata, "flag": flag(item)},
                        switch=isinstance(item.default, bool)) for item in fields(kind))


def require_power_of_two(name: str, value: object, low: int, high: int) -> None:
    """``ValueError`` unless ``value`` is one."""
    if (not isinstance(value, int) or isinstance(value, bool)
            or not low <= value <= high or value & (value - 1)):
        raise ValueError(f"{name} must be a power of two from {low} to {high}, not {value!r}")


def require_integer(name: str, value: object, low: int, high: int) -> None:
    """``ValueError`` unless ``value`` is one."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"{name} must be an integer from {low} to {high}, not {value!r}")


def require_name(name: str, value: object, allowed: tuple[str, ...]) -> None:
    """``ValueError`` unless ``value`` is one of ``allowed``."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {value!r}")


def require_switch(name: str, value: object) -> None:
    """``ValueError`` unless ``value`` is true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False, not {value!r}")

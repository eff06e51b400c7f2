"""What the interfaces between components have in common."""

from collections.abc import Mapping

from amaranth.lib import wiring

__all__ = ["Parametric", "require_count"]


class Parametric(wiring.Signature):
    """A signature that its class and parameters define: two are equal where these are.

    ``parameters``: by name, in the order in which the constructor takes them.
    """

    def __init__(self, parameters: Mapping[str, object],
                 members: Mapping[str, wiring.Member]) -> None:
        self._parameters = dict(parameters)
        super().__init__(members)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, wiring.FlippedSignature):
            return False
        return type(other) is type(self) and other._parameters == self._parameters

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self._parameters.items())
        return f"{type(self).__name__}({shown})"


def require_count(name: str, value: object, least: int = 1) -> int:
    """``value``, if it is an integer of at least ``least``; else ``ValueError``."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, not {value!r}")
    return value

"""Scales of operands of products: which a build can have, and op lists with them."""

from collections.abc import Iterable, Iterator

from compiler.lowering.by_row import by_row
from compiler.lowering.coded_values import CodedValues
from compiler.lowering.fusion import Fusion
from compiler.lowering.ops import OpList
from compiler.lowering.values import Value
from hdl.spec.config import AcceleratorConfig

__all__ = ["SCALES", "Scaling", "default_scales"]

SCALES = ("unit", "row")


def default_scales(config: AcceleratorConfig, level: Fusion) -> str:
    """Those that a model gets unless others are chosen: by row where the format needs them, and
    where they can be."""
    possible = config.scales and level == Fusion.RESIDUAL
    return "row" if config.format.integer and possible else "unit"


class Scaling:
    """Rewrites the op lists of programs that share a memory. ``scales``: one of ``SCALES``, else
    the default. ``ValueError`` in one line where a build, or a fusion ``level``, cannot have them.
    """

    def __init__(self, scales: str | None, config: AcceleratorConfig, level: Fusion) -> None:
        scales = scales or default_scales(config, level)
        if scales not in SCALES:
            raise ValueError(f"scales must be one of {', '.join(SCALES)}, not {scales!r}")
        self.scales, self._config = scales, config
        self._values = CodedValues()
        if scales == "unit":
            return
        if not config.scales:
            raise ValueError(f"scales must be unit in a build with functions {config.functions}, "
                             f"not {scales!r}: --functions scales has operands of one item a row")
        if level != Fusion.RESIDUAL:
            raise ValueError(f"fusion must be residual with scales {scales!r}: what is not an "
                             "operand of a product stays BF16")

    def __call__(self, listed: OpList) -> OpList:
        """``listed`` with every operand of a product as codes and magnitudes of its rows."""
        return listed if self.scales == "unit" else by_row(listed, self._values, self._config)

    def parameters(self, given: Iterable[Value]) -> Iterator[Value]:
        """What stands for the constants ``given``, of one program as of the next."""
        return self._values.parameters(given)

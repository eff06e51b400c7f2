"""Scales of operands of products: which a build can have, and op lists with them."""

from collections.abc import Iterable, Iterator

from compiler.checkpoints.scales import Scales
from compiler.lowering.by_row import by_row
from compiler.lowering.coded_values import CodedValues
from compiler.lowering.fusion import Fusion
from compiler.lowering.ops import OpList
from compiler.lowering.static import static
from compiler.lowering.values import Value
from compiler.lowering.words import check_linear
from hdl.spec.config import AcceleratorConfig

__all__ = ["SCALES", "STATIC", "Scaling", "check_scales", "default_scales",
           "scales_name"]

SCALES = ("unit", "row")
"""Those that a model needs nothing beside it for."""
STATIC = "static"


def scales_name(scales: str | Scales) -> str:
    """``scales`` in one word."""
    return STATIC if isinstance(scales, Scales) else scales


def default_scales(config: AcceleratorConfig, level: Fusion) -> str:
    """Those that a model gets unless others are chosen: by row where the format needs them, and
    where they can be."""
    possible = config.scales and level == Fusion.RESIDUAL
    return "row" if config.format.integer and possible else "unit"


def check_scales(scales: str | Scales, config: AcceleratorConfig, level: Fusion) -> None:
    """``ValueError`` in one line where a build, or a fusion ``level``, cannot have them."""
    name = scales_name(scales)
    if name not in (*SCALES, STATIC):
        raise ValueError(f"scales must be one of {', '.join(SCALES)}, {STATIC} or a file of them, "
                         f"not {name!r}")
    if config.fixed and name != STATIC:
        raise ValueError(f"scales must be {STATIC} or a file of them with lane fixed, not {name!r}")
    if name == "unit":
        return
    if not config.scales:
        raise ValueError(f"scales must be unit in a build with functions {config.functions}, "
                         f"not {name!r}: --functions scales has operands of one item a row")
    if level != Fusion.RESIDUAL:
        raise ValueError(f"fusion must be residual with scales {name!r}: what is not an "
                         "operand of a product stays BF16")


class Scaling:
    """Rewrites the op lists of programs that share a memory. ``scales``: one of ``SCALES``, those
    that travel beside the model, or ``None`` for the default. ``ValueError`` as ``check_scales``.
    """

    def __init__(self, scales: str | Scales | None, config: AcceleratorConfig, level: Fusion
                 ) -> None:
        self.scales = default_scales(config, level) if scales is None else scales
        check_scales(self.scales, config, level)
        if self.scales == STATIC:
            raise ValueError("scales static must be given as what calibration found")
        self._config, self._values = config, CodedValues()

    def __call__(self, listed: OpList) -> OpList:
        """``listed`` with every operand of a product as codes, and what these count."""
        if self._config.fixed:
            check_linear(listed)
        if isinstance(self.scales, Scales):
            return static(listed, self._values, self._config, self.scales)
        return listed if self.scales == "unit" else by_row(listed, self._values, self._config)

    def parameters(self, given: Iterable[Value]) -> Iterator[Value]:
        """What stands for the constants ``given``, of one program as of the next."""
        return self._values.parameters(given)

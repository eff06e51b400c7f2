"""How the sequencer hands commands to the units that carry them out."""

from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from hdl.ports.parametric import Parametric
from hdl.ports.plan import plan_layout
from hdl.spec.config import AcceleratorConfig
from hdl.spec.timing import UNITS

__all__ = ["UnitPort", "UnitPorts"]


class UnitPort(Parametric):
    """A unit as the sequencer has it.

    Members
    -------
    plan: Out(stream of ``plan_layout``), commands in program order.
    idle: In(1), no command is inside.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        super().__init__({"config": config}, {
            "plan": Out(stream.Signature(plan_layout(config))), "idle": In(1)})


class UnitPorts(Parametric):
    """All units: a ``UnitPort`` for each of ``UNITS``.

    Members
    -------
    operands, weights, feeder, drain: Out(``UnitPort``).
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        super().__init__({"config": config}, {name: Out(UnitPort(config)) for name in UNITS})

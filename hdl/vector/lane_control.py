"""The control that all lanes of the vector unit share."""

from amaranth.lib.wiring import Out

from hdl.ports.parametric import Parametric
from hdl.spec.config import AcceleratorConfig

__all__ = ["LaneControl", "StageControl"]


class StageControl(Parametric):
    """A stage of a lane that takes an operand, seen from the vector unit.

    Members
    -------
    on: Out(1), the stage acts.
    y: Out(1), on Y, else on ``word``: Out, a lane word for all lanes; of fixed lanes that is a
        factor, unless the stage ``adds``.
    self: Out(1), where ``squares``: by the stage's own word instead.
    """

    def __init__(self, config: AcceleratorConfig, squares: bool = False, adds: bool = False
                 ) -> None:
        super().__init__({"config": config, "squares": squares, "adds": adds}, {
            "on": Out(1), "y": Out(1),
            "word": Out(config.word.bits if adds else config.lane.bits),
            **({"self": Out(1)} if squares else {})})


class LaneControl(Parametric):
    """All that goes to every lane, seen from the vector unit.

    With S = ``config.lane_latency``, all but ``enable``, ``masked`` and the stages' words are
    stable while any word is inside.

    Members
    -------
    enable: Out(1), the pipeline moves.
    multiply, add, scale: Out(``StageControl``) of stages 1, 2 and 4; their words are valid 1, 1 + S
        and 1 + 3·S enabled cycles after the lane's data. In a build of all functions the first and
        the last can square.
    subtract: Out(1), stage 2 computes word − operand.
    function: Out(4), ``Function``. relu: Out(1), NaN passes, negative words, subnormals and −0 give
        +0.
    masked: Out(1), 3·S enabled cycles after the data: exp of this word gives +0.
    accumulates: Out(1), of fixed lanes, 1 enabled cycle after the data: they are accumulators.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        squares = config.squares
        super().__init__({"config": config}, {
            "enable": Out(1), "multiply": Out(StageControl(config, squares)),
            "add": Out(StageControl(config, adds=True)), "subtract": Out(1), "function": Out(4),
            "masked": Out(1), "scale": Out(StageControl(config, squares)), "relu": Out(1),
            **({"accumulates": Out(1)} if config.fixed else {})})

"""What generating costs on the hardware, by the cycle model."""

from dataclasses import dataclass

from compiler.program.decoding import Encoding, Pass
from hdl.spec.config import AcceleratorConfig
from sim.cycles.simulate import simulate
from sim.inference.generate import Generated

__all__ = ["Timing", "timing"]


@dataclass(frozen=True)
class Timing:
    """Cycles of an encoder and of all passes of the prompt, and of those of a token each after
    the first."""

    prompt: int
    tokens: int
    count: int

    def lines(self, megahertz: float) -> list[str]:
        """In seconds at a clock."""
        first = self.prompt / megahertz / 1e3
        found = [f"cycle model: {self.prompt} cycles to the first token, {first:.3f} ms at "
                 f"{megahertz:g} MHz"]
        if self.count:
            each = self.tokens / self.count
            found.append(f"cycle model: {each:.0f} cycles a token, {megahertz * 1e6 / each:.2f} "
                         f"tokens/s at {megahertz:g} MHz")
        return found


def timing(config: AcceleratorConfig, made: Generated, encoding: Encoding | None = None) -> Timing:
    """Of the passes of a text, or of texts side by side, after that of an encoder if there is one.

    Those of prompts are each simulated; of the others the first and the last, between which
    cycles grow evenly.
    """
    prompt, later = made.passes[:made.prefill], made.passes[made.prefill:]
    first = sum(cycles(config, *one) for one in prompt)
    if encoding is not None:
        listed = [dict(fields) for fields in encoding.commands]
        first += simulate(config, listed, address=encoding.address).cycles
    ends = [cycles(config, *later[index]) for index in {0, len(later) - 1}] if later else [0]
    return Timing(first, round(sum(ends) / len(ends) * len(later)), len(later))


def cycles(config: AcceleratorConfig, own: Pass, past: int) -> int:
    """Of one pass after ``past`` positions."""
    listed = [dict(fields) for fields in own.template.commands]
    for index, fields in own.template.fitted(**{
            name: values[0] for name, values in own.template.variables.items()} | {
            "past": past, "last": own.length - 1}):
        listed[index] = fields
    return simulate(config, listed, address=own.template.address).cycles

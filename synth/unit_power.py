"""Power of a build's units, from runs of their mapped netlists on real data: ``UnitPower``."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

import numpy as np

from compiler.checkpoints.heads import AttentionHeads
from gen.block import design_block
from hdl.spec.config import AcceleratorConfig
from sim.campaigns.sources import digest_of
from synth.energy import Spent, leakage, spent
from synth.flow import Flow
from synth.gates import Gates
from synth.kept import kept
from synth.liberty import liberty
from synth.sta import sta_energy
from synth.toggles import Trace
from synth.workload import Stimulus, Workload

__all__ = ["MappingDiffers", "UnitPower", "measured_units"]

Array = np.ndarray
_DECODED = ("sign", "exponent", "significand", "is_zero", "is_nar")


class MappingDiffers(Exception):
    """The gates gave another word than the model; the text says which."""


@dataclass(frozen=True)
class UnitPower:
    """Of a unit at work in every cycle. ``spent`` and ``sta``: pJ a cycle by ``synth.energy`` and,
    of what its ``cells`` are, by OpenSTA. ``leakage`` in mW. ``compared``: output words that were
    equal to the model's."""

    unit: str
    cells: int
    compared: int
    spent: Spent
    sta: float
    leakage: float

    @property
    def difference(self) -> float:
        """OpenSTA over ours, of what both count, less 1."""
        return self.sta / self.spent.cells - 1


_SOURCES = tuple(f"synth/{name}.py" for name in (
    "energy", "expression", "gates", "liberty", "sta", "toggles"))
"""What computes energies."""


def measured_units(flow: Flow, cases: Iterable[tuple[AcceleratorConfig, str]],
                   layer: AttentionHeads, head: int) -> list[UnitPower]:
    """Of each build one unit of ``workload.UNITS``, as ``layer``'s head keeps it busy.

    ``ValueError`` for a library without energies and for an accumulator that rounds no sums;
    ``MappingDiffers``, ``StaError``, ``ToolMissing``, ``YosysError``.
    """
    read = liberty(flow.library)
    if not read.has_energies:
        raise ValueError("library must say what energy its cells take, as osu018 does, not "
                         f"{flow.library.name}")
    cases = list(cases)
    decoders = {config.fmt: config for config, _ in cases}
    wanted = dict.fromkeys([*((config, "decoder") for config in decoders.values()), *cases])
    designs = [design_block(unit, config) for config, unit in wanted]  # in one thread
    with ThreadPoolExecutor(flow.jobs) as pool:  # Yosys, in processes of its own
        netlists = dict(zip(wanted, pool.map(flow.netlist, designs), strict=True))
    made = {case: Gates(netlist, read) for case, netlist in netlists.items()}
    loads = {config: Workload(config, layer, head,
                              _decoder(made[decoders[config.fmt], "decoder"]))
             for config in dict.fromkeys(config for config, _ in cases)}
    return [_kept(flow, case[1], made[case], json.dumps(netlists[case], sort_keys=True),
                  loads[case[0]].stimulus(case[1])) for case in cases]


def _decoder(decoder: Gates) -> Callable[[Array], Mapping[str, Array]]:
    """Fields of operands, as the decoder's gates give them."""
    def decoded(codes: Array) -> Mapping[str, Array]:
        trace = Trace(decoder, {name: codes if name == "code" else 0 for name in decoder.inputs})
        return {name: trace.output(name) for name in _DECODED}

    return decoded


def _kept(flow: Flow, unit: str, made: Gates, netlist: str, stimulus: Stimulus) -> UnitPower:
    """What was measured of the same gates in the same run before, or is measured now."""
    seen = hashlib.sha256("\0".join((netlist, flow.library.digest, digest_of(_SOURCES),
                                     unit)).encode())
    for name, values in sorted(stimulus.inputs.items()):
        seen.update(name.encode() + np.ascontiguousarray(values, np.int64).tobytes())
    seen.update(np.ascontiguousarray(stimulus.expected).tobytes())
    found = kept(f"{seen.hexdigest()[:32]}-power",
                 lambda: asdict(_measured(flow, unit, made, stimulus)))
    return UnitPower(**(found | {"spent": Spent(**found["spent"])}))


def _measured(flow: Flow, unit: str, made: Gates, stimulus: Stimulus) -> UnitPower:
    trace = Trace(made, stimulus.inputs)
    given = trace.output(stimulus.output)[stimulus.at]
    wrong = np.flatnonzero(given != stimulus.expected)
    if len(wrong):
        first = wrong[0]
        raise MappingDiffers(
            f"{unit}: {len(wrong)} of {len(given)} words of {stimulus.output} differ; in cycle "
            f"{stimulus.at[first]} the gates give {given[first]:#x}, the model "
            f"{stimulus.expected[first]:#x}")
    return UnitPower(unit, len(made.cells), len(given), spent(trace),
                     sum(sta_energy(flow.library, trace)), leakage(made))

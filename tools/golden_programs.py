"""Digests of lowered programs: ``python tools/golden_programs.py``, ``--renew``.

``tests/golden/programs.json`` names a SHA-256 for each of some hundred programs: their memory to
the byte, where they start, and what their results are called and where they lie. A change of the
compiler that is meant to leave programs alone leaves every digest; one that makes better programs
renews them in a commit that says why. Exit code 1 where a digest differs.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, cast

import numpy as np

from compiler.checkpoints import small
from compiler.checkpoints.description import Linear, Norm, Tokens, Transformer
from compiler.checkpoints.inputs import Inputs
from compiler.checkpoints.samples import bert, inputs_for, integer, llama, vit
from compiler.lowering import heads
from compiler.lowering.fusion import Fusion
from compiler.lowering.lower import lower
from compiler.program.lowered import LoweredProgram
from gen.cli import Parser
from hdl.spec.config import AcceleratorConfig

FILE = Path(__file__).resolve().parent.parent / "tests/golden/programs.json"
FORMATS = ("posit8", "fp8", "bf16")
LENGTHS = (1, 5, 9)

Case = Callable[[], LoweredProgram]
Maker = Callable[[], tuple[Transformer, Inputs, dict[str, object]]]


def _whole(model: Callable[..., Transformer], length: int) -> Maker:
    def make() -> tuple[Transformer, Inputs, dict[str, object]]:
        return model(), inputs_for(model(), length), {}
    return make


def _padded(model: Transformer, lengths: list[int], **options: Any) -> Maker:
    """Sequences of ``lengths``, padded to the longest at their ends."""
    def make() -> tuple[Transformer, Inputs, dict[str, object]]:
        given = inputs_for(model, max(lengths), len(lengths))
        valid = np.arange(max(lengths)) < np.array(lengths)[:, None]
        return model, replace(given, valid=valid), options
    return make


def _states(model: Transformer, rows: int, **options: Any) -> Maker:
    def make() -> tuple[Transformer, Inputs, dict[str, object]]:
        values = np.random.default_rng(5).normal(0, 1, (1, rows, model.width))
        return model, Inputs("states", values), options
    return make


def _relu(model: Transformer) -> Transformer:
    return replace(model, blocks=tuple(replace(block, feed_forward=replace(
        block.feed_forward, activation="relu")) for block in model.blocks))


def _rms(model: Transformer) -> Transformer:
    """RMSNorm, which takes rows of any length, in place of LayerNorm."""
    def plain(norm: Norm | None) -> Norm | None:
        return norm and replace(norm, shift=None)

    norm = model.embedding.norm if isinstance(model.embedding, Tokens) else None
    return replace(_changed_tokens(model, norm=plain(norm)), blocks=tuple(
        replace(block, attention_norm=plain(block.attention_norm),
                feed_forward_norm=plain(block.feed_forward_norm)) for block in model.blocks))


def _gate_bias(model: Transformer) -> Transformer:
    """Biases for the gate and the down projection."""
    def biased(linear: Linear | None) -> Linear:
        assert linear is not None
        return replace(linear, bias=linear.weight[:, 0])

    return replace(model, blocks=tuple(replace(block, feed_forward=replace(
        block.feed_forward, gate=biased(block.feed_forward.gate),
        down=biased(block.feed_forward.down))) for block in model.blocks))


def _changed_tokens(model: Transformer, **fields: Any) -> Transformer:
    return replace(model, embedding=replace(model.embedding, **fields))


def _variants() -> dict[str, Maker]:
    """Forms of models, inputs and steps that the plain samples leave out."""
    def llama_of(length: int, **options: Any) -> Maker:
        return lambda: (llama(), inputs_for(llama(), length), options)

    return {
        "llama decode 4+1+1": llama_of(6, steps=(4, 1, 1)),
        "llama decode 2+3": llama_of(5, steps=(2, 3)),
        "llama in halves": lambda: (llama(interleaved=False), inputs_for(llama(), 4), {}),
        "llama own keys": lambda: (llama(kv_heads=4), inputs_for(llama(), 3), {"steps": (2, 1)}),
        "llama padded 3 4": _padded(llama(), [3, 4]),
        "llama 3 sequences of 1": lambda: (llama(), inputs_for(llama(), 1, 3), {}),
        "llama layer 1": _states(llama(), 4, layers=range(1, 2)),
        "bert padded 3 7 1": _padded(bert(pooling="mean"), [3, 7, 1]),
        "bert first": _padded(bert(pooling="first"), [4, 4]),
        "bert mean l2 padded 5 2": _padded(bert(pooling="mean_l2"), [5, 2]),
        "bert layer 0": lambda: (bert(), inputs_for(bert(), 6), {"layers": range(1)}),
        "bert layer 1 of states": _states(bert(), 6, layers=range(1, 2)),
        "bert relu": lambda: (_relu(bert(seed=3)), inputs_for(bert(), 4), {"seed": 7}),
        "bert no positions": lambda: (_changed_tokens(bert(), positions=None),
                                      inputs_for(bert(), 4, 2), {}),
        "bert table alone": lambda: (_changed_tokens(bert(), positions=None, segment=None),
                                     inputs_for(bert(), 4), {}),
        "vit mean l2": lambda: (vit(pooling="mean_l2"), inputs_for(vit(), 5, 2), {}),
        "vit first": lambda: (vit(pooling="first"), inputs_for(vit(), 5), {"base": 0x1000}),
        "vit seed none": lambda: (vit(seed=2), inputs_for(vit(), 7, seed=3), {"seed": None}),
        "integer decode 4+1": lambda: (integer(), inputs_for(integer(), 5), {"steps": (4, 1)}),
        "integer of all, degree 4": lambda: (integer(degree=4, causal=False),
                                             inputs_for(integer(), 6), {}),
        "vit relu": lambda: (_relu(vit()), inputs_for(vit(), 3), {}),
    }


def _builds() -> Iterator[tuple[str, AcceleratorConfig]]:
    for fmt in FORMATS:
        yield fmt, AcceleratorConfig(fmt, dim=4)


def _transformers() -> Iterator[tuple[str, Case]]:
    """Whole samples at every level and format, and each variant with them."""
    makers = {f"{model.__name__} {length}": _whole(model, length)
              for model in (bert, vit, llama) for length in LENGTHS} | _variants()
    for (fmt, config), level, (name, make) in product(_builds(), Fusion, makers.items()):
        yield f"{name}, {fmt}, {level.name.lower()}", _case(config, level, make)


def _case(config: AcceleratorConfig, level: Fusion, make: Maker) -> Case:
    def lowered() -> LoweredProgram:
        model, inputs, options = make()
        return lower(config, model, inputs, **cast(Any, {"level": level} | options))
    return lowered


def _others() -> Iterator[tuple[str, Case]]:
    """Builds apart from those at dim 4, tensors that are all kept, heads alone."""
    def wide(seed: int = 0) -> Transformer:
        return bert(seed, width=80, heads=5, hidden=160, positions=80)

    makers = {"bert 9": _whole(bert, 9), "llama 5": _whole(llama, 5), "vit 5": _whole(vit, 5)}
    small_banks = AcceleratorConfig("posit8", dim=4, acc_depth=16, input_depth=64, weight_depth=64)
    for level in Fusion:
        named = level.name.lower()
        for name, make in makers.items():
            def kept(make: Maker = make, level: Fusion = level) -> LoweredProgram:
                model, inputs, _ = make()
                return lower(AcceleratorConfig("posit8", dim=4), model, inputs, level=level,
                             keep=True)

            yield f"{name} kept, posit8, {named}", kept
        for fmt in FORMATS:
            large = AcceleratorConfig(fmt, softmax="pwl",
                                      acc="exact" if fmt != "bf16" else "fp32")
            yield f"bert 70 at dim 16, {fmt}, {named}", _case(large, level, _whole(wide, 70))
        yield f"bert 9 in small banks, posit8, {named}", _case(
            small_banks, level, lambda: (_rms(bert(width=96, hidden=200)), inputs_for(
                bert(), 9), {}))
        yield f"llama 70 in small banks, posit8, {named}", _case(
            small_banks, level, lambda: (_gate_bias(llama(width=72, hidden=150)),
                                         inputs_for(llama(), 70), {}))
    for (fmt, config), number in product(_builds(), ([0], [1, 2, 3])):
        def lowered(config: AcceleratorConfig = config, number: list[int] = number
                    ) -> LoweredProgram:
            return heads.lower(config, small.load(7, seed=1), number, seed=2, base=0x400)

        yield f"heads {number}, {fmt}", lowered


def cases() -> dict[str, Case]:
    """Every program that has a digest, by its name in the file."""
    return dict((*_transformers(), *_others()))


def digest(program: LoweredProgram) -> str:
    """Of the memory, the program's address and the results."""
    found = hashlib.sha256(program.memory.tobytes())
    found.update(f"{program.address} {program.base} {program.macs}".encode())
    for name, tensor in program.results.items():
        found.update(f"{name}: {tensor.address} {tensor.shape} {tensor.stride} "
                     f"{tensor.encoding.name}\n".encode())
    return found.hexdigest()


def known() -> dict[str, str]:
    """The digests of the file."""
    return json.loads(FILE.read_text())


def main() -> int:
    parser = Parser(prog="tools/golden_programs.py", description=__doc__.split("\n")[0])
    parser.add_argument("--renew", action="store_true", help="write the file anew")
    arguments = parser.parse_args()
    found = {name: digest(case()) for name, case in cases().items()}
    if arguments.renew:
        FILE.write_text(json.dumps(found, indent=1) + "\n")
        print(f"{FILE}: {len(found)} digests")
        return 0
    stored = known()
    wrong = sorted(name for name in found | stored if found.get(name) != stored.get(name))
    for name in wrong:
        print(f"differs: {name}")
    print(f"{len(found)} programs, {len(wrong)} differ from the {len(stored)} digests of the file")
    return 1 if wrong or not found else 0


if __name__ == "__main__":
    sys.exit(main())

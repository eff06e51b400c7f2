"""Scales of a model's operands: ``python -m sim.quantise minilm -o minilm.scales.safetensors``.

Runs the model in fp32 on inputs of one's own, or on those that it is calibrated on unless others
are given, and writes what a code of each operand of its products counts, for ``--scales FILE`` of
other tools. ``--symmetric`` takes the scales that an ONNX file has instead. Exit code 2 for wrong
arguments, models and inputs.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from threadpoolctl import threadpool_limits

from compiler.calibration import GRANULARITIES, calibrate, calibration_examples
from compiler.checkpoints.onnx.scales import load_scales
from compiler.checkpoints.packages import ModelUnavailable
from compiler.checkpoints.scales import Scales
from compiler.checkpoints.source import MODELS
from compiler.examples import add_input_flags, own_examples
from compiler.opening import opened_model
from gen.cli import (
    Line,
    Parser,
    add_adapter,
    add_model,
    add_offline,
    add_quiet,
    add_seed,
    integer,
    piped,
    real,
    save,
    writable,
)

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m sim.quantise", description=__doc__.split(":")[0] + ".")
    add_model(parser, MODELS)
    parser.add_argument("--tokens", type=integer(1), metavar="N", help="of a text at most")
    parser.add_argument("--percentile", type=real(50, 100), default=100.0, metavar="P",
                        help="per cent of an operand's items that its largest code is not below "
                        "(100: all)")
    parser.add_argument("--weights", choices=GRANULARITIES, default=GRANULARITIES[0],
                        metavar="WHAT", help="what has a scale of weights: "
                        f"{' or '.join(GRANULARITIES)} ({GRANULARITIES[0]})")
    add_adapter(parser)
    parser.add_argument("-o", "--output", metavar="FILE", required=True,
                        help="write the scales there, safetensors")
    parser.add_argument("--symmetric", action="store_true",
                        help="take those of an ONNX file, of what has a zero point the scale of "
                        "codes without one that hold the same range")
    add_input_flags(parser)
    add_offline(parser)
    add_seed(parser, "makes random models and inputs")
    add_quiet(parser)
    return parser


def _found(options: argparse.Namespace) -> Scales:
    """``ValueError``, ``ModelUnavailable``."""
    if options.symmetric:
        return _own(Path(options.model))
    model = opened_model(options.model, None, adapter=options.adapter, offline=options.offline,
                         seed=options.seed)
    examples = own_examples(options, model) or calibration_examples(
        options.model, model, tokens=options.tokens, offline=options.offline, seed=options.seed)
    with Line("calibrated", quiet=options.quiet) as line:
        return calibrate(model, examples, percentile=options.percentile, weights=options.weights,
                         tell=lambda share: line.tell(share, f"{len(examples)} inputs"))


def _own(path: Path) -> Scales:
    """Those of an ONNX file; ``ValueError``."""
    if path.suffix != ".onnx" or not path.is_file():
        raise ValueError(f"model must be an ONNX file with --symmetric, not {str(path)!r}")
    return load_scales(path, symmetric=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """0; 2 for wrong arguments, models and inputs."""
    parser = _parser()
    options = parser.parse_args(arguments)
    writable(parser, options.output)
    try:
        with threadpool_limits(1, "blas"):
            scales = _found(options)
    except (ValueError, ModelUnavailable) as error:
        parser.error(str(error))
    save(parser, options.output, scales.save, "scales")
    about = scales.about
    if options.symmetric:
        print(f"{about['model']}: {len(scales.codes)} scales, {about['symmetric']} of them for "
              f"codes with zero points, wrote {options.output}")
        return 0
    print(f"{about['model']}: {len(scales.codes)} scales from {about['positions']} positions of "
          f"{about['inputs']} inputs, wrote {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(piped(main))

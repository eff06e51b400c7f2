"""How right a model is: ``python -m sim.evaluate MODEL DATA --metric accuracy``.

Runs a data set (CSV, JSON lines, npz) on the machine model, one build or several side by side
(``--build posit8 bf16``), through all cores, or those of other machines too (``--scheduler``), and
gives the metric with its 95 % confidence interval, and how many decisions differ from the first
build's. ``-o`` records every example; with the same ``-o`` an evaluation that was stopped goes on.
Exit code 2 for wrong arguments, models and data, 1 where a program stops.
"""

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from threadpoolctl import threadpool_limits

from compiler.centred import CENTRINGS
from compiler.checkpoints.packages import ModelUnavailable
from compiler.checkpoints.source import MODELS
from compiler.lowering.fusion import FUSION_LEVELS
from compiler.lowering.scaling import SCALES, STATIC
from gen.cli import (
    Line,
    Parser,
    add_adapter,
    add_balance,
    add_centring,
    add_config_flags,
    add_fusion,
    add_jobs,
    add_model,
    add_offline,
    add_quiet,
    add_scales,
    add_scheduler,
    config_from,
    integer,
    piped,
    writable,
)
from hdl.spec.config import AcceleratorConfig, options
from sim.inference.datasets import COLUMNS, SetError, read_set
from sim.inference.evaluation import evaluate
from sim.inference.judging import FP32, Plan, check
from sim.inference.metrics import METRICS, Estimate, estimate, flips
from sim.inference.results import write_json
from sim.verify.runner import RunError

__all__ = ["main"]

_CHOSEN = ("fmt", "softmax", "acc")


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m sim.evaluate", description=__doc__.split(":")[0] + ".")
    add_model(parser, MODELS)
    parser.add_argument("data", type=Path, metavar="DATA", help="a .csv, .jsonl or .npz file with "
                        "columns " + "; ".join(f"{name}: {text}" for name, text in COLUMNS.items()))
    parser.add_argument("--metric", choices=tuple(METRICS), required=True, metavar="NAME",
                        help=", ".join(METRICS))
    parser.add_argument("--build", nargs="+", default=["posit8"], metavar="NAME",
                        help=f"builds: a format, or one with a softmax or an accumulator, as "
                        f"posit8/pwl or posit8/pwl/exact; {FP32}: the model unrounded (posit8)")
    parser.add_argument("--columns", default="", metavar="NAME=COLUMN,…",
                        help="what the data calls a column, text=sentence say")
    parser.add_argument("--limit", type=integer(1), metavar="N", help="the first N rows alone")
    parser.add_argument("--tokens", type=integer(1), metavar="N", help="cut longer texts")
    add_fusion(parser, tuple(FUSION_LEVELS))
    add_adapter(parser)
    add_scales(parser, (*SCALES, STATIC))
    add_balance(parser)
    add_centring(parser, CENTRINGS)
    parser.add_argument("-o", "--output", type=Path, metavar="FILE",
                        help="record each example there, in JSON lines; go on with what it has")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table there")
    parser.add_argument("--new", type=integer(1), default=128, metavar="N",
                        help="tokens of what is heard at most (128)")
    parser.add_argument("--language", metavar="NAME", help="that is spoken (the likeliest)")
    parser.add_argument("--task", metavar="NAME",
                        help="of sounds: transcribe or translate (transcribe)")
    add_jobs(parser, "processes")
    add_scheduler(parser, "the rows")
    add_offline(parser)
    add_quiet(parser)
    add_config_flags(parser, output=False, only=[option.name for option in options()
                                                 if option.name not in _CHOSEN])
    return parser


def _builds(chosen: argparse.Namespace) -> dict[str, AcceleratorConfig | None]:
    """Builds by name; ``ValueError``."""
    found: dict[str, AcceleratorConfig | None] = {}
    allowed = {option.name: option.allowed for option in options()}
    for name in chosen.build:
        if name == FP32:
            found[name] = None
            continue
        fmt, *others = name.split("/")
        values = {"fmt": fmt}
        for other in others:
            kind = next((kind for kind in ("softmax", "acc") if other in allowed[kind]), None)
            if kind is None or kind in values:
                raise ValueError(
                    f"build must be a format, then a softmax of {', '.join(allowed['softmax'])} "
                    f"and an accumulator of {', '.join(allowed['acc'])}, or {FP32}, not {name!r}")
            values[kind] = other
        found[name] = config_from(chosen, **values)
    return found


def _columns(text: str) -> dict[str, str]:
    """What ``--columns`` says; ``SetError``."""
    found = {}
    for part in filter(None, text.split(",")):
        name, equals, column = part.partition("=")
        if not equals or name not in COLUMNS or not column:
            raise SetError(f"columns must be NAME=COLUMN with a name of {', '.join(COLUMNS)}, "
                           f"not {part!r}")
        found[name] = column
    return found


def _table(metric: str, found: Mapping[str, Estimate], differing: Mapping[str, int | None]
           ) -> list[str]:
    width = max(map(len, ("build", *found)))
    lines = [f"{'build':{width}}  {metric:>12}  95 % from       to  differ from the first"]
    for name, own in found.items():
        flipped = differing[name]
        last = "" if flipped is None else f"{flipped} ({flipped / own.count:.1%})"
        lines.append(f"{name:{width}}  {own.value:12.4f}  {own.low:9.4f} {own.high:8.4f}  {last}")
    return lines


def _evaluated(parser: argparse.ArgumentParser, chosen: argparse.Namespace) -> int:
    plan = Plan(chosen.model, chosen.metric, _builds(chosen), chosen.fusion, chosen.adapter,
                chosen.tokens, chosen.offline, chosen.new, chosen.language, chosen.task,
                chosen.scales, chosen.balance, chosen.centring)
    model = plan.opened(next(iter(plan.builds))).model
    check(model, plan.metric)
    if plan.metric != "wer" and (plan.language or plan.task):
        raise SetError(f"language and task are for metric wer, not for {plan.metric}")
    data = read_set(chosen.data, model, _columns(chosen.columns), chosen.limit)
    started = time.monotonic()
    with Line("evaluated", quiet=chosen.quiet) as line:
        outcomes = evaluate(plan, data, chosen.output, chosen.jobs, line.tell, chosen.scheduler)
    found = {name: estimate(plan.metric, own) for name, own in outcomes.items()}
    first = next(iter(outcomes.values()))
    differing = {name: flips(own, first) for name, own in outcomes.items()}
    print(f"{model.name} on {len(data.rows)} rows of {data.name}, fusion {plan.fusion}, "
          f"{time.monotonic() - started:.1f} s")
    print("\n".join(_table(plan.metric, found, differing)))
    if chosen.json is not None:
        write_json(chosen.json, {
            "model": plan.model, "data": data.name, "sha256": data.digest, "metric": plan.metric,
            "rows": len(data.rows), "fusion": plan.fusion, "builds": {
                name: {"config": config.as_dict() if config is not None else None,
                       "value": found[name].value, "low": found[name].low,
                       "high": found[name].high, "differ": differing[name]}
                for name, config in plan.builds.items()}})
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """0; 1 where a program stops; 2 for wrong arguments, models and data."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    for what, path in (("output", chosen.output), ("json", chosen.json)):
        if path is not None:
            writable(parser, path, what)
    try:
        with threadpool_limits(1, "blas"):  # as many processes as cores: no threads besides
            return _evaluated(parser, chosen)
    except (ValueError, ModelUnavailable) as error:
        parser.error(str(error))
    except MemoryError:
        parser.error("this machine has not enough memory; fewer --jobs and --tokens need less")
    except RunError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(piped(main))

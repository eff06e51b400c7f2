"""The command line of ``sim.train``, and what its options name."""

import argparse
from pathlib import Path

from compiler.answers import own_task
from compiler.centred import CENTRINGS
from compiler.checkpoints import NAMES
from compiler.checkpoints.description import Transformer
from compiler.checkpoints.registry import DIGITS_MODELS, tokenizer
from compiler.lowering.place import Tell, silent
from compiler.training.description import (
    OPTIMISERS,
    PARTS_OF,
    PLACES,
    SCHEDULES,
    LowRank,
    Training,
    WholeMatrices,
)
from compiler.training.gradients.partly import ROUNDED
from compiler.training.gradients.softmax import BACKWARD, usual_backward
from compiler.training.masked import SHARE, masked_reviews
from compiler.training.tasks import (
    DIGITS_TASKS,
    TASKS,
    Task,
    digits_task,
    movie_reviews,
    review_text,
)
from gen.cli import Parser, add_centring, add_config_flags, add_model, add_on, add_quiet
from hdl.spec.config import AcceleratorConfig

__all__ = ["check_batch", "exact_of", "make_parser", "task_of", "training_of"]


def make_parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m sim.train", description="Fine-tune a transformer.")
    add_model(parser, NAMES)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--task", help=f"one of {', '.join(TASKS)}")
    what.add_argument("--data", type=Path, metavar="FILE",
                      help="a CSV file with the columns text and label, or text and labels, one "
                      "for each word, or question, context and answer (and start, the number of "
                      "the context's character that it begins with), or text alone: hidden words "
                      "for models that have a head for those, next ones for causal models")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--lora", type=int, default=8, metavar="RANK", help="rank of adapters (8)")
    how.add_argument("--full", action="store_true", help="train the matrices themselves")
    parser.add_argument("--targets", help=f"some of {','.join(PARTS_OF)} (all that the model has)")
    parser.add_argument("--adapters", default="merged", metavar="PLACE",
                        help=f"{', '.join(PLACES)}: added to the matrices and rounded with them, "
                        "or two products of their own, which lose nothing (merged)")
    parser.add_argument("--alpha", type=float, help="adapters count alpha / rank times (2 · rank)")
    parser.add_argument("--optimizer", default="adamw", help=f"{', '.join(OPTIMISERS)} (adamw)")
    for flag, kind, value, text in (
            ("rate", float, 1e-3, "largest rate"), ("steps", int, 100, "updates"),
            ("batch", int, 32, "sequences of an update"), ("warmup", float, 0.06,
                                                           "share of the steps"),
            ("clip", float, 1.0, "largest norm of all gradients"), ("seed", int, 0, "of all"),
            ("recompute", int, 0, "keep every N-th layer's input alone"),
            ("tokens", int, 64, "longest text")):
        parser.add_argument(f"--{flag}", type=kind, default=value, help=f"{text} ({value})")
    parser.add_argument("--mask-share", type=float, metavar="SHARE", help="hide this share of the "
                        f"words, drawn anew in each pass, and train to tell them ({SHARE}; of a "
                        "file the column text)")
    parser.add_argument("--micro", type=int, help="sequences at once (all of a batch)")
    parser.add_argument("--schedule", default="linear", help=f"{', '.join(SCHEDULES)} (linear)")
    parser.add_argument("--scale-log2", type=int, metavar="K", help="gradients are scaled to "
                        "magnitudes below 2^K (posits 6, e5m2 15, e4m3 8)")
    parser.add_argument("--backward", help=f"softmax: {', '.join(BACKWARD)} "
                        "(ordinary, centred where 1/x is a bit trick)")
    add_centring(parser, CENTRINGS)
    add_on(parser, "numpy", numpy="every rounding of the accelerator in numpy, but "
           "sums of products in float32",
           machine="programs on the machine model",
           rtl="programs on the generated Verilog, every byte compared with the machine model")
    parser.add_argument("--plain", action="store_true", help="round nothing: the fp32 baseline")
    parser.add_argument("--exact", metavar="WHAT", help="in numpy, do not round "
                        f"{' or '.join(ROUNDED)}, to see what that costs")
    parser.add_argument("--memory", action="store_true",
                        help="train nothing: bytes of the programs' image, by kind")
    parser.add_argument("--check", action="store_true",
                        help="train nothing: gradients of one batch against float64")
    for flag, text in (("out", "adapters: a folder, or a file that ends in .safetensors"),
                       ("state", "all of the run, to go on from"),
                       ("log", "loss, norm, rate, clipped items and NaRs of each step, as CSV"),
                       ("curve", "the losses, as SVG")):
        parser.add_argument(f"--{flag}", type=Path, metavar="FILE", help=f"write there {text}")
    parser.add_argument("--resume", action="store_true", help="go on from --state")
    parser.add_argument("--offline", action="store_true",
                        help="take models and data from the cache, never from the network")
    add_quiet(parser)
    add_config_flags(parser, output=False)
    return parser


def task_of(options: argparse.Namespace, model: Transformer, tell: Tell = silent) -> Task:
    """What ``model`` is trained on; ``tell`` hears how far reading is. ``ValueError``,
    ``ModelUnavailable``."""
    if options.data is not None:
        return own_task(options.data, tokenizer(options.model, offline=options.offline), model,
                        options.tokens, options.mask_share)
    usual = "movie-reviews" if options.mask_share is None else "masked-reviews"
    name = options.task or ("digits-negative-transposed" if options.model in DIGITS_MODELS
                            else usual)
    if name not in TASKS:
        raise ValueError(f"task must be one of {', '.join(TASKS)}, not {name!r}")
    if name != "masked-reviews" and options.mask_share is not None:
        raise ValueError(f"mask-share is for masked-reviews or a file, not for task {name}")
    if (name in DIGITS_TASKS) != (options.model in DIGITS_MODELS):
        raise ValueError(f"task {name} is not for {options.model}: digits are for "
                         f"{', '.join(DIGITS_MODELS)}, texts for the others")
    if name in DIGITS_TASKS:
        return digits_task(name, offline=options.offline)
    if name == "review-text" and not model.blocks[0].attention.causal:
        raise ValueError(f"task review-text is for causal models, which {options.model} is not")
    words = tokenizer(options.model, offline=options.offline)
    if name == "masked-reviews":
        return masked_reviews(words, model, options.tokens, options.mask_share,
                              offline=options.offline)
    if name == "movie-reviews":
        return movie_reviews(words, options.tokens, offline=options.offline)
    return review_text(words, options.tokens, offline=options.offline, tell=tell)


def check_batch(training: Training, task: Task) -> None:
    """``ValueError`` where ``task`` has fewer examples than a step takes."""
    if training.batch > len(task.train):
        raise ValueError(f"batch must be at most {len(task.train)}, the number of examples, "
                         f"not {training.batch}")


def exact_of(options: argparse.Namespace) -> tuple[str, ...]:
    """What ``--exact`` names; ``ValueError`` where that is not for the arithmetic chosen."""
    if options.exact is None:
        return ()
    if options.on != "numpy" or options.plain:
        raise ValueError("exact is for numpy with roundings alone, not for "
                         f"{'plain' if options.plain else options.on}")
    return tuple(options.exact.split(","))


def training_of(options: argparse.Namespace, model: Transformer, config: AcceleratorConfig,
                head: bool) -> Training:
    """What the options say; ``ValueError``."""
    if options.optimizer not in OPTIMISERS:
        raise ValueError(f"optimizer must be one of {', '.join(OPTIMISERS)}, "
                         f"not {options.optimizer!r}")
    gated = model.blocks[0].feed_forward.gate is not None
    usual = [name for name in PARTS_OF if gated or name != "gate"]
    targets = tuple(options.targets.split(",") if options.targets else usual)
    method = WholeMatrices(targets) if options.full else LowRank(
        targets, options.lora, options.alpha, place=options.adapters)
    if options.backward is None:
        options.backward = "ordinary" if options.plain else usual_backward(config.softmax)
    return Training(
        method, OPTIMISERS[options.optimizer](), options.rate, options.steps, head,
        options.schedule, options.warmup, options.clip, options.batch, options.micro,
        options.recompute, options.backward, options.seed, options.scale_log2)

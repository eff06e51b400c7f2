"""What is measured: a cell is a task with one choice of the numerics, a table the cells of one
question. Tasks, sizes and seeds are fixed here, before anything is measured."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from compiler.lowering.fusion import FUSION_LEVELS, Fusion, fusion_named
from hdl.spec.config import SOFTMAX_MODES, AcceleratorConfig
from sim.campaigns.accuracy.schemes import SCHEMES

__all__ = ["FORMATS", "PLAIN", "TABLES", "Cell", "Table"]

PLAIN = "fp32"
"""The format that rounds nothing: what all others are compared with."""
FORMATS = ("bf16", "posit8es0", "posit8", "posit8es2", "e4m3", "e5m2")
LENGTHS = (32, 64, 128, 256, 512)
THETAS = (None, -640, -512, -384, -256)
EPSILONS = (142, 144, 152, 160)
_QUICK = 96  # sentences
_LONG = 200  # reviews of each length
_WINDOWS = 4  # of running text
_PART = 128  # tokens
TEXT_PARTS = ("gains", "the table", "matrices", "gated products", "what the head reads",
              "other operands")


@dataclass(frozen=True)
class Cell:
    """``softmax`` has exp and 1/x of that mode, but 1/x of mode ``reciprocal`` where one is named;
    ``epsilon`` and ``theta`` in units of 2^-7. ``tokens``: the length of every text, of tasks that
    have several. ``count``: the first examples alone. ``scheme``: one of prior work
    (``schemes``) in place of all that. ``merge``: adapters as the ``build`` merges them in
    training, which rounds matrices before and after, or in ``fp32``, rounded once. ``scales``: of
    operands, in place of the build's own; static ones by calibration on the task's examples for
    that. ``lane``: what the lanes compute in, in place of the format's own. ``balance``:
    ``balanced`` on the same examples, or as the model is. ``centring``: of norms, once unless
    ``twice``."""

    task: str
    fmt: str = "posit8"
    fusion: str = "residual"
    acc: str | None = None
    softmax: str = "pwl"
    reciprocal: str | None = None
    epsilon: int | None = None
    theta: int | None = None
    tokens: int | None = None
    count: int | None = None
    scheme: str | None = None
    merge: str = "build"
    scales: str | None = None
    lane: str | None = None
    balance: str | None = None
    centring: str | None = None

    @property
    def config(self) -> AcceleratorConfig:
        """The build; of ``fp32`` any, whose lanes nothing runs through. ``ValueError``."""
        chosen: dict[str, Any] = {"acc": self.acc, "exp_epsilon": self.epsilon,
                                  "exp_theta": self.theta, "lane_kind": self.lane}
        return AcceleratorConfig("bf16" if self.fmt == PLAIN else self.fmt, softmax=self.softmax,
                                 **chosen)

    @property
    def level(self) -> Fusion:
        return fusion_named(self.fusion)

    @property
    def plain(self) -> "Cell":
        """The same examples unrounded."""
        return Cell(self.task, PLAIN, tokens=self.tokens, count=self.count)

    def __str__(self) -> str:
        if self.fmt == PLAIN or self.scheme is not None:
            parts = [self.task, self.scheme or PLAIN]
        else:
            softmax = self.softmax if self.reciprocal is None else (
                f"{self.softmax} with 1/x of {self.reciprocal}")
            parts = [self.task, self.fmt, f"acc {self.config.acc}", f"fusion {self.fusion}",
                     softmax]
            parts += [f"{name} {value}" for name, value in (
                ("epsilon", self.epsilon), ("theta", self.theta)) if value is not None]
        parts += [f"merged in {self.merge}"] if self.merge != "build" else []
        parts += [f"scales {self.scales}"] if self.scales is not None else []
        parts += [f"lane {self.lane}"] if self.lane is not None else []
        parts += [self.balance] if self.balance is not None else []
        parts += [f"centred {self.centring}"] if self.centring is not None else []
        parts += [f"{self.tokens} tokens"] if self.tokens else []
        return " ".join(parts + ([f"first {self.count}"] if self.count else []))


def _formats(task: str, acc: str | None = None, count: int | None = None) -> Iterator[Cell]:
    yield Cell(task, PLAIN, count=count)
    for fmt, fusion in product(FORMATS, FUSION_LEVELS):
        yield Cell(task, fmt, fusion, None if fmt == "bf16" else acc, count=count)


def _all_fused(task: str) -> Iterator[Cell]:
    """Formats, the mode of softmax that is posit8's own, and the accumulator that is."""
    yield Cell(task, PLAIN)
    for fmt in FORMATS:
        yield Cell(task, fmt, acc=None if fmt == "bf16" else "exact")
    yield Cell(task)
    for softmax in SOFTMAX_MODES[1:]:
        yield Cell(task, acc="exact", softmax=softmax)


def _quick() -> Iterator[Cell]:
    """A cell of each kind, for minutes."""
    yield Cell("reviews-tiny", PLAIN, count=_QUICK)
    for fmt in FORMATS:
        yield Cell("reviews-tiny", fmt, count=_QUICK)
    for acc in ("fp32", "fused", "exact"):
        yield Cell("reviews-tiny", acc=acc, count=_QUICK)
    for softmax in SOFTMAX_MODES[1:]:
        yield Cell("reviews-tiny", softmax=softmax, count=_QUICK)
    for fusion in list(FUSION_LEVELS)[:-1]:
        yield Cell("reviews-tiny", fusion=fusion, count=_QUICK)
    yield Cell("digits", PLAIN, count=_QUICK)
    for fmt in ("bf16", "posit8", "e4m3"):
        yield Cell("digits", fmt, count=_QUICK)


def _exponentials(task: str, tokens: int | None = None, count: int | None = None
                  ) -> Iterator[Cell]:
    """The exponential alone as a bit trick: cut off at θ, or lowered by ε and cut off at 0."""
    yield Cell(task, PLAIN, tokens=tokens, count=count)
    for fmt in ("bf16", "posit8"):
        yield Cell(task, fmt, tokens=tokens, count=count)
        for theta in THETAS:
            # None at all: −255 cuts off what is hidden alone.
            yield Cell(task, fmt, softmax="approx", reciprocal="pwl",
                       theta=-32640 if theta is None else theta, tokens=tokens, count=count)
        for epsilon in EPSILONS:
            yield Cell(task, fmt, softmax="approx_shifted", reciprocal="pwl", epsilon=epsilon,
                       tokens=tokens, count=count)


def _tricks(task: str, acc: str) -> Iterator[Cell]:
    """e^x and 1/x on and off at every length; the format's own accumulator says nothing of them."""
    for tokens in LENGTHS:
        yield Cell(task, PLAIN, tokens=tokens, count=_LONG)
        yield Cell(task, "bf16", tokens=tokens, count=_LONG)
        for fmt in ("posit8", "e4m3"):
            for softmax, reciprocal in (("pwl", None), ("pwl", "approx"), ("approx_shifted", "pwl"),
                                        ("approx_shifted", None), ("linear", None)):
                yield Cell(task, fmt, acc=acc, softmax=softmax, reciprocal=reciprocal,
                           tokens=tokens, count=_LONG)


def _prior(task: str) -> Iterator[Cell]:
    yield Cell(task, PLAIN)
    for scheme in SCHEMES:
        yield Cell(task, "bf16", scheme=scheme)


def _text(levels: Sequence[str], count: int | None = None) -> Iterator[Cell]:
    """Running text; ``exact``, for what rounds each sum takes three times as long."""
    yield Cell("text", PLAIN, count=count)
    for fusion, fmt in product(levels, ("bf16", "posit8", "e4m3")):
        yield Cell("text", fmt, fusion, None if fmt == "bf16" else "exact", count=count)


def _balanced() -> Iterator[Cell]:
    """As ``_text``, all fused, with powers of two moved between layers."""
    yield Cell("text", PLAIN, count=_WINDOWS)
    yield Cell("text", "bf16", count=_WINDOWS)
    for balance, fmt in product((None, "balanced"), ("posit8", "e4m3")):
        yield Cell("text", fmt, acc="exact", balance=balance, count=_WINDOWS)


def _centred() -> Iterator[Cell]:
    """Norms that take the mean of a row away once or twice, after a sum and before layers."""
    for task in ("reviews-tiny", "digits"):
        yield Cell(task, PLAIN)
        for fmt, centring in product(("posit8", "e4m3"), (None, "twice")):
            yield Cell(task, fmt, centring=centring)


def _text_parts() -> Iterator[Cell]:
    """Beginnings of two windows: which tensors cost most says one as well as four."""
    yield Cell("text", PLAIN, tokens=_PART, count=2)
    for part, fmt in product(TEXT_PARTS, ("posit8", "e4m3")):
        yield Cell("text", "bf16", scheme=f"{fmt} of {part}", tokens=_PART, count=2)


def _merged(task: str) -> Iterator[Cell]:
    yield Cell(task, PLAIN)
    for fmt, merge in product(FORMATS, ("build", PLAIN)):
        yield Cell(task, fmt, merge=merge)


def _parameters(task: str) -> Iterator[Cell]:
    yield Cell(task, PLAIN)
    for part, fmt in product(("segment row", "other embeddings", "gains", "matrices"),
                             ("posit8", "e4m3")):
        yield Cell(task, "bf16", scheme=f"{fmt} of {part}")


def _integers() -> Iterator[Cell]:
    """Scales by row and static beside formats without; sums exact in all. Of text what ``_text``
    has."""
    for task, count in (("reviews-tiny", None), ("digits", None), ("text", _WINDOWS)):
        yield Cell(task, PLAIN, count=count)
        for fmt in ("int8", "posit8", "e4m3"):
            yield Cell(task, fmt, acc=None if fmt == "int8" else "exact", count=count)
        if task != "text":
            yield Cell(task, "int8", scales="static")


def _integer_transformer() -> Iterator[Cell]:
    """Integers with each kind of scales beside formats without, and the digits ViT with softmax and
    LayerNorm; sums exact in all."""
    for task in ("digits-integer", "digits", "characters"):
        yield Cell(task, PLAIN)
        for scales in ("row", "static", "unit"):
            yield Cell(task, "int8", scales=scales)
        if task != "digits":  # its softmax and norms take functions
            yield Cell(task, "int8", scales="static", lane="fixed")
        for fmt in ("posit8", "e4m3", "bf16"):
            yield Cell(task, fmt, acc=None if fmt == "bf16" else "exact")


def _accumulators(task: str) -> Iterator[Cell]:
    yield Cell(task, PLAIN)
    for fmt, acc in product(("posit8", "posit8es2", "e4m3", "e5m2"),
                            ("bf16", "fp32", "fused", "exact")):
        yield Cell(task, fmt, acc=acc)


@dataclass(frozen=True)
class Table:
    """The cells of a question, and how they are laid out: a row for each value of the fields
    ``rows``, a column for each of ``columns``; what else differs parts the table."""

    asks: str
    cells: Callable[[], Iterator[Cell]]
    rows: tuple[str, ...] = ("fmt",)
    columns: tuple[str, ...] = ("fusion",)
    drawn: bool = False


TABLES: dict[str, Table] = {
    "quick": Table("a little of everything, as `make accuracy-quick` measures it anew", _quick,
                   ("fmt", "acc", "softmax"), ("fusion",)),
    "formats": Table("formats and fusion levels: BERT-tiny with its adapter, sentences of reviews",
                     lambda: _formats("reviews-tiny"), drawn=True),
    "exponential": Table("θ and ε of the bit-trick exponential, with an exact reciprocal",
                         lambda: _exponentials("reviews-tiny"),
                         ("softmax", "theta", "epsilon"), ("fmt",)),
    "exponential-long": Table("the same for long rows", lambda: _exponentials(
        "long-tiny", 256, 100), ("softmax", "theta", "epsilon"), ("fmt",)),
    "tricks": Table("e^x and 1/x as bit tricks, by the length of the texts",
                    lambda: _tricks("long-tiny", "exact"), ("fmt", "softmax", "reciprocal"),
                    ("tokens",), drawn=True),
    "accumulators": Table("accumulators", lambda: _accumulators("reviews-tiny"), ("fmt",),
                          ("acc",)),
    "text": Table("perplexity of the first windows, all fused",
                  lambda: _text(["residual"], _WINDOWS)),
    "text-fusion": Table("perplexity by fusion level", lambda: _text(list(FUSION_LEVELS))),
    "balanced": Table("perplexity, all fused, with powers of two moved between layers", _balanced,
                      ("fmt",), ("balance",)),
    "centred": Table("norms centred once or twice, all fused", _centred, ("fmt",), ("centring",)),
    "text-parts": Table("some tensors rounded, all else exact: perplexity", _text_parts,
                        ("scheme",), ("task",)),
    "merged": Table("adapters merged by the build, or in fp32 before anything is rounded",
                    lambda: _merged("reviews-tiny"), ("fmt",), ("merge",)),
    "integers": Table("integers with scales by row or static, all fused", _integers,
                      ("fmt", "scales"), ("task",)),
    "integer-transformer": Table("polynomial attention and norms by magnitudes, all fused",
                                 _integer_transformer, ("fmt", "scales", "lane"), ("task",)),
    "parameters": Table("some parameters rounded, all else exact",
                        lambda: _parameters("reviews-tiny"), ("scheme",), ("task",)),
    "prior": Table("what prior work does, on the same model", lambda: _prior("reviews-tiny"),
                   ("scheme",), ("task",)),
    "formats-documents": Table("formats, all fused: documents by MiniLM",
                               lambda: _all_fused("documents"), ("fmt", "softmax"), ("acc",)),
    "formats-digits": Table("formats and fusion levels: the digits ViT, images it was not trained "
                            "on", lambda: _formats("digits")),
}

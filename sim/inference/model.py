"""``compile`` and what it gives: a model that runs on the machine model or on the Verilog."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from compiler.calibration import chosen_scales
from compiler.checkpoints import registry
from compiler.checkpoints.description import Transformer
from compiler.checkpoints.scales import Scales
from compiler.checkpoints.source import open_model
from compiler.examples import batches, examples_of, from_texts
from compiler.lowering.decoding import lower_decoding
from compiler.lowering.fusion import fusion_named
from compiler.lowering.programs import Programs
from compiler.program.decoding import Decoding
from compiler.program.lowered import LoweredProgram
from compiler.program.start import Start
from gen.cli import Line
from hdl.spec.config import AcceleratorConfig
from sim.inference.generate import DecodingHost, Generated, generate, parted
from sim.inference.results import Result, results_of, token_names
from sim.verify.starts import built, machine_start, rtl_start

if TYPE_CHECKING:  # imported where a text is read
    from tokenizers import Tokenizer

__all__ = ["CompiledModel", "compile"]


def compile(model: str | Path | Transformer, config: AcceleratorConfig | None = None, *,
            fusion: str = "residual", on: Literal["machine", "rtl"] = "machine",
            offline: bool = False, quiet: bool = True, tokenizer: "Tokenizer | None" = None,
            scales: str | Path | Scales | None = None) -> "CompiledModel":
    """``model`` for a build of ``config`` (posit8 by default).

    Parameters
    ----------
    model: a name (``compiler.checkpoints.NAMES``), the path of a checkpoint, or a description.
    fusion: which tensors are rounded to 8 bits (``docs/transformer.md``).
    on: what runs the programs: the machine model, or the generated Verilog on Verilator, whose
        every byte is compared with the machine model's.
    offline: take models from the cache, never from the network.
    quiet: no progress on standard error.
    tokenizer: of a description; that of a checkpoint comes with it.
    scales: of operands of products (``docs/int8.md``): a name, a file, or ``Scales``.

    Raises ``ValueError`` in one line for what is damaged or not supported, ``ModelUnavailable``
    where a model can be fetched from nowhere, ``RunError`` where the Verilog cannot be built.
    """
    config = AcceleratorConfig("posit8") if config is None else config
    words, name = tokenizer, ""
    if not isinstance(model, Transformer):
        name, model = str(model), open_model(str(model), offline)
        words = registry.any_tokenizer(name, offline=offline)
    if scales is not None and not isinstance(scales, Scales):
        scales = chosen_scales(str(scales), name, model, config, fusion_named(fusion), offline)
    start = machine_start(config) if on == "machine" else rtl_start(built(config))
    return CompiledModel(model, config, fusion, start, words, quiet, scales)


class CompiledModel:
    """Made by ``compile``. Weights are encoded once, a program is made for each shape of inputs.

    ``model``: the description in fp32; ``tokenizer``: that of the checkpoint, ``None`` without.
    """

    def __init__(self, model: Transformer, config: AcceleratorConfig, fusion: str, start: Start,
                 tokenizer: "Tokenizer | None", quiet: bool,
                 scales: str | Scales | None = None) -> None:
        self.model, self.config, self.tokenizer = model, config, tokenizer
        self.level = fusion_named(fusion)
        self._programs = Programs(config, model, level=self.level, scales=scales)
        self._start, self._quiet = start, quiet
        self._decoding: tuple[tuple[int, int, int, int | None], Decoding] | None = None
        self._names = token_names(model, tokenizer)

    def program(self, inputs: Any) -> LoweredProgram:
        """The program for ``inputs`` side by side, as for ``run``, with the memory that it works
        on: ``program.image.save(path)`` writes it."""
        examples = examples_of(inputs, self.model, self.tokenizer)
        return self._programs.lower(next(batches(examples, len(examples), self.model))[1])

    def run(self, inputs: Any, *, batch: int = 1, every: bool = False) -> list[Result]:
        """What the model gives for each of ``inputs``: a text or several; token ids, one row or
        several of any lengths; patches of an image, S × items, or of several; ``Inputs``.

        ``batch``: how many go through a program together, shorter ones padded. ``every``: of a
        causal model the logits of all positions, not of the last alone. ``ValueError`` in one line
        for what the model cannot take, ``RunError`` where a program stops.
        """
        examples = examples_of(inputs, self.model, self.tokenizer)
        found: list[Result] = []
        with Line("inputs", quiet=self._quiet) as line:
            for own, given in batches(examples, batch, self.model):
                program = self._programs.lower(given, every=every)
                self._start(program.memory, program.address, program.base)
                found += results_of(self.model, program, program.memory,
                                    [examples[index] for index in own], every=every,
                                    **self._names)
                line.tell(own.stop / len(examples), f"{own.stop} of {len(examples)}")
        return found

    def generate(self, prompt: str | Sequence[int] | np.ndarray, new: int, *,
                 temperature: float = 0.0, seed: int = 0, stop: Collection[int] = (),
                 chunk: int = 32, language: str | None = None, task: str | None = None
                 ) -> Generated:
        """Up to ``new`` tokens after ``prompt``, by a cache of keys and values. Of a model with an
        encoder the prompt is what that reads, text, ids or patches of sound.

        ``temperature``: 0 takes the likeliest token each time, else one is drawn by ``seed``.
        ``stop``: tokens that end it. ``chunk``: tokens of the prompt that a program takes at once.
        ``language``, ``task``: of a model that hears, one of ``model.speech``'s. Raises as ``run``;
        ``ValueError`` for a model that generates no text.
        """
        if isinstance(prompt, str):
            if self.tokenizer is None:
                raise ValueError(f"{self.model.name} comes without a tokenizer: it takes ids")
            example = from_texts(self.tokenizer, [prompt], self.model)[0]
        else:
            example = examples_of(np.asarray(prompt), self.model)[0]
        source, ids = parted(self.model, example, language, task)
        decoding = self.decoding(len(ids), new, chunk, None if source is None else len(source))
        with Line("tokens", quiet=self._quiet) as line:
            return generate(DecodingHost(decoding, self._start), ids, new, temperature=temperature,
                            seed=seed, stop=stop, tell=line.tell, source=source,
                            speech=self.model.speech)

    def text(self, generated: Generated) -> str:
        """What was generated, as text. ``ValueError`` without a tokenizer."""
        if self.tokenizer is None:
            raise ValueError(f"{self.model.name} comes without a tokenizer")
        return self.tokenizer.decode(list(generated.ids))

    def decoding(self, prompt: int, new: int, chunk: int = 32, source: int | None = None
                 ) -> Decoding:
        """The programs that generate ``new`` tokens after a prompt of ``prompt``, kept until others
        are asked for. ``source``: how many tokens or patches an encoder reads, where there is
        one."""
        key = prompt, new, chunk, source
        if self._decoding is None or self._decoding[0] != key:
            self._decoding = key, lower_decoding(self.config, self.model, prompt, new, chunk=chunk,
                                                 level=self.level, source=source,
                                                 scales=self._programs.scales)
        return self._decoding[1]

"""What ``python -m sim.run`` does with one's own inputs beyond comparing bytes."""

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compiler.checkpoints import NAMES, registry
from compiler.checkpoints.description import Transformer
from compiler.checkpoints.inputs import Inputs
from compiler.checkpoints.source import read
from compiler.examples import Example, examples_of, own_examples
from compiler.lowering.decoding import lower_decoding
from compiler.lowering.fusion import Fusion
from compiler.program.board import write_board
from compiler.program.decoding import Decoding, Encoding
from compiler.program.image import placed
from compiler.program.lowered import LoweredProgram
from compiler.work import Opened
from gen.cli import Line, integer, real
from hdl.spec.config import AcceleratorConfig
from sim.inference.generate import DecodingHost, Generated, fp32_greedy, generate, parted
from sim.inference.results import Result, write_json, write_results
from sim.inference.together import generate_together
from sim.verify.starts import built, machine_start, rtl_start

if TYPE_CHECKING:  # imported where a text is read
    from tokenizers import Tokenizer

__all__ = ["about", "add_flags", "deliver", "given_examples", "image_only", "kinds",
           "run_generation", "tokenizer_of", "wanted"]

_CHUNK = 32
# Names of tensors that hold what a program is given (``compiler.lowering.ends``): states are called
# ``embedding``, whose place they take.
_INPUTS = ("ids", "ids -1", "ids +0", "ids +1", "segment numbers", "patches", "embedding")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of results and of generating."""
    parser.add_argument("-o", "--output", type=Path, metavar="DIR",
                        help="write there what the model gives: results.json, values in fp32 as "
                        ".npy and their codes")
    parser.add_argument("--batch", type=integer(1), default=1, metavar="N",
                        help="inputs that a program takes side by side, shorter ones padded (1)")
    parser.add_argument("--image-only", action="store_true",
                        help="run nothing: write memory and addresses for a board to -o DIR")
    parser.add_argument("--weights-separate", action="store_true",
                        help="with --image-only: weights as a file of their own, which is placed "
                        "once, and a program for each shape of inputs")
    group = parser.add_argument_group("text by a causal model")
    group.add_argument("--generate", type=integer(1), metavar="N",
                       help="up to N tokens after each input")
    group.add_argument("--temperature", type=real(0, 100), default=0.0, metavar="T",
                       help="draw tokens by --seed; 0 takes the likeliest (0)")
    group.add_argument("--stop", action="append", metavar="TOKEN",
                       help="a token that ends a text, by its number or its name; may be given "
                       "again (the model's own; none: --stop '')")
    group.add_argument("--language", metavar="NAME",
                       help="of a model that hears: the language that is spoken, as the checkpoint "
                       "names it (the likeliest)")
    group.add_argument("--task", metavar="NAME",
                       help="of a model that hears: transcribe or translate (transcribe)")
    group.add_argument("--chunk", type=integer(1), default=_CHUNK, metavar="N",
                       help=f"tokens of a prompt that a program takes at once ({_CHUNK})")
    group.add_argument("--clock", type=real(1e-3), metavar="MHZ",
                       help="report seconds at this clock by the cycle model")


def wanted(options: argparse.Namespace) -> bool:
    """Whether what the model gives is of interest, and not bytes alone."""
    own = (options.text, options.text_file, options.ids, options.image, options.audio,
           options.output)
    return any(value is not None for value in own)


def given_examples(options: argparse.Namespace, model: Transformer) -> list[Example]:
    """One's own inputs, or the project's."""
    own = own_examples(options, model)
    if own:
        return own
    given = read(options.model, model, options.tokens, options.offline, options.seed)
    return examples_of(given, model)


def tokenizer_of(options: argparse.Namespace) -> "Tokenizer | None":
    """That of the model, ``None`` where it has none."""
    return registry.any_tokenizer(options.model, offline=options.offline)


def about(options: argparse.Namespace, config: AcceleratorConfig, level: Fusion, layers: range
          ) -> dict[str, Any]:
    """What a run was of, as plain data."""
    return {"model": options.model if options.model in NAMES else str(Path(options.model)),
            "layers": [layers.start, layers.stop], "fusion": level.name.lower(),
            "config": config.as_dict()}


def deliver(options: argparse.Namespace, told: Mapping[str, Any], results: Sequence[Result]
            ) -> None:
    """Print what each input gave, and write it, ``about`` the run, where that is asked for;
    ``ValueError``."""
    print("\n".join(result.line() for result in results))
    if options.output is not None:
        _write(options.output, lambda folder: write_results(folder, results, told))


def _write(folder: Path, write: Callable[[Path], Sequence[str]]) -> None:
    """Let ``write`` make files in ``folder``, and print where they are; ``ValueError``."""
    try:
        names = write(folder)
    except OSError as error:
        raise ValueError(f"output must be a folder that can be written, not {str(folder)!r}: "
                         f"{error.strerror or error}") from error
    print(f"wrote {', '.join(str(folder / name) for name in names)}")


def kinds(options: argparse.Namespace, groups: Iterable[tuple[range, Inputs]]) -> list[Inputs]:
    """The first inputs of each shape, which take a program of their own. ``ValueError`` where there
    are more than are written, or where two of a shape are padded otherwise."""
    found: dict[tuple, Inputs] = {}
    for _, inputs in groups:
        source = inputs.source
        found.setdefault((_shape(inputs), *(
            None if own is None or own.valid is None else own.valid.tobytes()
            for own in (inputs, source))), inputs)
    if len(found) > 1 and not options.weights_separate:
        raise ValueError(f"--image-only writes one program, and these inputs take {len(found)}: "
                         "--weights-separate writes them all, on the same weights")
    if len({key[0] for key in found}) < len(found):
        raise ValueError("programs of one shape must have the same padding: --batch 1 has none")
    return list(found.values())


def _shape(inputs: Inputs) -> str:
    """Sequences × positions, of an encoder's first."""
    own = (inputs,) if inputs.source is None else (inputs.source, inputs)
    return "-".join(f"{given.sequences}x{given.length}" for given in own)


def image_only(options: argparse.Namespace, opened: Opened, program: LoweredProgram,
               inputs: Inputs) -> None:
    """Write a program's memory for a board, its weights as a file of their own where that is asked
    for; ``ValueError``."""
    tensors = [tensor for tensor in program.image.tensors if tensor.name in _INPUTS]
    apart = options.weights_separate
    _write(options.output, lambda folder: write_board(
        folder, program.image, inputs=tensors, weights=opened.programs.weights if apart else 0,
        shape=_shape(inputs) if apart else "",
        more={"positions": inputs.length, "sequences": inputs.sequences}))


# Generating

def stop_tokens(options: argparse.Namespace, words: "Tokenizer | None") -> set[int]:
    """The tokens that end a text: those asked for, else the model's own; ``ValueError``."""
    if options.stop is None:
        return registry.end_tokens(options.model, offline=options.offline)
    found = set()
    for token in filter(None, options.stop):
        number = int(token) if token.isdecimal() else None
        if number is None and words is not None:
            number = words.token_to_id(token)
        if number is None:
            raise ValueError(f"stop must be the number or the name of a token, not {token!r}")
        found.add(number)
    return found


def run_generation(options: argparse.Namespace, opened: Opened, examples: Sequence[Example]
                   ) -> None:
    """Generate after each of ``examples``, print and write; ``ValueError``, ``RunError``."""
    if options.layers is not None or options.decode:
        raise ValueError("generate takes all layers, and no --decode")
    config, words = opened.config, tokenizer_of(options)
    stop = stop_tokens(options, words)
    beside = min(options.batch, len(examples))
    decoding = _decoding(options, opened, examples, beside)
    size = decoding.image.memory.size
    if options.memory is not None and size > options.memory:
        raise ValueError(f"memory must be at least {size} bytes for these programs, "
                         f"not {options.memory}")
    programs = len(decoding.passes) + (decoding.encoding is not None)
    print(f"work: {opened.model.name}, {programs} programs, {size} bytes, room for "
          f"{decoding.room} positions")
    if options.image_only:
        _image_of(options, decoding)
        return
    start = machine_start(config) if options.on == "machine" else rtl_start(built(config))
    host, told = DecodingHost(decoding, start), []
    for first in range(0, len(examples), beside) if beside > 1 else ():
        group = examples[first:first + beside]
        # A group that is not full is filled by its first: those texts are no one's.
        filled = [*group, *[group[0]] * (beside - len(group))]
        with Line("generated", quiet=options.quiet) as line:
            texts = generate_together(host, [example.values for example in filled],
                                      options.generate, temperature=options.temperature,
                                      seed=options.seed, stop=stop, tell=line.tell)
        told += [_told(options, opened, example, made, words, stop, None)
                 for example, made in zip(group, texts, strict=False)]
    for example in examples if beside == 1 else ():
        source, prompt = parted(opened.model, example, options.language, options.task)
        encoding = decoding.encoding
        if source is not None and encoding is not None and len(source) != encoding.length:
            decoding = _decoding(options, opened, [example])
            host = DecodingHost(decoding, start)
        with Line("generated", quiet=options.quiet) as line:
            made = generate(host, prompt, options.generate, temperature=options.temperature,
                            seed=options.seed, stop=stop, tell=line.tell, source=source,
                            speech=opened.model.speech)
        told.append(_told(options, opened, example, made, words, stop, decoding.encoding))
    if options.output is not None:
        _write(options.output, lambda folder: write_json(
            folder / "results.json", about(
                options, opened.config, opened.level, opened.layers) | {"results": told}))


def _decoding(options: argparse.Namespace, opened: Opened, examples: Sequence[Example],
              beside: int = 1) -> Decoding:
    """Programs for the longest of ``examples``, ``beside`` each other; of an encoder, for the
    first."""
    parts = [parted(opened.model, example, options.language, options.task)
             for example in examples]
    source, longest = parts[0][0], max(len(prompt) for _, prompt in parts)
    with Line("lowered", quiet=options.quiet) as line:
        return lower_decoding(opened.config, opened.model, longest, options.generate,
                              chunk=options.chunk, level=opened.level, seed=options.seed,
                              source=None if source is None else len(source), tell=line.tell,
                              sequences=beside, scales=opened.programs.scales)


def _told(options: argparse.Namespace, opened: Opened, example: Example, made: Generated,
          words: "Tokenizer | None", stop: set[int], encoding: Encoding | None
          ) -> dict[str, Any]:
    """Print one text with what it took; the same as plain data."""
    text = None if words is None else words.decode(list(made.ids))
    print(f"{example.name}: {list(made.ids) if text is None else repr(text)}")
    told: dict[str, Any] = {
        "input": example.name, "prompt": made.prompt.tolist(), "ids": list(made.ids),
        "stopped": made.stopped}
    told |= {name: value for name, value in (("text", text), ("prompt_text", example.text))
             if value is not None}
    count = len(made.ids)
    print(f"  {example.length} tokens, then {count} new{', the last a stop' * made.stopped}: "
          f"first after {made.seconds[0]:.1f} s, all after {sum(made.seconds):.1f} s "
          f"on the {'machine model' if options.on == 'machine' else 'Verilog'}")
    if made.ran.cycles:
        told |= {"cycles": made.ran.cycles, "bytes_compared": made.ran.compared}
        print(f"  {made.ran.cycles} cycles on the Verilog, bytes compared: {made.ran.compared}, "
              "mismatches: 0")
    if options.temperature == 0:
        source, prompt = parted(opened.model, example, options.language, options.task)
        greedy = fp32_greedy(opened.model, prompt, count, stop, source)
        same = int(np.argmin([*(a == b for a, b in zip(greedy, made.ids, strict=False)), False]))
        told["same_as_fp32"] = same
        print("  the fp32 model's tokens are the same" if same == count else
              f"  the fp32 model's tokens are the same up to number {same}, of {count}")
    if options.clock is not None:
        from sim.inference.timing import timing  # the cycle model: a tenth of a second

        found = timing(opened.config, made, encoding)
        told |= {"cycles_to_first_token": found.prompt, "cycles_of_others": found.tokens,
                 "clock_mhz": options.clock}
        print("\n".join(f"  {line}" for line in found.lines(options.clock)))
    return told


def _image_of(options: argparse.Namespace, decoding: Decoding) -> None:
    """The programs of decoding for a board; ``ValueError``."""
    programs = [{"positions": own.length, "sequences": own.sequences,
                 "start": own.template.address,
                 "past": [own.template.variables["past"].start,
                          own.template.variables["past"].stop - 1],
                 "ids": placed(own.ids), "logits": placed(own.logits),
                 "fields": own.template.patches()} for own in decoding.passes]
    inputs = [own.ids for own in decoding.passes]
    more: dict[str, Any] = {"room": decoding.room, "programs": programs}
    encoding, masks = decoding.encoding, decoding.masks
    if encoding is not None:
        inputs.insert(0, encoding.inputs)
        more["encoder"] = {"positions": encoding.length, "start": encoding.address,
                           "inputs": placed(encoding.inputs)}
    if masks is not None:
        inputs.append(masks)
        more["masks"] = placed(masks)
    _write(options.output, lambda folder: write_board(folder, decoding.image, inputs=inputs,
                                                      more=more))

"""Text by a causal model on the accelerator: a host that starts programs and chooses tokens."""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from compiler.checkpoints import reference
from compiler.checkpoints.description import Transformer
from compiler.checkpoints.speech import FOUND, Speech
from compiler.examples import Example
from compiler.program.builder import read
from compiler.program.decoding import Decoding, Pass
from compiler.program.start import Ran, Start
from compiler.program.tensor import IndexEncoding, Tensor
from sim.inference.results import softmax
from sim.model import codec

__all__ = ["DecodingHost", "Generated", "choose", "fp32_greedy", "generate", "parted"]

Tell = Callable[[float, str], None]


@dataclass(frozen=True)
class Generated:
    """``ids``: those after the prompt, a stop token among them where one ended it (``stopped``);
    ``logits``: those that each was chosen from. ``seconds``: to the first token and for the others,
    of whatever runs the programs. ``passes``: each program with the positions before it, of which
    the first ``prefill`` take prompts."""

    prompt: np.ndarray
    ids: tuple[int, ...]
    stopped: bool
    logits: np.ndarray
    seconds: tuple[float, float]
    ran: Ran
    passes: tuple[tuple[Pass, int], ...]
    prefill: int


class DecodingHost:
    """The memory of ``decoding``, whose programs ``start`` runs: one sequence after the other."""

    def __init__(self, decoding: Decoding, start: Start) -> None:
        self.decoding, self._start = decoding, start
        self.memory = decoding.image.memory.copy()
        self.past = 0
        self.ran = Ran()
        self.passes: list[tuple[Pass, int]] = []

    def begin(self, source: np.ndarray | None = None) -> None:
        """Another sequence: what the cache holds of the one before is never read. ``source``: the
        tokens or patches that an encoder reads, which runs first."""
        self.past, self.passes = 0, []
        encoding, base = self.decoding.encoding, self.decoding.image.base
        if (source is None) != (encoding is None):
            raise ValueError("a source goes with an encoder, and an encoder with a source")
        if source is None or encoding is None:
            return
        if len(source) != encoding.length:
            raise ValueError(f"source must be of {encoding.length} positions, not {len(source)}")
        if source.ndim == 1:
            self._write(encoding.inputs, source.tolist())
        else:
            tensor = encoding.inputs
            assert not isinstance(tensor.encoding, IndexEncoding), "patches are numbers"
            codes = codec.encode(tensor.encoding, np.float64(source))
            tensor.window(self.memory, base)[:] = codes.astype(
                f"<u{tensor.item_bytes}").view(np.uint8)
        self.ran += self._start(self.memory, encoding.address, base)

    def feed(self, ids: Sequence[int], length: int, **place: int) -> np.ndarray:
        """Take ``ids`` through all layers by the program of ``length`` positions: the logits after
        the last of them. ``place``: of a sequence beside others (``decoding.Pass``)."""
        own = self.decoding.choose(length, self.past)
        logits = self._run(own, [*ids, *[0] * (length - len(ids))], last=len(ids) - 1, **place)
        self.past += len(ids)
        return logits[0]

    def feed_beside(self, ids: Sequence[int]) -> np.ndarray:
        """Take a token of every sequence, side by side: the logits after each, a row a sequence."""
        own = self.decoding.choose(1, self.past, self.decoding.sequences)
        logits = self._run(own, ids, last=0)
        self.past += 1
        return logits

    def _run(self, own: Pass, ids: Sequence[int], **place: int) -> np.ndarray:
        base = self.decoding.image.base
        own.template.write(self.memory, base, past=self.past, **place)
        self._write(own.ids, ids)
        self.ran += self._start(self.memory, own.template.address, base)
        self.passes.append((own, self.past))
        return read(self.memory, own.logits, base)

    def _write(self, tensor: Tensor, ids: Sequence[int]) -> None:
        tensor.window(self.memory, self.decoding.image.base)[:] = np.array(
            ids, "<u4")[:, None].view(np.uint8)


def parted(model: Transformer, example: Example, language: str | None = None,
           task: str | None = None) -> tuple[np.ndarray | None, np.ndarray]:
    """What the encoder reads, if there is one, and what the text begins with; of a model that hears
    in the ``language`` and for the ``task`` (``Speech.prompt``). ``ValueError``."""
    if model.speech is None and (language or task):
        raise ValueError(f"language and task are for models that hear, which {model.name} does not")
    if model.encoder is None:
        return None, example.values
    start = model.start
    if model.speech is not None:
        start = model.speech.prompt(start, language, task)
    return example.values, np.array(start)


def choose(logits: np.ndarray, temperature: float, rng: np.random.Generator,
           never: Sequence[int] = ()) -> int:
    """The likeliest token, the first of equals, at ``temperature`` 0; else one drawn by its
    probability; none of ``never``. ``ValueError`` where a logit is no number."""
    if np.isnan(logits).any():
        raise ValueError(f"logits must be numbers, but {int(np.isnan(logits).sum())} of "
                         f"{logits.size} are not")
    if len(never):
        logits = np.array(logits)
        logits[list(never)] = -np.inf
    if temperature == 0:
        return int(np.argmax(logits))
    return int(rng.choice(len(logits), p=softmax(logits / temperature)))


def generate(host: DecodingHost, prompt: Sequence[int] | np.ndarray, new: int, *,
             temperature: float = 0.0, seed: int = 0, stop: Collection[int] = (),
             tell: Tell = lambda share, where: None, source: np.ndarray | None = None,
             speech: Speech | None = None) -> Generated:
    """Up to ``new`` tokens after ``prompt``, fewer where one of ``stop`` comes. ``tell`` hears how
    far it is. ``source``: what the encoder reads, where the model has one. ``speech``: what a model
    that hears says; a language that the prompt leaves open is the likeliest after its first
    token."""
    speech = speech or Speech()
    prompt, rng = np.asarray(prompt), np.random.default_rng(seed)
    before, started = host.ran, time.monotonic()
    host.begin(source)
    chunk = max(own.length for own in host.decoding.passes)
    if FOUND in prompt:
        prompt = _with_language(prompt, host.feed(prompt[:1].tolist(), chunk), speech)
        host.past = 0  # the same positions once more
    total = -(-len(prompt) // chunk) * chunk + new - 1
    for first in range(0, len(prompt), chunk):
        logits = host.feed(prompt[first:first + chunk].tolist(), chunk)
        tell((first + chunk) / total, f"{min(first + chunk, len(prompt))} of {len(prompt)} tokens "
             "of the prompt")
    first_never = speech.never + speech.never_first
    found, kept = [choose(logits, temperature, rng, first_never)], [logits]
    prefill, first_token = len(host.passes), time.monotonic()
    while len(found) < new and found[-1] not in stop:
        logits = host.feed(found[-1:], 1)
        found.append(choose(logits, temperature, rng, speech.never))
        kept.append(logits)
        tell((total - new + len(found)) / total, f"{len(found)} of {new} new tokens")
    ended = time.monotonic()
    return Generated(prompt, tuple(found), found[-1] in stop, np.array(kept),
                     (first_token - started, ended - first_token), host.ran - before,
                     tuple(host.passes), prefill)


def _with_language(prompt: np.ndarray, logits: np.ndarray, speech: Speech) -> np.ndarray:
    """The prompt with the likeliest language in the place that it leaves open."""
    known = list(speech.languages.values())
    return np.where(prompt == FOUND, known[int(np.argmax(logits[known]))], prompt)


def fp32_greedy(model: Transformer, prompt: np.ndarray, new: int, stop: Collection[int] = (),
                source: np.ndarray | None = None) -> list[int]:
    """What the fp32 model says after ``prompt``, the likeliest token each time; ``source`` as for
    ``generate``."""
    cache, found, speech = reference.Cache(), list[int](), model.speech or Speech()
    encoded = None if source is None else reference.encode(model, source)
    given, rng = np.asarray(prompt), np.random.default_rng()
    if FOUND in given:
        alone = reference.forward(model, given[:1], encoded=encoded).output[-1]
        given = _with_language(given, alone, speech)
    never = speech.never + speech.never_first
    while len(found) < new and not (found and found[-1] in stop):
        logits = reference.forward(model, given, cache, encoded=encoded).output[-1]
        found.append(choose(logits, 0, rng, never))
        given, never = np.array(found[-1:]), speech.never
    return found

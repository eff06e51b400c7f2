"""Texts side by side: prompts of any lengths, one after the other, then a token of each at once."""

import time
from collections.abc import Collection, Sequence

import numpy as np

from compiler.program.decoding import Pass
from hdl.spec.formats import BF16_ENCODING, BFLOAT16
from sim.inference.generate import DecodingHost, Generated, Tell, choose
from sim.model import codec
from sim.model.rounding import largest

__all__ = ["generate_together"]


def generate_together(host: DecodingHost, prompts: Sequence[np.ndarray], new: int, *,
                      temperature: float = 0.0, seed: int = 0, stop: Collection[int] = (),
                      tell: Tell = lambda share, where: None) -> list[Generated]:
    """As ``generate.generate`` for each of ``prompts``, as many as the host's programs take.

    All end at one position: shorter ones begin later, after positions that nothing sees. The
    weights are read once for a token of each. Each draws by a seed of its own. ``seconds``, ``ran``
    and ``passes`` are those of all together: the first tokens come after all prompts.
    """
    if len(prompts) != host.decoding.sequences:
        raise ValueError(f"prompts must be {host.decoding.sequences}, not {len(prompts)}")
    rngs = [np.random.default_rng(seed + index) for index in range(len(prompts))]
    before, started = host.ran, time.monotonic()
    longest = max(map(len, prompts))
    firsts: list[np.ndarray] = []
    passes: list[tuple[Pass, int]] = []
    for index, prompt in enumerate(prompts):
        host.begin()
        firsts.append(_prompt(host, prompt, sequence=index, pad=longest - len(prompt)))
        passes += host.passes
        tell((index + 1) / (len(prompts) + new), f"{index + 1} of {len(prompts)} prompts")
    _hide(host, [longest - len(prompt) for prompt in prompts])
    found = [[choose(row, temperature, rng)] for row, rng in zip(firsts, rngs, strict=True)]
    kept = [[row] for row in firsts]
    first_token = time.monotonic()
    host.past, host.passes = longest, passes.copy()
    for count in range(1, new):
        going = [own[-1] not in stop for own in found]
        if not any(going):
            break
        logits = host.feed_beside([own[-1] for own in found])
        for index, goes in enumerate(going):
            if goes:
                found[index].append(choose(logits[index], temperature, rngs[index]))
                kept[index].append(logits[index])
        tell((len(prompts) + count + 1) / (len(prompts) + new), f"{count + 1} of {new} new tokens")
    seconds = first_token - started, time.monotonic() - first_token
    return [Generated(np.asarray(prompt), tuple(own), own[-1] in stop, np.array(rows), seconds,
                      host.ran - before, tuple(host.passes), len(passes))
            for prompt, own, rows in zip(prompts, found, kept, strict=True)]


def _prompt(host: DecodingHost, prompt: np.ndarray, **place: int) -> np.ndarray:
    """A prompt part by part: the logits after it."""
    chunk = max(own.length for own in host.decoding.passes)
    for first in range(0, len(prompt), chunk):
        logits = host.feed(np.asarray(prompt)[first:first + chunk].tolist(), chunk, **place)
    return logits


def _hide(host: DecodingHost, empty: Sequence[int]) -> None:
    """Tell each sequence how many of its first positions are empty."""
    masks, image = host.decoding.masks, host.decoding.image
    assert masks is not None, "programs of sequences side by side have masks"
    hidden = np.arange(masks.columns) < np.array(empty)[:, None]
    codes = codec.encode(BF16_ENCODING, np.where(hidden, -largest(BFLOAT16), 0.0)).astype("<u2")
    masks.window(host.memory, image.base)[:] = codes.view(np.uint8)

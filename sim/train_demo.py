"""Fine-tuning by commands, shown: ``python -m sim.train_demo``, ``make train-demo``.

The digits ViT learns to read digits with light and dark, rows and columns exchanged: forward, loss,
backward, gradient scales, clipping, AdamW and merge as programs on the machine model, in posit8 and
in fp8, each in a process of its own. Exit code 1 where fewer than 96 % of the images that were held
out are read at the end, or a run fails.
"""

import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Thread

from gen.cli import Parser, integer, make_folder, piped
from gen.cli.folders import build_folder

__all__ = ["main"]

LEAST = 0.96
FORMATS = ("posit8", "fp8")
_RUN = ("digits-vit", "--lora", "4", "--rate", "4e-3", "--batch", "16", "--on", "machine")
_RIGHT = re.compile(r"after: .* right (\S+)")


def _told(process: subprocess.Popen, fmt: str, started: float, lines: list[str]) -> None:
    """Print each line of a run when it comes."""
    assert process.stdout is not None, "it is a pipe"
    for line in process.stdout:
        lines.append(line.rstrip())
        print(f"{time.monotonic() - started:5.0f} s  {fmt:6}  {lines[-1]}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train both; 0 where both have learned, 1 where one has not."""
    parser = Parser(prog="python -m sim.train_demo",
                    description="Fine-tuning as programs on the machine model, shown.")
    parser.add_argument("--steps", type=integer(1), default=800, help="updates (800)")
    parser.add_argument("--out", type=Path, default=build_folder() / "train-demo", metavar="FOLDER",
                        help="adapters and curves go there (build/train-demo)")
    options = parser.parse_args(arguments)
    make_folder(parser, options.out)
    started = time.monotonic()
    print(f"{options.steps} updates of 16 images, adapters of rank 4 on all matrices and the head; "
          "every update is two programs of commands", flush=True)
    runs: dict[str, tuple[subprocess.Popen, list[str], Thread]] = {}
    for fmt in FORMATS:
        process = subprocess.Popen(
            [sys.executable, "-m", "sim.train", *_RUN, "--steps", str(options.steps), "--fmt", fmt,
             "--out", str(options.out / fmt), "--curve", str(options.out / f"{fmt}.svg")],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        lines: list[str] = []
        thread = Thread(target=_told, args=(process, fmt, started, lines))
        thread.start()
        runs[fmt] = process, lines, thread
    learned = True
    for fmt, (process, lines, thread) in runs.items():
        thread.join()
        right = next((match[1] for line in lines if (match := _RIGHT.match(line))), "0")
        learned &= process.wait() == 0 and float(right) >= LEAST
        print(f"{fmt}: {float(right):.1%} of the images held out")
    print(f"{time.monotonic() - started:.0f} s; adapters and curves are in {options.out}")
    return 0 if learned else 1


if __name__ == "__main__":
    sys.exit(piped(main))

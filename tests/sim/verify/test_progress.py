import io
import re

import numpy as np
import pytest

from compiler.program.builder import ProgramBuilder
from gen.cli import Line, counted
from hdl.spec.config import AcceleratorConfig
from sim.model.machine import Machine
from sim.verify.progress import Progress, milestones

CONFIG = AcceleratorConfig(dim=4)
BASE = 0x1000


class Stream(io.StringIO):
    def __init__(self, terminal):
        super().__init__()
        self.isatty = lambda: terminal


def program():
    """Two GEMMs, the second on the first's result, then one whose C lies where the first's does."""
    builder = ProgramBuilder(CONFIG, BASE)
    x, w = (builder.constant(np.ones((4, 4))) for _ in range(2))
    out, last = builder.empty(4, 4), builder.empty(4, 4)
    builder.gemm(x, w, out)
    builder.gemm(out, w, last)
    builder.gemm(x, w, out)
    builder.end()
    return *builder.build(), out, last


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr("gen.cli.line._AFTER", 0.0)
    monkeypatch.setattr("gen.cli.line._EVERY", 0.0)
    monkeypatch.setattr("gen.cli.line._LINES_EVERY", 0.0)


def shares(stream):
    return [float(share) for share in re.findall(r"([\d.]+)%", stream.getvalue())]


def test_milestones_are_the_last_bytes_written():
    memory, address, out, last = program()
    found = milestones(CONFIG, memory, address, BASE)
    places = [place for _, place, _ in found]
    assert len(found) == 6  # three GEMMs, two fences, END
    first, second = out.address + 15 - BASE, last.address + 15 - BASE
    assert [place for place in places if place is not None] == [first, second, first]
    assert [count for _, place, count in found if place == first] == [1, 2]
    work = [done for done, _, _ in found]
    assert work == sorted(work) and work[-1] == 3 * work[0] > 0


@pytest.mark.parametrize("terminal", (True, False))
def test_the_machine_ends_at_all_of_it(at_once, terminal):
    memory, address, *_ = program()
    stream = Stream(terminal)
    with Progress("machine", CONFIG, memory, address, BASE, stream=stream) as progress:
        outcome = Machine(CONFIG).run(memory, address, BASE, progress=progress.after)
    found = shares(stream)
    assert outcome.error is None and len(found) == outcome.commands == 6
    assert found == sorted(found) and found[-1] == 100 and 30 < found[0] < 40
    assert stream.getvalue().endswith("\r\x1b[K" if terminal else " 00:00 left\n")
    assert "command 6 of 6" in stream.getvalue()


def test_the_accelerator_is_as_far_as_it_has_written(at_once):
    memory, address, out, last = program()
    stream, written = Stream(False), np.zeros_like(memory)
    with Progress("RTL", CONFIG, memory, address, BASE, stream=stream) as progress:
        for cycle, tensor in enumerate((None, last, out, out), 1):
            if tensor is not None:
                tensor.window(written, BASE)[:] += 1
            progress.at_cycle(1000 * cycle, written)
    assert shares(stream) == [0, 0, 66.7, 100]
    assert "cycle 4,000" in stream.getvalue() and "k cycles/s" in stream.getvalue()


def test_nothing_is_shown_of_what_is_short_or_quiet(at_once, monkeypatch):
    memory, address, *_ = program()

    def shown(**options):
        stream = Stream(True)
        with Progress("machine", CONFIG, memory, address, BASE, stream=stream,
                      **options) as progress:
            Machine(CONFIG).run(memory, address, BASE, progress=progress.after)
            progress.at_cycle(5, np.zeros_like(memory))
        return stream.getvalue()

    assert shown(quiet=True) == "" != shown()
    monkeypatch.setattr("gen.cli.line._AFTER", 60.0)
    assert shown() == ""


def test_a_line_tells_how_long_is_left(monkeypatch):
    times = iter(range(100))
    monkeypatch.setattr("gen.cli.line.time.monotonic", lambda: float(next(times)))
    stream = Stream(False)
    with Line("examples", stream=stream) as line:
        for index in range(12):
            line.tell((index + 1) / 40, f"{index + 1} of 40")
    found = stream.getvalue().splitlines()
    assert 1 < len(found) < 4 and found[0].startswith("examples   ")
    # The clock goes on by a second whenever it is asked: what is left is by shares and seconds.
    for line in found:
        share, minutes, seconds = map(float, re.fullmatch(
            r"examples +([\d.]+)%, \d+ of 40, (\d\d):(\d\d) left", line).groups())
        assert 2 < (60 * minutes + seconds) * share / (100 - share) < 60


def test_what_is_counted_is_told_between_what_is_printed(at_once, monkeypatch, capsys):
    stream = Stream(True)
    monkeypatch.setattr("sys.stderr", stream)
    for number in counted("cells", iter("abcd"), 4):
        stream.write(f"<{number}>\n")
    found = re.sub(r"\|[^|]*\|", "", stream.getvalue())
    assert [text.strip() for text in re.findall(r"<\w>|\d of 4", found)] == [
        "<a>", "1 of 4", "<b>", "2 of 4", "<c>", "3 of 4", "<d>", "4 of 4"]
    # Whatever is printed finds the terminal's line empty.
    assert all(part.endswith("\r\x1b[K") or not part
               for part in re.split(r"<\w>\n", found))
    quiet = Stream(True)
    monkeypatch.setattr("sys.stderr", quiet)
    assert list(counted("cells", range(3), 3, quiet=True)) == [0, 1, 2] and not quiet.getvalue()


def test_a_broken_program_has_milestones_too():
    memory, address, *_ = program()
    memory[address - BASE + 64:address - BASE + 192] = 255
    assert milestones(CONFIG, memory, address, BASE)[0][1] is None

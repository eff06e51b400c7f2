import random

import pytest

from hdl.lib.resizer import Resizer
from support.seeds import seed_of
from support.streams import Sink, Source, beats_of, simulate


@pytest.mark.parametrize(("i_bytes", "o_bytes"), [
    (4, 4), (4, 8), (4, 64), (16, 64), (8, 4), (64, 4), (32, 16), (1, 4), (4, 1)])
@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_rows_keep_their_frame(i_bytes, o_bytes, stall):
    chance = random.Random(seed_of(i_bytes, o_bytes, stall))
    rows = [chance.randbytes(chance.randint(1, 3 * max(i_bytes, o_bytes))) for _ in range(40)]
    dut = Resizer(i_bytes, o_bytes)
    source = Source(dut.i, beats_of(rows, i_bytes), seed=1, stall=stall)
    sink = Sink(dut.o, seed=2, stall=stall)
    wanted = beats_of(rows, o_bytes)
    narrow = max(len(source.items), len(wanted))
    cycles = simulate(dut, [source, sink], until=lambda: len(sink.taken) >= len(wanted))
    assert sink.taken == wanted
    if not stall:
        assert cycles <= narrow + 2


@pytest.mark.parametrize("sizes", [(3, 4), (4, 0)])
def test_sizes_must_be_powers_of_two(sizes):
    with pytest.raises(ValueError, match="^value must be a power of two"):
        Resizer(*sizes)

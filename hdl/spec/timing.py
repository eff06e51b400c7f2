"""What hardware and its models share of time and size: depths, latencies, orders, cuts.

Plain data and pure functions of a configuration, each with its unit and the file that realises it.
The array's own latency and the panels follow from the configuration alone and stand there
(``AcceleratorConfig.array_latency``, ``panel_tiles``, ``operand_depth``).
"""

from dataclasses import dataclass

from hdl.spec.config import COUNT_BITS, AcceleratorConfig, ceil_log2, log2_exact
from hdl.spec.panels import LEAST_TILES
from hdl.spec.registers import CLIENTS

__all__ = [
    "ACCUMULATE_CYCLES", "BLOCK_TILES", "BURST_BEATS", "INDEX_BYTES", "INPUT_READ_CYCLES",
    "LANDING_BEATS", "LANE_STAGES", "MERGED_LOG2", "OUTSTANDING", "PAGE_BYTES", "PLAN_LATENCY",
    "READERS", "READ_BEFORE", "REPEAT_CYCLES", "ROW_BYTES_BITS", "ROW_END_BITS",
    "TRANSFERS_AHEAD", "TRANSFERS_HELD", "UNITS", "URGENT_BURSTS", "WRITE_BEATS",
    "WRITE_BURSTS", "Cut", "across_cycles", "bank_cycles", "check_cycles", "chunk_tiles_log2",
    "cut", "landing_beats", "lane_cycles", "most_outstanding", "reduce_cycles", "result_cycles",
    "round_cycles", "row_beats_bits", "row_columns", "row_fits", "row_maximum_cycles",
    "scale_cycles", "strip_tiles", "sums_cycles", "tree_cycles"]

# ---- orders

UNITS = ("operands", "weights", "feeder", "drain")
"""Units that take commands, as the sequencer's flags count them (``hdl/issue/sequencer.py``)."""

READERS = tuple(name for name, _ in CLIENTS[:-1])
"""Clients of the read engine, as the arbiter's turn and ``ERROR_DETAIL`` count them."""

READ_BEFORE = ("program", "weights")
"""Those whose bursts go before the others': few, and the weights of a tile that serve for many
rows of A (``read_engine.py``)."""

# ---- the bus (hdl/bus)

PAGE_BYTES = 4096
"""AXI4: no burst crosses a boundary of this many bytes."""

BURST_BEATS = 16
"""Most beats of a burst, read or written, where a build's surroundings ask for no fewer."""

MERGED_LOG2 = 3
"""log2 of the most beats of rows that are read in bursts of several, where they follow one another
(``burst_generator.py``)."""

OUTSTANDING = 32
"""Most bursts requested and not complete (reads) or not answered (writes), on any bus."""

LANDING_BEATS = 128
"""Most beats of landing space of a read client; a burst is asked for where it has room
(``read_engine.py``)."""

TRANSFERS_HELD = 4
"""Transfers of Y whose rows are not all out of landing space (``client_reader.py``)."""

URGENT_BURSTS = 15
"""Most consecutive bursts of urgent read clients while others wait (``read_engine.py``)."""

WRITE_BURSTS, WRITE_BEATS = 4, 64
"""Of the write engine: complete bursts that wait for their address to be sent; beats that wait for
theirs (``write_engine.py``)."""

ROW_BYTES_BITS = COUNT_BITS + 2
"""Bits of the bytes of a row: as many elements of up to four bytes."""

ROW_END_BITS = ROW_BYTES_BITS + 1
"""Bits of a row's end, counted in bytes from the beat that it starts in (``row_packer.py``)."""


def row_beats_bits(bus_bytes: int) -> int:
    """Bits of a row's beats: its end is rounded up to whole ones (``burst_generator.py``)."""
    return ROW_END_BITS + 1 - log2_exact(bus_bytes)


def most_outstanding(bus_bytes: int) -> int:
    """As ``OUTSTANDING``, on a bus of ``bus_bytes``: of more than 128 bits a head's row is a beat
    or two, and 16 bursts of one beat are fewer than the memory's latency has cycles."""
    return 16 if bus_bytes <= 16 else OUTSTANDING


def landing_beats(client: str, bus_bytes: int) -> int:
    """Beats of landing space of a read client: what 100 cycles of latency need on a bus of 128
    bits, half of that on a wider one, which takes as many bytes; little for a program, whose
    commands come one by one."""
    if client == "program":
        return LANDING_BEATS // 4
    return LANDING_BEATS if bus_bytes <= 16 else LANDING_BEATS // 2


# ---- issue (hdl/issue)

PLAN_LATENCY = 2
"""Cycles after which a plan is valid: a register and one cycle of margin (``planner.py``). The
sequencer reads it in the next."""


def check_cycles(instructions: int) -> int:
    """Cycles that the check of a command takes, with ``instructions`` up to the one marked last:
    one each, and one for the verdict (``command_check.py``)."""
    return instructions + 1


# ---- loads and gathers (hdl/load)

TRANSFERS_AHEAD = 4
"""Transfers of operands whose data are awaited (``operand_loader.py``)."""

INDEX_BYTES = 4
"""Bytes of a row's index as stored (``gather.py``)."""

# ---- from the input bank to the accumulation bank (hdl/feed, hdl/array, hdl/accumulate)

INPUT_READ_CYCLES = 1
"""From a row's read in an input bank to the array's edge."""

ACCUMULATE_CYCLES = 2
"""From a row's sums to their totals: the stored word's read, the addition
(``accumulation_buffer.py``)."""

REPEAT_CYCLES = 3
"""Cycles after which a word from the array may be for the same address again: the two above and
the write (``accumulation_buffer.py``); the feeder keeps rows that far apart."""


def row_maximum_cycles(config: AcceleratorConfig) -> int:
    """From a word's totals to the cycle in which it counts as arrived: one level of the tree
    of row maxima per cycle, and a register after it (``row_maximum.py``)."""
    return log2_exact(config.dim) + 1 + round_cycles(config)


def sums_cycles(config: AcceleratorConfig) -> int:
    """From a row's read in an input bank to the cycle in which its word counts as arrived."""
    return (INPUT_READ_CYCLES + config.array_latency + ACCUMULATE_CYCLES
            + row_maximum_cycles(config))


# ---- the vector unit (hdl/vector)

LANE_STAGES = 4
"""Multiply, add, function, scale."""


def round_cycles(config: AcceleratorConfig) -> int:
    """Registers within the rounding of a word that no sum has rounded, which go with lanes of
    three registers a stage and more (``exact_round.py``)."""
    return 1 if config.exact_sums and not config.fixed and config.lane_latency > 2 else 0


def bank_cycles(config: AcceleratorConfig) -> int:
    """Cycles from an accumulation bank's word to the lanes: with lanes of three registers a stage
    and more a register before its rounding, and those within (``core.py``)."""
    return 1 + round_cycles(config) if config.lane_latency > 2 else 0


def lane_cycles(config: AcceleratorConfig) -> int:
    """Cycles that a beat stays in the lanes: an entry register, and ``lane_latency`` per
    stage (``lane.py``, ``vector_unit.py``)."""
    return 1 + LANE_STAGES * config.lane_latency


def tree_cycles(config: AcceleratorConfig) -> int:
    """Cycles of a beat's reduction: ``sum_ways`` per level of the tree (``row_reducer.py``)."""
    return config.sum_ways * log2_exact(config.lanes)


def across_cycles(config: AcceleratorConfig) -> int:
    """Cycles from the reduction of a row's last beat to the row's: an addition across beats, and as
    many as it takes to join the partial sums, each of ``sum_ways`` cycles (``row_reducer.py``)."""
    return config.sum_ways * (1 + log2_exact(config.sum_ways))


def scale_cycles(config: AcceleratorConfig) -> int:
    """By how much a post that scales (MEAN, INVERSE_SQRT) delays a reduction: a product and a sum
    of ``sum_ways`` cycles each (``row_reducer.py``)."""
    return 2 * config.sum_ways


def result_cycles(config: AcceleratorConfig) -> int:
    """Cycles from a row's total to its result: one, with partial sums another that rounds
    (``row_reducer.py``)."""
    return min(2, config.sum_ways)


def reduce_cycles(config: AcceleratorConfig, scales: bool = False) -> int:
    """Cycles from a row's last beat after the lanes to its reduction: the tree's, those across
    beats, one for the result (``row_reducer.py``). ``scales``: its post is MEAN or INVERSE_SQRT."""
    return (tree_cycles(config) + across_cycles(config) + result_cycles(config)
            + (scale_cycles(config) if scales else 0))


# ---- how a command is cut (hdl/issue/planner.py, hdl/drain/drain.py)

BLOCK_TILES = LEAST_TILES
"""Most rows of a GEMM's block, in D, where no row is needed whole: as many hide the next tile's
weights; more would only draw out the last bank's drain."""


def row_columns(config: AcceleratorConfig) -> int:
    """Most columns of a row that fits an accumulation bank."""
    return config.acc_depth * config.dim


def row_fits(config: AcceleratorConfig, columns: int) -> bool:
    """Whether a row of ``columns`` fits an accumulation bank, as a command that keeps its rows on
    chip demands."""
    return columns <= row_columns(config)


def chunk_tiles_log2(config: AcceleratorConfig, n_log2: int) -> int:
    """log2 of the column tiles that a GEMM computes at once where it needs no whole rows, of N's:
    a weight panel's, but no more than a quarter of them all above four, since the last are drained
    while nothing is computed."""
    return min(log2_exact(config.panel_columns), max(log2_exact(LEAST_TILES), n_log2 - 2))


def strip_tiles(config: AcceleratorConfig) -> int:
    """Column tiles that leave together where a block is drained while it is filled.

    A row of them takes two bus beats: with ``OUTSTANDING`` bursts unanswered, single beats would
    wait for the memory's answers.
    """
    return max(1, min(2 * config.bus_bytes // config.word_bytes, config.panel_columns))


@dataclass(frozen=True)
class Cut:
    """How a command is cut; all spans but the last of a loop are powers of two.

    block_log2: log2 of the rows of a block. chunk: columns that fill an accumulation bank.
    k_span: elements of K held at once in an input bank; ``resident``: all of K. streamed: a row
    does not fit, so that every instruction of the list fills the bank anew.
    """

    block_log2: int
    chunk: int
    k_span: int
    resident: bool
    streamed: bool


def cut(config: AcceleratorConfig, *, gemm: bool, rowwise: bool, stored: bool,
        m: int, k: int, n: int) -> Cut:
    """The cut of a command of M, K, N whose rows fit where they must (``stored``).

    rowwise: its list needs whole rows. stored: a row must fit on chip.
    """
    dim_log2 = log2_exact(config.dim)
    k_log2, n_log2 = (ceil_log2(-(-count // config.dim)) for count in (k, n))
    input_log2, acc_log2 = log2_exact(config.input_depth), log2_exact(config.acc_depth)
    most = min(log2_exact(config.row_depth), input_log2)
    if gemm and not rowwise:
        most = min(most, log2_exact(BLOCK_TILES) + dim_log2)
    fits = row_fits(config, n)
    streamed = rowwise and not stored and not fits
    if (rowwise or not gemm) and fits:
        chunk_log2 = n_log2
    else:
        chunk_log2 = acc_log2 if streamed else chunk_tiles_log2(config, n_log2)
    rows = 0 if streamed else min(acc_log2 - chunk_log2, ceil_log2(m), most)
    # Rows that share weights come first: K is cut to what fits together with them.
    resident = k_log2 <= input_log2 - rows
    return Cut(rows, 1 << chunk_log2 + dim_log2,
               config.dim << (k_log2 if resident else input_log2 - rows), resident, streamed)

"""Results as they leave for memory: lane words to rows of bytes."""

from amaranth.hdl import Cat, Module, Mux, ShapeLike, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.arith.fixed_codec import FixedEncoder, FixedRound
from hdl.codec.encoder import Encoder
from hdl.lib.leaf import shared
from hdl.lib.ones import count_ones
from hdl.ports.beat import beat_layout
from hdl.ports.vector import Storage
from hdl.spec.config import AcceleratorConfig
from hdl.spec.formats import BFLOAT16
from hdl.vector.vector_beat import result_layout

__all__ = ["StorePort"]


class StorePort(wiring.Component):
    """Encodes beats of lane words into beats of L · storage_bytes bytes.

    With ``wide`` on an 8-bit format a beat becomes its BF16 words, in two or, where no word of the
    upper half is kept, in one. Bytes of words not kept are zero. Latency 1; one beat out per cycle.

    Members
    -------
    storage: In(``Storage``), stable while beats are inside or offered.
    i: In(stream of ``result_layout``); row and tag are not used.
    o: Out(stream of ``beat_layout``).
    saturated, nars: Out, encoded words clipped to the largest finite value, and words written as
        NaR or NaN, in this cycle; words that are not kept do not count, and of those stored wide
        none is clipped.
    idle: Out(1), no beat is inside.
    """

    def __init__(self, config: AcceleratorConfig, tag: ShapeLike):
        self.config = config
        super().__init__({
            "storage": In(Storage()), "i": In(stream.Signature(result_layout(config, tag))),
            "o": Out(stream.Signature(beat_layout(config.lanes * config.format.storage_bytes))),
            "saturated": Out(range(config.lanes + 1)), "nars": Out(range(config.lanes + 1)),
            "idle": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        fmt = self.config.format
        lanes = self.config.lanes
        codes, saturated, nars = self._encoded(m)
        full = Signal()
        last = Signal(reset_less=True)
        words = Signal(range(lanes + 1), reset_less=True)
        kept = Signal(range(lanes + 1))
        take = Signal()
        payload = self.o.payload
        m.d.comb += [
            kept.eq(count_ones(self.i.payload.keep)),
            take.eq(self.i.valid & self.i.ready),
            self.o.valid.eq(full),
            self.idle.eq(~full),
        ]
        with m.If(take):
            m.d.sync += [last.eq(self.i.payload.last), words.eq(kept)]

        if fmt.storage_bits == 16:
            stored = Signal(len(codes), reset_less=True)
            m.d.comb += [
                self.i.ready.eq(~full | self.o.ready),
                payload.data.eq(stored),
                payload.size.eq(2 * words),
                payload.last.eq(last),
            ]
            with m.If(take):
                m.d.sync += stored.eq(codes)
            counted = take
        else:
            self._store(m, full, take, last, words, codes)
            counted = take & ~self.storage.wide
            if not self.config.fixed:
                # An infinity, NaR to the encoder, is written as it is; NaN is canonical.
                quiet = BFLOAT16.fraction_bits - 1
                nans = Cat(nars[number] & self.i.payload.data[number][quiet]
                           for number in range(lanes))
                nars = Mux(self.storage.wide, nans, nars)
        with m.If(self.i.ready):
            m.d.sync += full.eq(self.i.valid)
        m.d.sync += [
            self.saturated.eq(Mux(counted, count_ones(saturated), 0)),
            self.nars.eq(Mux(take, count_ones(nars), 0)),
        ]
        return m

    def _encoded(self, m):
        """Codes of all words, zero where not kept, and their flags."""
        fmt = self.config.format
        lanes = self.config.lanes
        codes = Signal(lanes * fmt.storage_bits)
        saturated = Signal(lanes)
        nars = Signal(lanes)
        for number in range(lanes):
            fixed = self.config.fixed
            encoder = FixedEncoder(fmt) if fixed else Encoder(fmt, flags=True)
            m.submodules[f"encoder_{number}"] = shared(encoder)
            keep = self.i.payload.keep[number]
            m.d.comb += [
                encoder.value.eq(self.i.payload.data[number]),
                codes.word_select(number, fmt.storage_bits).eq(Mux(keep, encoder.result, 0)),
                saturated[number].eq(keep & encoder.saturated),
                nars[number].eq(0 if fixed else keep & encoder.nar),
            ]
            if fmt.hybrid:
                m.d.comb += encoder.e5m2.eq(self.storage.e5m2)
        return codes, saturated, nars

    def _store(self, m, full, take, last, words, codes):
        """Register of an 8-bit format: codes, or BF16 words that leave in halves."""
        lanes = self.config.lanes
        half = lanes // 2
        width = 8 * lanes
        low = Signal(width, reset_less=True)
        high = Signal(width, reset_less=True)
        two = Signal(reset_less=True)
        kept_words = Signal(2 * width)
        for number in range(lanes):
            keep = self.i.payload.keep[number]
            word = self.i.payload.data[number]
            if self.config.fixed:
                rounded = FixedRound()
                m.submodules[f"round_{number}"] = shared(rounded)
                m.d.comb += rounded.value.eq(word)
                word = rounded.result
            m.d.comb += kept_words.word_select(number, 16).eq(Mux(keep, word, 0))
        payload = self.o.payload
        m.d.comb += [
            self.i.ready.eq(~full | (self.o.ready & ~two)),
            payload.data.eq(low),
            payload.size.eq(Mux(two, width // 8, Mux(self.storage.wide, 2 * words, words))),
            payload.last.eq(last & ~two),
        ]
        with m.If(take):
            upper = self.i.payload.keep[half]
            m.d.sync += [
                low.eq(Mux(self.storage.wide, kept_words[:width], codes)),
                two.eq(self.storage.wide & upper),
                high.eq(kept_words[width:]),
            ]
        with m.Elif(full & two & self.o.ready):
            m.d.sync += [low.eq(high), two.eq(0), words.eq(words - half)]

"""Memory of values: nobody overwrites what is still read, and what nobody reads is used again."""

from dataclasses import replace

import numpy as np
import pytest

from compiler.checkpoints.samples import SAMPLES, inputs_for
from compiler.lowering.fuse import fuse
from compiler.lowering.fusion import Fusion
from compiler.lowering.lower import trace
from compiler.lowering.ops import Output
from compiler.lowering.place import place
from compiler.lowering.tracer import Tracer
from compiler.lowering.values import Form, Life, Use
from compiler.program.builder import ProgramBuilder
from compiler.program.tensor import overlap
from hdl.spec.config import AcceleratorConfig

CONFIG = AcceleratorConfig("posit8", dim=4)
CASES = (("random-bert", {"pooling": "mean_l2"}, None), ("random-vit", {}, None),
         ("random-llama", {}, (3, 1, 1)))


def listing(family, options, steps, level=Fusion.RESIDUAL):
    model = SAMPLES[family](**options)
    return fuse(trace(model, inputs_for(model, 5), steps=steps), CONFIG, level)


def readings(fused, places):
    """Views that are read and hold what was meant for them; ``AssertionError``.

    Every byte remembers the value and form that were written last.
    """
    names = {}
    owner = np.zeros(1 << 20, np.int32)

    def number(view):
        return names.setdefault((view.value, view.form), len(names) + 1)

    def bytes_of(view):
        tensor = places.tensor(view)
        for row in range(tensor.rows):
            start = tensor.address + row * tensor.stride
            yield slice(start, start + tensor.row_bytes)

    for value, forms in fused.forms.items():
        for form in forms if value.life == Life.CONSTANT else ():
            whole = replace(value.whole, form=form)
            for part in bytes_of(whole):
                owner[part] = number(whole)
    count = 0
    for op in fused.ops:
        for read in op.reads:
            for part in bytes_of(read.view):
                assert (owner[part] == number(read.view)).all(), f"{op} finds other bytes"
            count += 1
        if not isinstance(op, Output):
            outs = [product.out for product in getattr(op, "products", ())] or [op.out]
            for out in outs:
                for part in bytes_of(out):
                    owner[part] = number(out)
    return count


@pytest.mark.parametrize("level", Fusion, ids=lambda level: level.name.lower())
@pytest.mark.parametrize("family, options, steps", CASES, ids=lambda item: str(item)[:12])
def test_every_reader_finds_what_was_written_for_it(family, options, steps, level):
    fused = listing(family, options, steps, level)
    for keep in (False, True):
        places = place(fused, ProgramBuilder(CONFIG), keep)
        assert readings(fused, places) > 60


def test_the_check_finds_an_overwritten_value():
    fused = listing(*CASES[0])
    places = place(fused, ProgramBuilder(CONFIG))
    named = {value.name: value for value in fused.values}
    hidden, norm = named["layer 0 hidden"], named["layer 0 attention norm"]  # which is read later
    places.add((hidden, Form.STORED), replace(places[hidden, Form.STORED],
                                              address=places[norm, Form.WIDE].address), False)
    with pytest.raises(AssertionError, match=r"layer 0 feed-forward sum.* finds other bytes"):
        readings(fused, places)


def test_a_later_reader_keeps_a_value_alive():
    # What a backward pass does: it reads the values of the forward one.
    model = SAMPLES["random-bert"](layers=1)
    listed = trace(model, inputs_for(model, 6))
    plain = fuse(listed, CONFIG, Fusion.RESIDUAL)
    places = place(plain, ProgramBuilder(CONFIG))
    temporary = [value for value in plain.values if value.life == Life.TEMPORARY]
    overwritten = 0
    for value in temporary:
        use = Use.LANES if Form.WIDE in plain.forms[value] else Use.OPERAND
        longer = replace(listed, ops=(*listed.ops, Output(value.whole, (use,))))
        fused = fuse(longer, CONFIG, Fusion.RESIDUAL)
        assert readings(fused, place(fused, ProgramBuilder(CONFIG))) > 20
        # Where it lay before, that reader would have found other bytes.
        try:
            readings(fused, places)
        except AssertionError as error:
            assert str(error).startswith(f"output {value.name}")
            overwritten += 1
    print(f"{len(temporary)} values, {overwritten} of them overwritten unless read once more")
    assert overwritten > len(temporary) // 3


def test_lives_and_results():
    fused = listing(*CASES[2])
    builder = ProgramBuilder(CONFIG)
    places = place(fused, builder)
    lasting = {name for name in places.results}
    assert {"layer 0 keys", "layer 1 values", "step 2 head bf16"} <= lasting
    assert not any("hidden" in name or "mask" in name for name in lasting)
    results = list(places.results.values())
    assert results[0].name == "layer 0 keys"  # states come first
    for value, forms in fused.forms.items():
        for form in forms:
            tensor = places[value, form]
            if value.life in (Life.TEMPORARY, Life.SCRATCH):
                assert not any(overlap(tensor, other) for other in results)
    kept = place(fused, ProgramBuilder(CONFIG), keep=True)
    tensors = list(kept.results.values())
    assert len(tensors) > 2 * len(results) and "step 0 layer 0 hidden" in kept.results
    assert not any(overlap(one, other) for index, one in enumerate(tensors)
                   for other in tensors[:index])


def test_scratch_is_no_result_and_constants_hold_their_contents():
    tracer = Tracer()
    x = tracer.constant("x", 2, 3, lambda: np.arange(6).reshape(2, 3) / 2, Form.WIDE, Form.STORED)
    numbers = tracer.constant("ids", 2, 1, lambda: np.array([1, 0]), Form.INDICES)
    between = tracer.value("between", 2, 3, Life.SCRATCH)
    tracer.gather(x.whole, [numbers], between)
    tracer.vector(between.whole, None, tracer.value("out", 2, 3, Life.RESULT, labelled=True))
    fused = fuse(tracer.listed(), CONFIG, Fusion.RESIDUAL)
    builder = ProgramBuilder(CONFIG)
    places = place(fused, builder, keep=True)
    assert list(places.results) == ["out posit8"]
    memory, _ = builder.build()
    assert places[numbers, Form.INDICES].codes(memory).ravel().tolist() == [1, 0]
    assert places[x, Form.WIDE].codes(memory)[1, 2] == 0x4020  # 2.5
    assert places[x, Form.STORED].item_bytes == 1

"""``python -m sim.cycles``: tables, drawing, arguments."""

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest

from compiler.checkpoints.samples import bert, llama, vit
from hdl.spec.config import AcceleratorConfig
from sim.cycles import __main__ as command
from sim.cycles import report
from sim.cycles.bound import Bound
from sim.cycles.check import CheckedCase
from sim.cycles.draw import draw
from sim.cycles.simulate import simulate
from sim.cycles.workload import Workload, workload
from support.families import stored

CONFIG = AcceleratorConfig("posit8", dim=4)
SAMPLES = {"bert": bert, "llama": llama, "vit": vit}


@pytest.fixture(params=SAMPLES)
def work(request, monkeypatch) -> Workload:
    monkeypatch.setattr("sim.cycles.workload.open_model", lambda name, offline: SAMPLES[name]())
    return workload(CONFIG, request.param, tokens=9)


def test_every_command_belongs_to_a_part_and_all_cycles_are_told(work):
    run = simulate(CONFIG, work.commands, address=work.address)
    commands, parts = report.by_command(work, run), report.by_part(work, run)
    assert {"layer 0", "layer 1"} <= {row.label for row in parts}
    assert sum(row.commands for row in commands) == sum(row.commands for row in parts) \
        == sum(bool(label) for label in work.labels) > 10
    for rows in (commands, parts, report.by_command(work, run, each=True)):
        assert sum(row.cycles for row in rows) == pytest.approx(run.cycles, abs=60)
        assert sum(row.macs for row in rows) == sum(work.macs) > 0
    whole = report.total(work, run)
    assert whole.counts["array_rows"] + sum(whole.counts[name] for name in report.STALLS[:3]) \
        + report.idle(run) == run.cycles
    assert whole.bound == run.bound and 1 <= whole.bound.ratio(run.active) < 4
    assert all(row.bound.cycles for row in report.by_command(work, run))
    lines = report.table([*parts, whole], run)
    assert len(lines) == len(parts) + 2
    assert lines[-1].split()[0] == "total"


def test_commands_in_turns_have_one_row(monkeypatch):
    monkeypatch.setattr("sim.cycles.workload.open_model", lambda name, offline: bert())
    work = workload(CONFIG, "bert", tokens=9)
    named = [index for index, label in enumerate(work.labels) if label]
    names = [*"ababacdefdeg", *map(str, named[12:])]
    labels, macs = [""] * len(work.labels), [1] * len(work.labels)
    for index, name in zip(named, names, strict=True):
        labels[index], macs[index] = name, {"b": 3, "f": 3}.get(name, 1)
    work = replace(work, labels=labels)
    monkeypatch.setattr(Workload, "macs", macs)
    rows = report.by_command(work, simulate(CONFIG, work.commands, address=work.address))
    assert [(row.label, row.commands, row.macs) for row in rows[:4]] == [
        ("b and 1 more", 5, 9), ("c", 1, 1), ("f and 2 more", 5, 7), ("g", 1, 1)]
    assert [row.label for row in rows[4:]] == names[12:]


def test_the_drawing_has_a_bar_for_each_lane_of_each_command(work):
    run = simulate(CONFIG, work.commands, address=work.address)
    root = ElementTree.fromstring(draw(work, run))
    shapes = [element.tag.partition("}")[2] for element in root.iter()]
    counts = run.counts[[bool(label) for label in work.labels]]
    assert shapes.count("rect") == 1 + int((counts["first"] >= 0).sum())
    assert shapes.count("circle") >= 2
    assert shapes.count("polyline") == 1


def test_a_decoded_position_is_a_step_of_its_own(monkeypatch):
    monkeypatch.setattr("sim.cycles.workload.open_model", lambda name, offline: llama())
    work = workload(CONFIG, "llama", tokens=6, steps=[4, 1, 1])
    run = simulate(CONFIG, work.commands, address=work.address)
    steps = [row.label for row in report.by_part(work, run)]
    assert {"step 0 layer 0", "step 2 layer 1"} <= set(steps)
    assert len(steps) == len(set(steps))


def test_a_layer_of_bert_base_reaches_95_percent_of_the_peak():
    work = workload(AcceleratorConfig("posit8"), "bert-base", layers=range(3, 4))
    assert sum(work.macs) == 931_135_488
    assert {part for part in work.parts if part} == {"layer 3"}
    run = simulate(work.config, work.commands, address=work.address)
    print(f"{run.cycles} cycles, stalls by weights {run.total('stall_weight')}")
    assert run.cycles <= 3_830_000


def test_attention_of_llama_1b_computes_what_is_seen():
    # Spans of 128 queries on 128, 256, 384 and 512 keys.
    config = AcceleratorConfig("posit8", dim=32, lanes=32, bus_bytes=64)
    work = workload(config, "llama-3.2-1b", tokens=512, layers=range(1, 2))
    macs = {label: sum(count for count, own in zip(work.macs, work.labels, strict=True)
                       if own == label) for label in set(work.labels)}
    seen = 32 * 64 * 128 * (128 + 256 + 384 + 512)
    assert macs["layer 1 probabilities"] == macs["layer 1 heads"] == seen
    assert sum(macs.values()) == 2 * seen + 512 * (2 * 2048 * 2048 + 2 * 2048 * 512
                                                   + 3 * 2048 * 8192)


def test_a_model_is_told_and_drawn(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("sim.cycles.workload.open_model", lambda name, offline: bert())
    svg = tmp_path / "bert.svg"
    assert command.main(["bert-tiny", "--dim", "4", "--tokens", "8", "--svg", str(svg)]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^layer 1 +\d+ +\d+ +\d+ +[\d.]+%", out, re.MULTILINE)
    assert "at the array's peak" in out
    least, limit, ratio = re.search(r"can be (\d+), by (\w+): \d+ are ([\d.]+) times", out).groups()
    assert int(least) > 1000 and limit in out and 1 < float(ratio) < 4
    assert svg.read_text().startswith("<svg")


@pytest.mark.parametrize("arguments, message", [
    ([], "MODEL must be one of bert-base"),
    (["nothing"], "nothing"),
    (["bert-base", "--dim", "3"], "dim must be a power of two from 4 to 128, not 3"),
    (["bert-base", "--bus-bytes", "12"], "bus_bytes must be a power of two from 4 to 64, not 12"),
    (["bert-base", "--bus", "128"], "unrecognized arguments: --bus 128"),
    (["bert-base", "--tokens", "0"], "tokens must be an integer from 1 up, not 0"),
    (["bert-base", "--tokens", "600"], "512"),
    (["bert-base", "--layers", "a"], "--layers must be A:B, :B, A: or A, layers as whole numbers"),
    (["bert-base", "--layers", "12"], "layers must be A:B with 0 <= A < B <= 12, not 12:13"),
    (["bert-base", "--layers", "9:13"], "layers must be A:B with 0 <= A < B <= 12, not 9:13"),
    (["bert-base", "--fusion", "all"], "fusion must be one of"),
    (["bert-base", "--latency", "x"], "latency must be an integer from 1 up, not 'x'"),
    (["bert-base", "--memory", "dram:bank=1"], "memory dram takes NAME=N of latency, burst"),
    (["bert-base", "--decode", "3"], "decode must be less than tokens"),
])
def test_wrong_arguments(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        command.main(arguments)
    told = capsys.readouterr().err
    assert stopped.value.code == 2
    assert message in told
    assert told.count("\n") == 1


@pytest.mark.parametrize("model, least, code", [(1019, 1000, 0), (1021, 1000, 1), (1000, 1001, 1)])
def test_the_check_judges(model, least, code, monkeypatch, capsys):
    monkeypatch.setattr("sim.harness.accelerator.Accelerator", lambda config: config)
    monkeypatch.setattr("sim.cycles.check.compare", lambda config, **_: [
        CheckedCase("gemm", config.dim, 1000, model, Bound(least, "array"), {})])
    assert command.main(["--check", "--dim", "8"]) == code
    out = capsys.readouterr().out
    assert f"1 compared, {int(model > 1020)} beyond 2%" in out
    assert f"{int(least > 1000)} below the bound" in out


@pytest.mark.slow
def test_the_backward_pass_of_bert_base_is_near_the_peak(capsys):
    """Of all twelve layers, adapters of rank 8 on all six matrices."""
    assert command.main(["bert-base", "--train"]) == 0
    lines = capsys.readouterr().out.splitlines()
    forward = re.match(r"forward alone (\d+) cycles; .* backward (\d+): (\S+) times", lines[-3])
    backward = re.match(r"backward of 12 layers (\d+) cycles, (\S+)% of", lines[-2])
    print(f"step / forward {forward[3]}, backward {backward[2]} % of the peak")
    assert float(forward[3]) <= 2.09 and float(backward[2]) >= 94


def test_a_causal_model_is_trained_on_its_vocabulary(capsys):
    """Whose rotary pairs lie interleaved, and whose head is the embedding's table."""
    assert command.main(["random-llama", "--train", "--lora", "2", "--tokens", "8"]) == 0
    lines = capsys.readouterr().out.splitlines()
    update = re.match(r"update \d+ cycles: .* a trained item of (\d+), merge", lines[-1])
    assert re.match(r"backward of 2 layers \d+ cycles", lines[-2])
    # q, k and v, output, up and down of both layers, 16 wide; keys 8, hidden 24.
    assert int(update[1]) == 2 * 2 * (2 * (16 + 16) + 2 * (16 + 8) + 2 * (16 + 24))


def test_layers_that_are_computed_again_take_a_forward_pass_more(capsys):
    found = []
    for more in ([], ["--recompute", "1"]):
        assert command.main(["digits-vit", "--train", "--lora", "4", *more]) == 0
        found.append([int(number) for number in re.search(
            r"^forward alone (\d+) cycles; .* backward (\d+): ", capsys.readouterr().out,
            re.MULTILINE).groups()])
    (forward, kept), (same, again) = found
    assert forward == same and 0.8 * forward < again - kept < 1.1 * forward


@pytest.mark.parametrize("more, told", [([], True), (["--quiet"], False)])
def test_progress_of_a_training_step_is_told(more, told, capsys, monkeypatch):
    monkeypatch.setattr("gen.cli.line._AFTER", 0.0)
    monkeypatch.setattr("gen.cli.line._LINES_EVERY", 0.0)
    monkeypatch.setattr("sim.cycles.simulate._TOLD_EVERY", 10_000)
    assert command.main(["digits-vit", "--train", "--lora", "4", *more]) == 0
    error = capsys.readouterr().err
    assert ("cycles of the gradients" in error) == ("cycles of the update" in error) == told


def test_a_training_step_is_told(capsys):
    assert command.main(["bert-base", "--train", "--lora", "8", "--layers", "0:1", "--targets",
                        "q,v", "--tokens", "128"]) == 0
    lines = capsys.readouterr().out.splitlines()
    forward = re.match(r"forward alone (\d+) cycles; .* backward (\d+): (\S+) times", lines[-3])
    backward = re.match(r"backward of 1 layers (\d+) cycles, (\S+)% of", lines[-2])
    update = re.match(r"update \d+ cycles: .* (\S+) a trained item of (\d+), merge (\d+) a layer",
                      lines[-1])
    assert float(forward[3]) < 1.9 and int(backward[1]) < 3.1e6 and float(backward[2]) > 94
    assert int(update[2]) == 2 * 8 * 2 * 768 + 2 * 769
    assert float(update[1]) < 2.4 and int(update[3]) < 100_000


@pytest.mark.parametrize("name", ["t5", "whisper"])
def test_the_encoder_is_timed_before_the_decoder(name, tmp_path):
    work = workload(CONFIG, str(stored(name).write(tmp_path / name)), tokens=6)
    parts = list(dict.fromkeys(part for part in work.parts if part))
    # Keys and values across are made once, by the layers that read them, before any embedding.
    assert parts == ["encoder embedding", "encoder layer 0", "encoder layer 1",
                     "encoder final norm", "layer 0", "layer 1", "embedding", "final norm", "head"]

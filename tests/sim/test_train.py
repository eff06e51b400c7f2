import csv
import re

import numpy as np
import pytest

from compiler.checkpoints import digits, load, registry
from compiler.training import trainer as trainers
from compiler.training.adapters import load_adapters, merge
from sim import train, train_on
from sim.curve import curve
from support.require import require

SHORT = ["digits-vit", "--steps", "8", "--batch", "16", "--lora", "2", "--rate", "4e-3"]


@pytest.fixture(autouse=True)
def images():
    return require(digits.images)


def run(capsys, *arguments):
    code = train.main([*SHORT, *map(str, arguments)])
    return code, *capsys.readouterr()


def resumed(capsys, monkeypatch, part, kind, steps, after, *options):
    """What a run prints that goes on from ``part``, which one left that was interrupted after
    ``after`` steps. ``kind.step`` makes a step, ``steps`` says how many an object of it has made.
    """
    right = kind.step

    def interrupted(self, batch):
        if steps(self) == after:
            raise KeyboardInterrupt
        return right(self, batch)

    monkeypatch.setattr(kind, "step", interrupted)
    code, _, error = run(capsys, *options, "--state", part)
    assert code == 1 and f"interrupted after step {after}" in error
    monkeypatch.setattr(kind, "step", right)
    code, out, _ = run(capsys, *options, "--state", part, "--resume")
    assert code == 0
    return out


def same_state(part, whole):
    with np.load(part) as own, np.load(whole) as wanted:
        assert str(own["told"]) == str(wanted["told"])
        for name in ("high", "low", "first", "second"):
            assert np.array_equal(own[name], wanted[name])


def test_adapters_log_and_curve_are_written(tmp_path, capsys):
    code, out, _ = run(capsys, "--out", tmp_path / "a", "--log", tmp_path / "l.csv",
                       "--curve", tmp_path / "c.svg")
    assert code == 0
    assert "before: 450 held out: loss 5.5" in out and "right 0.1600" in out
    assert "step 8 of 8: loss " in out and "0 saturated" in out and "after: 450 held out" in out
    found = load_adapters(tmp_path / "a", load("digits-vit"))
    assert len(found.layers) == 12 and found.rank == 2 and found.pooling == "mean"
    assert not np.array_equal(merge(load("digits-vit"), found).head.weight,
                              load("digits-vit").head.weight)
    rows = list(csv.DictReader((tmp_path / "l.csv").read_text().splitlines()))
    assert [row["step"] for row in rows] == [str(step) for step in range(1, 9)]
    assert all(0 < float(row["loss"]) < 8 and float(row["norm"]) > 0 for row in rows)
    assert (tmp_path / "c.svg").read_text().count("polyline") == 2


@pytest.mark.parametrize("more, told", [([], True), (["--quiet"], False)])
def test_progress_of_measuring_is_told(more, told, capsys, monkeypatch):
    monkeypatch.setattr("gen.cli.line._AFTER", 0.0)
    monkeypatch.setattr("gen.cli.line._LINES_EVERY", 0.0)
    assert train.main([*SHORT, *more, "--steps", "1"]) == 0
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("measured")]
    assert len(lines) == (16 if told else 0) and (told or error == "")
    assert not told or "100.0%, 450 of 450 examples" in lines[-1]


def test_adapters_beside_are_measured_merged_too(capsys):
    code, out, _ = run(capsys, "--adapters", "beside")
    losses = dict(re.findall(r"^(after|merged): 450 held out: loss (\S+),", out, re.MULTILINE))
    assert code == 0 and losses["after"] != losses["merged"]
    assert abs(float(losses["after"]) - float(losses["merged"])) < 0.5
    assert "merged" not in run(capsys)[1]


@pytest.mark.parametrize("more", [[], ["--plain"], ["--fmt", "fp8", "--optimizer", "momentum"]],
                         ids=str)
def test_a_run_that_goes_on_has_the_bits_of_one_that_never_stopped(more, tmp_path, capsys,
                                                                   monkeypatch):
    assert run(capsys, *more, "--state", tmp_path / "whole.npz")[0] == 0

    part = tmp_path / "part.npz"
    out = resumed(capsys, monkeypatch, part, trainers.Trainer, lambda self: self.updater.steps, 5,
                  *more)
    assert "step 6 of 8" in out and "step 5 of 8" not in out
    same_state(part, tmp_path / "whole.npz")
    with np.load(part) as own:
        assert own["high"].any()


def test_another_run_does_not_go_on(tmp_path, capsys):
    state = tmp_path / "s.npz"
    assert run(capsys, "--state", state)[0] == 0
    for more, message in ((["--rate", "1e-3"], "is of another run: training was .*rate=0.004"),
                          (["--dim", "8"], "is of another run: config was"),
                          (["--centring", "twice"], "is of another run: centring was None"),
                          (["--task", "digits-negative"], "is of another run: task was 'digits-n")):
        refused(capsys, [*more, "--state", state, "--resume"], message)
    for more in (["--centring", "twice"], ["--exact", "gradients"]):
        asked = tmp_path / more[-1]
        assert run(capsys, *more, "--steps", "1", "--state", asked)[0] == 0
        refused(capsys, ["--steps", "1", "--state", asked, "--resume"],
                f"is of another run: {more[0][2:]} was '{more[1]}', not None")
    state.write_bytes(state.read_bytes()[:300])
    refused(capsys, ["--state", state, "--resume"], "state must be a file of an earlier run")


def refused(capsys, more, message):
    with pytest.raises(SystemExit) as ended:
        train.main([*SHORT, *map(str, more)])
    error = capsys.readouterr().err
    assert ended.value.code == 2 and error.count("\n") == 1 and re.search(message, error), error


@pytest.mark.parametrize("more, message", [
    (["--task", "mnist"], "task must be one of digits-negative, .*, not 'mnist'"),
    (["--task", "movie-reviews"], "task movie-reviews is not for digits-vit"),
    (["--targets", "q,w"], "targets must be some of .*, not 'w'"),
    (["--targets", "gate"], "targets of digits-vit must be some of q, k, v, .* not 'gate'"),
    (["--targets", "embedding"], "targets must not name 'embedding'"),
    (["--centring", "never"], "--centring must be one of once, twice, not 'never'"),
    (["--exact", "weights"], "exact must be some of activations, gradients, not 'weights'"),
    (["--exact", "gradients", "--plain"], "exact is for numpy with roundings alone, not for plain"),
    (["--fmt", "int8"], "format must be one with fractions to be trained in, not int8"),
    (["--scale-log2", "99"], "scale-log2 must be a whole number from -16 to 16, not 99"),
    (["--adapters", "above"], "adapters must be one of merged, beside, not 'above'"),
    (["--lora", "0"], "rank must be a whole number of at least 1, not 0"),
    (["--optimizer", "lion"], "optimizer must be one of adamw, momentum, sgd, not 'lion'"),
    (["--rate", "-1"], "rate must be a number above 0, not -1.0"),
    (["--batch", "9999"], "batch must be at most 1347, the number of examples, not 9999"),
    (["--micro", "3"], "micro must be a divisor of batch = 16, not 3"),
    (["--fmt", "int3"], "format must be one of"),
    (["--resume"], "resume needs --state, the file to go on from"),
    (["--state", "none.npz", "--resume"], "state must be a file of an earlier run, not none.npz"),
    (["--out", "no/such/folder/x"], "out must be in a folder that there is, not 'no/such"),
    (["--data", "none.csv"], "digits-vit reads images, not text")])
def test_what_cannot_be_trained_is_one_line(more, message, capsys):
    refused(capsys, more, message)


@pytest.mark.parametrize("arguments, message", [
    (["gpt-5"], "model must be one of minilm, .* or the path of a checkpoint, not 'gpt-5'"),
    (["digits-vit", "--full", "--out", "x"], "out is for adapters: whole matrices have none")])
def test_other_arguments_are_one_line(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        train.main(arguments)
    error = capsys.readouterr().err
    assert ended.value.code == 2 and error.count("\n") == 1 and re.search(message, error)


def test_a_loss_that_is_not_finite_keeps_the_last_good_adapters(tmp_path, capsys, monkeypatch):
    right = trainers.Trainer.gradients

    def spoiled(self, batch):
        loss, found = right(self, batch)
        return (float("nan") if self.updater.steps == 4 else loss), found

    monkeypatch.setattr(trainers.Trainer, "gradients", spoiled)
    code, out, error = run(capsys, "--out", tmp_path / "a")
    assert code == 1 and "error: step 5: loss nan" in error and "step 4 of 8" in out
    found = load_adapters(tmp_path / "a", load("digits-vit"))
    assert all(np.isfinite(own.b).all() and own.b.any() for own in found.layers.values())


@pytest.mark.parametrize("fmt, least", [("posit8", 0.93), ("fp8", 0.9), ("bf16", 0.999)])
def test_gradients_are_checked_against_float64(fmt, least, capsys):
    code, out, _ = run(capsys, "--check", "--fmt", fmt, "--softmax", "pwl")
    lines = out.splitlines()
    assert code == 0 and len(lines) == 29
    assert lines[0].startswith("blocks.0.query.lora_a: cosine ")
    rounding = re.match(r"rounding of gradients alone: cosine (\S+), signs (\S+), norm",
                        lines[-3])
    adapters = re.match(r"without the head: cosine (\S+), signs \S+, norm (\S+) of", lines[-2])
    total = re.match(r"all 2634 items: cosine (\S+), signs (\S+), norm (\S+) of float64's",
                     lines[-1])
    assert float(total[1]) >= least and 0.9 < float(total[3]) < 1.1
    assert float(adapters[1]) >= least and 0.9 < float(adapters[2]) < 1.1
    assert adapters[1] != total[1]
    assert float(total[1]) < float(rounding[1]) and float(total[2]) < float(rounding[2])


def test_what_is_left_exact_is_not_rounded(capsys):
    """Exact gradients are those of the same forward pass; exact activations are another pass."""
    plain, gradients, activations = (
        run(capsys, "--check", "--softmax", "pwl", *more)[1].splitlines()[-3::2]
        for more in ([], ["--exact", "gradients"], ["--exact", "activations"]))
    assert gradients[0] == ("rounding of gradients alone: cosine 1.00000, signs 1.0000, "
                            "norm 1.0000")
    assert "cosine 1.00000" not in plain[0] and len({plain[1], gradients[1], activations[1]}) == 3


def test_a_scale_by_the_batch_alone_is_best_where_posits_are_precise(capsys):
    """A larger one leaves several times the error where no step before has larger magnitudes."""
    lost = []
    for more in (["--scale-log2", "4"], []):
        _, out, _ = run(capsys, "--check", "--softmax", "pwl", *more)
        lost.append(1 - float(re.search(r"alone: cosine (\S+),", out)[1]))
    print(f"1 - cosine: {lost}")
    assert 0 < 2 * lost[0] < lost[1]


def test_own_texts_are_learned(tmp_path, capsys):
    require(registry.tokenizer, "bert-tiny")
    data = tmp_path / "own.csv"
    data.write_text("text,label\n" + "".join(
        f"the {kind} was {word},{label}\n" for kind in ("film", "play", "cast", "plot")
        for word, label in (("wonderful", "good"), ("great", "good"), ("dreadful", "bad"),
                            ("dull", "bad"))))
    code = train.main(["bert-tiny", "--data", str(data), "--steps", "12", "--batch", "8",
                       "--rate", "1e-2", "--out", str(tmp_path / "a.safetensors"), "--offline"])
    out = capsys.readouterr().out
    assert code == 0 and "own.csv: 14 examples" in out
    assert out.splitlines()[-2].startswith("after: 2 held out: ")
    assert load_adapters(tmp_path / "a.safetensors", load("bert-tiny")).head.weight.shape[0] == 2


def test_curves_of_any_length_are_drawn():
    for losses in ([1.0], [0.0, 0.0], list(np.linspace(7, 0.01, 1050)), [1e-3, 2e-3]):
        text = curve(losses, "a < b")
        points = re.findall(r'points="([^"]*)"', text)
        assert [len(line.split()) for line in points] == [len(losses)] * 2
        assert "a &lt; b" in text and "nan" not in text


# On the machine model

ON_MACHINE = ["--on", "machine", "--batch", "4", "--micro", "2", "--steps", "4"]


def test_programs_go_on_with_the_bits_of_a_run_that_never_stopped(tmp_path, capsys, monkeypatch):
    code, out, _ = run(capsys, *ON_MACHINE, "--state", tmp_path / "whole.npz", "--out",
                       tmp_path / "a")
    assert code == 0 and "step 4 of 4: loss " in out and ", 0 NaR" in out
    part = tmp_path / "part.npz"
    out = resumed(capsys, monkeypatch, part, train_on.AcceleratorSteps,
                  lambda self: self.host.steps, 2, *ON_MACHINE)
    assert "step 3 of 4" in out and "step 2 of 4" not in out
    same_state(part, tmp_path / "whole.npz")
    found = load_adapters(tmp_path / "a", load("digits-vit"))
    assert all(own.b.any() for own in found.layers.values())


def test_whole_matrices_are_trained_by_programs(capsys):
    code = train.main(["digits-vit", "--full", "--steps", "2", "--batch", "4", "--on", "machine"])
    out = capsys.readouterr().out
    # Six matrices of two layers, and the head.
    assert code == 0 and f"{2 * (4 * 32 * 32 + 2 * 32 * 128) + 330} trained items" in out
    assert re.search(r"step 2 of 2: loss \d+\.\d+, norm \S+ \d+ saturated, 0 NaR", out)


def test_a_gradient_that_is_not_finite_keeps_the_last_good_adapters(tmp_path, capsys, monkeypatch):
    right = train_on.Host.step

    def spoiled(self, batch, rate):
        if self.steps == 2:
            bias = self.program.tensors.renewed["head.bias"]
            self.write(bias, np.full(bias.shape, np.nan))
        return right(self, batch, rate)

    monkeypatch.setattr(train_on.Host, "step", spoiled)
    code, out, error = run(capsys, *ON_MACHINE, "--out", tmp_path / "a")
    assert code == 1 and "error: step 3: loss nan" in error and "step 2 of 4" in out
    found = load_adapters(tmp_path / "a", load("digits-vit"))
    assert all(np.isfinite(own.b).all() and own.b.any() for own in found.layers.values())


@pytest.mark.parametrize("more, message", [
    (["--plain"], "plain is for numpy alone, not for machine"),
    (["--batch", "12", "--micro", "4", "--alpha", "5"], "alpha over rank must be a power of two "
     "where batch over micro is none on the accelerator, not 2.5 where it is 3")])
def test_what_no_program_trains_is_one_line(more, message, capsys):
    refused(capsys, ["--on", "machine", *more], message)


@pytest.mark.parametrize("micro", [4, 1])
def test_the_memory_of_a_step_is_told_by_kind(micro, capsys):
    code, out, _ = run(capsys, "--memory", "--batch", "4", "--micro", str(micro))
    kinds = {line[:32].strip(): int(line[32:46].replace(",", "")) for line in out.splitlines()}
    whole, full = kinds.pop("all"), kinds.pop("all parameters, BF16 and AdamW")
    assert code == 0 and sum(kinds.values()) == whole and kinds["alignment"] < 1000
    # Six matrices a layer, twice.
    assert kinds["weights without adapters"] == 2 * (4 * 32 * 32 + 2 * 32 * 128)
    assert kinds["activations"] > micro * 20_000 and full > 100_000


def test_the_memory_of_ones_own_data_is_that_of_its_batches(tmp_path, capsys):
    """Three classes in place of two, texts that the host pads."""
    require(registry.tokenizer, "bert-tiny")
    data = tmp_path / "own.csv"
    data.write_text("text,label\n" + "".join(
        f"{text},{label}\n" for label in "abc" for text in ("short", "a few words more", "one")))
    kinds = []
    for more in ([], ["--data", str(data)]):
        assert train.main(["bert-tiny", "--memory", "--batch", "2", "--tokens", "16", "--offline",
                           *more]) == 0
        kinds.append({line[:32].strip(): int(line[32:46].replace(",", ""))
                      for line in capsys.readouterr().out.splitlines()})
    plain, own = kinds
    assert own["activations"] < plain["activations"] and own["batch"] > plain["batch"]
    # Two words a trained item more: a row of the head and its bias.
    assert own["masters, gradients, optimiser"] > plain["masters, gradients, optimiser"]
    with pytest.raises(SystemExit):
        train.main(["bert-tiny", "--memory", "--data", str(data), "--batch", "99", "--offline"])
    assert "batch must be at most 6" in capsys.readouterr().err

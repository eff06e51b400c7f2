"""Damaged and odd files: one line that says what is there, exit code 2, soon, in little memory."""

import time
import tracemalloc

import numpy as np
import pytest
from tokenizers import Tokenizer, models

from compiler.checkpoints.gguf_file import GgufFile
from compiler.checkpoints.vocabulary import from_gguf
from sim import image, run
from support.checkpoints import Bert, Llama
from support.damage import Damage, copied, damages, sound_files

ALL = damages()
SECONDS, ROOM, TIMES = 2.0, 6_000_000, 1.5
SAMPLE = ALL[::9]


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound")
    bert, llama = Bert(folder / "bert"), Llama(folder / "llama")
    path = bert.write()
    words = Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    words.save(str(path / "tokenizer.json"))
    return sound_files(folder, path, llama.write(), llama.write_gguf())


def command(kind, path, sound):
    if kind == "image":
        return image.main, ["run", str(path)]
    if kind == "adapter":
        return run.main, [str(sound["bert"]), "--text", "a b", "--adapter", str(path), "--on",
                          "machine", "--dim", "4", "--quiet"]
    text = ["--text", "a b"] if kind == "bert" else ["--tokens", "3"]
    if kind != "bert":
        np.save(path.parent / "ids.npy", np.array([1, 2, 3]))
        text = ["--ids", str(path.parent / "ids.npy")]
    return run.main, [str(path), *text, "--on", "machine", "--dim", "4", "--quiet"]


def size_of(path):
    return sum(file.stat().st_size for file in ([path] if path.is_file() else path.rglob("*"))
               if file.is_file())


def tried(damage, sound, folder, capsys):
    """Exit code, what was told, seconds, bytes beside the file's own."""
    path = copied(sound[damage.kind], folder)
    damage.change(path)
    main, arguments = command(damage.kind, path, sound)
    size = size_of(path)
    tracemalloc.start()
    started = time.process_time()
    try:
        code = main(arguments)
    except SystemExit as error:
        code = error.code
    seconds = time.process_time() - started
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    output = capsys.readouterr()
    return code, output.err, seconds, peak / (TIMES * size + ROOM)


def check(damage, sound, tmp_path, capsys):
    code, told, seconds, memory = tried(damage, sound, tmp_path, capsys)
    if damage.read:  # and then run, which takes what a run takes
        assert code == 0, told
        return
    assert code == 2, (code, told)
    assert told.count("\n") == 1 and len(told) < 900 and "Traceback" not in told, told
    assert seconds < SECONDS and memory <= 1, (seconds, memory)


@pytest.mark.parametrize("kind", ("bert", "llama", "gguf", "image", "adapter", "shards",
                                  "onnx"))
def test_sound_files_are_read(kind, sound, tmp_path, capsys):
    main, arguments = command(kind, copied(sound[kind], tmp_path), sound)
    assert main(arguments) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("damage", SAMPLE, ids=lambda damage: damage.name[:60])
def test_a_sample(damage, sound, tmp_path, capsys):
    check(damage, sound, tmp_path, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("damage", ALL, ids=lambda damage: damage.name[:60])
def test_every_one(damage, sound, tmp_path, capsys):
    check(damage, sound, tmp_path, capsys)


def test_there_are_many():
    names = [damage.name for damage in ALL]
    assert len(set(names)) == len(names) >= 200
    print(f"{len(names)} files, {len(SAMPLE)} in the sample")


def test_a_file_that_is_not_refused_is_seen(sound, tmp_path, capsys):
    """The control: nothing damaged, an error that nobody caught, and a slow reader."""
    with pytest.raises(AssertionError):
        check(Damage("none", "bert", lambda folder: None), sound, tmp_path / "a", capsys)
    capsys.readouterr()

    def broken(*_, **__):
        raise RecursionError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("compiler.checkpoints.settings.json.loads", broken)
        patch.setattr("compiler.checkpoints.settings.read_json", broken)
        patch.setattr("compiler.checkpoints.settings.Settings.from_json", broken)
        with pytest.raises(RecursionError):
            check(ALL[0], sound, tmp_path / "b", capsys)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("compiler.checkpoints.settings._LARGEST", 1 << 40)
        large = next(damage for damage in ALL if damage.name == "bert: config large")
        with pytest.raises(AssertionError):
            check(large, sound, tmp_path / "c", capsys)


def test_a_vocabulary_of_151936_tokens_costs_what_it_weighs(tmp_path):
    words = [f"w{index}" for index in range(151_936)]
    path = Llama(tmp_path / "large").write_gguf({
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": words, "tokenizer.ggml.merges": [],
        "tokenizer.ggml.token_type": [1] * len(words)})
    started = time.process_time()
    tokenizer = from_gguf(GgufFile(path))
    assert time.process_time() - started < 2 and tokenizer.get_vocab_size() == len(words)
    tracemalloc.start()
    file = GgufFile(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < path.stat().st_size / 4 and len(file.get("tokenizer.ggml.tokens")) == len(words)

import json
import shutil
import zlib

import numpy as np
import pytest

from compiler.checkpoints.inputs import Inputs
from compiler.checkpoints.samples import llama
from compiler.lowering.decoding import lower_decoding
from compiler.lowering.programs import Programs
from compiler.program.board import placed, write_board
from compiler.program.builder import read_codes
from hdl.spec.config import AcceleratorConfig
from sim.model.machine import Machine

CONFIG = AcceleratorConfig("posit8", dim=4)
IDS = [3, 7, 39, 0, 21]


class Board:
    """Knows nothing but the files."""

    def __init__(self, folder):
        self.about = json.loads((folder / "image.json").read_text())
        self.base = self.about["memory"][0]["address"]
        self.memory = np.zeros(self.about["bytes"], np.uint8)
        for part in self.about["memory"]:
            content = (folder / part["file"]).read_bytes()
            assert len(content) == part["bytes"] and zlib.crc32(content) == part["crc32"]
            self.put(part["address"], content)
        self.machine = Machine(AcceleratorConfig(**self.about["config"]))

    def put(self, address, content):
        self.memory[address - self.base:][:len(content)] = np.frombuffer(content, np.uint8)

    def word(self, address, bits):
        return int.from_bytes(self.memory[address - self.base:][:bits // 8].tobytes(), "little")

    def run(self, address):
        assert self.machine.run(self.memory, address, self.base).error is None

    def row(self, tensor):
        start = tensor["address"] - self.base
        return self.memory[start:start + tensor["columns"] * 2].view("<u2").copy()


def test_a_board_needs_the_files_alone(tmp_path):
    decoding = lower_decoding(CONFIG, llama(), 4, 2, chunk=2, base=0x400)
    names = write_board(tmp_path, decoding.image, inputs=[own.ids for own in decoding.passes],
                        more={"programs": [
                            {"start": own.template.address, "ids": placed(own.ids),
                             "logits": placed(own.logits), "fields": own.template.patches()}
                            for own in decoding.passes]})
    assert names == ["memory.bin", "image.json"]
    board, found = Board(tmp_path), []
    for number, past, ids in ((0, 0, IDS[:2]), (0, 2, IDS[2:4]), (1, 4, IDS[4:])):
        program = board.about["programs"][number]
        for field in program["fields"]:
            assert field["bit"] == 0 and field["bits"] in (32, 64)
            value = field["base"] + past * field["adds"]["past"] + (
                len(ids) - 1) * field["adds"]["last"]
            board.put(field["address"], value.to_bytes(field["bits"] // 8, "little"))
        board.put(program["ids"]["address"], np.array(ids, "<u4").tobytes())
        board.run(program["start"])
        found.append(board.row(program["logits"]))
    wanted = Programs(CONFIG, llama()).lower(Inputs("ids", np.array([IDS])), [2, 2, 1])
    memory = wanted.memory.copy()
    assert Machine(CONFIG).run(memory, wanted.address).error is None
    for index, row in enumerate(found):
        codes = read_codes(memory, wanted.results[f"step {index} head bf16"])
        assert np.array_equal(row, codes[0])


def test_weights_stay_for_other_programs(tmp_path):
    programs, found = Programs(CONFIG, llama()), []
    for length in (3, 5):
        folder = tmp_path / str(length)
        program = programs.lower(Inputs("ids", np.array([IDS[:length]])))
        names = write_board(folder, program.image, inputs=[], weights=programs.weights)
        assert names == ["weights.bin", "program.bin", "image.json"]
        found.append((folder / "weights.bin").read_bytes())
        board = Board(folder)
        board.run(board.about["start"])
        result = next(t for t in board.about["results"] if t["name"] == "head bf16")
        memory = program.memory.copy()
        assert Machine(CONFIG).run(memory, program.address).error is None
        wanted = read_codes(memory, program.results["head bf16"])
        assert np.array_equal(board.row(result), wanted[0])
        (tmp_path / "both").mkdir(exist_ok=True)
        names_of_both = write_board(tmp_path / "both", program.image, inputs=[],
                                    weights=programs.weights, shape=f"1x{length}")
        assert names_of_both == ["weights.bin", f"program-1x{length}.bin", f"image-1x{length}.json"]
    assert found[0] == found[1] and len(found[0]) == programs.weights
    assert len(list((tmp_path / "both").iterdir())) == 5
    with pytest.raises(ValueError, match="must be the weights of this model and build"):
        write_board(tmp_path / "both", program.image, inputs=[], weights=programs.weights - 64)
    shutil.rmtree(tmp_path / "both")
    for folder in tmp_path.iterdir():
        assert sorted(path.name for path in folder.iterdir()) == sorted(names)

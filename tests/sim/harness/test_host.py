"""The Python driver as a package has it, on the Verilog: each backend runs programs and tells what
went wrong."""

import runpy
import socket
import threading
from dataclasses import replace

import numpy as np
import pytest

from compiler.checkpoints import small
from compiler.checkpoints.samples import bert, inputs_for
from compiler.lowering.heads import lower
from compiler.lowering.programs import Programs
from compiler.program.board import write_board
from gen.package.host import build as driver
from gen.package.host.device import Device
from gen.package.host.image import Image
from gen.package.host.memories import PynqMemory, Remote
from gen.package.python_driver import build_of, python_driver
from hdl.spec.config import AcceleratorConfig
from hdl.spec.registers import COUNTERS
from sim.campaigns.regression import small_accelerator
from sim.harness.accelerator import Fault
from sim.harness.host import HarnessRegisters, hosted
from sim.model.machine import Machine
from support.require import module, require

ADDRESS = 0x5_0000_0000


@pytest.fixture(scope="module")
def accelerator():
    return small_accelerator("posit8")


@pytest.fixture(scope="module")
def image(accelerator):
    return lower(accelerator.config, small.load(5), [0], base=0x1000).image


@pytest.fixture(scope="module")
def path(image, tmp_path_factory):
    file = tmp_path_factory.mktemp("image") / "case.image"
    image.save(file)
    return file


@pytest.fixture(scope="module")
def wanted(image):
    """The results by name, as the machine model leaves them where the image was made for."""
    memory = image.memory.copy()
    assert Machine(image.config).run(memory, image.address, image.base).error is None
    assert image.results and np.count_nonzero(memory != image.memory) > 100
    return {name: image.tensor(name).window(memory, image.base).tobytes()
            for name in image.results}


def test_the_file_of_a_package_runs_an_image_elsewhere(accelerator, path, wanted, tmp_path):
    source = tmp_path / "ottava_driver.py"
    source.write_text(python_driver(accelerator.config))
    names = runpy.run_path(str(source))
    image = names["Image"].load(path)
    with hosted(accelerator, len(image.memory), ADDRESS) as (made, memory):
        device = names["Device"](made.registers, names["BUILD"], made.pause)
        device.identify()
        assert device.run(image, memory) == wanted
        assert memory.address == ADDRESS != image.base
        counted = device.counters()
        assert list(counted) == [name for name, _ in COUNTERS]
        assert counted["CYCLES"] > 100 and counted["COMMANDS"] > 1
        assert device.read("COUNTER_CONTROL") == 0 and not accelerator.interrupt


def test_programs_run_on_weights_that_are_placed_once(accelerator, tmp_path):
    model, count = bert(), 0
    programs = Programs(accelerator.config, model, base=0x1000)
    wanted = {}
    for length in (2, 3):
        program = programs.lower(inputs_for(model, length, seed=length))
        write_board(tmp_path, program.image, inputs=[], weights=programs.weights,
                    shape=f"1x{length}")
        ran = program.memory.copy()
        assert Machine(accelerator.config).run(ran, program.address, program.base).error is None
        wanted[length] = {name: program.image.tensor(name).window(ran, program.base).tobytes()
                          for name in program.image.results}
    with hosted(accelerator, 1 << 17, ADDRESS) as (device, memory):
        memory.write(0, (tmp_path / "weights.bin").read_bytes())
        for length in (3, 2, 3):
            image = Image.apart(tmp_path / f"image-1x{length}.json")
            assert image.kept == programs.weights > 1000 > image.kept - len(image.memory)
            assert device.run(image, memory) == wanted[length]
            count += sum(map(len, wanted[length].values()))
        memory.bytes[:image.kept] ^= 0x55
        assert device.run(image, memory) != wanted[3]
    print(f"{count} bytes of results compared")


def test_what_is_no_program_apart_is_refused(tmp_path):
    programs = Programs(AcceleratorConfig("posit8", dim=4), bert())
    program = programs.lower(inputs_for(bert(), 2))
    write_board(tmp_path, program.image, inputs=[], weights=programs.weights, shape="1x2")
    place = tmp_path / "image-1x2.json"
    whole, text = (tmp_path / "program-1x2.bin").read_bytes(), place.read_text()
    Image.apart(place)
    for name, content in (("program-1x2.bin", whole[:-1]), ("image-1x2.json", text[:-9]),
                          ("image-1x2.json", "[]"), ("image-1x2.json", '{"memory": [1, 2]}')):
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(driver.ImageError, match="image-1x2.json must"):
            Image.apart(place)
        (tmp_path / "program-1x2.bin").write_bytes(whole)
        place.write_text(text)


def test_the_reader_agrees_with_the_compiler(image, path):
    found = Image.load(path)
    assert (found.memory, found.base, found.program, found.results) == (
        image.memory.tobytes(), image.base, image.address, image.results)
    assert {(t["name"], t["address"], t["rows"], t["columns"], t["encoding"], t["stride"])
            for t in found.tensors.values()} == {
        (t.name, t.address, t.rows, t.columns, t.encoding.name, t.stride) for t in image.tensors}


def test_errors_have_names(accelerator, path, wanted):
    image = Image.load(path)
    with hosted(accelerator, len(image.memory), ADDRESS) as (device, memory):
        here = image.moved(ADDRESS, device.build)
        memory.write(0, here.memory)
        memory.bytes[here.program - ADDRESS] ^= 1
        device.start(here.program)
        with pytest.raises(driver.FailedError, match="^BAD_MAGIC: ") as failed:
            device.wait()
        assert (failed.value.causes, failed.value.address) == (("BAD_MAGIC",), here.program)
        memory.bytes[here.program - ADDRESS] ^= 1
        device.start(here.program)
        with pytest.raises(driver.BusyError):
            device.start(here.program)
        device.stop()
        with pytest.raises(driver.FailedError, match="STOPPED"):
            device.wait()
        assert device.run(image, memory) == wanted
        device.start(here.program)
        with pytest.raises(driver.EndlessError, match="within 0 s"):
            device.wait(seconds=0)
        device.wait()
    fault = Fault(here.program, here.program + 64)
    with hosted(accelerator, len(image.memory), ADDRESS, faults=[fault]) as (device, memory):
        with pytest.raises(driver.FailedError, match="READ_ERROR") as failed:
            device.run(image, memory)
        assert failed.value.client == "header or command"


def test_another_build_is_told(accelerator):
    other = replace(accelerator.config, row_depth=2 * accelerator.config.row_depth)
    with pytest.raises(driver.OtherBuildError, match="CONFIG_HASH_LOW must be 0x"):
        Device(HarnessRegisters(accelerator), build_of(other)).identify()


def test_a_stuck_bus_is_told():
    registers = dict.fromkeys(range(0, 4096, 4), 0)
    build = build_of(small_accelerator("posit8").config)
    registers[build.registers["STATUS"]] = 1 << build.fields["STATUS"]["BUS_STUCK"][0]

    class Stuck:
        read = staticmethod(registers.__getitem__)
        write = staticmethod(lambda offset, value: None)

    with pytest.raises(driver.StuckError):
        Device(Stuck, build).start(0)
    with pytest.raises(driver.StuckError):
        Device(Stuck, build).wait()


@pytest.mark.parametrize("damage, message", [
    (lambda b: b[:-1], "whole program image"), (lambda b: b[:5], "must be a program image"),
    (lambda b: b.replace(b"ottava", b"attova"), "must be a program image"),
    (lambda b: b[:-200] + bytes([b[-200] ^ 1]) + b[-199:], "whole program image")])
def test_a_damaged_file_is_one_line(path, tmp_path, damage, message):
    file = tmp_path / "damaged"
    file.write_bytes(damage(path.read_bytes()))
    with pytest.raises(driver.ImageError, match=message) as refused:
        Image.load(file)
    assert "\n" not in str(refused.value)


def test_what_cannot_be_moved_is_refused(path, accelerator):
    image, build = Image.load(path), build_of(accelerator.config)
    with pytest.raises(driver.ImageError, match="multiples of 64"):
        image.moved(ADDRESS + 32, build)
    with pytest.raises(driver.ImageError, match="must begin with"):
        replace(image, program=image.program + 64).moved(ADDRESS, build)
    with pytest.raises(driver.ImageError, match="must lie in the memory"):
        replace(image, program=image.base + len(image.memory) // 64 * 64).moved(ADDRESS, build)
    with pytest.raises(driver.ImageError, match="must end with END"):
        replace(image, memory=image.memory[:-128]).moved(ADDRESS, build)


class Buffer:
    """As ``pynq.allocate`` gives it: a vector with a device address, cached until told."""

    def __init__(self, memory, address):
        self.there, self.here, self.device_address = memory, memory.copy(), address

    def __getitem__(self, index):
        return self.here[index]

    def __setitem__(self, index, value):
        self.here[index] = value

    def flush(self):
        self.there[:] = self.here

    def invalidate(self):
        self.here[:] = self.there


def test_pynq_buffers(accelerator, path, wanted):
    image = Image.load(path)
    with hosted(accelerator, len(image.memory), ADDRESS) as (device, memory):
        assert device.run(image, PynqMemory(Buffer(memory.bytes, ADDRESS))) == wanted


class Bus:
    """What LiteX's server moves words to: registers at CONTROL, memory at ``memory.address``."""

    CONTROL = 0x9000_0000

    def __init__(self, registers, memory):
        self.registers, self.memory, self.words = registers, memory, 0

    def open(self):
        pass

    close = open

    def read(self, address, length=None, burst="incr"):
        found = [self.word(address + 4 * index) for index in range(length or 1)]
        return found if length else found[0]

    def word(self, address):
        self.words += 1
        if self.CONTROL <= address < self.CONTROL + 4096:
            return self.registers.read(address - self.CONTROL)
        return int.from_bytes(self.memory.read(address - self.memory.address, 4), "little")

    def write(self, address, data):
        for index, word in enumerate(data if isinstance(data, list) else [data]):
            self.words += 1
            if self.CONTROL <= address < self.CONTROL + 4096:
                self.registers.write(address - self.CONTROL, word)
            else:
                self.memory.write(address - self.memory.address + 4 * index,
                                  word.to_bytes(4, "little"))


def test_the_server_of_litex(accelerator, path, wanted, monkeypatch, capsys):
    server_of = require(module, "litex.tools.litex_server").RemoteServer
    client_of = require(module, "litex.tools.litex_client").RemoteClient
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    image, address = Image.load(path), 0x4000_0000
    with hosted(accelerator, len(image.memory) + 8, address) as (own, memory):
        bus = Bus(own.registers, memory)
        server = server_of(bus, "127.0.0.1", port)
        server.open()
        threading.Thread(target=server._serve_thread, daemon=True).start()
        client = client_of("127.0.0.1", port)
        client.open()
        try:
            device = Device(Remote(client, Bus.CONTROL), own.build, own.pause)
            device.identify()
            remote = Remote(client, address).memory
            assert device.run(image, remote) == wanted
            remote.write(5, b"odd")
            assert remote.read(4, 6) == memory.read(4, 6) and memory.read(5, 3) == b"odd"
        finally:
            client.close()
    assert bus.words > len(image.memory) // 4

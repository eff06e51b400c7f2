# `make` and `make test` need python3, g++, make and perl, and the package registries.
# Everything is installed into .venv; `make help` lists the targets.

FMT ?= posit8
PYTHON ?= python3

STAMP := .venv/stamp
# The activation script also names what only some machines need, Python's shared library say.
RUN := . .venv/bin/activate && python
# A process of tests for each processor; one that has none left takes from the others.
PYTEST := $(RUN) -m pytest -n auto --dist worksteal
# A few minutes that meet most mistakes: models, codecs, assembler, images, one build of the whole.
QUICK := tests/test_layers.py tests/test_support.py tests/golden/test_vectors.py tests/hdl/spec \
         tests/hdl/codec tests/sim/model tests/compiler/program tests/compiler/lowering/test_lower.py \
         "tests/sim/test_gemm.py::test_random_programs[posit8-ideal]"

# Hundreds of processes import the same sources: where something keeps Python from writing down what
# it compiled, each does it anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: all setup test checked test-quick sim accuracy accuracy-quick matrix shapes coverage faults area lint golden docs doctor train-demo soc-demo nightly clean help
.DEFAULT_GOAL := all

all: $(STAMP)  ## set up, write build/acc.v for FMT (posit8) and print a summary of it
	@$(RUN) -m synth.summary --fmt $(FMT) -o build/acc.v

setup: $(STAMP)  ## set up .venv only

$(STAMP): pyproject.toml tools/constraints.txt tools/setup.py
	@$(PYTHON) tools/setup.py

test: checked  ## set up, lint, run every bench and every test
	$(PYTEST) -m "not slow"

# Side by side: each fills the processors that the other leaves idle. What each says comes when it
# has ended; one that fails does not stop the other.
checked: $(STAMP)
	@echo "lint and benches, side by side: some minutes"
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target --keep-going lint sim

test-quick: $(STAMP)  ## the inner loop: lint of the sources, models, codecs, assembler, one build
	$(RUN) -m ruff check .
	$(RUN) -m mypy
	$(PYTEST) -m "not slow" $(QUICK)

sim: $(STAMP)  ## run the benches; TEST=name runs one, WAVES=1 leaves a waveform
	$(RUN) -m sim.bench $(if $(TEST),--test $(TEST)) $(if $(WAVES),--waves)

accuracy-quick: $(STAMP)  ## accuracy of a build of each kind anew, equal to docs/accuracy.json
	$(RUN) -m sim.accuracy quick --fresh --check

accuracy: $(STAMP)  ## every table of docs/accuracy.json, equal to it; goes on where it was
	$(RUN) -m sim.accuracy --check

matrix: $(STAMP)  ## every format x accumulator x softmax on RTL; writes docs/support.md
	$(RUN) -m sim.matrix

shapes: $(STAMP)  ## random GEMMs on RTL: 2,000 different shapes at dim 4, 200 GEMMs each at 8 and 16
	$(RUN) -m sim.shapes --dim 4 --count 5600
	$(RUN) -m sim.shapes --dim 8 --count 200
	$(RUN) -m sim.shapes --dim 16 --count 200

coverage: $(STAMP)  ## what the campaigns exercise: points of the program format, lines of Verilog
	$(RUN) -m sim.coverage

faults: $(STAMP)  ## 10,000 random faults in programs, bus and host on RTL
	$(RUN) -m sim.faults

area: $(STAMP)  ## tables of area: posit8 against fp8 and bf16; build/area.json
	$(RUN) -m synth.area

lint: $(STAMP)  ## ruff and mypy over the sources; Verilator, Icarus and Yosys over generated Verilog
	$(RUN) -m ruff check .
	$(RUN) -m mypy & types=$$!; $(RUN) -m synth.lint; lint=$$?; \
	wait $$types && exit $$lint

golden: $(STAMP)  ## write digests and golden vectors anew, after a change that means to change them
	$(RUN) -m tools.golden verilog --renew
	$(RUN) -m tools.golden structure --renew
	$(RUN) -m tools.golden vectors --renew

docs: $(STAMP)  ## renew the pages that follow from hdl/spec; the site in build/site, without warnings
	@$(RUN) -m gen.docs
	@$(RUN) tools/site.py

doctor:  ## tell which tools are here, their versions, and what works without the missing ones
	@$(PYTHON) tools/doctor.py

train-demo: $(STAMP)  ## fine-tune the digits ViT by programs on the machine model, posit8 and fp8
	@$(RUN) -m sim.train_demo

soc-demo: $(STAMP)  ## two accelerators and a RISC-V in a system that LiteX makes, simulated
	@$(RUN) examples/soc/run.py

nightly: checked  ## everything: the long tests, 20 times the examples, areas by the slow script
	OTTAVA_EXAMPLES=20 $(PYTEST)
	$(RUN) -m synth.lint --dim 16 --whole
	$(RUN) -m synth.area --library osu018
	$(RUN) -m synth.area --library osu018 --script best --blocks -o build/area-best.json

clean:  ## remove what was built; keeps .venv
	rm -rf build

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*  ## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

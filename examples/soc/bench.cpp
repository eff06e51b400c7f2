// A clock, a reset and the far end of the console for a system whose top is Vdut.
#include "Vdut.h"
#include "verilated.h"

#include <cstdint>
#include <memory>

// Runs from reset until the console sends end, at most cycles long; what it sent before is in text,
// at most room bytes. The cycles that it took; -1 where none of both came in time.
extern "C" int64_t soc_run(int64_t cycles, char end, char* text, uint64_t room, uint64_t* sent) {
    auto context = std::make_unique<VerilatedContext>();
    auto top = std::make_unique<Vdut>(context.get());
    top->serial_source_ready = 1;
    top->reset = 1;
    *sent = 0;
    for (int64_t cycle = 0; cycle < cycles && *sent < room; cycle++) {
        top->clock = 0;
        top->eval();
        const bool valid = top->serial_source_valid && !top->reset;
        const char data = char(top->serial_source_data);
        top->clock = 1;
        top->eval();
        if (cycle == 15) top->reset = 0;
        if (!valid) continue;
        if (data == end) return cycle;
        text[(*sent)++] = data;
    }
    return -1;
}

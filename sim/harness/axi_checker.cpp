// The AXI checkers alone, fed from Python: the negative control of the harness.
#include "axi_checker.hpp"

namespace {

template <class Checker, class Pins>
uint64_t check(Checker& checker, Violations& violations, const Pins* pins, uint64_t cycles,
               char* text, uint64_t size) {
    for (uint64_t i = 0; i < cycles; i++) checker.clock(pins[i]);
    const size_t used = violations.text().copy(text, size - 1);
    text[used] = 0;
    return violations.total();
}

}  // namespace

extern "C" {

uint64_t check_axi(int bus_bytes, const AxiPins* pins, uint64_t cycles, char* text, uint64_t size) {
    Violations violations;
    AxiChecker checker(bus_bytes, violations);
    return check(checker, violations, pins, cycles, text, size);
}

uint64_t check_lite(const LitePins* pins, uint64_t cycles, char* text, uint64_t size) {
    Violations violations;
    LiteChecker checker(violations);
    return check(checker, violations, pins, cycles, text, size);
}
}

// The bench as a C interface for ctypes (sim/harness/accelerator.py).
#include "bench.hpp"

extern "C" {

Bench* bench_new(uint64_t seed) { return new Bench(seed); }
void bench_free(Bench* bench) { delete bench; }
void bench_reset(Bench* bench, int cycles, int alone) { bench->reset(cycles, alone != 0); }
uint64_t bench_skipped(Bench* bench) { return bench->skipped(); }
void bench_run_for(Bench* bench, uint64_t cycles) { bench->run_for(cycles); }
int64_t bench_wait(Bench* bench, int64_t limit) { return bench->wait(limit); }
int bench_write(Bench* bench, uint32_t address, uint32_t value) {
    return bench->write(address, value);
}
int bench_read(Bench* bench, uint32_t address, uint32_t* value) {
    return bench->read(address, value);
}
int bench_trace(Bench* bench, const char* path) { return bench->trace(path); }
int bench_coverage(Bench* bench, const char* path) { return bench->coverage(path); }
void bench_image(Bench* bench, uint8_t* data, uint8_t* written, uint64_t base, uint64_t size) {
    bench->memory().image(data, written, base, size);
}
void bench_profile(Bench* bench, const Profile* profile) { bench->profile(*profile); }
void bench_seed(Bench* bench, uint64_t seed) { bench->seed(seed); }
void bench_fault(Bench* bench, uint64_t first, uint64_t end, int resp, int reads, int writes) {
    bench->memory().fault({first, end, uint8_t(resp), reads != 0, writes != 0});
}
void bench_freeze(Bench* bench, int channel, int64_t after) {
    bench->memory().freeze(channel, after);
}
int bench_write_under_way(Bench* bench) { return bench->memory().write_under_way(); }
void bench_thaw(Bench* bench) { bench->memory().thaw(); }
int bench_traffic(Bench* bench, const TrafficWord* words, uint64_t seed) {
    return bench->traffic(words, seed);
}
int bench_interrupt(Bench* bench) { return bench->interrupt(); }
void bench_clear_faults(Bench* bench) { bench->memory().clear_faults(); }
void bench_statistics(Bench* bench, uint64_t* out) { bench->statistics(out); }
void bench_clear_statistics(Bench* bench) { bench->clear_statistics(); }
uint64_t bench_violations(Bench* bench, const char** text) {
    *text = bench->violations().text().c_str();
    return bench->violations().total();
}
void bench_clear_violations(Bench* bench) { bench->violations().clear(); }
}

// The Verilated top with a memory at its AXI4 port and a host at its AXI4-Lite port. BUS_BYTES
// is defined by the build; CLOCK_ENABLE where the top has a clock enable, CONTROL_CLOCK where its
// control port has a clock and a reset of its own, which are then those of the rest.
#pragma once

#include <memory>

#include "Vdut.h"
#include "axi_checker.hpp"
#include "axi_memory.hpp"
#include "lite_host.hpp"
#include "verilated.h"
#if VM_COVERAGE
#include "verilated_cov.h"
#endif
#if VM_TRACE
#include "verilated_vcd_c.h"
#endif

constexpr int kLiteTimeout = 10000;

// Verilated ports are integers or arrays of 32-bit words, little-endian either way.
template <class Port>
void to_bytes(uint8_t* bytes, const Port& port) { std::memcpy(bytes, &port, BUS_BYTES); }
template <class Port>
void from_bytes(Port& port, const uint8_t* bytes) { std::memcpy(&port, bytes, BUS_BYTES); }

class Bench {
  public:
    explicit Bench(uint64_t seed)
        : dut_(randomised(context_, seed)), memory_(BUS_BYTES, seed), random_(seed + 1) {
        new_checkers();
    }

    ~Bench() {
        trace(nullptr);
        dut_.final();
    }

    // ``alone``: the memory goes on, and what it owes comes whenever it comes.
    void reset(int cycles, bool alone) {
        dut_.aresetn = 0;
        memory_goes_on_ = alone;
#ifdef CLOCK_ENABLE
        dut_.aclken = 1;
#endif
        if (!alone) memory_.reset();
        traffic_.cancel();
        release();
        new_checkers();
        for (int i = 0; i < cycles; i++) step();
        dut_.aresetn = 1;
        step();
    }

    void run_for(uint64_t cycles) {
        while (cycles--) step();
    }

    // Cycles until the interrupt, or -1.
    int64_t wait(int64_t limit) {
        for (int64_t cycle = 0; cycle < limit; cycle++) {
            if (dut_.__SYM__interrupt) {  // Verilator takes the name for a C++ word
                if (checker_->outstanding() && !memory_.freezing())
                    violations_.add(cycle_, "interrupt with bursts outstanding");
                return cycle;
            }
            step();
        }
        return -1;
    }

    // Random accesses from now on; without words, until those under way are over.
    int traffic(const TrafficWord* words, uint64_t seed) {
        if (words) return traffic_.start(words, seed), 0;
        traffic_.stop();
        for (int i = 0; traffic_.active(); i++) {
            if (i == kLiteTimeout) return traffic_.cancel(), release(), -1;
            step();
        }
        release();
        return int(traffic_.accesses());
    }

    // The response code, or -1 where none came. Host delays follow the write channels' stalls.
    int write(uint32_t address, uint32_t value) {
        LitePins& p = lite_;
        int aw_delay = delay(), w_delay = delay(), b_delay = delay();
        p.awaddr = address, p.wdata = value, p.wstrb = 0xF;
        bool aw_done = false, w_done = false;
        for (int i = 0; i < kLiteTimeout; i++) {
            p.awvalid = !aw_done && aw_delay-- <= 0;
            p.wvalid = !w_done && w_delay-- <= 0;
            p.bready = aw_done && w_done && b_delay-- <= 0;
            step();
            aw_done |= p.awvalid && p.awready, w_done |= p.wvalid && p.wready;
            if (p.bvalid && p.bready) return release(), p.bresp;
        }
        return release(), -1;
    }

    int read(uint32_t address, uint32_t* value) {
        LitePins& p = lite_;
        int ar_delay = delay(), r_delay = delay();
        p.araddr = address;
        bool ar_done = false;
        for (int i = 0; i < kLiteTimeout; i++) {
            p.arvalid = !ar_done && ar_delay-- <= 0;
            p.rready = ar_done && r_delay-- <= 0;
            step();
            ar_done |= p.arvalid && p.arready;
            if (p.rvalid && p.rready) return *value = p.rdata, release(), p.rresp;
        }
        return release(), -1;
    }

    bool trace(const char* path) {
#if VM_TRACE
        if (trace_) trace_->close();
        trace_.reset();
        if (!path) return true;
        context_.traceEverOn(true);
        trace_ = std::make_unique<VerilatedVcdC>();
        dut_.trace(trace_.get(), 99);
        trace_->open(path);
        return trace_->isOpen();
#else
        return !path;
#endif
    }

    bool coverage(const char* path) {
#if VM_COVERAGE
        context_.coveragep()->write(path);
        return true;
#else
        (void)path;
        return false;
#endif
    }

    void profile(const Profile& profile) {
        memory_.profile(profile);
        host_stall_ = profile.enter[kW];
    }

    void seed(uint64_t seed) { memory_.seed(seed), random_ = Random(seed + 1); }

    // Edges of the clock that did not count.
    uint64_t skipped() const { return skipped_; }
    bool interrupt() const { return dut_.__SYM__interrupt; }
    AxiMemory& memory() { return memory_; }
    Violations& violations() { return violations_; }

    // In the order of sim.harness.accelerator.BUS_FIELDS.
    void statistics(uint64_t* out) {
        for (int c = 0; c < kChannels; c++) out[c] = transfers_[c];
        out[kChannels] = memory_.most_reads, out[kChannels + 1] = memory_.most_writes;
        out[kChannels + 2] = cycle_;
    }

    void clear_statistics() {
        std::memset(transfers_, 0, sizeof transfers_);
        memory_.most_reads = memory_.most_writes = 0;
    }

  private:
    // Registers without a reset value start at random: nothing may depend on them.
    static VerilatedContext* randomised(VerilatedContext& context, uint64_t seed) {
        context.randReset(2);
        context.randSeed(int(seed % 0x7FFFFFFF) + 1);
        return &context;
    }

    void new_checkers() {
        checker_ = std::make_unique<AxiChecker>(BUS_BYTES, violations_);
        lite_checker_ = std::make_unique<LiteChecker>(violations_);
        reset_cycles_ = 0;
    }

    int delay() { return host_stall_ > 0 ? int(random_.between(0, 7)) : 0; }

    void release() { lite_.awvalid = lite_.wvalid = lite_.bready = lite_.arvalid = lite_.rready = 0; }

    void step() {
        memory_.drive(pins_);
        if (traffic_.active()) traffic_.drive(lite_);
        drive_dut();
        clock(0);
        dump(0);
        sample();
#ifdef CLOCK_ENABLE
        if (dut_.aresetn) disabled_edges();
#endif
        if (dut_.aresetn) {
            checker_->clock(pins_);
            lite_checker_->clock(lite_);
            if (traffic_.active()) traffic_.clock(lite_, cycle_);
            memory_.clock(pins_);
            count();
        } else if (memory_goes_on_) {
            memory_.clock(pins_);
        } else if (pins_.ar.valid || pins_.aw.valid || pins_.w.valid) {
            if (reset_cycles_++) violations_.add(cycle_, "valid is high in reset");
        }
        clock(1);
        dump(1);
        cycle_++;
    }

    void clock(int level) {
        dut_.aclk = level;
#ifdef CONTROL_CLOCK
        dut_.s_axi_ctrl_aclk = level;
        dut_.s_axi_ctrl_aresetn = dut_.aresetn;
#endif
        dut_.eval();
    }

#ifdef CLOCK_ENABLE
    // Edges of the clock that do not count, whatever the inputs are then: no output may change.
    void disabled_edges() {
        const AxiPins pins = pins_;
        const LitePins lite = lite_;
        const bool interrupt = dut_.__SYM__interrupt;
        while (random_.chance(0.3)) {
            for (uint8_t& byte : pins_.r.data) byte = uint8_t(random_.next() >> 32);
            pins_.r.valid = random_.chance(0.5), pins_.r.last = random_.chance(0.5);
            pins_.b.valid = random_.chance(0.5), pins_.w.ready = random_.chance(0.5);
            pins_.ar.ready = random_.chance(0.5), pins_.aw.ready = random_.chance(0.5);
            lite_.awvalid = random_.chance(0.5), lite_.wvalid = random_.chance(0.5);
            lite_.arvalid = random_.chance(0.5), lite_.awaddr = uint32_t(random_.between(0, 4095));
            lite_.wdata = uint32_t(random_.next() >> 32), lite_.wstrb = 0xF;
            lite_.bready = random_.chance(0.5), lite_.rready = random_.chance(0.5);
            dut_.aclken = 0;
            drive_dut();
            for (int level : {0, 1}) dut_.aclk = level, dut_.eval();  // not the control port's own
            pins_ = pins, lite_ = lite;
            drive_dut();
            dut_.aclk = 0, dut_.eval();
            sample();
            if (!same(pins, lite) || dut_.__SYM__interrupt != interrupt)
                violations_.add(cycle_, "an output changed without aclken");
            pins_ = pins, lite_ = lite, skipped_++;
        }
        dut_.aclken = 1;
        dut_.eval();
    }

    bool same(const AxiPins& pins, const LitePins& lite) const {
        return pins_.ar.valid == pins.ar.valid && pins_.ar.same(pins.ar) &&
               pins_.aw.valid == pins.aw.valid && pins_.aw.same(pins.aw) &&
               pins_.w.valid == pins.w.valid && (!pins.w.valid || pins_.w.same(pins.w)) &&
               lite_.awready == lite.awready && lite_.wready == lite.wready &&
               lite_.bvalid == lite.bvalid && lite_.arready == lite.arready &&
               lite_.rvalid == lite.rvalid && lite_.rdata == lite.rdata;
    }
#endif

    void count() {
        transfers_[kAR] += pins_.ar.valid && pins_.ar.ready;
        transfers_[kR] += pins_.r.valid && pins_.r.ready;
        transfers_[kAW] += pins_.aw.valid && pins_.aw.ready;
        transfers_[kW] += pins_.w.valid && pins_.w.ready;
        transfers_[kB] += pins_.b.valid && pins_.b.ready;
    }

    void drive_dut() {
        dut_.m_axi_gmem_arready = pins_.ar.ready, dut_.m_axi_gmem_awready = pins_.aw.ready;
        dut_.m_axi_gmem_wready = pins_.w.ready;
        dut_.m_axi_gmem_rvalid = pins_.r.valid, dut_.m_axi_gmem_rid = pins_.r.id;
        dut_.m_axi_gmem_rresp = pins_.r.resp, dut_.m_axi_gmem_rlast = pins_.r.last;
        from_bytes(dut_.m_axi_gmem_rdata, pins_.r.data);
        dut_.m_axi_gmem_bvalid = pins_.b.valid, dut_.m_axi_gmem_bid = pins_.b.id;
        dut_.m_axi_gmem_bresp = pins_.b.resp;
        dut_.s_axi_ctrl_awvalid = lite_.awvalid, dut_.s_axi_ctrl_awaddr = lite_.awaddr;
        dut_.s_axi_ctrl_wvalid = lite_.wvalid, dut_.s_axi_ctrl_wdata = lite_.wdata;
        dut_.s_axi_ctrl_wstrb = lite_.wstrb, dut_.s_axi_ctrl_bready = lite_.bready;
        dut_.s_axi_ctrl_arvalid = lite_.arvalid, dut_.s_axi_ctrl_araddr = lite_.araddr;
        dut_.s_axi_ctrl_rready = lite_.rready;
    }

#define SAMPLE_ADDRESS(channel)                                                           \
    pins_.channel.valid = dut_.m_axi_gmem_##channel##valid;                               \
    pins_.channel.address = dut_.m_axi_gmem_##channel##addr;                              \
    pins_.channel.id = dut_.m_axi_gmem_##channel##id;                                     \
    pins_.channel.len = dut_.m_axi_gmem_##channel##len;                                   \
    pins_.channel.size = dut_.m_axi_gmem_##channel##size;                                 \
    pins_.channel.burst = dut_.m_axi_gmem_##channel##burst

    void sample() {
        SAMPLE_ADDRESS(ar);
        SAMPLE_ADDRESS(aw);
        pins_.r.ready = dut_.m_axi_gmem_rready, pins_.b.ready = dut_.m_axi_gmem_bready;
        pins_.w.valid = dut_.m_axi_gmem_wvalid, pins_.w.last = dut_.m_axi_gmem_wlast;
        pins_.w.strobe = dut_.m_axi_gmem_wstrb;
        to_bytes(pins_.w.data, dut_.m_axi_gmem_wdata);
        lite_.awready = dut_.s_axi_ctrl_awready, lite_.wready = dut_.s_axi_ctrl_wready;
        lite_.bvalid = dut_.s_axi_ctrl_bvalid, lite_.bresp = dut_.s_axi_ctrl_bresp;
        lite_.arready = dut_.s_axi_ctrl_arready, lite_.rvalid = dut_.s_axi_ctrl_rvalid;
        lite_.rresp = dut_.s_axi_ctrl_rresp, lite_.rdata = dut_.s_axi_ctrl_rdata;
    }
#undef SAMPLE_ADDRESS

    void dump(int phase) {
#if VM_TRACE
        if (trace_) trace_->dump(cycle_ * 10 + phase * 5);
#else
        (void)phase;
#endif
    }

    VerilatedContext context_;
    Vdut dut_;
#if VM_TRACE
    std::unique_ptr<VerilatedVcdC> trace_;
#endif
    AxiPins pins_;
    LitePins lite_;
    Violations violations_;
    AxiMemory memory_;
    LiteTraffic traffic_{violations_};
    std::unique_ptr<AxiChecker> checker_;
    std::unique_ptr<LiteChecker> lite_checker_;
    Random random_;
    double host_stall_ = 0;
    bool memory_goes_on_ = false;
    uint64_t cycle_ = 0, reset_cycles_ = 0, skipped_ = 0, transfers_[kChannels] = {};
};

// The host at an AXI4-Lite port: single accesses, and random ones alongside whatever else happens.
#pragma once

#include <vector>

#include "axi_checker.hpp"
#include "axi_memory.hpp"
#include "axi_pins.hpp"

// What random accesses may do to one word and must find there (sim.harness.traffic).
struct TrafficWord {
    uint32_t value;    // what a read gives under ``known``
    uint32_t known;
    uint32_t allowed;  // bits that a write may set at random, besides those that are ``forced``
    uint32_t forced;
    uint32_t stored;   // bits that keep what is written
};

constexpr uint32_t kLiteWords = 1024, kBusyWords = 128;  // most accesses go where registers are

// A read and a write at a time, each of any word at any time, addresses unaligned, any strobes,
// address and data of a write in any order. A word is never read while it is written.
class LiteTraffic {
  public:
    explicit LiteTraffic(Violations& out) : out_(out), random_(0) {}

    void start(const TrafficWord* words, uint64_t seed) {
        words_.assign(words, words + kLiteWords);
        random_ = Random(seed);
        enabled_ = true, reading_ = writing_ = false, accesses_ = 0;
    }
    void stop() { enabled_ = false; }
    void cancel() { enabled_ = reading_ = writing_ = false; }
    bool active() const { return enabled_ || reading_ || writing_; }
    uint64_t accesses() const { return accesses_; }

    void drive(LitePins& p) {
        if (enabled_ && !reading_ && random_.chance(0.2)) begin_read(p);
        if (enabled_ && !writing_ && random_.chance(0.2)) begin_write(p);
        p.arvalid = reading_ && !ar_done_ && ar_delay_-- <= 0;
        p.rready = reading_ && ar_done_ && r_delay_-- <= 0;
        p.awvalid = writing_ && !aw_done_ && aw_delay_-- <= 0;
        p.wvalid = writing_ && !w_done_ && w_delay_-- <= 0;
        p.bready = writing_ && b_delay_-- <= 0;
    }

    void clock(const LitePins& p, uint64_t cycle) {
        ar_done_ |= p.arvalid && p.arready;
        aw_done_ |= p.awvalid && p.awready, w_done_ |= p.wvalid && p.wready;
        if (p.rvalid && p.rready) end_read(p, cycle);
        if (p.bvalid && p.bready) end_write(p, cycle);
    }

  private:
    int delay() { return int(random_.between(0, 7)) - 3; }  // often none

    uint32_t address() {
        const uint32_t words = random_.chance(0.6) ? kBusyWords : kLiteWords;
        return uint32_t(random_.between(0, 4 * words - 1));
    }

    void begin_read(LitePins& p) {
        const uint32_t at = address();
        if (writing_ && at >> 2 == p.awaddr >> 2) return;
        p.araddr = at;
        reading_ = true, ar_done_ = false, ar_delay_ = delay(), r_delay_ = delay();
    }

    void begin_write(LitePins& p) {
        const uint32_t at = address();
        if (reading_ && at >> 2 == p.araddr >> 2) return;
        const TrafficWord& word = words_[at >> 2];
        p.awaddr = at, p.wstrb = uint8_t(random_.between(0, 15));
        p.wdata = (uint32_t(random_.next() >> 32) & word.allowed) | word.forced;
        writing_ = true, aw_done_ = w_done_ = false;
        aw_delay_ = delay(), w_delay_ = delay(), b_delay_ = delay();
    }

    void end_read(const LitePins& p, uint64_t cycle) {
        const TrafficWord& word = words_[p.araddr >> 2];
        if ((p.rdata ^ word.value) & word.known || p.rresp)
            out_.add(cycle, "control: read of " + std::to_string(p.araddr) + " gave " +
                                std::to_string(p.rdata) + ", response " + std::to_string(p.rresp));
        reading_ = false, accesses_++;
    }

    void end_write(const LitePins& p, uint64_t cycle) {
        TrafficWord& word = words_[p.awaddr >> 2];
        uint32_t mask = 0;
        for (int i = 0; i < 4; i++)
            if (p.wstrb >> i & 1) mask |= 0xFFu << 8 * i;
        mask &= word.stored;
        word.value = (word.value & ~mask) | (p.wdata & mask);
        if (p.bresp) out_.add(cycle, "control: a write was not answered OKAY");
        writing_ = false, accesses_++;
    }

    Violations& out_;
    Random random_;
    std::vector<TrafficWord> words_;
    uint64_t accesses_ = 0;
    bool enabled_ = false, reading_ = false, writing_ = false;
    bool ar_done_ = false, aw_done_ = false, w_done_ = false;
    int ar_delay_ = 0, r_delay_ = 0, aw_delay_ = 0, w_delay_ = 0, b_delay_ = 0;
};

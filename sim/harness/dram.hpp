// A DRAM (sim/harness/dram.py) behind the AXI memory: when each burst has its data, in their order.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

// The layout is shared through ctypes (sim/harness/stalls.py).
struct DramTimes {
    uint32_t there, latency, burst, miss, banks, row_beats, turn, gathered, refresh, refresh_every;
};

class Dram {
  public:
    void times(const DramTimes& times) {
        times_ = times;
        banks_.assign(times.banks, {});
        free_ = 0, writes_ = refreshes_ = 0, started_ = false;
    }
    bool there() const { return times_.there != 0; }

    // The cycle in which the data of a burst that came in ``cycle`` begin; ``beat``: its first
    // beat's address in beats.
    int64_t serve(int64_t cycle, uint64_t beat, int64_t beats, bool write) {
        const DramTimes& t = times_;
        if (!started_) started_ = true, first_ = cycle;
        Bank& bank = banks_[beat / t.row_beats % t.banks];
        const uint64_t row = beat / (uint64_t(t.row_beats) * t.banks) + 1;
        const bool turns = write && writes_++ % t.gathered == 0;
        const int64_t asked = bank.row == row ? cycle : std::max(cycle, bank.ready) + t.miss;
        int64_t begins = std::max(asked + t.latency, free_ + t.burst + (turns ? t.turn : 0));
        const int64_t refreshes = (begins + beats - 1 - first_) / t.refresh_every;
        if (refreshes > refreshes_) {
            refreshes_ = refreshes;
            const int64_t over = first_ + refreshes * t.refresh_every + t.refresh;
            begins = std::max(begins, over + t.miss);
            for (Bank& other : banks_) other.row = 0;
        }
        free_ = begins + beats;
        bank.row = row, bank.ready = free_ - t.latency;
        return begins;
    }

  private:
    struct Bank {
        uint64_t row = 0;  // that is open, counted from 1
        int64_t ready = 0;  // from when on it may open another
    };
    DramTimes times_{};
    std::vector<Bank> banks_;
    int64_t free_ = 0, first_ = 0, refreshes_ = 0;
    uint64_t writes_ = 0;
    bool started_ = false;
};

// A memory on AXI4: a byte image with latency, random stalls and faults, answering in order.
// Data that come with an error are wrong; a frozen channel transfers nothing more.
#pragma once

#include <algorithm>
#include <cstring>
#include <deque>
#include <vector>

#include "axi_pins.hpp"
#include "dram.hpp"

constexpr uint8_t kOkay = 0, kDecodeError = 3;

// xorshift64*: the same numbers on every machine.
class Random {
  public:
    explicit Random(uint64_t seed) : state_(seed * 2685821657736338717ull + 88172645463325252ull) {
        if (!state_) state_ = 1;
    }
    uint64_t next() {
        state_ ^= state_ >> 12, state_ ^= state_ << 25, state_ ^= state_ >> 27;
        return state_ * 2685821657736338717ull;
    }
    bool chance(double p) { return p > 0 && double(next() >> 11) * 0x1p-53 < p; }
    uint64_t between(uint64_t low, uint64_t high) { return low + next() % (high - low + 1); }

  private:
    uint64_t state_;
};

enum Channel { kAR, kR, kAW, kW, kB, kChannels };

// As sim.harness.stalls.StallProfile; the layout is shared through ctypes.
struct Profile {
    double enter[kChannels];   // probability a cycle that a stall begins
    double length[kChannels];  // mean cycles of a stall
    uint32_t latency_low, latency_high;
    uint32_t outstanding;
    uint32_t mixed_order;  // reads and writes take effect early or late, at random
    DramTimes dram;
};

struct Fault {
    uint64_t first, end;
    uint8_t resp;
    bool reads, writes;
};

class AxiMemory {
  public:
    AxiMemory(int bus_bytes, uint64_t seed) : bytes_(bus_bytes), random_(seed) {}

    void image(uint8_t* data, uint8_t* written, uint64_t base, uint64_t size) {
        data_ = data, written_ = written, base_ = base, size_ = size;
    }
    void profile(const Profile& profile) { profile_ = profile, dram_.times(profile.dram); }
    // Forgets every burst, as the master does in reset.
    void reset() {
        thaw();
        reads_.clear(), addresses_.clear(), beats_.clear(), answers_.clear();
        r_ = {}, b_ = {};
        dram_.times(profile_.dram);
        arready_ = awready_ = wready_ = 0;
    }
    // Starts the random numbers anew; nothing that was drawn before has a say any more.
    void seed(uint64_t seed) {
        random_ = Random(seed);
        arready_ = awready_ = wready_ = 0;
        std::fill_n(left_, kChannels, 0);
    }
    void fault(const Fault& fault) { faults_.push_back(fault); }
    void clear_faults() { faults_.clear(); }
    // After so many more transfers ``channel`` stands still, until ``thaw`` or a reset.
    void freeze(int channel, int64_t after) { room_[channel] = after, freezing_ = true; }
    void thaw() { std::fill_n(room_, kChannels, INT64_MAX), freezing_ = false; }
    bool freezing() const { return freezing_; }

    // The slave's outputs of the next cycle.
    void drive(AxiPins& p) const {
        p.ar.ready = arready_, p.aw.ready = awready_, p.w.ready = wready_;
        p.r.valid = r_.valid, p.r.id = r_.id, p.r.resp = r_.resp, p.r.last = r_.last;
        std::memcpy(p.r.data, r_.data, sizeof r_.data);
        p.b.valid = b_.valid, p.b.id = b_.id, p.b.resp = b_.resp;
    }

    // A rising edge at which the pins were ``p``.
    void clock(const AxiPins& p) {
        cycle_++;
        room_[kAR] -= p.ar.valid && p.ar.ready, room_[kR] -= p.r.valid && p.r.ready;
        room_[kAW] -= p.aw.valid && p.aw.ready, room_[kW] -= p.w.valid && p.w.ready;
        room_[kB] -= p.b.valid && p.b.ready;
        if (p.ar.valid && p.ar.ready) accept_read(p.ar);
        if (p.aw.valid && p.aw.ready) addresses_.push_back({p.aw.address, p.aw.id, p.aw.len + 1});
        if (p.w.valid && p.w.ready) beats_.push_back(p.w);
        if (p.r.valid && p.r.ready) r_.valid = 0;
        if (p.b.valid && p.b.ready) b_.valid = 0;
        complete_writes();
        for (int c = 0; c < kChannels; c++) stalled_[c] = stall(c) || room_[c] <= 0;
        if (!r_.valid) next_beat();
        if (!b_.valid) next_answer();
        arready_ = !stalled_[kAR] && reads_.size() + (r_.valid && r_.last) < profile_.outstanding;
        awready_ = !stalled_[kAW] &&
                   addresses_.size() + answers_.size() + b_.valid < profile_.outstanding;
        wready_ = !stalled_[kW] && beats_.size() < kBufferedBeats;
    }

    // Of a burst some data have come and some have not, or its address has not.
    bool write_under_way() const { return !addresses_.empty() || !beats_.empty(); }

    uint64_t most_reads = 0, most_writes = 0;

  private:
    static constexpr size_t kBufferedBeats = 64;

    struct ReadBurst {
        uint64_t address, due;
        uint32_t id;
        int beats, done;
        bool early;
        std::vector<uint8_t> data, resp;
    };
    struct Address {
        uint64_t address;
        uint32_t id;
        int beats;
    };
    struct Answer {
        Address burst;
        uint64_t due;
        bool early;
        uint8_t resp;
        std::vector<WritePins> beats;
    };

    bool stall(int channel) {
        if (left_[channel]) return left_[channel]--, true;
        if (!random_.chance(profile_.enter[channel])) return false;
        while (random_.chance(1 - 1 / std::max(1.0, profile_.length[channel]))) left_[channel]++;
        return true;
    }

    // When a burst that came at the last edge has its first datum, or its answer.
    uint64_t due(uint64_t address, int beats, bool write) {
        if (!dram_.there())
            return cycle_ - 1 + random_.between(profile_.latency_low, profile_.latency_high);
        const uint64_t begins = dram_.serve(cycle_ - 1, address / bytes_, beats, write);
        return write ? begins + beats : begins;
    }

    bool inside(uint64_t address) const { return address - base_ < size_; }

    uint64_t beat_address(uint64_t address, int beat) const {
        return (address & ~uint64_t(bytes_ - 1)) + uint64_t(beat) * bytes_;
    }

    void fetch(ReadBurst& burst, int beat) {
        const uint64_t from = beat_address(burst.address, beat);
        bool any = false;
        uint8_t resp = kOkay;
        for (int i = 0; i < bytes_; i++) {
            const bool here = inside(from + i);
            burst.data[beat * bytes_ + i] = here ? data_[from + i - base_] : 0;
            any |= here;
        }
        if (!any) resp = kDecodeError;
        for (const Fault& f : faults_)
            if (f.reads && from < f.end && from + bytes_ > f.first) resp = f.resp;
        if (resp != kOkay)
            for (int i = 0; i < bytes_; i++) burst.data[beat * bytes_ + i] ^= 0xFF;
        burst.resp[beat] = resp;
    }

    void accept_read(const AddressPins& a) {
        const int beats = a.len + 1;
        const bool early = !profile_.mixed_order || random_.chance(0.5);
        ReadBurst burst{a.address, due(a.address, beats, false), a.id, beats, 0, early, {}, {}};
        burst.data.resize(beats * bytes_), burst.resp.resize(beats);
        if (early)
            for (int beat = 0; beat < beats; beat++) fetch(burst, beat);
        reads_.push_back(std::move(burst));
        most_reads = std::max<uint64_t>(most_reads, reads_.size());
    }

    void next_beat() {
        if (reads_.empty() || stalled_[kR] || cycle_ < reads_.front().due) return;
        ReadBurst& burst = reads_.front();
        const int beat = burst.done++;
        if (!burst.early) fetch(burst, beat);
        std::memcpy(r_.data, &burst.data[beat * bytes_], bytes_);
        r_.valid = 1, r_.id = burst.id, r_.resp = burst.resp[beat];
        r_.last = burst.done == burst.beats;
        if (r_.last) reads_.pop_front();
    }

    void complete_writes() {
        while (!addresses_.empty() && beats_.size() >= size_t(addresses_.front().beats)) {
            const Address burst = addresses_.front();
            addresses_.pop_front();
            // Writes of one ID land in order: never ahead of one that still waits.
            const bool ordered = answers_.empty() || answers_.back().early;
            const bool early = profile_.mixed_order && ordered && random_.chance(0.5);
            Answer answer{burst, due(burst.address, burst.beats, true), early, kOkay, {}};
            answer.beats.assign(beats_.begin(), beats_.begin() + burst.beats);
            beats_.erase(beats_.begin(), beats_.begin() + burst.beats);
            if (answer.early) apply(answer);
            answers_.push_back(std::move(answer));
            most_writes = std::max<uint64_t>(most_writes, answers_.size() + addresses_.size());
        }
    }

    void apply(Answer& answer) {
        for (int beat = 0; beat < answer.burst.beats; beat++) {
            const uint64_t from = beat_address(answer.burst.address, beat);
            for (int i = 0; i < bytes_; i++) {
                if (!(answer.beats[beat].strobe >> i & 1)) continue;
                uint8_t resp = inside(from + i) ? kOkay : kDecodeError;
                for (const Fault& f : faults_)
                    if (f.writes && from + i >= f.first && from + i < f.end) resp = f.resp;
                if (resp != kOkay) {
                    answer.resp = resp;
                    continue;
                }
                data_[from + i - base_] = answer.beats[beat].data[i];
                uint8_t& count = written_[from + i - base_];
                count += count < 255;
            }
        }
    }

    void next_answer() {
        if (answers_.empty() || stalled_[kB] || cycle_ < answers_.front().due) return;
        Answer& answer = answers_.front();
        if (!answer.early) apply(answer);
        b_.valid = 1, b_.id = answer.burst.id, b_.resp = answer.resp;
        answers_.pop_front();
    }

    const int bytes_;
    Random random_;
    Profile profile_{{}, {}, 30, 30, 16, 0, {}};
    Dram dram_;
    uint8_t *data_ = nullptr, *written_ = nullptr;
    uint64_t base_ = 0, size_ = 0, cycle_ = 0;
    std::vector<Fault> faults_;
    std::deque<ReadBurst> reads_;
    std::deque<Address> addresses_;
    std::deque<WritePins> beats_;
    std::deque<Answer> answers_;
    ReadPins r_;
    ResponsePins b_;
    uint8_t arready_ = 0, awready_ = 0, wready_ = 0;
    bool stalled_[kChannels] = {};
    uint64_t left_[kChannels] = {};
    int64_t room_[kChannels] = {INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX};
    bool freezing_ = false;
};

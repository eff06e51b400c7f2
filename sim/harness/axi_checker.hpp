// AXI rules, checked cycle by cycle on both sides of a bus: the master's mistakes are the design's,
// the slave's would be this harness's own.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "axi_pins.hpp"

// Messages, the first few kept whole, all counted.
class Violations {
  public:
    void add(uint64_t cycle, const std::string& what) {
        if (++total_ <= kKept) text_ += "cycle " + std::to_string(cycle) + ": " + what + "\n";
    }
    uint64_t total() const { return total_; }
    const std::string& text() const { return text_; }
    void clear() { total_ = 0, text_.clear(); }

  private:
    static constexpr uint64_t kKept = 20;
    uint64_t total_ = 0;
    std::string text_;
};

// A valid that was not answered must stay, and so must its payload.
template <class Channel>
class Steady {
  public:
    void clock(const Channel& now, const char* name, uint64_t cycle, Violations& out) {
        if (waiting_ && !now.valid) {
            out.add(cycle, std::string(name) + "valid fell before " + name + "ready");
        } else if (waiting_ && !now.same(last_)) {
            out.add(cycle, std::string(name) + " payload changed before " + name + "ready");
        }
        waiting_ = now.valid && !now.ready;
        last_ = now;
    }

  private:
    bool waiting_ = false;
    Channel last_{};
};

class AxiChecker {
  public:
    AxiChecker(int bus_bytes, Violations& out) : bytes_(bus_bytes), out_(out) {}

    // Takes the pins of one cycle outside reset.
    void clock(const AxiPins& p) {
        ar_.clock(p.ar, "ar", cycle_, out_);
        aw_.clock(p.aw, "aw", cycle_, out_);
        w_.clock(p.w, "w", cycle_, out_);
        r_.clock(p.r, "r", cycle_, out_);
        b_.clock(p.b, "b", cycle_, out_);
        if (p.b.valid && p.b.ready) response(p.b);
        if (p.r.valid && p.r.ready) read_beat(p.r);
        if (p.ar.valid && p.ar.ready) address(p.ar, "ar", reads_);
        if (p.aw.valid && p.aw.ready) address(p.aw, "aw", writes_);
        if (p.w.valid && p.w.ready) data_.push_back({p.w.strobe, p.w.last != 0});
        match_writes();
        cycle_++;
    }

    // Bursts that were accepted and not answered, and write data that no burst has claimed.
    uint64_t outstanding() const { return reads_.size() + writes_.size() + finished_ + data_.size(); }

  private:
    struct Burst {
        uint64_t address;
        uint32_t id;
        int beats, done;
    };
    struct Beat {
        uint64_t strobe;
        bool last;
    };

    void complain(const std::string& what) { out_.add(cycle_, what); }

    void address(const AddressPins& a, const std::string& name, std::deque<Burst>& queue) {
        const int beats = a.len + 1;
        if (a.burst != 1) complain(name + "burst is not INCR");
        if (1 << a.size != bytes_) complain(name + "size is not the width of the bus");
        const uint64_t first = a.address & ~uint64_t(bytes_ - 1);
        if ((first + uint64_t(beats) * bytes_ - 1) >> 12 != a.address >> 12)
            complain(name + " burst crosses 4 KiB");
        queue.push_back({a.address, a.id, beats, 0});
    }

    void read_beat(const ReadPins& r) {
        if (reads_.empty()) return complain("r beat without a burst");
        Burst& burst = reads_.front();
        if (r.id != burst.id) complain("rid is not the burst's");
        const bool last = ++burst.done == burst.beats;
        if (last != (r.last != 0)) complain(last ? "rlast is missing" : "rlast comes early");
        if (last) reads_.pop_front();
    }

    // Data may run ahead of its address, so beats are judged when both are known.
    void match_writes() {
        while (!writes_.empty() && !data_.empty()) {
            Burst& burst = writes_.front();
            const Beat beat = data_.front();
            data_.pop_front();
            if (!burst.done && beat.strobe & ((uint64_t(1) << burst.address % bytes_) - 1))
                complain("wstrb covers bytes below awaddr");
            if (bytes_ < 64 && beat.strobe >> bytes_) complain("wstrb is wider than the bus");
            const bool last = ++burst.done == burst.beats;
            if (last != beat.last) complain(last ? "wlast is missing" : "wlast comes early");
            if (last) {
                ids_.push_back(burst.id);
                writes_.pop_front(), finished_++;
            }
        }
    }

    void response(const ResponsePins& b) {
        if (!finished_) return complain("b before its burst is complete");
        if (b.id != ids_.front()) complain("bid is not the burst's");
        ids_.pop_front(), finished_--;
    }

    const int bytes_;
    Violations& out_;
    uint64_t cycle_ = 0, finished_ = 0;
    Steady<AddressPins> ar_, aw_;
    Steady<ReadPins> r_;
    Steady<WritePins> w_;
    Steady<ResponsePins> b_;
    std::deque<Burst> reads_, writes_;
    std::deque<Beat> data_;
    std::deque<uint32_t> ids_;
};

// The control port's slave side.
class LiteChecker {
  public:
    explicit LiteChecker(Violations& out) : out_(out) {}

    void clock(const LitePins& p) {
        if (b_waits_ && (!p.bvalid || p.bresp != bresp_)) complain("bvalid or bresp changed");
        if (r_waits_ && (!p.rvalid || p.rdata != rdata_ || p.rresp != rresp_))
            complain("rvalid, rdata or rresp changed");
        if (p.bvalid && (!addresses_ || !data_)) complain("bvalid without a write");
        if (p.rvalid && !reads_) complain("rvalid without a read");
        if (p.bvalid && p.bready) addresses_--, data_--;
        if (p.rvalid && p.rready) reads_--;
        addresses_ += p.awvalid && p.awready;
        data_ += p.wvalid && p.wready;
        reads_ += p.arvalid && p.arready;
        b_waits_ = p.bvalid && !p.bready, bresp_ = p.bresp;
        r_waits_ = p.rvalid && !p.rready, rresp_ = p.rresp, rdata_ = p.rdata;
        cycle_++;
    }

  private:
    void complain(const std::string& what) { out_.add(cycle_, "control: " + what); }

    Violations& out_;
    uint64_t cycle_ = 0;
    int64_t addresses_ = 0, data_ = 0, reads_ = 0;
    bool b_waits_ = false, r_waits_ = false;
    uint8_t bresp_ = 0, rresp_ = 0;
    uint32_t rdata_ = 0;
};

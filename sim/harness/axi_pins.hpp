// One clock cycle of an AXI4 and of an AXI4-Lite bus, as both sides see it at the rising edge.
// same(): the payload, that is all but valid and ready, is equal.
#pragma once

#include <cstdint>
#include <cstring>

constexpr int kMaxBusBytes = 64;

struct AddressPins {
    uint8_t valid = 0, ready = 0;
    uint64_t address = 0;
    uint32_t id = 0;
    uint8_t len = 0, size = 0, burst = 0;

    bool same(const AddressPins& o) const {
        return address == o.address && id == o.id && len == o.len && size == o.size &&
               burst == o.burst;
    }
};

struct ReadPins {
    uint8_t valid = 0, ready = 0;
    uint8_t data[kMaxBusBytes] = {};
    uint32_t id = 0;
    uint8_t resp = 0, last = 0;

    bool same(const ReadPins& o) const {
        return !std::memcmp(data, o.data, sizeof data) && id == o.id && resp == o.resp &&
               last == o.last;
    }
};

struct WritePins {
    uint8_t valid = 0, ready = 0;
    uint8_t data[kMaxBusBytes] = {};
    uint64_t strobe = 0;
    uint8_t last = 0;

    bool same(const WritePins& o) const {
        return !std::memcmp(data, o.data, sizeof data) && strobe == o.strobe && last == o.last;
    }
};

struct ResponsePins {
    uint8_t valid = 0, ready = 0;
    uint32_t id = 0;
    uint8_t resp = 0;

    bool same(const ResponsePins& o) const { return id == o.id && resp == o.resp; }
};

struct AxiPins {
    AddressPins ar, aw;
    ReadPins r;
    WritePins w;
    ResponsePins b;
};

struct LitePins {
    uint8_t awvalid = 0, awready = 0, wvalid = 0, wready = 0, bvalid = 0, bready = 0;
    uint8_t arvalid = 0, arready = 0, rvalid = 0, rready = 0;
    uint8_t bresp = 0, rresp = 0, wstrb = 0;
    uint32_t awaddr = 0, araddr = 0, wdata = 0, rdata = 0;
};

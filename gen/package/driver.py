"""A driver in C99 for a build: one header, no library, no operating system."""

import re

from gen.cli import in_ascii
from gen.header import c_names
from gen.identification import whole_registers
from hdl.spec.command_fields import Role
from hdl.spec.commands import COMMAND, HEADER, ErrorCause
from hdl.spec.config import AcceleratorConfig
from hdl.spec.registers import CLIENTS, COUNTER_BASE, COUNTERS

__all__ = ["driver"]

_TEXT = """\
/* Driver of the Ottava accelerator @lower@: C99 or C++, no library, nothing allocated.
 * Generated. Include it in one place, or in many: all functions are static inline. */
#ifndef @UPPER@_DRIVER_H
#define @UPPER@_DRIVER_H

#include "@name@.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What @lower@_* functions return; 0 is success. */
enum @lower@_result {
  @UPPER@_OK = 0,
  @UPPER@_OTHER_BUILD = 1, /* the registers are not those of this build */
  @UPPER@_BUSY = 2,        /* a program runs */
  @UPPER@_STUCK = 3,       /* the bus never answered: accelerator and memory need a reset */
  @UPPER@_FAILED = 4,      /* the program ended with an error: @lower@_error */
  @UPPER@_TIMEOUT = 5,     /* it has not ended within the given number of waits */
  @UPPER@_BAD_IMAGE = 6    /* header and commands up to END must lie in the memory of the image */
};

/* Counters of 64 bits, in the order of their registers. */
enum @lower@_counter {
@counters@
};

/* How the driver reaches its device. read and write access a register at a byte offset, in the
 * order of the calls; context is yours. The others may be null:
 * flush: what the processor wrote at [address, address + bytes) must be in memory;
 * discard: what it has cached of that range must not be read again;
 * pause: called between two looks at STATUS, to sleep until the interrupt or just a while. */
struct @lower@_device {
  uint32_t (*read)(void *context, uint32_t offset);
  void (*write)(void *context, uint32_t offset, uint32_t value);
  void (*flush)(void *context, uint64_t address, uint64_t bytes);
  void (*discard)(void *context, uint64_t address, uint64_t bytes);
  void (*pause)(void *context);
  void *context;
};

/* Read and write of registers that the processor sees as memory at context. */
static inline uint32_t @lower@_mmio_read(void *context, uint32_t offset) {
  return ((volatile uint32_t *)context)[offset / 4];
}
static inline void @lower@_mmio_write(void *context, uint32_t offset, uint32_t value) {
  ((volatile uint32_t *)context)[offset / 4] = value;
}

static inline uint32_t @lower@_get(const struct @lower@_device *device, uint32_t offset) {
  return device->read(device->context, offset);
}
static inline void @lower@_put(const struct @lower@_device *device, uint32_t offset,
                               uint32_t value) {
  device->write(device->context, offset, value);
}

/* Whether the device is this build: @UPPER@_OK or @UPPER@_OTHER_BUILD. */
static inline enum @lower@_result @lower@_identify(const struct @lower@_device *device) {
  static const uint32_t known[][2] = {
@known@
  };
  unsigned index;
  for (index = 0; index < sizeof known / sizeof known[0]; index++)
    if (@lower@_get(device, known[index][0]) != known[index][1]) return @UPPER@_OTHER_BUILD;
  return @UPPER@_OK;
}

/* An image: size bytes of memory from address base on, a program's header at address program. */
struct @lower@_image {
  const uint8_t *bytes;
  uint64_t size, base, program;
};

static inline uint32_t @lower@_word(const uint8_t *bytes) {
  return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}
static inline void @lower@_move(uint8_t *bytes, uint64_t by) {
  uint64_t address = @lower@_word(bytes) | (uint64_t)@lower@_word(bytes + 4) << 32;
  unsigned index;
  for (address += by, index = 0; index < 8; index++) bytes[index] = (uint8_t)(address >> 8 * index);
}

/* Commands of the program at byte at of size bytes, END included; 0 where it does not end there. */
static inline uint32_t @lower@_commands(const uint8_t *bytes, uint64_t size, uint64_t at) {
  uint32_t count, index;
  if (at > size || size - at < @UPPER@_HEADER_BYTES) return 0;
  bytes += at;
  size -= at + @UPPER@_HEADER_BYTES;
  if (@lower@_word(bytes + @magic@) != @UPPER@_MAGIC) return 0;
  count = @lower@_word(bytes + @count@);
  bytes += @UPPER@_HEADER_BYTES;
  for (index = 0; index < count && index < size / @UPPER@_COMMAND_BYTES; index++)
    if (bytes[(uint64_t)index * @UPPER@_COMMAND_BYTES + @opcode@] == @UPPER@_OPCODE_END)
      return index + 1;
  return 0;
}

/* Put an image into memory that the device sees at address, a multiple of 64, and add to every
 * address in its program what it has been moved by; *program is then what to start. Where the image
 * is none (_BAD_IMAGE) nothing is written. */
static inline enum @lower@_result @lower@_load(const struct @lower@_image *image, void *memory,
                                               uint64_t address, uint64_t *program) {
  static const uint8_t addresses[] = {@addresses@};
  uint64_t by = address - image->base, at = image->program - image->base, index;
  uint32_t count = @lower@_commands(image->bytes, image->size, at);
  uint8_t *bytes = (uint8_t *)memory;
  unsigned field;
  if (!count || (image->base | image->program | address) & 63) return @UPPER@_BAD_IMAGE;
  for (index = 0; index < image->size; index++) bytes[index] = image->bytes[index];
  bytes += at;
  @lower@_move(bytes + @scalars@, by);
  for (bytes += @UPPER@_HEADER_BYTES; count--; bytes += @UPPER@_COMMAND_BYTES)
    for (field = 0; field < sizeof addresses; field++) @lower@_move(bytes + addresses[field], by);
  *program = address + at;
  return @UPPER@_OK;
}

/* A tensor of rows x columns in the memory of an image: bytes of an item (1: an integer, 2: BF16)
 * from byte at on, stride bytes from row to row. An item counts factor, times the BF16 item of its
 * row, which are items_stride bytes apart from byte items on, unless that is -1. */
struct @lower@_values {
  uint64_t at;
  int64_t items;
  uint32_t stride, items_stride, rows, columns, bytes;
  float factor;
};

static inline float @lower@_bf16(const uint8_t *bytes) {
  union { uint32_t word; float value; } bits;
  bits.word = (uint32_t)bytes[0] << 16 | (uint32_t)bytes[1] << 24;
  return bits.value;
}

/* What an item of a tensor in memory counts. */
static inline float @lower@_value(const struct @lower@_values *tensor, const void *memory,
                                  uint32_t row, uint32_t column) {
  const uint8_t *bytes = (const uint8_t *)memory, *item = bytes + tensor->at;
  float value;
  item += (uint64_t)row * tensor->stride + (uint64_t)column * tensor->bytes;
  value = tensor->bytes == 2 ? @lower@_bf16(item) : (float)(int8_t)item[0];
  value *= tensor->factor;
  if (tensor->items < 0) return value;
  return value * @lower@_bf16(bytes + tensor->items + (uint64_t)row * tensor->items_stride);
}

/* Start the program whose header is at address; bytes of memory from first on are flushed before.
 * The causes and events of the program before are cleared. */
static inline enum @lower@_result @lower@_start(const struct @lower@_device *device,
                                                uint64_t address, uint64_t first,
                                                uint64_t bytes) {
  uint32_t status = @lower@_get(device, @UPPER@_STATUS_OFFSET);
  if (status & @UPPER@_STATUS_BUS_STUCK_MASK) return @UPPER@_STUCK;
  if (status & @UPPER@_STATUS_BUSY_MASK) return @UPPER@_BUSY;
  if (device->flush) device->flush(device->context, first, bytes);
  @lower@_put(device, @UPPER@_ERROR_OFFSET, UINT32_C(0xFFFFFFFF));
  @lower@_put(device, @UPPER@_INTERRUPT_OFFSET, UINT32_C(0xFFFFFFFF));
  @lower@_put(device, @UPPER@_INTERRUPT_ENABLE_OFFSET,
              @UPPER@_INTERRUPT_ENABLE_DONE_MASK | @UPPER@_INTERRUPT_ENABLE_FAILED_MASK);
  @lower@_put(device, @UPPER@_PROGRAM_LOW_OFFSET, (uint32_t)address);
  @lower@_put(device, @UPPER@_PROGRAM_HIGH_OFFSET, (uint32_t)(address >> 32));
  @lower@_put(device, @UPPER@_CONTROL_OFFSET, @UPPER@_CONTROL_START_MASK);
  return @UPPER@_OK;
}

/* Whether the program has ended: @UPPER@_BUSY, _OK, _FAILED or _STUCK. Never waits. */
static inline enum @lower@_result @lower@_poll(const struct @lower@_device *device) {
  uint32_t status = @lower@_get(device, @UPPER@_STATUS_OFFSET);
  if (status & @UPPER@_STATUS_BUSY_MASK) return @UPPER@_BUSY;
  if (status & @UPPER@_STATUS_BUS_STUCK_MASK) return @UPPER@_STUCK;
  if (status & @UPPER@_STATUS_FAILED_MASK) return @UPPER@_FAILED;
  return status & @UPPER@_STATUS_DONE_MASK ? @UPPER@_OK : @UPPER@_BUSY;
}

/* Wait for the end, with at most waits looks at STATUS (0: for ever), and clear the interrupt. What
 * is cached of the bytes from first on is discarded, so that results are read from memory. */
static inline enum @lower@_result @lower@_wait(const struct @lower@_device *device, uint32_t waits,
                                               uint64_t first, uint64_t bytes) {
  uint32_t looks = 0;
  enum @lower@_result result;
  while ((result = @lower@_poll(device)) == @UPPER@_BUSY) {
    if (waits && ++looks >= waits) return @UPPER@_TIMEOUT;
    if (device->pause) device->pause(device->context);
  }
  @lower@_put(device, @UPPER@_INTERRUPT_OFFSET, UINT32_C(0xFFFFFFFF));
  if (device->discard) device->discard(device->context, first, bytes);
  return result;
}

/* Start a program and wait for its end. */
static inline enum @lower@_result @lower@_run(const struct @lower@_device *device,
                                              uint64_t address, uint64_t first, uint64_t bytes,
                                              uint32_t waits) {
  enum @lower@_result result = @lower@_start(device, address, first, bytes);
  return result == @UPPER@_OK ? @lower@_wait(device, waits, first, bytes) : result;
}

/* Stop the program that runs; poll or wait then tell FAILED with the cause STOPPED. */
static inline void @lower@_stop(const struct @lower@_device *device) {
  @lower@_put(device, @UPPER@_CONTROL_OFFSET, @UPPER@_CONTROL_STOP_MASK);
}

/* The causes of a failure, one bit each, and the address of the header or command it was in. */
static inline uint32_t @lower@_error(const struct @lower@_device *device, uint64_t *address) {
  if (address)
    *address = @lower@_get(device, @UPPER@_ERROR_ADDRESS_LOW_OFFSET)
               | (uint64_t)@lower@_get(device, @UPPER@_ERROR_ADDRESS_HIGH_OFFSET) << 32;
  return @lower@_get(device, @UPPER@_ERROR_OFFSET);
}

/* The name and the meaning of the lowest cause of causes; of none "no error". */
static inline const char *@lower@_error_text(uint32_t causes) {
  static const char *const texts[32] = {
@causes@
  };
  unsigned bit;
  for (bit = 0; bit < 32; bit++)
    if (causes >> bit & 1) return texts[bit] ? texts[bit] : "an unknown cause";
  return "no error";
}

/* Whose transfer a bus error was. */
static inline const char *@lower@_error_client(const struct @lower@_device *device) {
  static const char *const texts[8] = {@clients@};
  uint32_t detail = @lower@_get(device, @UPPER@_ERROR_DETAIL_OFFSET);
  const char *text = texts[detail >> @UPPER@_ERROR_DETAIL_CLIENT_SHIFT & 7];
  return text ? text : "an unknown client";
}

/* A counter, both words of one moment: counting is held while they are read. */
static inline uint64_t @lower@_count(const struct @lower@_device *device,
                                     enum @lower@_counter counter) {
  uint32_t offset = UINT32_C(@base@) + 8 * (uint32_t)counter;
  uint32_t before = @lower@_get(device, @UPPER@_COUNTER_CONTROL_OFFSET);
  uint64_t value;
  @lower@_put(device, @UPPER@_COUNTER_CONTROL_OFFSET, @UPPER@_COUNTER_CONTROL_FREEZE_MASK);
  value = @lower@_get(device, offset) | (uint64_t)@lower@_get(device, offset + 4) << 32;
  @lower@_put(device, @UPPER@_COUNTER_CONTROL_OFFSET, before);
  return value;
}

#ifdef __cplusplus
}
#endif

#endif /* @UPPER@_DRIVER_H */
"""


def driver(config: AcceleratorConfig, name: str = "ottava") -> str:
    """The driver as one header, which includes the C header ``name.h`` of the same build.

    Its names start with ``name``. ``ValueError`` where that is no C identifier.
    """
    upper, lower = c_names(name)
    words = {
        "name": name, "lower": lower, "UPPER": upper, "base": f"0x{COUNTER_BASE:03X}",
        "counters": ",\n".join(f"  @UPPER@_COUNT_{counter} = {index} /* {doc} */"
                               for index, (counter, doc) in enumerate(COUNTERS)),
        "known": ",\n".join(f"    {{@UPPER@_{register}_OFFSET, UINT32_C(0x{value:08X})}}"
                            for register, value in whole_registers(config).items()),
        "causes": ",\n".join(f'    /* {int(cause)} */ "{cause.name}: {cause.doc}"'
                             if cause is not None else f"    /* {index} */ 0"
                             for index, cause in enumerate(_by_bit())),
        "magic": str(HEADER["magic"].offset // 8), "count": str(HEADER["commands"].offset // 8),
        "scalars": str(HEADER["scalars"].offset // 8),
        "opcode": str(COMMAND["opcode"].offset // 8),
        "addresses": ", ".join(str(field.offset // 8) for field in COMMAND.values()
                               if field.role is Role.ADDRESS),
        "clients": ", ".join(f'"{doc}"' for _, doc in CLIENTS),
    }
    text = _TEXT
    for _ in range(2):  # what stands for a word may hold another
        text = re.sub(r"@(\w+)@", lambda match: words[match[1]], text)
    return in_ascii(text)


def _by_bit() -> list[ErrorCause | None]:
    causes = {int(cause): cause for cause in ErrorCause}
    return [causes.get(bit) for bit in range(max(causes) + 1)]

/* Two accelerators at once: load a program into the memory of each, start both, sleep until each
 * has told its end by an interrupt, print what both memories hold then. */
#include "csr.h"
#include "left_driver.h"
#include "left_head.h"
#include "mem.h"
#include "right_driver.h"
#include "right_head.h"
#include "soc.h"

#define LEFT_MEMORY MAIN_RAM_BASE
#define RIGHT_MEMORY (MAIN_RAM_BASE + MAIN_RAM_SIZE / 2)
_Static_assert(LEFT_HEAD_SIZE <= MAIN_RAM_SIZE / 2, "the left image must fit half of main_ram");
_Static_assert(RIGHT_HEAD_SIZE <= MAIN_RAM_SIZE / 2, "the right image must fit half of main_ram");

/* The console. */

static void put(char character) {
  while (*(volatile uint32_t *)CSR_UART_TXFULL_ADDR) {}
  *(volatile uint32_t *)CSR_UART_RXTX_ADDR = (uint8_t)character;
}

static void print(const char *text) {
  while (*text) put(*text++);
}

static void print_number(uint32_t value) {
  char digits[10];
  int count = 0;
  do digits[count++] = (char)('0' + value % 10);
  while (value /= 10);
  while (count) put(digits[--count]);
}

static void print_memory(const char *name, uint32_t address, uint32_t bytes) {
  const uint8_t *memory = (const uint8_t *)address;
  print(name);
  print(" holds ");
  for (; bytes--; memory++) {
    put("0123456789abcdef"[*memory >> 4]);
    put("0123456789abcdef"[*memory & 15]);
  }
  print("\n");
}

/* Interrupts: each is let through once, and again after what raised it has been seen to. */

static volatile uint32_t happened; /* bit n: interrupt n has come */

void on_interrupt(void) {
  uint32_t pending, mask;
  __asm__ volatile("csrr %0, 0xFC0" : "=r"(pending));
  __asm__ volatile("csrr %0, 0xBC0" : "=r"(mask));
  happened |= pending;
  __asm__ volatile("csrw 0xBC0, %0" : : "r"(mask & ~pending));
}

static void let_through(uint32_t sources) {
  happened &= ~sources;
  __asm__ volatile("csrw 0xBC0, %0" : : "r"(sources));
  __asm__ volatile("csrw mie, %0" : : "r"(1 << 11));
  __asm__ volatile("csrw mstatus, %0" : : "r"(1 << 3));
}

/* An interrupt between the look and the sleep would be slept through: it is held back until after
 * the sleep, which it ends all the same. */
static void sleep_until(uint32_t source) {
  do {
    __asm__ volatile("csrc mstatus, %0" : : "r"(1 << 3));
    if (!(happened >> source & 1)) __asm__ volatile("wfi");
    __asm__ volatile("csrs mstatus, %0" : : "r"(1 << 3));
  } while (!(happened >> source & 1));
}

/* What the drivers ask for. The processor writes through its cache, and reads what it holds. */

static void flush(void *context, uint64_t address, uint64_t bytes) {
  (void)context, (void)address, (void)bytes;
  __asm__ volatile("" : : : "memory");
}

static void discard(void *context, uint64_t address, uint64_t bytes) {
  (void)context, (void)address, (void)bytes;
  __asm__ volatile(".word 0x500F" : : : "memory"); /* all of the data cache */
}

static void left_sleep(void *context) {
  (void)context;
  sleep_until(LEFT_INTERRUPT);
}

static void right_sleep(void *context) {
  (void)context;
  sleep_until(RIGHT_INTERRUPT);
}

static const struct left_device left = {
    left_mmio_read, left_mmio_write, flush, discard, left_sleep, (void *)LEFT_BASE};
static const struct right_device right = {
    right_mmio_read, right_mmio_write, flush, discard, right_sleep, (void *)RIGHT_BASE};

static const struct left_image left_head = {
    left_head_bytes, LEFT_HEAD_SIZE, LEFT_HEAD_BASE, LEFT_HEAD_PROGRAM};
static const struct right_image right_head = {
    right_head_bytes, RIGHT_HEAD_SIZE, RIGHT_HEAD_BASE, RIGHT_HEAD_PROGRAM};

static int run(void) {
  uint64_t left_program, right_program;
  if (left_identify(&left) != LEFT_OK || right_identify(&right) != RIGHT_OK)
    return print("other builds\n"), 1;
  if (left_load(&left_head, (void *)LEFT_MEMORY, LEFT_MEMORY, &left_program) != LEFT_OK
      || right_load(&right_head, (void *)RIGHT_MEMORY, RIGHT_MEMORY, &right_program) != RIGHT_OK)
    return print("not images\n"), 1;
  *(volatile uint32_t *)CSR_LEFT_EV_ENABLE_ADDR = 1;
  *(volatile uint32_t *)CSR_RIGHT_EV_ENABLE_ADDR = 1;
  let_through(1 << LEFT_INTERRUPT | 1 << RIGHT_INTERRUPT);
  if (left_start(&left, left_program, LEFT_MEMORY, LEFT_HEAD_SIZE) != LEFT_OK
      || right_start(&right, right_program, RIGHT_MEMORY, RIGHT_HEAD_SIZE) != RIGHT_OK)
    return print("not started\n"), 1;
  if (left_poll(&left) == LEFT_BUSY && right_poll(&right) == RIGHT_BUSY) print("both run\n");
  if (left_wait(&left, 0, LEFT_MEMORY, LEFT_HEAD_SIZE) != LEFT_OK)
    return print(left_error_text(left_error(&left, 0))), print("\n"), 1;
  if (right_wait(&right, 0, RIGHT_MEMORY, RIGHT_HEAD_SIZE) != RIGHT_OK)
    return print(right_error_text(right_error(&right, 0))), print("\n"), 1;
  return 0;
}

void main(void) {
  if (!run()) {
    print("left took ");
    print_number((uint32_t)left_count(&left, LEFT_COUNT_CYCLES));
    print(" cycles, right ");
    print_number((uint32_t)right_count(&right, RIGHT_COUNT_CYCLES));
    print("; interrupts of ");
    print_number((happened >> LEFT_INTERRUPT & 1) + (happened >> RIGHT_INTERRUPT & 1));
    print(" of 2\n");
    print_memory("left", LEFT_MEMORY, LEFT_HEAD_SIZE);
    print_memory("right", RIGHT_MEMORY, RIGHT_HEAD_SIZE);
  }
  put(4); /* end of transmission */
}

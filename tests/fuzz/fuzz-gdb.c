/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bytes from a debugger: packets, and what the stub does with those whose checksum is right.  The
 * first byte says whether the rest are such bytes, or the data of one packet.  What the CPU does
 * is made up here; what the stub sends must be packets.
 */
#include "fuzz-chardev.h"
#include "system/cpus.h"
#include "system/gdb-int.h"
#include "system/run-state.h"
#include "util/aio.h"

enum { REGISTERS = 33 };

static uint64_t registers[REGISTERS];
static uint8_t memory[4096];

/* --- A CPU ---------------------------------------------------------------------------------- */

static const char *description(void)
{
    return "<target/>";
}

static bool read_register(CPUState *cpu, unsigned n, uint64_t *value)
{
    if (n < REGISTERS) {
        *value = registers[n];
    }
    return n < REGISTERS;
}

static bool write_register(CPUState *cpu, unsigned n, uint64_t value)
{
    if (n < REGISTERS) {
        registers[n] = value;
    }
    return n < REGISTERS;
}

static bool set_breakpoint(CPUState *cpu, uint64_t addr, bool insert)
{
    return addr % 2 == 0;
}

static bool set_watchpoint(CPUState *cpu, uint64_t addr, uint64_t len, CpuWatch watch, bool insert)
{
    return len <= 8;
}

static void set_step(CPUState *cpu, bool on)
{
}

static void clear(CPUState *cpu)
{
}

static CpuStop last_stop(CPUState *cpu)
{
    return (CpuStop){.kind = CPU_STOP_STEP};
}

static uint64_t address_view(CPUState *cpu)
{
    return 0;
}

static bool access_memory(CPUState *cpu, uint64_t view, uint64_t addr, void *buf, size_t len,
                          bool write)
{
    if (addr > sizeof(memory) || len > sizeof(memory) - addr) {
        return false;
    }
    memcpy(write ? memory + addr : buf, write ? buf : memory + addr, len);
    return true;
}

static const CpuDebugOps debug_ops = {
    .description = description,
    .core_registers = REGISTERS,
    .read_register = read_register,
    .write_register = write_register,
    .set_breakpoint = set_breakpoint,
    .set_watchpoint = set_watchpoint,
    .set_step = set_step,
    .clear = clear,
    .last_stop = last_stop,
    .address_view = address_view,
    .access_memory = access_memory,
};

/* --- A machine ------------------------------------------------------------------------------- */

static bool coroutine_fn no_reset(GError **errp)
{
    return true;
}

static void no_exit(int code)
{
}

static void start(void)
{
    static const RunStateOps ops = {.reset = no_reset, .exit = no_exit};

    main_aio_context_init();
    run_state_init(&ops);
    g_assert_true(cpus_init(NULL, NULL, 0, NULL));
}

/* --- The target ------------------------------------------------------------------------------- */

typedef struct Run {
    GdbStub *stub;
    const uint8_t *data;
    size_t size;
    bool framed; /* data is what a peer sends, not what is in a packet */
    bool done;
} Run;

static void coroutine_fn run_entry(void *opaque)
{
    Run *r = opaque;
    GString *packet = r->stub->reader.data;

    if (r->framed) {
        for (size_t i = 0; i < r->size; i++) {
            if (gdb_reader_feed(&r->stub->reader, r->data[i]) == GDB_INPUT_PACKET) {
                gdb_handle_packet(r->stub, packet);
            }
        }
    } else {
        g_string_append_len(packet, (const char *)r->data, r->size);
        gdb_handle_packet(r->stub, packet);
    }
    r->done = true;
}

/* What was sent, byte by byte: nothing but whole packets, within what was announced. */
static void check_sent(void)
{
    GdbReader reader;
    bool whole = true;

    gdb_reader_init(&reader);
    for (gsize i = 0; i < fuzz_output->len; i++) {
        GdbInput input = gdb_reader_feed(&reader, fuzz_output->str[i]);

        g_assert_true(input == GDB_INPUT_MORE || input == GDB_INPUT_PACKET);
        whole = input == GDB_INPUT_PACKET;
    }
    g_assert_true(whole);
    gdb_reader_destroy(&reader);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static Chardev *chr;
    GdbStub stub;
    Run run;

    if (!size || size > GDB_PACKET_MAX) {
        return 0;
    }
    if (!chr) {
        start();
        chr = fuzz_chardev_new("fuzz");
    }
    fuzz_output_clear();
    stub = (GdbStub){.chr = chr, .debug = &debug_ops, .connected = true,
                     .sent = g_string_new(NULL)};
    gdb_reader_init(&stub.reader);
    run = (Run){.stub = &stub, .data = data + 1, .size = size - 1, .framed = data[0] & 1};
    aio_co_enter(main_aio_context(), coroutine_create(run_entry, &run));
    while (!run.done) {
        aio_poll(main_aio_context(), true);
    }
    check_sent();
    gdb_reader_destroy(&stub.reader);
    g_string_free(stub.sent, true);
    return 0;
}

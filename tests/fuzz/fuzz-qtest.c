/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Lines to the test server, with the virt board behind it: devices get whatever accesses the lines
 * ask for.  The board lives on from input to input.
 */
#include "fuzz-chardev.h"
#include "hw/machine-lock.h"
#include "hw/riscv/virt.h"
#include "hw/vm-clock.h"
#include "monitor/monitor.h"
#include "system/qtest.h"

#define END "fuzz-ends"
#define END_REPLY "FAIL Unknown command '" END "'\n"

enum { RAM_SIZE = 1 << 16 };

static void no_shutdown(void *opaque, int code)
{
}

static void no_reset(void *opaque)
{
}

static void no_irq(void *opaque, int n, bool level)
{
}

static Chardev *start(void)
{
    static const SifiveTestOps finisher = {.shutdown = no_shutdown, .reset = no_reset};
    const IrqLine line = {.set = no_irq};
    VirtConfig config = {.nr_cpus = 1, .cpu = {{line, line, line, line}}, .isa = "rv64imafdc",
                         .ram = g_malloc0(RAM_SIZE), .ram_size = RAM_SIZE, .bios = "none",
                         .finisher = &finisher};
    g_autoptr(GError) err = NULL;
    VirtMachine *board;
    Chardev *chr;

    main_aio_context_init();
    machine_lock();
    vm_clock_set_by_hand();
    machine_unlock();
    board = virt_new(&config, &err);
    g_assert_no_error(err);
    chr = fuzz_chardev_new("fuzz");
    qtest_start("chardev:fuzz", board, true, false, &err);
    g_assert_no_error(err);
    return chr;
}

static void feed(Chardev *chr, const uint8_t *data, size_t size)
{
    while (size) {
        size_t n = MIN(size, chardev_front_can_receive(chr));

        if (n) {
            chardev_front_receive(chr, data, n);
            data += n;
            size -= n;
        } else {
            aio_poll(main_aio_context(), true);
        }
    }
}

/* Each reply is a line, and lines about interrupts are between them. */
static void check_lines(void)
{
    g_autofree char *text = fuzz_output_dup();
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

    for (char **line = lines; *line && line[1]; line++) {
        g_assert_true(g_str_has_prefix(*line, "OK") || g_str_has_prefix(*line, "FAIL ") ||
                      g_str_has_prefix(*line, "IRQ "));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char end[] = "\n" END "\n";
    static Chardev *chr;

    if (!chr) {
        chr = start();
    }
    fuzz_output_clear();
    feed(chr, data, size);
    feed(chr, (const uint8_t *)end, strlen(end));
    while (!fuzz_output_ends(END_REPLY)) {
        aio_poll(main_aio_context(), true);
    }
    check_lines();
    return 0;
}

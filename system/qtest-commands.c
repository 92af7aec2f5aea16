/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The commands of the test server, in the words of QEMU's: readb ADDR, write ADDR SIZE DATA,
 * clock_step [NS] and so on.  Replies begin with OK or FAIL.
 */
#include <string.h>

#include "hw/machine-lock.h"
#include "hw/vm-clock.h"
#include "qtest-int.h"
#include "system-int.h"
#include "util/aio.h"
#include "util/guest-memory.h"

#define DATA_MAX (UINT64_C(1) << 20)

static void coroutine_fn G_GNUC_PRINTF(2, 3) reply(QTest *q, const char *format, ...)
{
    g_autofree char *line = NULL;
    va_list ap;

    va_start(ap, format);
    line = g_strdup_vprintf(format, ap);
    va_end(ap);
    qtest_reply(q, line);
}

static bool parse_number(const char *text, uint64_t *value)
{
    char *end;

    *value = g_ascii_strtoull(text, &end, 0);
    return g_ascii_isdigit(*text) && !*end;
}

/* --- Memory and registers ----------------------------------------------------------------- */

typedef struct Access {
    AddressSpace *as;
    const MemoryRegion *mr; /* whose register it is; NULL: memory, or nothing */
    uint64_t addr, len;
    uint8_t *buf;
    uint64_t *value; /* of one register or word, instead of buf; len is its size */
    bool write, ok;
} Access;

/* As the CPU's own: what is not there reads as zero and takes writes without a trace. */
static void access_register(Access *a)
{
    const MemoryRegion *mr = a->mr;
    const MMIOOps *ops = mr->ops;
    uint64_t offset = a->addr - mr->base;

    if (!ops || a->addr % a->len || a->len > mr->size - offset || a->len < (ops->min_size ? ops->min_size : 1) ||
        a->len > (ops->max_size ? ops->max_size : 8)) {
        return;
    }
    if (!ops->lockless) {
        machine_lock();
    }
    if (a->write && ops->write) {
        ops->write(mr->opaque, offset, *a->value, a->len);
    } else if (!a->write && ops->read) {
        *a->value = ops->read(mr->opaque, offset, a->len);
    }
    if (!ops->lockless) {
        machine_unlock();
    }
}

static int access_worker(void *opaque)
{
    Access *a = opaque;
    uint64_t word = 0;
    void *buf = a->value ? (void *)&word : a->buf;

    if (a->mr) {
        access_register(a);
        a->ok = true;
        return 0;
    }
    if (a->value && a->write) {
        word = GUINT64_TO_LE(*a->value);
    }
    guest_memory_begin();
    a->ok = a->as && (a->write ? address_space_write(a->as, a->addr, buf, a->len)
                               : address_space_read(a->as, a->addr, buf, a->len));
    guest_memory_end();
    if (a->value && !a->write) {
        *a->value = GUINT64_FROM_LE(word);
    }
    a->ok = a->ok || a->value;
    return 0;
}

static const MemoryRegion *find_register(const Access *a)
{
    const MemoryRegion *mr = a->as && a->value ? address_space_find(a->as, a->addr) : NULL;

    return mr && (a->write ? mr->ops != NULL : !memory_region_reads_host(mr)) ? mr : NULL;
}

static bool coroutine_fn do_access(QTest *q, Access *a)
{
    bool done;

    a->as = q->as;
    a->mr = find_register(a);
    if (a->mr) {
        vm_co_lock_devices();
    }
    done = guest_co_run(access_worker, a);
    if (a->mr) {
        vm_co_unlock_devices();
    }
    return done && a->ok;
}

/* The size that readb, writew... have at their end. */
static uint64_t word_size(const char *command)
{
    switch (command[strlen(command) - 1]) {
    case 'b':
        return 1;
    case 'w':
        return 2;
    case 'l':
        return 4;
    default:
        return 8;
    }
}

static void coroutine_fn cmd_read_word(QTest *q, char **w)
{
    uint64_t addr, value = 0;

    if (!parse_number(w[1], &addr)) {
        reply(q, "FAIL bad address '%s'", w[1]);
        return;
    }
    if (!do_access(q, &(Access){.addr = addr, .len = word_size(w[0]), .value = &value})) {
        reply(q, "FAIL the machine ends");
        return;
    }
    reply(q, "OK 0x%016" G_GINT64_MODIFIER "x", value);
}

static void coroutine_fn cmd_write_word(QTest *q, char **w)
{
    uint64_t addr, value, size = word_size(w[0]);

    if (!parse_number(w[1], &addr) || !parse_number(w[2], &value)) {
        reply(q, "FAIL bad number");
        return;
    }
    if (size < 8) {
        value &= (UINT64_C(1) << (size * 8)) - 1;
    }
    reply(q, do_access(q, &(Access){.addr = addr, .len = size, .value = &value, .write = true})
                 ? "OK" : "FAIL the machine ends");
}

static bool coroutine_fn parse_range(QTest *q, char **w, uint64_t *addr, uint64_t *len)
{
    if (!parse_number(w[1], addr) || !parse_number(w[2], len) || *len == 0 || *len > DATA_MAX) {
        reply(q, "FAIL bad range");
        return false;
    }
    return true;
}

/* For read and b64read: the bytes, NULL if the peer has its answer. */
static uint8_t *coroutine_fn read_range(QTest *q, char **w, uint64_t *len)
{
    g_autofree uint8_t *buf = NULL;
    uint64_t addr;

    if (!parse_range(q, w, &addr, len)) {
        return NULL;
    }
    buf = g_malloc(*len);
    if (!do_access(q, &(Access){.addr = addr, .len = *len, .buf = buf})) {
        reply(q, "FAIL there is no memory");
        return NULL;
    }
    return g_steal_pointer(&buf);
}

static void coroutine_fn write_range(QTest *q, uint64_t addr, uint8_t *buf, uint64_t len)
{
    Access a = {.addr = addr, .len = len, .buf = buf, .write = true};

    reply(q, do_access(q, &a) ? "OK" : "FAIL there is no memory");
}

static void coroutine_fn cmd_read(QTest *q, char **w)
{
    g_autoptr(GString) text = g_string_new("OK 0x");
    uint64_t len;
    g_autofree uint8_t *buf = read_range(q, w, &len);

    if (buf) {
        for (uint64_t i = 0; i < len; i++) {
            g_string_append_printf(text, "%02x", buf[i]);
        }
        qtest_reply(q, text->str);
    }
}

static void coroutine_fn cmd_b64read(QTest *q, char **w)
{
    uint64_t len;
    g_autofree uint8_t *buf = read_range(q, w, &len);
    g_autofree char *text = buf ? g_base64_encode(buf, len) : NULL;

    if (buf) {
        reply(q, "OK %s", text);
    }
}

/* "0x0123...": what is missing at the end is zero. */
static void coroutine_fn cmd_write(QTest *q, char **w)
{
    g_autofree uint8_t *buf = NULL;
    uint64_t addr, len;
    const char *hex = w[3] + 2;

    if (!parse_range(q, w, &addr, &len)) {
        return;
    }
    buf = g_malloc0(len);
    for (uint64_t i = 0; i < len && g_str_has_prefix(w[3], "0x") && hex[0]; i++, hex += 2) {
        int high = g_ascii_xdigit_value(hex[0]), low = g_ascii_xdigit_value(hex[1]);

        if (high < 0 || low < 0) {
            reply(q, "FAIL bad data");
            return;
        }
        buf[i] = high << 4 | low;
    }
    write_range(q, addr, buf, len);
}

static void coroutine_fn cmd_b64write(QTest *q, char **w)
{
    g_autofree uint8_t *buf = NULL, *data = NULL;
    uint64_t addr, len;
    gsize n;

    if (!parse_range(q, w, &addr, &len)) {
        return;
    }
    data = g_base64_decode(w[3], &n);
    buf = g_malloc0(len);
    memcpy(buf, data, MIN(n, len));
    write_range(q, addr, buf, len);
}

static void coroutine_fn cmd_memset(QTest *q, char **w)
{
    g_autofree uint8_t *buf = NULL;
    uint64_t addr, len, byte;

    if (!parse_range(q, w, &addr, &len)) {
        return;
    }
    if (!parse_number(w[3], &byte)) {
        reply(q, "FAIL bad number");
        return;
    }
    buf = g_malloc(len);
    memset(buf, (int)byte, len);
    write_range(q, addr, buf, len);
}

/* --- Clock --------------------------------------------------------------------------------- */

static void coroutine_fn go_to(QTest *q, uint64_t ns)
{
    if (!q->has_clock) {
        reply(q, "FAIL the clock is not the test's; use -accel qtest");
        return;
    }
    machine_lock();
    vm_clock_warp(MIN(ns, INT64_MAX));
    machine_unlock();
    reply(q, "OK %" G_GINT64_FORMAT, vm_clock_ns());
}

/* By NS, or to the next timer. */
static void coroutine_fn cmd_clock_step(QTest *q, char **w)
{
    uint64_t now = vm_clock_ns(), ns;

    if (!w[1]) {
        int64_t next;

        machine_lock();
        next = vm_timer_next();
        machine_unlock();
        go_to(q, next == INT64_MAX ? now : MAX(now, (uint64_t)next));
    } else if (!parse_number(w[1], &ns) || ns > (uint64_t)INT64_MAX - now) {
        reply(q, "FAIL bad number");
    } else {
        go_to(q, now + ns);
    }
}

static void coroutine_fn cmd_clock_set(QTest *q, char **w)
{
    uint64_t ns;

    if (parse_number(w[1], &ns)) {
        go_to(q, ns);
    } else {
        reply(q, "FAIL bad number");
    }
}

/* --- The rest ------------------------------------------------------------------------------- */

/* The interrupt controller is the one device whose wires can be watched. */
static void coroutine_fn intercept(QTest *q, const char *path, SifivePlicObserve what)
{
    if (!q->plic || !g_str_has_suffix(path, "plic")) {
        reply(q, "FAIL Unknown device; there is 'plic'");
        return;
    }
    if (q->intercepts) {
        reply(q, "FAIL interrupts are intercepted already");
        return;
    }
    q->intercepts = true;
    sifive_plic_observe(q->plic, what, qtest_irq, q);
    reply(q, "OK");
}

static void coroutine_fn cmd_intercept_in(QTest *q, char **w)
{
    intercept(q, w[1], SIFIVE_PLIC_OBSERVE_IN);
}

static void coroutine_fn cmd_intercept_out(QTest *q, char **w)
{
    intercept(q, w[1], SIFIVE_PLIC_OBSERVE_OUT);
}

static void coroutine_fn cmd_endianness(QTest *q, char **w)
{
    reply(q, "OK little");
}

static void coroutine_fn cmd_module_load(QTest *q, char **w)
{
    reply(q, "FAIL there are no modules");
}

static const struct {
    const char *name;
    void coroutine_fn (*run)(QTest *q, char **words);
    guint args; /* at least */
} commands[] = {
    {"readb", cmd_read_word, 1}, {"readw", cmd_read_word, 1}, {"readl", cmd_read_word, 1},
    {"readq", cmd_read_word, 1}, {"writeb", cmd_write_word, 2}, {"writew", cmd_write_word, 2},
    {"writel", cmd_write_word, 2}, {"writeq", cmd_write_word, 2}, {"read", cmd_read, 2},
    {"write", cmd_write, 3}, {"b64read", cmd_b64read, 2}, {"b64write", cmd_b64write, 3},
    {"memset", cmd_memset, 3}, {"clock_step", cmd_clock_step, 0}, {"clock_set", cmd_clock_set, 1},
    {"irq_intercept_in", cmd_intercept_in, 1}, {"irq_intercept_out", cmd_intercept_out, 1},
    {"endianness", cmd_endianness, 0}, {"module_load", cmd_module_load, 0},
};

void coroutine_fn qtest_command(QTest *q, char **words)
{
    guint args = g_strv_length(words) - 1;

    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (strcmp(commands[i].name, words[0])) {
            continue;
        }
        if (args < commands[i].args) {
            reply(q, "FAIL '%s' needs %u arguments", words[0], commands[i].args);
        } else {
            commands[i].run(q, words);
        }
        return;
    }
    reply(q, "FAIL Unknown command '%s'", words[0]);
}

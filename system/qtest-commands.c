/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The commands of the test server, in the words of QEMU's: readb ADDR, write ADDR SIZE DATA,
 * clock_step [NS] and so on.  Replies begin with OK or FAIL.
 */
#include <string.h>

#include "hw/machine-lock.h"
#include "hw/vm-clock.h"
#include "qtest-int.h"

#define DATA_MAX (UINT64_C(1) << 20)

static void coroutine_fn G_GNUC_PRINTF(2, 3) reply(QTest *q, const char *format, ...)
{
    g_autofree char *line = NULL, *text = NULL;
    va_list ap;

    va_start(ap, format);
    line = g_strdup_vprintf(format, ap);
    va_end(ap);
    text = g_strconcat(line, "\n", NULL);
    qtest_reply(q, text);
}

static bool parse_number(const char *text, uint64_t *value)
{
    char *end;

    *value = g_ascii_strtoull(text, &end, 0);
    return g_ascii_isdigit(*text) && !*end;
}

/* --- Memory and registers ----------------------------------------------------------------- */

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
        reply(q, "FAIL bad address '%.64s'", w[1]);
    } else if (!qtest_access_word(q, addr, word_size(w[0]), &value, false)) {
        reply(q, "FAIL the machine ends");
    } else {
        reply(q, "OK 0x%016" G_GINT64_MODIFIER "x", value);
    }
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
    reply(q, qtest_access_word(q, addr, size, &value, true) ? "OK" : "FAIL the machine ends");
}

static bool coroutine_fn parse_range(QTest *q, char **w, QTestRange *r)
{
    if (!parse_number(w[1], &r->addr) || !parse_number(w[2], &r->len) || r->len == 0 ||
        r->len > DATA_MAX) {
        reply(q, "FAIL bad range");
        return false;
    }
    return true;
}

static void coroutine_fn access_range(QTest *q, QTestRange *r)
{
    qtest_access_range(q, r);
    if (r->reply) {
        qtest_reply(q, r->reply);
    } else {
        reply(q, "%s", r->error ? r->error : "OK");
    }
    g_free(r->reply);
}

static QTestForm form_of(const char *command)
{
    return g_str_has_prefix(command, "b64") ? QTEST_BASE64 : QTEST_HEX;
}

static void coroutine_fn cmd_read(QTest *q, char **w)
{
    QTestRange r = {.form = form_of(w[0])};

    if (parse_range(q, w, &r)) {
        access_range(q, &r);
    }
}

static void coroutine_fn cmd_write(QTest *q, char **w)
{
    QTestRange r = {.form = form_of(w[0]), .write = true, .text = w[3]};

    if (parse_range(q, w, &r)) {
        access_range(q, &r);
    }
}

static void coroutine_fn cmd_memset(QTest *q, char **w)
{
    QTestRange r = {.form = QTEST_BYTE, .write = true};
    uint64_t byte;

    if (!parse_range(q, w, &r)) {
        return;
    }
    if (!parse_number(w[3], &byte)) {
        reply(q, "FAIL bad number");
        return;
    }
    r.byte = byte;
    access_range(q, &r);
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
    {"write", cmd_write, 3}, {"b64read", cmd_read, 2}, {"b64write", cmd_write, 3},
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
    reply(q, "FAIL Unknown command '%.64s'", words[0]);
}

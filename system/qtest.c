/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A session of the test server: lines from a character device, one coroutine that executes
 * them in order.  Nothing blocks the main loop: memory and registers are accessed in a
 * worker, as a vCPU thread would, since a device's reset may wait for its disk.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "monitor/monitor.h"
#include "qapi/error.h"
#include "qtest-int.h"
#include "system/qtest.h"
#include "util/aio.h"
#include "util/log.h"

/* A line: 1 MiB of data as hex, and the command. */
#define LINE_MAX_BYTES (2 * 1024 * 1024 + 256)

static QTest *server;

static void wake(QTest *q)
{
    if (q->idle) {
        q->idle = false;
        aio_co_wake(q->co);
    }
}

static void coroutine_fn wait_for_event(QTest *q)
{
    q->idle = true;
    coroutine_yield();
}

static void log_line(QTest *q, char direction, const char *line)
{
    if (q->log) {
        int64_t now = g_get_monotonic_time();

        log_printf("[%c +%" PRId64 ".%06" PRId64 "] %s\n", direction, now / 1000000,
                   now % 1000000, line);
    }
}

void coroutine_fn qtest_reply(QTest *q, const char *line)
{
    g_autofree char *text = g_strconcat(line, "\n", NULL);
    size_t len = strlen(text);

    log_line(q, 'S', line);
    for (const char *p = text; len && q->connected && !q->ended;) {
        size_t n = chardev_write(q->chr, p, len);

        p += n;
        len -= n;
        if (len) {
            wait_for_event(q);
        }
    }
}

void qtest_irq(void *opaque, int n, bool level)
{
    QTest *q = opaque;
    char line[64];
    int len = snprintf(line, sizeof(line), "IRQ %s %d\n", level ? "raise" : "lower", n);

    chardev_write(q->chr, line, len);
}

/* The next line without its end, NULL if there is none yet. */
static char *take_line(QTest *q)
{
    const uint8_t *end = q->input->len ? memchr(q->input->data, '\n', q->input->len) : NULL;
    size_t len = end ? end - q->input->data : 0;
    char *line;

    if (!end) {
        return NULL;
    }
    line = g_strndup((const char *)q->input->data, len);
    g_byte_array_remove_range(q->input, 0, len + 1);
    return g_strchomp(line);
}

/* Words are divided by one or more blanks. */
static char **split(const char *line)
{
    g_auto(GStrv) parts = g_strsplit(line, " ", -1);
    GPtrArray *words = g_ptr_array_new();

    for (char **p = parts; *p; p++) {
        if (**p) {
            g_ptr_array_add(words, g_strdup(*p));
        }
    }
    g_ptr_array_add(words, NULL);
    return (char **)g_ptr_array_free(words, false);
}

static void end_interception(QTest *q)
{
    if (q->intercepts) {
        sifive_plic_observe(q->plic, SIFIVE_PLIC_OBSERVE_NONE, NULL, NULL);
        q->intercepts = false;
    }
}

static void coroutine_fn run(void *opaque)
{
    QTest *q = opaque;

    while (!q->ended) {
        g_autofree char *line = take_line(q);
        g_auto(GStrv) words = line ? split(line) : NULL;

        if (words && words[0]) {
            log_line(q, 'R', line);
            qtest_command(q, words);
        } else if (!line && q->input->len >= LINE_MAX_BYTES) {
            g_byte_array_set_size(q->input, 0);
            qtest_reply(q, "FAIL line too long");
        } else if (!line) {
            chardev_accept_input(q->chr);
            wait_for_event(q);
        }
    }
    end_interception(q);
    g_byte_array_unref(q->input);
    g_free(q);
}

/* --- Events ------------------------------------------------------------------------------ */

static size_t can_receive(void *opaque)
{
    QTest *q = opaque;

    return q->input->len < LINE_MAX_BYTES ? LINE_MAX_BYTES - q->input->len : 0;
}

static void receive(void *opaque, const uint8_t *buf, size_t len)
{
    QTest *q = opaque;

    g_byte_array_append(q->input, buf, len);
    wake(q);
}

static void event(void *opaque, ChardevEvent event)
{
    QTest *q = opaque;

    if (event == CHARDEV_BREAK) {
        return;
    }
    q->connected = event == CHARDEV_OPENED;
    g_byte_array_set_size(q->input, 0);
    end_interception(q);
    log_line(q, 'I', q->connected ? "OPENED" : "CLOSED");
    wake(q);
}

static void writable(void *opaque)
{
    wake(opaque);
}

static const ChardevFrontOps front_ops = {
    .can_receive = can_receive,
    .receive = receive,
    .event = event,
    .writable = writable,
};

bool qtest_start(const char *spec, VirtMachine *board, bool has_clock, bool log, GError **errp)
{
    Chardev *chr = chardev_new_from_spec("qtest", spec, errp);
    QTest *q;

    if (!chr) {
        return false;
    }
    q = g_new0(QTest, 1);
    *q = (QTest){.chr = chr, .has_clock = has_clock, .log = log};
    q->as = board ? virt_address_space(board) : NULL;
    q->plic = board ? virt_plic(board) : NULL;
    q->input = g_byte_array_new();
    if (!chardev_attach(chr, &front_ops, q)) {
        error_setg(errp, "Device '%s' is in use", chardev_label(chr));
        g_byte_array_unref(q->input);
        g_free(q);
        return false;
    }
    server = q;
    q->co = coroutine_create(run, q);
    aio_co_enter(main_aio_context(), q->co);
    return true;
}

void qtest_end(void)
{
    QTest *q = server;

    if (q) {
        server = NULL;
        chardev_attach(q->chr, NULL, NULL);
        q->connected = false;
        q->ended = true;
        wake(q);
    }
}

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
/* A reply goes out in such pieces; others get their turn in between. */
#define PIECE (64 * 1024)
/* Of lines about interrupts that a peer has not read. */
#define HELD_MAX (64 * 1024)
/* What the log shows of a line. */
#define LOG_MAX 4096
/* A session with more work than that lets others go on in between. */
#define SLICE_NS (1000 * 1000)

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
    q->turn_ns = clock_now_ns();
}

static void coroutine_fn give_way(QTest *q)
{
    co_sleep_ns(0);
    q->turn_ns = clock_now_ns();
}

static void log_line(QTest *q, char direction, const char *line)
{
    if (q->log) {
        int64_t now = g_get_monotonic_time();
        size_t len = strcspn(line, "\n");

        log_printf("[%c +%" PRId64 ".%06" PRId64 "] %.*s%s\n", direction, now / 1000000,
                   now % 1000000, (int)MIN(len, LOG_MAX), line, len > LOG_MAX ? "..." : "");
    }
}

/* --- Output: whole lines ------------------------------------------------------------------- */

/* q->lock held. */
static void send_held(QTest *q)
{
    if (q->held->len) {
        g_string_erase(q->held, 0, chardev_write(q->chr, q->held->str, q->held->len));
        q->lost = q->lost && q->held->len;
    }
}

void qtest_irq(void *opaque, int n, bool level)
{
    QTest *q = opaque;

    pthread_mutex_lock(&q->lock);
    if (q->held->len < HELD_MAX) {
        g_string_append_printf(q->held, "IRQ %s %d\n", level ? "raise" : "lower", n);
    } else if (!q->lost) {
        q->lost = true;
        log_printf("qtest: interrupts are not told any more: the client does not read\n");
    }
    if (!q->in_line) {
        send_held(q);
    }
    pthread_mutex_unlock(&q->lock);
}

/* Whether the peer is there that has asked. */
static bool is_heard(const QTest *q)
{
    return q->connected && !q->ended && q->asked == q->peer;
}

/* When all about interrupts is told; false: there is nobody to hear a reply. */
static bool coroutine_fn begin_line(QTest *q)
{
    while (is_heard(q)) {
        bool ready;

        pthread_mutex_lock(&q->lock);
        send_held(q);
        ready = q->in_line = !q->held->len;
        pthread_mutex_unlock(&q->lock);
        if (ready) {
            return true;
        }
        wait_for_event(q);
    }
    return false;
}

static void end_line(QTest *q)
{
    pthread_mutex_lock(&q->lock);
    q->in_line = false;
    send_held(q);
    pthread_mutex_unlock(&q->lock);
}

void coroutine_fn qtest_reply(QTest *q, const char *text)
{
    size_t len = strlen(text);

    log_line(q, 'S', text);
    if (!begin_line(q)) {
        return;
    }
    while (len && is_heard(q)) {
        size_t piece = MIN(len, PIECE), n = chardev_write(q->chr, text, piece);

        text += n;
        len -= n;
        if (n < piece) {
            wait_for_event(q);
        } else if (len) {
            give_way(q);
        }
    }
    end_line(q);
}

/* --- Input ---------------------------------------------------------------------------------- */

static void drop_input(QTest *q)
{
    g_byte_array_set_size(q->input, 0);
    q->start = q->scanned = 0;
}

/* The next line without its end, NULL if there is none yet. */
static char *take_line(QTest *q)
{
    guint left = q->input->len - q->scanned;
    const uint8_t *end = left ? memchr(q->input->data + q->scanned, '\n', left) : NULL;
    char *line;

    if (!end) {
        if (q->start) {
            g_byte_array_remove_range(q->input, 0, q->start);
            q->start = 0;
        }
        q->scanned = q->input->len;
        return NULL;
    }
    line = g_strndup((const char *)q->input->data + q->start,
                     end - (q->input->data + q->start));
    q->start = q->scanned = end + 1 - q->input->data;
    return g_strchomp(line);
}

/* The words, which are divided by one or more blanks, where they are; a list that ends with NULL. */
static char **split(char *line)
{
    GPtrArray *words = g_ptr_array_new();

    for (char *p = line + strspn(line, " "); *p; p += strspn(p, " ")) {
        g_ptr_array_add(words, p);
        p += strcspn(p, " ");
        if (*p) {
            *p++ = '\0';
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

static void qtest_free(QTest *q)
{
    pthread_mutex_destroy(&q->lock);
    g_string_free(q->held, true);
    g_byte_array_unref(q->input);
    g_free(q);
}

static void coroutine_fn run_line(QTest *q, char *line)
{
    g_autofree char **words = NULL;

    log_line(q, 'R', line);
    words = split(line);
    qtest_command(q, words);
}

static void coroutine_fn run(void *opaque)
{
    QTest *q = opaque;

    while (!q->ended) {
        g_autofree char *line = take_line(q);

        q->asked = q->peer;
        if (line && line[strspn(line, " ")]) {
            run_line(q, line);
        } else if (!line && q->input->len >= LINE_MAX_BYTES) {
            drop_input(q);
            qtest_reply(q, "FAIL line too long\n");
        } else if (!line) {
            chardev_accept_input(q->chr);
            wait_for_event(q);
        }
        if (clock_now_ns() - q->turn_ns > SLICE_NS) {
            give_way(q);
        }
    }
    end_interception(q);
    qtest_free(q);
}

/* --- Events ------------------------------------------------------------------------------ */

static size_t can_receive(void *opaque)
{
    QTest *q = opaque;

    guint used = q->input->len - q->start;

    return used < LINE_MAX_BYTES ? LINE_MAX_BYTES - used : 0;
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
    q->peer += q->connected;
    drop_input(q);
    end_interception(q);
    pthread_mutex_lock(&q->lock);
    g_string_truncate(q->held, 0);
    pthread_mutex_unlock(&q->lock);
    log_line(q, 'I', q->connected ? "OPENED" : "CLOSED");
    wake(q);
}

static void writable(void *opaque)
{
    QTest *q = opaque;

    pthread_mutex_lock(&q->lock);
    if (!q->in_line) {
        send_held(q);
    }
    pthread_mutex_unlock(&q->lock);
    wake(q);
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
    q->held = g_string_new(NULL);
    pthread_mutex_init(&q->lock, NULL);
    if (!chardev_attach(chr, &front_ops, q)) {
        error_setg(errp, "Device '%s' is in use", chardev_label(chr));
        qtest_free(q);
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

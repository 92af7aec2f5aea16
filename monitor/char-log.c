/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Logs of character devices (char-log.h).  Bytes wait in memory; while there are some, a
 * coroutine of the main thread has workers write them.  A device takes no more than the log
 * has room for, so a slow disk holds up who writes to the device and nobody else, and nothing
 * is left out.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include "monitor/char-log.h"
#include "qapi/error.h"
#include "util/co-lock.h"
#include "util/coroutine.h"
#include "util/errno-text.h"
#include "util/fd-write.h"
#include "util/fdset.h"

/* How long the end of the program waits for files that take nothing. */
#define FINISH_NS (2 * 1000 * 1000 * 1000LL)

struct CharLog {
    /* Constant. */
    char *label;
    const char *what;
    int fd;

    /* Main thread. */
    GPtrArray *kicks;  /* of AioBH */
    GByteArray *piece; /* the worker has it */
    bool failed;       /* it was said */
    CoQueue idle;      /* who waits until all is written */

    pthread_mutex_t lock; /* leaf; guards what follows */
    int refs;             /* one more while the coroutine is at work */
    bool writing;
    GByteArray *waiting;
};

static int at_work; /* logs; atomic */

CharLog *char_log_new(const char *label, const char *what, int fd)
{
    CharLog *log = g_new0(CharLog, 1);

    log->label = g_strdup(label);
    log->what = what;
    log->fd = fd;
    log->refs = 1;
    log->waiting = g_byte_array_new();
    log->piece = g_byte_array_new();
    log->kicks = g_ptr_array_new();
    co_queue_init(&log->idle);
    pthread_mutex_init(&log->lock, NULL);
    return log;
}

bool char_log_open(CharLog **log, const char *label, const ChardevOpts *opts, GError **errp)
{
    const char *path = chardev_opts_get(opts, "logfile");
    bool append;
    int fd;

    *log = NULL;
    if (!chardev_opts_get_bool(opts, "logappend", false, &append, errp)) {
        return false;
    }
    if (!path) {
        return true;
    }
    fd = fdset_open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY |
                    (append ? O_APPEND : O_TRUNC), 0666);
    if (fd < 0) {
        error_setg_errno(errp, errno, "Could not create '%s'", path);
        return false;
    }
    *log = char_log_new(label, "log", fd);
    return true;
}

CharLog *char_log_ref(CharLog *log)
{
    pthread_mutex_lock(&log->lock);
    log->refs++;
    pthread_mutex_unlock(&log->lock);
    return log;
}

void char_log_unref(CharLog *log)
{
    int refs;

    if (!log) {
        return;
    }
    pthread_mutex_lock(&log->lock);
    refs = --log->refs;
    pthread_mutex_unlock(&log->lock);
    if (!refs) {
        close(log->fd);
        g_byte_array_unref(log->waiting);
        g_byte_array_unref(log->piece);
        g_ptr_array_unref(log->kicks);
        co_queue_destroy(&log->idle);
        pthread_mutex_destroy(&log->lock);
        g_free(log->label);
        g_free(log);
    }
}

/* WorkerFunc: 0 or -errno. */
static int write_piece(void *opaque)
{
    CharLog *log = opaque;

    return fd_write_all(log->fd, log->piece->data, log->piece->len);
}

/* The next piece; false, and the log is not at work any more, if there is none. */
static bool take_piece(CharLog *log)
{
    GByteArray *empty = g_byte_array_set_size(log->piece, 0);

    pthread_mutex_lock(&log->lock);
    log->piece = log->waiting;
    log->waiting = empty;
    log->writing = log->piece->len > 0;
    pthread_mutex_unlock(&log->lock);
    return log->piece->len > 0;
}

static void tell_waiters(CharLog *log)
{
    for (guint i = 0; i < log->kicks->len; i++) {
        aio_bh_schedule(log->kicks->pdata[i]);
    }
}

static void coroutine_fn write_pieces(void *opaque)
{
    CharLog *log = opaque;

    while (take_piece(log)) {
        int ret;

        tell_waiters(log);
        ret = co_run_in_worker(write_piece, log);
        if (ret < 0 && !log->failed) {
            g_printerr("%s: warning: chardev '%s': could not write to the log: %s\n",
                       g_get_prgname(), log->label, errno_text(-ret));
        }
        log->failed = ret < 0;
    }
    co_queue_restart_all(&log->idle);
    char_log_unref(log);
    __atomic_fetch_sub(&at_work, 1, __ATOMIC_SEQ_CST);
}

static void begin(void *opaque)
{
    aio_co_enter(main_aio_context(), coroutine_create(write_pieces, opaque));
}

size_t char_log_waiting(CharLog *log)
{
    size_t len;

    pthread_mutex_lock(&log->lock);
    len = log->waiting->len;
    pthread_mutex_unlock(&log->lock);
    return len;
}

void char_log_write(CharLog *log, const void *buf, size_t len)
{
    bool start;

    pthread_mutex_lock(&log->lock);
    g_byte_array_append(log->waiting, buf, len);
    start = len && !log->writing;
    log->writing |= start;
    log->refs += start;
    pthread_mutex_unlock(&log->lock);
    if (start) {
        __atomic_fetch_add(&at_work, 1, __ATOMIC_SEQ_CST);
        aio_bh_schedule_oneshot(main_aio_context(), begin, log);
    }
}

void coroutine_fn char_log_co_wait(CharLog *log)
{
    for (;;) {
        bool writing;

        pthread_mutex_lock(&log->lock);
        writing = log->writing;
        pthread_mutex_unlock(&log->lock);
        if (!writing) {
            return;
        }
        co_queue_wait(&log->idle, NULL);
    }
}

void char_log_add_kick(CharLog *log, AioBH *kick)
{
    g_ptr_array_add(log->kicks, kick);
}

void char_log_remove_kick(CharLog *log, AioBH *kick)
{
    g_ptr_array_remove_fast(log->kicks, kick);
}

static void too_late(void *opaque)
{
    *(bool *)opaque = true;
}

void char_log_finish(void)
{
    bool late = false;
    AioTimer *timer;

    if (!__atomic_load_n(&at_work, __ATOMIC_SEQ_CST)) {
        return; /* a wrong option ends the program before there is a main loop */
    }
    timer = aio_timer_new(main_aio_context(), too_late, &late);
    aio_timer_mod(timer, clock_now_ns() + FINISH_NS);
    while (__atomic_load_n(&at_work, __ATOMIC_SEQ_CST) && !late) {
        aio_poll(main_aio_context(), true);
    }
    aio_timer_free(timer);
    if (late) {
        g_printerr("%s: warning: a character device's file takes nothing: it is not complete\n",
                   g_get_prgname());
    }
}

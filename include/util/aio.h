/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * AioContext: one event loop, run by exactly one thread, owner of everything that is
 * homed in it: fd handlers, bottom halves, timers, disk requests, coroutines.
 *
 * The main thread's context is attached to glib as a GSource; an IOThread polls its
 * context directly.  Unless a function says "any thread" it must be called in the
 * thread that runs the context.
 */
#ifndef UTIL_AIO_H
#define UTIL_AIO_H

#include <glib.h>
#include <sys/types.h>
#include <sys/uio.h>
#include "util/coroutine.h"

typedef struct AioContext AioContext;
typedef struct AioBH AioBH;
typedef void AioHandler(void *opaque);

/* --- Context ------------------------------------------------------------------- */

/*
 * Makes a context over io_uring, or over epoll where io_uring cannot be had (or
 * KEYFRAME_NO_IO_URING is set in the environment).  NULL and errp on failure.  The
 * caller owns one reference.  Any thread.
 */
AioContext *aio_context_new(GError **errp);
AioContext *aio_context_ref(AioContext *ctx);
void aio_context_unref(AioContext *ctx);

/*
 * Makes the main thread's context, once, first thing in main().  Aborts on failure.
 * Tools and tests call it too.
 */
void main_aio_context_init(void);
/* The main thread's context.  Any thread. */
AioContext *main_aio_context(void);
/* The context that the calling thread runs, NULL in a thread without one. */
AioContext *aio_current(void);
/* Whether the calling thread is the one that runs ctx. */
bool aio_in_home_thread(AioContext *ctx);
/*
 * How long the loop looks again and again, in nanoseconds, for the end of a disk request in flight
 * before it sleeps; 0, as at first: not at all.  For a program that has nothing else to do and whose
 * CPU nobody waits for: to wake a thread up costs more than a request that the page cache answers.
 * Any thread; only where io_uring is used.
 */
void aio_set_poll_max(AioContext *ctx, int64_t ns);
#define AIO_POLL_TOOL_NS 50000 /* what suits a tool: about one wake-up */

/* What the user of an IOThread says of it; all 0 at first, none below. */
typedef struct AioPolling {
    int64_t max_ns;    /* the longest time that it looks, see above; 0: it sleeps at once */
    int64_t grow;      /* the time is multiplied by this if more of it would have helped; 0: 2 */
    int64_t shrink;    /* and divided by this if even max_ns does not help; 0: it becomes 0 */
    int64_t max_batch; /* so many disk requests are handed to the host at once; 0: no limit */
} AioPolling;
/* The time adapts to what comes, from 0 to max_ns.  Any thread; only where io_uring is used. */
void aio_set_polling(AioContext *ctx, const AioPolling *polling);
/* What was said last.  Any thread. */
AioPolling aio_polling(AioContext *ctx);
/* A GSource that polls ctx in a glib main loop; the caller owns one reference. */
GSource *aio_get_g_source(AioContext *ctx);

/*
 * Runs ready handlers, bottom halves and timers; with blocking waits until there is at
 * least one.  Returns whether something ran.  For IOThreads, tools and tests; never
 * from inside a handler or coroutine.
 */
bool aio_poll(AioContext *ctx, bool blocking);
/* Makes a blocking aio_poll() return.  Any thread, signal safe. */
void aio_notify(AioContext *ctx);

/* What a loop did, all of it wall time: a thread that waits for a CPU is not waiting here. */
typedef struct AioLoopStats {
    uint64_t rounds;
    int64_t busy_ns;    /* between waits, in all */
    int64_t longest_ns; /* the longest time between two waits, while nothing else is heard */
} AioLoopStats;
/* Since the start or the last reset. */
AioLoopStats aio_loop_stats(AioContext *ctx, bool reset);

/*
 * Keeps ctx's thread out of its handlers while another thread looks at an object homed
 * in ctx.  Short; never across a yield (a debug build aborts).  Any thread; recursive.
 */
void aio_context_acquire(AioContext *ctx);
void aio_context_release(AioContext *ctx);

/* --- File descriptors ------------------------------------------------------------ */

/*
 * Calls read(opaque) while fd is readable and write(opaque) while it is writable; NULL
 * for both removes fd.  fd stays the caller's.
 */
void aio_set_fd_handler(AioContext *ctx, int fd, AioHandler *read, AioHandler *write,
                        void *opaque);

/*
 * Suspends the coroutine until fd is readable / writable, in the current context.  At most
 * one coroutine per fd and direction, and none where a handler is set.  Closing fd does
 * not end the wait; shutdown(2) does.
 */
void coroutine_fn co_wait_readable(int fd);
void coroutine_fn co_wait_writable(int fd);

/* --- Bottom halves --------------------------------------------------------------- */

/* A bottom half that may be scheduled many times.  Any thread for all of these. */
AioBH *aio_bh_new(AioContext *ctx, AioHandler *cb, void *opaque);
void aio_bh_schedule(AioBH *bh);
void aio_bh_cancel(AioBH *bh);
void aio_bh_delete(AioBH *bh);
/* Runs cb(opaque) once in ctx's thread. */
void aio_bh_schedule_oneshot(AioContext *ctx, AioHandler *cb, void *opaque);

/* --- Timers ----------------------------------------------------------------------- */

/* CLOCK_MONOTONIC in nanoseconds.  Any thread. */
int64_t clock_now_ns(void);

/* One-shot timer on CLOCK_MONOTONIC, homed in ctx.  mod/del: any thread. */
typedef struct AioTimer AioTimer;
AioTimer *aio_timer_new(AioContext *ctx, AioHandler *cb, void *opaque);
/* (Re)arms the timer for the absolute time expire_ns. */
void aio_timer_mod(AioTimer *timer, int64_t expire_ns);
void aio_timer_del(AioTimer *timer);
bool aio_timer_pending(AioTimer *timer);
/* Disarms too.  In ctx's thread, or when the callback cannot be running. */
void aio_timer_free(AioTimer *timer);

/* --- Event notifier ------------------------------------------------------------------ */

/* An eventfd.  init: false and errp on failure.  set: any thread, signal safe. */
typedef struct EventNotifier {
    int fd;
} EventNotifier;
bool event_notifier_init(EventNotifier *e, GError **errp);
void event_notifier_cleanup(EventNotifier *e);
void event_notifier_set(EventNotifier *e);
/* Consumes the event; true if it was set. */
bool event_notifier_test_and_clear(EventNotifier *e);

/* --- Coroutines and contexts ----------------------------------------------------- */

/* The context where co last ran or was scheduled to: its home.  Any thread. */
AioContext *coroutine_context(Coroutine *co);
/* Enters co in ctx's thread soon.  co must be suspended.  Any thread. */
void aio_co_schedule(AioContext *ctx, Coroutine *co);
/*
 * Continues co in its home context: at once if the caller is in that thread and not in
 * a coroutine, else as soon as possible.  Safe against co still being on its way into
 * coroutine_yield().  Any thread.
 */
void aio_co_wake(Coroutine *co);
/* Starts co in ctx: at once if the caller is in ctx's thread, else scheduled. */
void aio_co_enter(AioContext *ctx, Coroutine *co);
/* Moves the calling coroutine to ctx; on return it runs in ctx's thread. */
void coroutine_fn aio_co_reschedule_self(AioContext *ctx);

/*
 * Runs entry(opaque) as a coroutine in ctx (which the calling thread must run) and
 * polls until it has ended.  For tools, start-up and tests; never while a guest runs.
 */
void aio_co_run_sync(AioContext *ctx, CoroutineEntry *entry, void *opaque);

/* Suspends for ns nanoseconds. */
void coroutine_fn co_sleep_ns(int64_t ns);

/* A sleep that can be cut short.  Zero-initialise; wake: any thread, may come first. */
typedef struct CoSleep {
    Coroutine *co;
    int state; /* atomic */
} CoSleep;
/* Returns true if woken, false if ns nanoseconds went by. */
bool coroutine_fn co_sleep_ns_wakeable(CoSleep *s, int64_t ns);
void co_sleep_wake(CoSleep *s);

/*
 * Runs entry(opaque) as its own coroutine and waits for it at most timeout_ns.
 * Returns true if it ended in time.  Otherwise returns false at once; entry goes on,
 * and clean(opaque) is called when it has ended.
 */
bool coroutine_fn co_timeout(CoroutineEntry *entry, void *opaque, int64_t timeout_ns,
                             AioHandler *clean);

/*
 * Runs fn(opaque) in a worker thread (shared pool) and returns its result; the
 * coroutine is suspended meanwhile and continues in the context it was in.
 */
typedef int WorkerFunc(void *opaque);
int coroutine_fn co_run_in_worker(WorkerFunc *fn, void *opaque);
/* The same for what moves a lot of data and nobody waits for: few threads, behind all others
 * (THREAD_ROLE_BULK). */
int coroutine_fn co_run_in_bulk_worker(WorkerFunc *fn, void *opaque);

/* --- Disk I/O (util/aio-disk.c): io_uring of the current context, workers without -- */

/*
 * Reads or writes at offset (bytes).  Short transfers are continued; a read stops early
 * only at the end of file.  Returns the number of bytes, or -errno.
 */
ssize_t coroutine_fn co_preadv(int fd, const struct iovec *iov, int niov, off_t offset);
ssize_t coroutine_fn co_pwritev(int fd, const struct iovec *iov, int niov, off_t offset);
/* The same through worker threads in any case. */
ssize_t coroutine_fn co_preadv_in_worker(int fd, const struct iovec *iov, int niov, off_t offset);
ssize_t coroutine_fn co_pwritev_in_worker(int fd, const struct iovec *iov, int niov, off_t offset);
/* Writes in a bulk worker. */
ssize_t coroutine_fn co_pwritev_in_bulk(int fd, const struct iovec *iov, int niov, off_t offset);
/* fdatasync(2).  0 or -errno. */
int coroutine_fn co_fdatasync(int fd);
/* fallocate(2).  0 or -errno. */
int coroutine_fn co_fallocate(int fd, int mode, off_t offset, off_t len);
/*
 * Has the kernel begin to write what it holds of the range (bytes) to the disk, in a bulk
 * worker; waits for a place in the disk's queue, not for the disk.  What it cannot write, the next co_fdatasync()
 * reports (sync_file_range(2) with SYNC_FILE_RANGE_WRITE only).  0 or -errno.
 */
int coroutine_fn co_start_writeback(int fd, off_t offset, off_t len);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The front half of character devices: attachment, flow control and the output queue.
 *
 * Output: any thread appends under a leaf lock.  The main thread writes directly when
 * nothing is queued.  So does a vCPU thread, but at most every FLUSH_INTERVAL_NS: what a
 * guest prints in between is left to one bottom half, so a burst costs neither a system
 * call per character nor a wait for the main loop.  A vCPU thread may be put aside by the
 * scheduler while it writes: the main thread does not wait for it to flush, but comes back.
 * Input: descriptors are read in the main thread, never more than the front end takes.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "monitor/byte-queue.h"
#include "monitor/char-log.h"
#include "monitor/chardev-int.h"
#include "qapi/error.h"
#include "util/lock-soon.h"

#define FLUSH_INTERVAL_NS (100 * 1000)
#define READ_MAX (16 * 1024)
#define DATAGRAM_MAX 65507 /* of UDP over IPv4 */

static void chardev_read(void *opaque);
static void chardev_flush(void *opaque);

/* --- Writing ------------------------------------------------------------------------- */

static void set_short_write(Chardev *chr, bool value)
{
    __atomic_store_n(&chr->short_write, value, __ATOMIC_SEQ_CST);
}

/* Lock held.  Returns what the peer took; a failure marks the device broken. */
static size_t write_fd_locked(Chardev *chr, const void *buf, size_t len)
{
    size_t done = 0;

    while (done < len && !chr->broken) {
        const char *p = (const char *)buf + done;
        size_t piece = chr->backend->datagrams ? MIN(len - done, DATAGRAM_MAX) : len - done;
        ssize_t n = chr->out_is_socket
                        ? send(chr->out_fd, p, piece, MSG_NOSIGNAL | MSG_DONTWAIT)
                        : write(chr->out_fd, p, piece);

        if (n > 0) {
            done += n;
        } else if (n < 0 && errno == EINTR) {
            continue;
        } else if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            break;
        } else if (chr->backend->datagrams) {
            done += piece; /* nobody is there to hear it */
        } else {
            chr->broken = true;
        }
    }
    return done;
}

static void flush_locked(Chardev *chr)
{
    if (chr->out.len && chr->out_fd >= 0) {
        size_t n = write_fd_locked(chr, chr->out.data + chr->out.head, chr->out.len);

        queue_consume(&chr->out, n);
    }
}

/* Lock held.  Takes up to max bytes beyond what goes out directly. */
static size_t write_locked(Chardev *chr, const void *buf, size_t len, size_t max)
{
    bool in_main = aio_in_home_thread(main_aio_context());
    int64_t now = in_main ? 0 : clock_now_ns();
    bool direct = in_main || now - chr->last_flush_ns >= FLUSH_INTERVAL_NS;
    size_t done = 0, room;

    if (!chr->connected || chr->broken || chr->out_fd < 0) {
        if (chr->backend->sink) {
            chr->backend->sink(chr, buf, len);
        }
        return len;
    }
    if (direct && !in_main) {
        chr->last_flush_ns = now;
    }
    /* The write handler is at work on a queue that the peer does not take. */
    if (direct && !(in_main && chr->writing)) {
        flush_locked(chr);
        if (!chr->out.len) {
            done = write_fd_locked(chr, buf, len);
        }
    }
    room = max > chr->out.len ? max - chr->out.len : 0;
    if (done < len && room && !chr->broken) {
        size_t n = MIN(len - done, room);

        queue_append(&chr->out, (const char *)buf + done, n);
        done += n;
    }
    if (chr->broken) {
        done = len;
    }
    if (done < len) {
        set_short_write(chr, true);
    }
    if (chr->broken || (chr->out.len && !(in_main && chr->writing))) {
        aio_bh_schedule(chr->kick);
    }
    return done;
}

static CharLog *written_by_workers(Chardev *chr)
{
    return chr->backend->written ? chr->backend->written(chr) : NULL;
}

/* Bytes that wait for workers, to be written to the log or to the device itself. */
static size_t waiting_for_workers(Chardev *chr)
{
    CharLog *file = written_by_workers(chr);

    return MAX(chr->log ? char_log_waiting(chr->log) : 0, file ? char_log_waiting(file) : 0);
}

/* What the log has no room for is not taken, so that both get the same. */
static size_t limit_by_log(Chardev *chr, size_t len)
{
    size_t waiting = waiting_for_workers(chr);
    size_t room = waiting < CHAR_LOG_MAX ? CHAR_LOG_MAX - waiting : 0;

    if (len <= room || (!chr->log && !written_by_workers(chr))) {
        return len;
    }
    set_short_write(chr, true);
    return room;
}

static bool has_filter(const Chardev *chr)
{
    return chr->filter[CHARDEV_FILTER_STAMPS] || chr->filter[CHARDEV_FILTER_LINE];
}

/* Lock held.  What a filter puts in front of text has no need of the next one. */
static size_t filter_locked(Chardev *chr, const uint8_t *buf, size_t len, ChardevInsert *before)
{
    for (int i = 0; i < CHARDEV_FILTERS; i++) {
        if (chr->filter[i]) {
            len = chr->filter[i](chr->filter_opaque[i], chr->filtered, buf, len, before);
        }
    }
    return len;
}

/* Lock held.  What a filter puts in front of a byte is taken with it or not at all. */
static size_t write_filtered_locked(Chardev *chr, const uint8_t *buf, size_t len, size_t max)
{
    size_t done = 0;

    while (done < len) {
        ChardevInsert before = {0};
        size_t run = filter_locked(chr, buf + done, len - done, &before), n;

        if (before.len && max != SIZE_MAX && chr->out.len + before.len >= max) {
            set_short_write(chr, true);
            break;
        }
        if (before.len) {
            write_locked(chr, before.text, before.len, SIZE_MAX);
        }
        n = write_locked(chr, buf + done, run, max);
        done += n;
        if (n) {
            chr->filtered = buf[done - 1];
        }
        if (n < run) {
            break;
        }
    }
    return done;
}

static size_t write_to(Chardev *chr, const void *buf, size_t len, size_t max)
{
    size_t n;

    pthread_mutex_lock(&chr->lock);
    n = max == SIZE_MAX ? len : limit_by_log(chr, len);
    n = has_filter(chr) ? write_filtered_locked(chr, buf, n, max) : write_locked(chr, buf, n, max);
    if (chr->log) {
        char_log_write(chr->log, buf, n);
    }
    pthread_mutex_unlock(&chr->lock);
    return n;
}

size_t chardev_write(Chardev *chr, const void *buf, size_t len)
{
    size_t n;

    if (!chr->through) {
        return write_to(chr, buf, len, CHARDEV_QUEUE_MAX);
    }
    /* Noted before the write: room may come up before it returns. */
    set_short_write(chr, true);
    n = chardev_write(chr->through, buf, limit_by_log(chr, len));
    if (n == len) {
        set_short_write(chr, false);
    }
    if (chr->log) {
        char_log_write(chr->log, buf, n);
    }
    return n;
}

void chardev_write_all(Chardev *chr, const void *buf, size_t len)
{
    write_to(chr->through ? chr->through : chr, buf, len, SIZE_MAX);
    if (chr->through && chr->log) {
        char_log_write(chr->log, buf, len);
    }
}

static size_t queued(Chardev *chr)
{
    return __atomic_load_n(&chr->out.len, __ATOMIC_RELAXED);
}

size_t chardev_pending(Chardev *chr)
{
    return waiting_for_workers(chr) +
           (chr->through ? chardev_pending(chr->through) : queued(chr));
}

void chardev_want_writable(Chardev *chr)
{
    set_short_write(chr, true);
    if (chr->through) {
        chardev_want_writable(chr->through);
    } else {
        aio_bh_schedule(chr->kick);
    }
}

void chardev_front_writable(Chardev *chr)
{
    bool tell = __atomic_exchange_n(&chr->short_write, false, __ATOMIC_SEQ_CST);

    if (tell && chr->ops && chr->ops->writable) {
        chr->ops->writable(chr->opaque);
    }
}

void chardev_disconnect(Chardev *chr)
{
    pthread_mutex_lock(&chr->lock);
    chr->broken = true;
    pthread_mutex_unlock(&chr->lock);
    aio_bh_schedule(chr->kick);
}

void chardev_finish(Chardev *chr)
{
    pthread_mutex_lock(&chr->lock);
    chr->finishing = true;
    pthread_mutex_unlock(&chr->lock);
    aio_bh_schedule(chr->kick);
}

/* --- Descriptor handlers ------------------------------------------------------------- */

static void set_handlers(Chardev *chr, bool reading, bool writing)
{
    AioContext *ctx = main_aio_context();

    if (reading == chr->reading && writing == chr->writing) {
        return;
    }
    if (chr->in_fd >= 0 && chr->in_fd == chr->out_fd) {
        aio_set_fd_handler(ctx, chr->in_fd, reading ? chardev_read : NULL,
                           writing ? chardev_flush : NULL, chr);
    } else {
        if (chr->in_fd >= 0 && reading != chr->reading) {
            aio_set_fd_handler(ctx, chr->in_fd, reading ? chardev_read : NULL, NULL, chr);
        }
        if (chr->out_fd >= 0 && writing != chr->writing) {
            aio_set_fd_handler(ctx, chr->out_fd, NULL, writing ? chardev_flush : NULL, chr);
        }
    }
    chr->reading = reading;
    chr->writing = writing;
}

static bool wants_input(Chardev *chr)
{
    return chr->connected && chr->in_fd >= 0 && chardev_front_can_receive(chr) > 0;
}

static void update_handlers(Chardev *chr)
{
    set_handlers(chr, wants_input(chr),
                 chr->connected && !chr->through && queued(chr) > 0);
}

/* Whether a peer from which no more comes may still read, and the front end goes on for it. */
static bool half_closed(Chardev *chr)
{
    struct pollfd pfd = {.fd = chr->in_fd};

    return chr->out_is_socket && chr->ops && chr->ops->input_ended && poll(&pfd, 1, 0) >= 0 &&
           !(pfd.revents & (POLLHUP | POLLERR));
}

/* The input is at its end, the output is not. */
static void input_ended(Chardev *chr)
{
    int fd = chr->in_fd;

    set_handlers(chr, false, false);
    chr->in_fd = -1;
    if (fd != chr->out_fd) {
        close(fd);
    }
    update_handlers(chr);
}

/* --- Descriptors handed over ------------------------------------------------------------ */

int chardev_take_passed_fd(Chardev *chr)
{
    int fd;

    if (!chr->n_passed) {
        return -1;
    }
    fd = chr->passed_fds[0];
    memmove(chr->passed_fds, chr->passed_fds + 1, --chr->n_passed * sizeof(int));
    return fd;
}

static void drop_passed_fds(Chardev *chr)
{
    int fd;

    while ((fd = chardev_take_passed_fd(chr)) >= 0) {
        close(fd);
    }
}

/* Keeps the newest: a peer that sends and never names them must not use up all we have. */
static void keep_passed_fds(Chardev *chr, struct msghdr *msg)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        for (size_t at = 0; at + sizeof(int) <= c->cmsg_len - CMSG_LEN(0); at += sizeof(int)) {
            if (chr->n_passed == CHARDEV_PASSED_MAX) {
                close(chardev_take_passed_fd(chr));
            }
            memcpy(&chr->passed_fds[chr->n_passed++], CMSG_DATA(c) + at, sizeof(int));
        }
    }
}

static ssize_t read_input(Chardev *chr, void *buf, size_t len)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int) * CHARDEV_PASSED_MAX)];
        struct cmsghdr align;
    } control;
    struct iovec iov = {.iov_base = buf, .iov_len = len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
                         .msg_controllen = sizeof(control)};
    ssize_t n;

    if (!chr->out_is_socket || chr->in_fd != chr->out_fd) {
        return read(chr->in_fd, buf, len);
    }
    n = recvmsg(chr->in_fd, &msg, MSG_CMSG_CLOEXEC);
    if (n > 0) {
        keep_passed_fds(chr, &msg);
    }
    return n;
}

/* --- Reading ------------------------------------------------------------------------- */

static void chardev_read(void *opaque)
{
    Chardev *chr = opaque;
    size_t room = chardev_front_can_receive(chr);
    uint8_t buf[READ_MAX];
    ssize_t n;

    if (!room) {
        update_handlers(chr);
        return;
    }
    do {
        n = read_input(chr, buf, MIN(room, sizeof(buf)));
    } while (n < 0 && errno == EINTR);

    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        return;
    }
    chardev_ref(chr);
    if (n == 0 && chr->backend->keeps_output) {
        input_ended(chr);
    } else if (n == 0 && half_closed(chr)) {
        input_ended(chr);
        chr->ops->input_ended(chr->opaque);
    } else if (n <= 0) {
        chardev_peer_lost(chr);
    } else {
        (chr->backend->received ? chr->backend->received : chardev_front_receive)(chr, buf, n);
        if (chr->connected && chr->reading && !chardev_front_can_receive(chr)) {
            update_handlers(chr);
        }
    }
    chardev_unref(chr);
}

/* The descriptor takes more, or another thread asks for work to be done here. */
static void chardev_flush(void *opaque)
{
    Chardev *chr = opaque;
    bool broken, room;

    if (!mutex_lock_soon(&chr->lock)) {
        aio_bh_schedule(chr->kick);
        return;
    }
    chardev_ref(chr);
    if (chr->connected) {
        flush_locked(chr);
    }
    broken = chr->broken || (chr->finishing && !chr->out.len);
    room = chardev_pending(chr) <= CHARDEV_QUEUE_MAX / 2;
    pthread_mutex_unlock(&chr->lock);

    if (broken) {
        chardev_peer_lost(chr);
    } else if (room) {
        chardev_front_writable(chr);
    }
    if (!chr->closed) {
        update_handlers(chr);
    }
    chardev_unref(chr);
}

static void chardev_kicked(void *opaque)
{
    Chardev *chr = opaque;
    bool input = __atomic_exchange_n(&chr->input_wanted, false, __ATOMIC_SEQ_CST);

    chardev_ref(chr);
    if (input && chr->backend->accept_input) {
        chr->backend->accept_input(chr);
    }
    chardev_flush(chr);
    chardev_unref(chr);
}

void chardev_accept_input(Chardev *chr)
{
    /* Never at once: the caller may hold what can_receive() takes, the machine lock. */
    __atomic_store_n(&chr->input_wanted, true, __ATOMIC_SEQ_CST);
    aio_bh_schedule(chr->kick);
}

/* --- Peers --------------------------------------------------------------------------- */

void chardev_peer_opened(Chardev *chr, int in_fd, int out_fd, bool is_socket)
{
    if (in_fd >= 0) {
        g_unix_set_fd_nonblocking(in_fd, true, NULL);
    }
    if (out_fd >= 0 && out_fd != in_fd) {
        g_unix_set_fd_nonblocking(out_fd, true, NULL);
    }
    pthread_mutex_lock(&chr->lock);
    chr->in_fd = in_fd;
    chr->out_fd = out_fd;
    chr->out_is_socket = is_socket;
    chr->broken = chr->finishing = false;
    chr->connected = true;
    pthread_mutex_unlock(&chr->lock);

    chardev_front_event(chr, CHARDEV_OPENED);
    update_handlers(chr);
}

/* Returns whether there was a peer; its descriptors stay open. */
static bool forget_peer(Chardev *chr)
{
    bool was;

    set_handlers(chr, false, false);
    pthread_mutex_lock(&chr->lock);
    was = chr->connected;
    chr->connected = false;
    chr->broken = chr->finishing = false;
    queue_clear(&chr->out);
    pthread_mutex_unlock(&chr->lock);
    return was;
}

static void close_fds(Chardev *chr)
{
    int in = chr->in_fd, out = chr->out_fd;

    pthread_mutex_lock(&chr->lock);
    chr->in_fd = chr->out_fd = -1;
    pthread_mutex_unlock(&chr->lock);
    if (in >= 0) {
        close(in);
    }
    if (out >= 0 && out != in) {
        close(out);
    }
}

void chardev_peer_lost(Chardev *chr)
{
    chardev_ref(chr);
    if (!forget_peer(chr)) {
        chardev_unref(chr);
        return;
    }
    chardev_front_event(chr, CHARDEV_CLOSED);
    chardev_front_writable(chr);
    if (!chr->closed) {
        if (chr->backend->peer_lost) {
            chr->backend->peer_lost(chr);
        } else {
            close_fds(chr);
        }
    }
    chardev_unref(chr);
}

int chardev_steal_fd(Chardev *chr)
{
    int fd = chr->in_fd >= 0 ? chr->in_fd : chr->out_fd; /* the input may have ended */

    forget_peer(chr);
    pthread_mutex_lock(&chr->lock);
    chr->in_fd = chr->out_fd = -1;
    pthread_mutex_unlock(&chr->lock);
    return fd;
}

/* --- The front end ------------------------------------------------------------------- */

bool chardev_attach(Chardev *chr, const ChardevFrontOps *ops, void *opaque)
{
    if (ops && chr->ops) {
        return false;
    }
    chr->ops = ops;
    chr->opaque = opaque;
    if (chr->backend->attached) {
        chr->backend->attached(chr);
    }
    if (ops && chr->connected) {
        chardev_front_event(chr, CHARDEV_OPENED);
    }
    if (ops) {
        chardev_accept_input(chr);
    } else if (!chr->closed) {
        update_handlers(chr);
    }
    return true;
}

size_t chardev_front_can_receive(Chardev *chr)
{
    if (!chr->ops || !chr->ops->receive) {
        return 0;
    }
    return chr->ops->can_receive ? chr->ops->can_receive(chr->opaque) : READ_MAX;
}

void chardev_front_receive(Chardev *chr, const uint8_t *buf, size_t len)
{
    if (chr->ops && chr->ops->receive) {
        chr->ops->receive(chr->opaque, buf, len);
    }
}

void chardev_front_event(Chardev *chr, ChardevEvent event)
{
    if (chr->ops && chr->ops->event) {
        chr->ops->event(chr->opaque, event);
    }
}

bool chardev_connected(Chardev *chr)
{
    return chr->connected;
}

const char *chardev_label(Chardev *chr)
{
    return chr->label;
}

const char *chardev_filename(Chardev *chr)
{
    return chr->filename;
}

void chardev_set_filename(Chardev *chr, char *filename)
{
    g_free(chr->filename);
    chr->filename = filename;
}

void chardev_set_filter(Chardev *chr, ChardevFilterKind kind, ChardevFilter *filter, void *opaque)
{
    pthread_mutex_lock(&chr->lock);
    chr->filter[kind] = filter;
    chr->filter_opaque[kind] = opaque;
    chr->filtered = 0;
    pthread_mutex_unlock(&chr->lock);
}

/* --- Life ---------------------------------------------------------------------------- */

Chardev *chardev_alloc(const ChardevDriver *backend, const char *label)
{
    Chardev *chr = g_malloc0(backend->instance_size);

    chr->backend = backend;
    chr->label = g_strdup(label);
    chr->filename = g_strdup(backend->name);
    chr->refs = 1;
    chr->in_fd = chr->out_fd = -1;
    pthread_mutex_init(&chr->lock, NULL);
    chr->kick = aio_bh_new(main_aio_context(), chardev_kicked, chr);
    if (backend->init) {
        backend->init(chr);
    }
    return chr;
}

void chardev_set_log(Chardev *chr, CharLog *log)
{
    chr->log = log;
    if (log) {
        char_log_add_kick(log, chr->kick);
    }
}

Chardev *chardev_ref(Chardev *chr)
{
    chr->refs++;
    return chr;
}

void chardev_unref(Chardev *chr)
{
    if (--chr->refs) {
        return;
    }
    if (!chr->closed) {
        chr->refs++;
        chardev_close(chr);
        chr->refs--;
    }
    drop_passed_fds(chr);
    aio_bh_delete(chr->kick);
    pthread_mutex_destroy(&chr->lock);
    g_free(chr->label);
    g_free(chr->filename);
    g_free(chr);
}

void chardev_drain(Chardev *chr, int64_t until_ns)
{
    Chardev *dev = chr->through ? chr->through : chr;

    pthread_mutex_lock(&dev->lock);
    while (dev->connected && !dev->broken && dev->out_fd >= 0 && dev->out.len) {
        struct pollfd pfd = {.fd = dev->out_fd, .events = POLLOUT};
        int64_t left = until_ns - clock_now_ns();

        if (left <= 0 || poll(&pfd, 1, left / 1000000 + 1) <= 0) {
            break;
        }
        flush_locked(dev);
    }
    pthread_mutex_unlock(&dev->lock);
}

/* A front end may still be writing in another thread: it finds no log. */
static void drop_log(Chardev *chr)
{
    CharLog *log = chr->log;

    pthread_mutex_lock(&chr->lock);
    chr->log = NULL;
    pthread_mutex_unlock(&chr->lock);
    if (log) {
        char_log_remove_kick(log, chr->kick);
        char_log_unref(log);
    }
}

void chardev_close(Chardev *chr)
{
    if (chr->closed) {
        return;
    }
    chr->closed = true;
    pthread_mutex_lock(&chr->lock);
    if (chr->connected) {
        flush_locked(chr);
    }
    pthread_mutex_unlock(&chr->lock);
    forget_peer(chr);
    chr->ops = NULL;
    if (chr->backend->close) {
        chr->backend->close(chr);
    }
    close_fds(chr);
    drop_log(chr);
}

ChardevFiles chardev_files(Chardev *chr)
{
    ChardevFiles f = {{chr->log, written_by_workers(chr)}};

    for (size_t i = 0; i < G_N_ELEMENTS(f.file); i++) {
        if (f.file[i]) {
            char_log_ref(f.file[i]);
        }
    }
    return f;
}

void coroutine_fn chardev_files_co_wait(ChardevFiles *f)
{
    for (size_t i = 0; i < G_N_ELEMENTS(f->file); i++) {
        if (f->file[i]) {
            char_log_co_wait(f->file[i]);
            char_log_unref(f->file[i]);
        }
    }
}

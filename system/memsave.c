/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * memsave and pmemsave: a piece of guest memory in a file.  Coroutines of a session; pieces
 * are read as guest-read.c does and written by a worker.  Main thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>
#include "qapi/error.h"
#include "qapi/qapi-commands-dump.h"
#include "system-int.h"
#include "util/fd-write.h"

#define PIECE (1u << 20)

typedef struct Output {
    const char *filename;
    int fd;
    const uint8_t *buf;
    size_t len;
} Output;

/* The three of them: worker; 0 or -errno. */
static int open_output(void *opaque)
{
    Output *o = opaque;

    o->fd = open(o->filename, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    return o->fd < 0 ? -errno : 0;
}

static int write_output(void *opaque)
{
    Output *o = opaque;

    return fd_write_all(o->fd, o->buf, o->len);
}

static int close_output(void *opaque)
{
    Output *o = opaque;

    return close(o->fd) < 0 ? -errno : 0;
}

static bool coroutine_fn save(const CpuView *view, uint64_t addr, uint64_t size, Output *o,
                              GError **errp)
{
    g_autofree uint8_t *buf = g_malloc(MIN(size, PIECE));
    uint64_t done = 0;
    int ret;

    while (done < size) {
        o->buf = buf;
        o->len = MIN(size - done, PIECE);
        if (!guest_co_read(view, addr + done, buf, o->len, !view)) {
            error_setg(errp, "Invalid addr 0x%016" PRIx64 "/size %" PRIu64 " specified", addr,
                       size);
            return false;
        }
        ret = co_run_in_worker(write_output, o);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Could not write '%s'", o->filename);
            return false;
        }
        done += o->len;
    }
    return true;
}

static void coroutine_fn save_to_file(const CpuView *view, int64_t addr, int64_t size,
                                      const char *filename, GError **errp)
{
    Output o = {.filename = filename};
    int ret;

    if (size < 0) {
        error_setg(errp, "Parameter 'size' expects a number of bytes");
        return;
    }
    ret = co_run_in_worker(open_output, &o);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not open '%s'", filename);
        return;
    }
    if (!save(view, addr, size, &o, errp)) {
        co_run_in_worker(close_output, &o);
        return;
    }
    ret = co_run_in_worker(close_output, &o);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not write '%s'", filename);
    }
}

void coroutine_fn qmp_memsave(int64_t val, int64_t size, const char *filename,
                              bool has_cpu_index, int64_t cpu_index, GError **errp)
{
    int64_t index = has_cpu_index ? cpu_index : 0;
    CpuView view;

    if (index < 0 || index > INT32_MAX || !guest_co_view(index, &view)) {
        error_setg(errp, "Parameter 'cpu-index' expects a CPU number");
        return;
    }
    save_to_file(&view, val, size, filename, errp);
}

void coroutine_fn qmp_pmemsave(int64_t val, int64_t size, const char *filename, GError **errp)
{
    save_to_file(NULL, val, size, filename, errp);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * dump-guest-memory: one at a time, a coroutine in the main thread.  It parks the machine as
 * a snapshot does, so that memory and registers are of one instant; memory is read as
 * guest-read.c does, so a machine whose RAM is still being loaded can be dumped, and written
 * by workers.  stop and cont said meanwhile come true when the machine is let go.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "dump-int.h"
#include "migration/elf-core.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-dump.h"
#include "qapi/qapi-events-dump.h"
#include "qapi/util.h"
#include "system-int.h"
#include "system/cpus.h"
#include "system/run-state.h"
#include "util/fd-write.h"
#include "util/named-fd.h"

#define PIECE (1u << 20)
#define MAX_RANGES 64

typedef struct Dump {
    int fd;
    DumpRange ranges[MAX_RANGES];
    unsigned nr_ranges;
} Dump;

static DumpStatus status = DUMP_STATUS_NONE;
static int64_t completed, total;
static bool cancelled;

static DumpQueryResult *result(void)
{
    DumpQueryResult *r = g_new0(DumpQueryResult, 1);

    r->status = status;
    r->completed = completed;
    r->total = total;
    return r;
}

/* --- Writing ------------------------------------------------------------------------------ */

typedef struct WriteArgs {
    int fd;
    const uint8_t *buf;
    size_t len;
} WriteArgs;

/* Worker; 0 or -errno. */
static int write_worker(void *opaque)
{
    const WriteArgs *a = opaque;

    return fd_write_all(a->fd, a->buf, a->len);
}

static int close_fd(void *opaque)
{
    return close(*(int *)opaque) < 0 ? -errno : 0;
}

static bool coroutine_fn co_write(Dump *d, const uint8_t *buf, size_t len, const char *what,
                                  GError **errp)
{
    WriteArgs a = {d->fd, buf, len};
    int ret = co_run_in_worker(write_worker, &a);

    if (ret < 0) {
        error_setg_errno(errp, -ret, "dump: failed to %s", what);
    }
    return ret == 0;
}

static bool coroutine_fn dump_range(Dump *d, const DumpRange *r, uint8_t *buf, GError **errp)
{
    for (uint64_t done = 0; done < r->size;) {
        size_t n = MIN(r->size - done, PIECE);

        if (cancelled) {
            error_setg(errp, "dump: cancelled");
            return false;
        }
        if (!guest_co_read(NULL, r->base + done, buf, n, false)) {
            error_setg(errp, "dump: failed to read memory");
            return false;
        }
        if (!co_write(d, buf, n, "save memory", errp)) {
            return false;
        }
        done += n;
        completed += n;
    }
    return true;
}

static void take_registers(const CpuInspectOps *ops, CPUState *cpu, void *opaque)
{
    ops->core_registers(cpu, opaque);
}

/* The machine is parked. */
static bool coroutine_fn write_dump(Dump *d, GError **errp)
{
    g_autofree uint64_t *regs = g_new0(uint64_t, CPUS_MAX * ELF_CORE_REGISTERS);
    g_autofree uint8_t *buf = g_malloc(PIECE);
    g_autoptr(GByteArray) header = NULL;
    const uint8_t *trailer;
    unsigned nr_cpus = 0;
    size_t size;

    while (cpus_co_inspect(nr_cpus, take_registers, regs + nr_cpus * ELF_CORE_REGISTERS)) {
        nr_cpus++;
    }
    header = dump_elf_header(d->ranges, d->nr_ranges, regs, nr_cpus);
    if (!co_write(d, header->data, header->len, "write elf header", errp)) {
        return false;
    }
    for (unsigned i = 0; i < d->nr_ranges; i++) {
        if (!dump_range(d, &d->ranges[i], buf, errp)) {
            return false;
        }
    }
    trailer = dump_elf_trailer(&size);
    return co_write(d, trailer, size, "write section names", errp);
}

static bool coroutine_fn run_dump(Dump *d, GError **errp)
{
    g_autoptr(DumpQueryResult) r = NULL;
    bool running = run_state_co_park(false), ok;
    GError *err = NULL;
    int ret;

    ok = write_dump(d, &err);
    ret = co_run_in_worker(close_fd, &d->fd);
    if (ok && ret < 0) {
        error_setg_errno(&err, -ret, "dump: failed to close the file");
        ok = false;
    }
    status = ok ? DUMP_STATUS_COMPLETED : DUMP_STATUS_FAILED;
    if (!guest_read_ended()) { /* else there is no machine any more to let go */
        r = result();
        qapi_event_send_dump_completed(r, err ? err->message : NULL);
        run_state_unpark(running);
    }
    if (err) {
        g_propagate_error(errp, err);
    }
    g_free(d);
    return ok;
}

static void coroutine_fn detached_entry(void *opaque)
{
    run_dump(opaque, NULL); /* the event tells of an error */
}

/* --- Starting ----------------------------------------------------------------------------- */

/* RAM and ROM in [begin, begin + length); all of it if length is 0. */
static void choose_ranges(Dump *d, AddressSpace *as, uint64_t begin, uint64_t length)
{
    uint64_t end = length ? begin + length : UINT64_MAX;
    const MemoryRegion *r;

    if (end < begin) {
        end = UINT64_MAX;
    }
    for (unsigned i = 0; as && (r = address_space_region(as, i)); i++) {
        uint64_t from = MAX(r->base, begin), to = MIN(r->base + r->size, end);

        if (r->host && !r->ops && from < to && d->nr_ranges < MAX_RANGES) {
            d->ranges[d->nr_ranges++] = (DumpRange){from, to - from};
            total += to - from;
        }
    }
}

typedef struct OpenArgs {
    const char *name;
    int fd;
} OpenArgs;

/* Worker. */
static int open_file(void *opaque)
{
    OpenArgs *a = opaque;

    a->fd = open(a->name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, S_IRUSR);
    return a->fd < 0 ? -errno : 0;
}

/* A descriptor, or -1 and errp. */
static int coroutine_fn open_protocol(const char *protocol, GError **errp)
{
    OpenArgs a = {.fd = -1};
    int ret;

    if (g_str_has_prefix(protocol, "fd:")) {
        a.name = protocol + strlen("fd:");
        if (g_ascii_isdigit(*a.name)) { /* only those that getfd has kept */
            error_setg(errp, "File descriptor named '%s' has not been found", a.name);
            return -1;
        }
        return named_fd_take(a.name, errp);
    }
    if (!g_str_has_prefix(protocol, "file:")) {
        error_setg(errp, "Invalid parameter 'protocol'");
        return -1;
    }
    a.name = protocol + strlen("file:");
    ret = co_run_in_worker(open_file, &a);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not open '%s'", a.name);
    }
    return a.fd;
}

static bool check_format(DumpGuestMemoryFormat format, GError **errp)
{
    if (format == DUMP_GUEST_MEMORY_FORMAT_WIN_DMP) {
        error_setg(errp, "Windows dump is only available for x86-64");
    } else if (format != DUMP_GUEST_MEMORY_FORMAT_ELF) {
        error_setg(errp, "%s is not available now", DumpGuestMemoryFormat_str(format));
    }
    return format == DUMP_GUEST_MEMORY_FORMAT_ELF;
}

void coroutine_fn qmp_dump_guest_memory(bool paging, const char *protocol, bool has_detach,
                                        bool detach, bool has_begin, int64_t begin,
                                        bool has_length, int64_t length, bool has_format,
                                        DumpGuestMemoryFormat format, GError **errp)
{
    DumpStatus before = status;
    Dump *d;

    if (run_state() == RUN_STATE_INMIGRATE) {
        error_setg(errp, "Dump not allowed during incoming migration.");
        return;
    }
    if (status == DUMP_STATUS_ACTIVE) {
        error_setg(errp, "There is a dump in process, please wait.");
        return;
    }
    if (has_format && !check_format(format, errp)) {
        return;
    }
    if (has_begin != has_length) {
        error_setg(errp, "Parameter '%s' is missing", has_begin ? "length" : "begin");
        return;
    }
    d = g_new0(Dump, 1);
    status = DUMP_STATUS_ACTIVE; /* from here on nobody else begins one */
    cancelled = false;
    d->fd = open_protocol(protocol, errp);
    if (d->fd < 0) {
        status = before;
        g_free(d);
        return;
    }
    completed = total = 0;
    choose_ranges(d, vm_address_space(), begin, has_length ? length : 0);
    if (d->nr_ranges == 0) {
        status = DUMP_STATUS_FAILED;
        co_run_in_worker(close_fd, &d->fd);
        g_free(d);
        error_setg(errp, "dump: no guest memory to dump");
    } else if (has_detach && detach) {
        aio_co_enter(main_aio_context(), coroutine_create(detached_entry, d));
    } else {
        run_dump(d, errp);
    }
}

void dump_cancel(void)
{
    cancelled = true;
}

DumpQueryResult *coroutine_fn qmp_query_dump(GError **errp)
{
    return result();
}

DumpGuestMemoryCapability *coroutine_fn qmp_query_dump_guest_memory_capability(GError **errp)
{
    DumpGuestMemoryCapability *c = g_new0(DumpGuestMemoryCapability, 1);
    DumpGuestMemoryFormatList **tail = &c->formats;

    QAPI_LIST_APPEND(tail, DUMP_GUEST_MEMORY_FORMAT_ELF);
    return c;
}

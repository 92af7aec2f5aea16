/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest memory for those who look at it from outside: x, memsave, dumps.  RAM is read by
 * workers, because a page may still be on its way from a snapshot and reading it waits for
 * it, and so are registers, because a device may be busy with a reset that waits for its disk.
 * Nothing waits in the main thread, and no lock of it is held meanwhile.  The guest may run.
 *
 * The memory stays until the last reader is done (guest_read_co_end()); what a load that is
 * given up at the end leaves in it is not passed on as the guest's.  Main thread.
 */
#include <string.h>
#include "hw/machine-lock.h"
#include "system-int.h"
#include "system/cpus.h"
#include "util/co-lock.h"
#include "util/guest-memory.h"

#define PAGE_SIZE 4096u

static int readers;
static bool ended;
static Coroutine *end_waiter;

bool coroutine_fn guest_co_run(WorkerFunc *fn, void *opaque)
{
    if (ended) {
        return false;
    }
    readers++;
    co_run_in_worker(fn, opaque);
    if (--readers == 0 && end_waiter) {
        aio_co_wake(end_waiter);
    }
    return !ended;
}

void coroutine_fn guest_read_co_end(void)
{
    ended = true;
    if (readers) {
        end_waiter = coroutine_self();
        coroutine_yield();
    }
}

bool guest_read_ended(void)
{
    return ended;
}

static void take_view(const CpuInspectOps *ops, CPUState *cpu, void *opaque)
{
    ops->get_view(cpu, opaque);
}

bool coroutine_fn guest_co_view(int index, CpuView *view)
{
    return cpus_co_inspect(index, take_view, view);
}

/* --- Workers ---------------------------------------------------------------------------- */

typedef struct Copy {
    AddressSpace *as;
    const CpuInspectOps *ops;
    const CpuView *view;
    uint64_t addr;
    uint8_t *buf;
    size_t len, done;
    /* If it ended before len: for how many bytes there is nothing. */
    size_t n;
    uint64_t physical;
} Copy;

/* Where byte number done is, and how many of the following are sure to be behind it. */
static bool locate(Copy *c)
{
    uint64_t at = c->addr + c->done;

    c->physical = at;
    c->n = MIN(c->len - c->done, PAGE_SIZE - at % PAGE_SIZE);
    return !c->view || c->ops->translate(c->view, c->as, at, &c->physical);
}

static void read_host(Copy *c, const MemoryRegion *r)
{
    guest_memory_begin();
    memcpy(c->buf + c->done, r->host + (c->physical - r->base), c->n);
    guest_memory_end();
}

/* One access, as large as the address, the length and the device allow; its size, or 0. */
static unsigned read_register(const MemoryRegion *r, uint64_t offset, uint8_t *buf, size_t len)
{
    unsigned max = r->ops->max_size ? MIN(r->ops->max_size, 4) : 4, size = 1;
    uint64_t value;

    while (size * 2 <= max && offset % (size * 2) == 0 && size * 2 <= len) {
        size *= 2;
    }
    if (size < r->ops->min_size) {
        return 0;
    }
    if (!r->ops->lockless) {
        machine_lock();
    }
    value = GUINT64_TO_LE(r->ops->read(r->opaque, offset, size));
    if (!r->ops->lockless) {
        machine_unlock();
    }
    memcpy(buf, &value, size);
    return size;
}

static bool read_device(Copy *c, const MemoryRegion *r)
{
    size_t done = 0;

    while (done < c->n) {
        unsigned n = read_register(r, c->physical + done - r->base, c->buf + c->done + done,
                                   c->n - done);

        if (n == 0) {
            return false;
        }
        done += n;
    }
    return true;
}

static int copy(void *opaque)
{
    Copy *c = opaque;

    while (c->done < c->len) {
        const MemoryRegion *r = locate(c) && c->as ? address_space_find(c->as, c->physical) : NULL;

        if (!r) {
            return 0;
        }
        c->n = MIN(c->n, r->size - (c->physical - r->base));
        if (memory_region_reads_host(r)) {
            read_host(c, r);
        } else if (!read_device(c, r)) {
            return 0;
        }
        c->done += c->n;
    }
    return 0;
}

static int translate_one(void *opaque)
{
    Copy *c = opaque;

    c->done = locate(c);
    return 0;
}

/* --- Reading ------------------------------------------------------------------------------ */

bool coroutine_fn guest_co_read(const CpuView *view, uint64_t addr, void *buf, size_t len,
                                bool fill)
{
    Copy c = {.as = vm_address_space(), .ops = cpus_inspect_ops(), .view = view, .addr = addr,
              .buf = buf, .len = len};

    while (c.done < len) {
        if (!guest_co_run(copy, &c)) {
            return false;
        }
        if (c.done == len) {
            break;
        }
        if (!fill) {
            return false;
        }
        memset(c.buf + c.done, 0, c.n);
        c.done += c.n;
    }
    return true;
}

bool coroutine_fn guest_co_translate(const CpuView *view, uint64_t addr, uint64_t *physical)
{
    Copy c = {.as = vm_address_space(), .ops = cpus_inspect_ops(), .view = view, .addr = addr,
              .len = 1};

    if (!guest_co_run(translate_one, &c) || !c.done) {
        return false;
    }
    *physical = c.physical;
    return true;
}

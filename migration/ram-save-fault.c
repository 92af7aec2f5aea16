/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The fault thread of a live save.  A tight loop: it writes no guest RAM, waits for nobody,
 * and takes only leaf locks whose holders write no guest RAM either.  So whoever faults -
 * a vCPU, an IOThread that completes a request, the kernel on behalf of one - goes on after
 * microseconds; only vCPUs are ever left waiting, for a bounce buffer.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>
#include "qapi/error.h"
#include "ram-save-int.h"
#include "util/countermeasure.h"
#include "util/guest-memory.h"
#include "util/thread-role.h"

/* A run of faults upwards is met with copies ahead of it, up to this many pages. */
#define MAX_WINDOW 16

/* --- Bounce buffers ---------------------------------------------------------------------- */

bool bounce_init(BouncePool *p, uint64_t limit, uint64_t reserve)
{
    pthread_mutex_init(&p->lock, NULL);
    p->peak = 0;
    p->nr_normal = MAX(limit / RAM_PAGE, 1);
    p->nr = p->nr_normal + reserve / RAM_PAGE;
    p->mem = mmap(NULL, (size_t)p->nr * RAM_PAGE, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p->mem == MAP_FAILED) {
        p->mem = NULL;
        return false;
    }
    p->free = g_new(uint32_t, p->nr);
    for (uint32_t i = 0; i < p->nr; i++) {
        p->free[i] = p->nr - 1 - i;
    }
    p->nr_free = p->nr;
    return true;
}

void bounce_destroy(BouncePool *p)
{
    if (p->mem) {
        munmap(p->mem, (size_t)p->nr * RAM_PAGE);
        p->mem = NULL;
        pthread_mutex_destroy(&p->lock);
    }
    g_clear_pointer(&p->free, g_free);
}

int64_t bounce_get(BouncePool *p, bool reserve)
{
    uint32_t keep = reserve ? 0 : p->nr - p->nr_normal;
    int64_t n = -1;

    pthread_mutex_lock(&p->lock);
    if (p->nr_free > keep) {
        n = p->free[--p->nr_free];
        __atomic_store_n(&p->peak, MAX(p->peak, p->nr - p->nr_free), __ATOMIC_RELAXED);
    }
    pthread_mutex_unlock(&p->lock);
    return n;
}

void bounce_put(BouncePool *p, uint32_t n)
{
    pthread_mutex_lock(&p->lock);
    g_assert(p->nr_free < p->nr);
    p->free[p->nr_free++] = n;
    pthread_mutex_unlock(&p->lock);
}

uint32_t bounce_used(BouncePool *p)
{
    uint32_t used;

    pthread_mutex_lock(&p->lock);
    used = p->nr - p->nr_free;
    pthread_mutex_unlock(&p->lock);
    return used;
}

void ram_save_wake_fault_thread(RamSave *s)
{
    uint64_t one = 1;
    ssize_t ret = write(s->event_fd, &one, sizeof(one));

    (void)ret; /* fails only when a wake-up is pending already */
}

void ram_save_put_bounce(RamSave *s, uint32_t n)
{
    bounce_put(&s->pool, n);
    if (__atomic_load_n(&s->nr_waiting, __ATOMIC_SEQ_CST)) {
        ram_save_wake_fault_thread(s);
    }
}

/* --- Faults --------------------------------------------------------------------------------- */

static RamSaveBlock *find_block(RamSave *s, uint64_t addr)
{
    for (int i = 0; i < s->config.nr_ram; i++) {
        uint64_t start = (uintptr_t)s->blocks[i].ram->host;

        if (addr >= start && addr - start < s->blocks[i].ram->size) {
            return &s->blocks[i];
        }
    }
    return NULL;
}

static bool is_vcpu(RamSave *s, int tid)
{
    for (int i = 0; i < s->config.nr_vcpu_tids; i++) {
        if (s->config.vcpu_tids[i] == tid) {
            return true;
        }
    }
    return countermeasure_off("only-vcpus-wait");
}

static void fail(RamSave *s, int err)
{
    int none = 0;

    __atomic_compare_exchange_n(&s->failed, &none, err, false, __ATOMIC_SEQ_CST,
                                __ATOMIC_SEQ_CST);
    __atomic_store_n(&s->phase, PHASE_OPEN, __ATOMIC_SEQ_CST);
}

static void lift(RamSave *s, uint8_t *host, size_t len)
{
    int ret = uffd_write_protect(&s->uffd, host, len, false);

    if (ret < 0) {
        fail(s, ret);
        uffd_wake(&s->uffd, host, len);
    }
}

static void note(RamSave *s, RamSaveBlock *b, size_t page)
{
    size_t chunk = b->first_chunk + (page - b->first_page) / PAGES_PER_CHUNK;
    size_t first, nr;
    uint8_t *host = ram_save_chunk(s, chunk, &first, &nr);

    /* Noted before the protection goes, so that no change goes unnoticed. */
    s->chunk_flags[chunk] |= CHUNK_NOTED | CHUNK_UNKNOWN;
    s->stats.note_faults++;
    lift(s, host, nr * RAM_PAGE);
}

/* Lets go of the page's whole unit, which no writer needs as it was. */
static void lift_unit(RamSave *s, RamSaveBlock *b, size_t page)
{
    size_t in_block = (page - b->first_page) / UNIT_PAGES * UNIT_PAGES;

    if (!countermeasure_off("mark-dirty")) {
        ram_save_mark_dirty(s, page);
    }
    lift(s, b->ram->host + in_block * RAM_PAGE,
         MIN(UNIT_PAGES, b->nr_pages - in_block) * RAM_PAGE);
}

static void ring_push(RamSave *s, size_t page)
{
    uint32_t head = __atomic_load_n(&s->ring_head, __ATOMIC_ACQUIRE);
    uint32_t tail = s->ring_tail;

    /* When it is full the page is written in its turn. */
    if (tail - head < s->ring_size) {
        s->ring[tail & (s->ring_size - 1)] = page;
        __atomic_store_n(&s->ring_tail, tail + 1, __ATOMIC_RELEASE);
    }
}

/* Keeps page's content unless that is not needed any more.  false: there is no buffer. */
static bool keep_copy(RamSave *s, size_t page, size_t chunk, const uint8_t *host, bool reserve)
{
    int64_t n;
    uint32_t mine;

    if (__atomic_load_n(&s->chunk_state[chunk], __ATOMIC_SEQ_CST) == CHUNK_WRITTEN ||
        slot_load(s, page) || !ram_save_test_unit(s->saving, page)) {
        return true;
    }
    n = bounce_get(&s->pool, reserve);
    if (n < 0) {
        return false;
    }
    guest_memory_begin();
    memcpy(bounce_mem(&s->pool, n), host, RAM_PAGE);
    guest_memory_end();
    mine = n + 1;
    __atomic_store_n(&s->slots[page], mine, __ATOMIC_SEQ_CST);
    /*
     * The chunk's writer looks at the slots after it has set WRITTEN: either it sees this
     * one or we see WRITTEN here, and whoever takes the slot frees the buffer.
     */
    if (__atomic_load_n(&s->chunk_state[chunk], __ATOMIC_SEQ_CST) == CHUNK_WRITTEN) {
        if (__atomic_compare_exchange_n(&s->slots[page], &mine, SLOT_TAKEN, false,
                                        __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
            bounce_put(&s->pool, n);
        }
    } else {
        ring_push(s, page);
    }
    return true;
}

/* Keeps copies of the page and, in a run of faults, of some that follow. */
static bool track(RamSave *s, RamSaveBlock *b, size_t page, bool reserve)
{
    size_t in_block = page - b->first_page;
    size_t chunk = b->first_chunk + in_block / PAGES_PER_CHUNK;
    size_t left = MIN(PAGES_PER_CHUNK - in_block % PAGES_PER_CHUNK, b->nr_pages - in_block);
    uint8_t *host = b->ram->host + in_block * RAM_PAGE;
    size_t done = 0;

    if (__atomic_load_n(&s->chunk_state[chunk], __ATOMIC_SEQ_CST) == CHUNK_WRITTEN ||
        !ram_save_test_unit(s->saving, page)) {
        lift_unit(s, b, page);
        return true;
    }
    s->window = (uintptr_t)host == s->last_fault_end ? MIN(s->window * 2, MAX_WINDOW) : 1;
    while (done < MIN(s->window, left)) {
        if (!keep_copy(s, page + done, chunk, host + done * RAM_PAGE, reserve)) {
            break;
        }
        done++;
    }
    if (done == 0) {
        return false;
    }
    s->last_fault_end = (uintptr_t)host + done * RAM_PAGE;
    for (size_t i = 0; i < done; i++) {
        ram_save_mark_dirty(s, page + i);
    }
    lift(s, host, done * RAM_PAGE);
    return true;
}

/* false: the fault must wait for a buffer. */
static bool handle_fault(RamSave *s, uint64_t addr, int tid)
{
    RamSaveBlock *b = find_block(s, addr);
    uint8_t *host = (uint8_t *)(uintptr_t)(addr & ~(uint64_t)(RAM_PAGE - 1));
    size_t page;

    if (!b) {
        /* Not ours: it cannot be, but who faulted shall not hang. */
        uffd_wake(&s->uffd, host, RAM_PAGE);
        return true;
    }
    page = b->first_page + (addr - (uintptr_t)b->ram->host) / RAM_PAGE;
    switch (__atomic_load_n(&s->phase, __ATOMIC_SEQ_CST)) {
    case PHASE_NOTE:
        note(s, b, page);
        return true;
    case PHASE_TRACK:
        if (track(s, b, page, false)) {
            return true;
        }
        if (is_vcpu(s, tid)) {
            return false;
        }
        if (track(s, b, page, true)) {
            return true;
        }
        /* Nobody but a vCPU may wait: give the snapshot up rather than risk a deadlock. */
        fail(s, -ENOBUFS);
        lift(s, host, RAM_PAGE);
        return true;
    case PHASE_WATCH:
        s->stats.note_faults++;
        s->chunk_flags[b->first_chunk + (page - b->first_page) / PAGES_PER_CHUNK] |=
            CHUNK_NOTED | CHUNK_UNKNOWN;
        lift_unit(s, b, page);
        return true;
    default:
        lift(s, host, RAM_PAGE);
        return true;
    }
}

static void retry_waiting(RamSave *s)
{
    guint kept = 0;

    for (guint i = 0; i < s->waiting->len; i++) {
        WaitingFault f = g_array_index(s->waiting, WaitingFault, i);

        if (!handle_fault(s, f.addr, f.tid)) {
            g_array_index(s->waiting, WaitingFault, kept++) = f;
        }
    }
    g_array_set_size(s->waiting, kept);
    __atomic_store_n(&s->nr_waiting, kept, __ATOMIC_SEQ_CST);
}

static void add_waiting(RamSave *s, uint64_t addr, int tid)
{
    WaitingFault f = {.addr = addr, .tid = tid};

    g_array_append_val(s->waiting, f);
    s->stats.bounce_waits++;
    /* Who puts a buffer back from now on wakes us; the loop looks once more before it sleeps. */
    __atomic_store_n(&s->nr_waiting, s->waiting->len, __ATOMIC_SEQ_CST);
}

static void *fault_thread(void *opaque)
{
    RamSave *s = opaque;
    struct uffd_msg msgs[16];

    thread_set_role(THREAD_ROLE_ANSWER);
    while (!__atomic_load_n(&s->stop, __ATOMIC_SEQ_CST)) {
        struct pollfd fds[2] = {{.fd = s->uffd.fd, .events = POLLIN},
                                {.fd = s->event_fd, .events = POLLIN}};
        ssize_t len;
        uint64_t dummy;

        if (uffd_poll(fds, 2, -1, __atomic_load_n(&s->burst_end, __ATOMIC_SEQ_CST)) < 0) {
            continue;
        }
        __atomic_store_n(&s->fault_waits, 1, __ATOMIC_SEQ_CST);
        pthread_mutex_lock(&s->fault_lock);
        __atomic_store_n(&s->fault_waits, 0, __ATOMIC_SEQ_CST);
        if (fds[1].revents) {
            len = read(s->event_fd, &dummy, sizeof(dummy));
        }
        len = fds[0].revents ? read(s->uffd.fd, msgs, sizeof(msgs)) : 0;
        for (ssize_t i = 0; i < len / (ssize_t)sizeof(msgs[0]); i++) {
            uint64_t addr = msgs[i].arg.pagefault.address;
            int tid = msgs[i].arg.pagefault.feat.ptid;

            if (msgs[i].event != UFFD_EVENT_PAGEFAULT) {
                continue;
            }
            if (__atomic_load_n(&s->phase, __ATOMIC_SEQ_CST) == PHASE_TRACK) {
                s->stats.faults++;
                __atomic_store_n(&s->last_fault_ns, clock_now_ns(), __ATOMIC_RELAXED);
            }
            if (!handle_fault(s, addr, tid)) {
                add_waiting(s, addr, tid);
            }
        }
        if (s->waiting->len) {
            retry_waiting(s);
        }
        pthread_mutex_unlock(&s->fault_lock);
    }
    return NULL;
}

bool ram_save_start_thread(RamSave *s, GError **errp)
{
    int ret;

    s->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->event_fd < 0) {
        error_setg_errno(errp, errno, "Could not make an eventfd for the fault thread");
        return false;
    }
    s->waiting = g_array_new(false, false, sizeof(WaitingFault));
    ret = pthread_create(&s->thread, NULL, fault_thread, s);
    if (ret) {
        error_setg_errno(errp, ret, "Could not start the fault thread");
        return false;
    }
    pthread_setname_np(s->thread, "ram-fault");
    s->thread_running = true;
    return true;
}

/* After PHASE_OPEN and when all protection is lifted. */
void ram_save_stop_thread(RamSave *s)
{
    if (s->thread_running) {
        __atomic_store_n(&s->stop, 1, __ATOMIC_SEQ_CST);
        ram_save_wake_fault_thread(s);
        pthread_join(s->thread, NULL);
        s->thread_running = false;
    }
    if (s->event_fd >= 0) {
        close(s->event_fd);
        s->event_fd = -1;
    }
    if (s->waiting) {
        g_array_unref(s->waiting);
        s->waiting = NULL;
    }
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Passes over RAM; see ram-passes.h.  Snapshot thread. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include "dirty-track.h"
#include "qapi/error.h"
#include "ram-passes.h"
#include "ram-save-int.h"
#include "snapshot-int.h"

/* Looked for at a time before others get a turn. */
#define TAKE_PAGES ((size_t)16384)
/* With less than this there is nothing to gain by another pass. */
#define FEW_PAGES ((uint64_t)256)
/* How far sending may run ahead of the bandwidth limit, and the longest sleep. */
#define AHEAD_NS (5 * 1000 * 1000LL)
#define NAP_NS (50 * 1000 * 1000LL)
#define SECOND 1000000000LL

typedef struct PassBlock {
    const RAMBlock *ram;
    size_t nr_pages;
    uint64_t *dirty; /* a bit per page that is to be sent */
} PassBlock;

struct RamPasses {
    const Machine *m;
    RamTarget target;
    Job *job;
    PassBlock *blocks;
    DirtyTrack *track; /* NULL: writes cannot be tracked */
    int pagemap_fd;
    bool first;      /* nothing has been sent: untouched pages need not be looked at */
    bool stopped;    /* the guest stands: no bandwidth limit */
    uint64_t left;   /* bits set in dirty */
    int64_t due;     /* when what has been sent would have been at the limit */
    uint64_t paid;   /* bytes that due accounts for */
    int64_t slept;   /* ns, in this pass */
    MigrateFigures figures;
};

RamPasses *ram_passes_new(const Machine *m, const RamTarget *target, Job *job)
{
    RamPasses *p = g_new0(RamPasses, 1);

    p->m = m;
    p->target = *target;
    p->job = job;
    p->first = true;
    p->pagemap_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    p->blocks = g_new0(PassBlock, m->nr_ram);
    for (int i = 0; i < m->nr_ram; i++) {
        PassBlock *b = &p->blocks[i];
        size_t words;

        b->ram = &m->ram[i];
        b->nr_pages = b->ram->size / RAM_PAGE;
        words = (b->nr_pages + 63) / 64;
        b->dirty = g_new(uint64_t, words);
        memset(b->dirty, 0xff, words * 8);
        if (b->nr_pages % 64) {
            b->dirty[words - 1] = (1ULL << (b->nr_pages % 64)) - 1;
        }
        p->left += b->nr_pages;
        p->figures.total += b->ram->size;
    }
    p->figures.remaining = p->figures.total;
    migrate_set_figures(&p->figures);
    return p;
}

void coroutine_fn ram_passes_free(RamPasses *p)
{
    if (p->track) {
        dirty_track_free(p->track);
    }
    if (p->pagemap_fd >= 0) {
        close(p->pagemap_fd);
    }
    for (int i = 0; i < p->m->nr_ram; i++) {
        g_free(p->blocks[i].dirty);
    }
    g_free(p->blocks);
    g_free(p);
}

static void tell(RamPasses *p)
{
    uint64_t bytes = p->target.bytes(p->target.opaque);

    if (p->stopped) {
        p->figures.downtime_bytes += bytes - p->figures.transferred;
    }
    p->figures.transferred = bytes;
    p->figures.remaining = p->left * RAM_PAGE;
    migrate_set_figures(&p->figures);
}

/* Sleeps as the bandwidth limit wants. */
static void coroutine_fn throttle(RamPasses *p)
{
    uint64_t bytes = p->target.bytes(p->target.opaque);
    int64_t now = clock_now_ns();

    p->due = MAX(p->due, now - AHEAD_NS);
    for (;;) {
        uint64_t rate = migrate_max_bandwidth();
        int64_t nap;

        if (rate == 0) {
            p->due = now;
        } else {
            p->due += (double)(bytes - p->paid) * SECOND / rate;
        }
        p->paid = bytes;
        if (p->due <= now || job_is_cancelled(p->job)) {
            break;
        }
        nap = MIN(p->due - now, NAP_NS);
        co_sleep_ns(nap);
        p->slept += clock_now_ns() - now;
        now = clock_now_ns();
    }
}

static int coroutine_fn send_page(RamPasses *p, int block, size_t page, bool touched)
{
    PassBlock *b = &p->blocks[block];
    uint8_t *host = b->ram->host + page * RAM_PAGE;

    b->dirty[page / 64] &= ~(1ULL << (page % 64));
    p->left--;
    /* If it changes after this look it is dirty again. */
    if (!touched || buffer_is_zero(host, RAM_PAGE)) {
        p->figures.zero_pages++;
        return p->target.zero(p->target.opaque, block, page);
    }
    p->figures.normal_pages++;
    return p->target.page(p->target.opaque, block, page, host);
}

/* The dirty ones among the nr pages from page on. */
static int coroutine_fn send_chunk(RamPasses *p, int block, size_t page, size_t nr)
{
    PassBlock *b = &p->blocks[block];
    uint64_t touched[PAGES_PER_CHUNK / 64];
    int ret = 0;

    memset(touched, p->first ? 0 : 0xff, sizeof(touched));
    if (p->first && (p->pagemap_fd < 0 ||
                     ram_save_read_pagemap(p->pagemap_fd, b->ram->host + page * RAM_PAGE, nr,
                                           PAGEMAP_TOUCHED, touched, 0) < 0)) {
        memset(touched, 0xff, sizeof(touched));
    }
    for (size_t i = 0; i < nr && ret == 0; i++) {
        if (b->dirty[(page + i) / 64] >> ((page + i) % 64) & 1) {
            ret = send_page(p, block, page + i, touched[i / 64] >> (i % 64) & 1);
        }
    }
    return ret;
}

static bool any_dirty(const PassBlock *b, size_t page, size_t nr)
{
    for (size_t w = page / 64; w < (page + nr + 63) / 64; w++) {
        if (b->dirty[w]) {
            return true;
        }
    }
    return false;
}

static bool coroutine_fn send_all(RamPasses *p, GError **errp)
{
    int ret = p->target.begin_pass(p->target.opaque);

    migrate_pass_begins();
    for (int i = 0; i < p->m->nr_ram && ret == 0; i++) {
        PassBlock *b = &p->blocks[i];

        for (size_t page = 0; page < b->nr_pages && ret == 0; page += PAGES_PER_CHUNK) {
            size_t nr = MIN(PAGES_PER_CHUNK, b->nr_pages - page);

            if (!any_dirty(b, page, nr)) {
                continue;
            }
            ret = send_chunk(p, i, page, nr);
            tell(p);
            if (job_is_cancelled(p->job)) {
                ret = -ECANCELED;
            }
            if (!p->stopped && ret == 0) {
                throttle(p);
                co_sleep_ns(0);
            }
        }
    }
    if (ret == 0) {
        ret = p->target.flush(p->target.opaque);
    }
    tell(p);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not send RAM");
    }
    return ret == 0;
}

/* Adds what was written since the last time. */
static bool coroutine_fn take_dirty(RamPasses *p, GError **errp)
{
    p->left = 0;
    for (int i = 0; i < p->m->nr_ram; i++) {
        PassBlock *b = &p->blocks[i];

        for (size_t page = 0; page < b->nr_pages; page += TAKE_PAGES) {
            size_t nr = MIN(TAKE_PAGES, b->nr_pages - page);
            int ret = dirty_track_take(p->track, i, page, nr, b->dirty, page);

            if (ret < 0) {
                error_setg_errno(errp, -ret, "Could not learn which pages of RAM block '%s' have "
                                 "changed", b->ram->idstr);
                return false;
            }
            if (!p->stopped) {
                co_sleep_ns(0);
            }
        }
        for (size_t w = 0; w < (b->nr_pages + 63) / 64; w++) {
            p->left += __builtin_popcountll(b->dirty[w]);
        }
    }
    return true;
}

/*
 * Whether to stop the guest now.  The limit is kept, but while passes still shrink fast
 * another one makes the standstill shorter for little.
 */
static bool enough(RamPasses *p, unsigned passes, uint64_t before)
{
    uint64_t rate = p->figures.bytes_per_second;
    uint64_t expected_ms = rate ? p->left * RAM_PAGE * 1000 / rate : 0;

    if (p->left <= FEW_PAGES || passes >= migrate_max_passes()) {
        return true;
    }
    return expected_ms <= migrate_downtime_limit() && p->left > before / 2;
}

static bool coroutine_fn start_tracking(RamPasses *p)
{
    g_autoptr(GError) why = NULL;
    g_autofree char *text = NULL;

    p->track = dirty_track_new(p->m->ram, p->m->nr_ram, &why);
    if (!p->track) {
        text = g_strdup_printf("The guest was stopped while RAM was sent: %s", why->message);
        migrate_set_warning(text);
    }
    return p->track != NULL;
}

bool coroutine_fn ram_passes_run(RamPasses *p, GError **errp)
{
    if (!start_tracking(p)) {
        return true;
    }
    p->due = clock_now_ns();
    for (unsigned passes = 1;; passes++) {
        uint64_t before = p->left, bytes = p->target.bytes(p->target.opaque);
        int64_t start = clock_now_ns(), took;
        int ret;

        p->slept = 0;
        if (!send_all(p, errp)) {
            return false;
        }
        p->first = false;
        ret = p->target.end_pass(p->target.opaque);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Could not send RAM");
            return false;
        }
        took = MAX(clock_now_ns() - start, 1);
        bytes = p->target.bytes(p->target.opaque) - bytes;
        if (passes == 1 || bytes > FEW_PAGES * RAM_PAGE) { /* enough to tell */
            p->figures.bytes_per_second = (double)bytes * SECOND / MAX(took - p->slept, 1);
        }
        if (!take_dirty(p, errp)) {
            return false;
        }
        p->figures.dirty_pages_rate = (double)p->left * SECOND / took;
        tell(p);
        if (enough(p, passes, before)) {
            return true;
        }
    }
}

bool coroutine_fn ram_passes_finish(RamPasses *p, GError **errp)
{
    p->stopped = true;
    return (!p->track || take_dirty(p, errp)) && send_all(p, errp);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From a lazy load to watching for the next save: the userfaultfd changes hands with all it
 * protects, so there is no moment in which a write goes unseen.  Snapshot thread, the guest
 * runs.
 *
 * What had data is registered and write-protected since the switch.  Chunks without data are
 * not registered yet: a page of theirs that is there by now may have been written, all
 * others are still zero.
 */
#include <errno.h>
#include <string.h>
#include "qapi/error.h"
#include "ram-load-int.h"
#include "ram-save-int.h"

G_STATIC_ASSERT(UNIT_PAGES == LOAD_WINDOW_PAGES);
G_STATIC_ASSERT(PAGES_PER_CHUNK == LOAD_CHUNK_PAGES);

/* Zero chunks that are protected at a time. */
#define ADOPT_CHUNKS 16

/* The fault thread has stopped: its notes become those of s. */
static void take_notes(RamSave *s, const RamLoad *l)
{
    for (int i = 0; i < s->config.nr_ram; i++) {
        RamSaveBlock *b = &s->blocks[i];
        const RamLoadBlock *from = &l->blocks[i];

        b->base_offset = b->stream->pages_offset;
        memcpy(s->base_present + b->first_page / 64, from->data, (b->nr_pages + 63) / 64 * 8);
        for (size_t p = 0; p < b->nr_pages; p += UNIT_PAGES) {
            size_t window = p / LOAD_WINDOW_PAGES;

            if (from->dirty[window / 64] >> (window % 64) & 1) {
                ram_save_mark_dirty(s, b->first_page + p);
                s->chunk_flags[b->first_chunk + p / PAGES_PER_CHUNK] |= CHUNK_NOTED;
            }
        }
    }
}

/* Begins to watch nr chunks without data.  0 or -errno. */
static int watch_zero_chunks(RamSave *s, RamSaveBlock *b, size_t chunk_in_block, size_t nr)
{
    size_t page = chunk_in_block * PAGES_PER_CHUNK;
    size_t pages = MIN(nr * PAGES_PER_CHUNK, b->nr_pages - page);
    uint8_t *host = b->ram->host + page * RAM_PAGE;
    g_autofree uint64_t *there = g_new0(uint64_t, pages / 64 + 1);
    int ret = uffd_register(&s->uffd, host, pages * RAM_PAGE, UFFDIO_REGISTER_MODE_WP);

    pthread_mutex_lock(&s->fault_lock);
    if (ret == 0) {
        ret = ram_save_protect(s, host, pages * RAM_PAGE);
    }
    /* Afterwards: what came before the protection is seen, the rest makes a fault. */
    if (ret == 0) {
        ret = ram_save_read_pagemap(s->pagemap_fd, host, pages, PAGEMAP_PRESENT, there, 0);
    }
    for (size_t p = 0; p < pages && ret == 0; p++) {
        if (there[p / 64] >> (p % 64) & 1) {
            ram_save_mark_dirty(s, b->first_page + page + p);
            s->chunk_flags[b->first_chunk + (page + p) / PAGES_PER_CHUNK] |= CHUNK_NOTED;
        }
    }
    pthread_mutex_unlock(&s->fault_lock);
    return ret;
}

static int coroutine_fn watch_zeros(RamSave *s, RamSaveBlock *b, const RamLoadBlock *from)
{
    for (size_t c = 0; c < b->nr_chunks;) {
        size_t run = 0;
        int ret;

        while (run < ADOPT_CHUNKS && c + run < b->nr_chunks &&
               !ram_load_chunk_has_data(from, c + run)) {
            run++;
        }
        if (run) {
            ret = watch_zero_chunks(s, b, c, run);
            if (ret < 0) {
                return ret;
            }
            co_sleep_ns(0);
        }
        c += MAX(run, 1);
    }
    return 0;
}

RamSave *coroutine_fn ram_save_adopt(RamLoad *l, GError **errp)
{
    RamSaveConfig config = {.ram = l->config.ram, .nr_ram = l->config.nr_ram,
                            .layout = l->config.layout};
    RamSave *s;
    int ret = 0;

    g_assert(l->track);
    s = ram_save_new(&config, errp);
    if (!s) {
        return NULL;
    }
    ram_load_stop_thread(l);
    s->uffd = l->uffd;
    l->uffd.fd = -1;
    s->config.live = true;
    s->phase = PHASE_WATCH;
    s->watching = true;
    s->base_present = g_new0(uint64_t, s->nr_pages / 64);
    g_clear_pointer(&s->slots, g_free);
    for (size_t c = 0; c < s->nr_chunks; c++) {
        s->chunk_flags[c] = CHUNK_UNKNOWN;
    }
    take_notes(s, l);
    if (!ram_save_start_thread(s, errp)) {
        ram_save_free(s);
        return NULL;
    }
    for (int i = 0; i < s->config.nr_ram && ret == 0; i++) {
        ret = watch_zeros(s, &s->blocks[i], &l->blocks[i]);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not write-protect RAM");
        ram_save_free(s);
        return NULL;
    }
    return s;
}

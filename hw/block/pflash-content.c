/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The content of a flash bank: memory that the guest reads, what kind of page each of it is,
 * which of them the block node has not; and the content as a part of the machine state.
 *
 * All of it under the bank's lock, which is a leaf.  What a stream brings is checked as a
 * whole before it changes anything, and what it replaces is kept until the load has ended.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include "pflash-int.h"
#include "qapi/error.h"

enum { PAGE_ZERO, PAGE_BLANK, PAGE_DATA, PAGE_KINDS };

typedef struct UndoPage {
    uint32_t page;
    uint8_t kind;
    bool dirty;
    uint8_t data[PFLASH_PAGE];
} UndoPage;

/* --- Content: lock held, or nobody else knows it yet -------------------------------------- */

bool pflash_content_alloc(PFlashContent *c, GError **errp)
{
    void *mem = mmap(NULL, PFLASH_SIZE, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (mem == MAP_FAILED) {
        error_setg_errno(errp, errno, "cannot set up the memory of a flash bank");
        return false;
    }
    c->mem = mem;
    c->kind = g_malloc0(PFLASH_PAGES); /* PAGE_ZERO */
    return true;
}

void pflash_content_free(PFlashContent *c)
{
    if (c->mem) {
        munmap(c->mem, PFLASH_SIZE);
    }
    g_free(c->kind);
}

static uint8_t kind_of(const uint8_t *page)
{
    if ((*page != 0 && *page != 0xff) || memcmp(page, page + 1, PFLASH_PAGE - 1)) {
        return PAGE_DATA;
    }
    return *page ? PAGE_BLANK : PAGE_ZERO;
}

void pflash_content_classify(PFlashContent *c, uint32_t offset, uint32_t len)
{
    for (uint32_t page = offset / PFLASH_PAGE; page * PFLASH_PAGE < offset + len; page++) {
        c->kind[page] = kind_of(c->mem + page * PFLASH_PAGE);
    }
}

/* Fills pages with what is read; leaves pages of zeroes untouched. */
void pflash_content_put(PFlashContent *c, uint32_t offset, const uint8_t *buf, uint32_t len)
{
    for (uint32_t at = 0; at < len; at += PFLASH_PAGE) {
        uint8_t kind = kind_of(buf + at);

        c->kind[(offset + at) / PFLASH_PAGE] = kind;
        if (kind != PAGE_ZERO) {
            memcpy(c->mem + offset + at, buf + at, PFLASH_PAGE);
        }
    }
}

bool pflash_content_same(const PFlashContent *a, const PFlashContent *b, uint32_t page)
{
    size_t at = (size_t)page * PFLASH_PAGE;

    return a->kind[page] == b->kind[page] &&
           (a->kind[page] != PAGE_DATA || !memcmp(a->mem + at, b->mem + at, PFLASH_PAGE));
}

void pflash_content_set_dirty(PFlashContent *c, uint32_t page)
{
    uint64_t bit = UINT64_C(1) << (page % 64);

    if (!(c->dirty[page / 64] & bit)) {
        c->dirty[page / 64] |= bit;
        c->nr_dirty++;
    }
}

static bool is_dirty(const PFlashContent *c, uint32_t page)
{
    return c->dirty[page / 64] >> (page % 64) & 1;
}

static void clear_dirty(PFlashContent *c, uint32_t page)
{
    if (is_dirty(c, page)) {
        c->dirty[page / 64] &= ~(UINT64_C(1) << (page % 64));
        c->nr_dirty--;
    }
}

/* Takes a run of dirty pages, at most PFLASH_BLOCK bytes. */
void pflash_content_take_dirty(PFlashContent *c, uint32_t *offset, uint32_t *len)
{
    uint32_t page = 0;

    while (!is_dirty(c, page)) {
        page += c->dirty[page / 64] ? 1 : 64;
    }
    *offset = page * PFLASH_PAGE;
    *len = 0;
    while (*len < PFLASH_BLOCK && page < PFLASH_PAGES && is_dirty(c, page)) {
        clear_dirty(c, page);
        *len += PFLASH_PAGE;
        page++;
    }
}

void pflash_tell_cpus(PFlash *s, uint32_t offset, uint32_t len)
{
    address_space_dirtied(s->as, s->base + offset, len);
}

/* --- The content inside the machine state ---------------------------------------------------- */

/*
 * Runs of pages, in order and without gaps: kind (1 byte), number of pages (4 bytes, big
 * endian), and for PAGE_DATA the pages themselves.
 */
enum { RUN_HEADER = 5 };

bool pflash_content_needed(void *opaque)
{
    PFlash *s = opaque;

    return s->blk ? s->keep && !s->read_only : s->written;
}

bool pflash_content_pre_save(void *opaque, GError **errp)
{
    PFlash *s = opaque;
    const PFlashContent *c = &s->content;
    GByteArray *out = g_byte_array_new();
    uint32_t n;

    pthread_mutex_lock(&s->lock);
    for (uint32_t page = 0; page < PFLASH_PAGES; page += n) {
        uint8_t header[RUN_HEADER] = {c->kind[page]};
        uint32_t be;

        for (n = 1; page + n < PFLASH_PAGES && c->kind[page + n] == c->kind[page]; n++) {
        }
        be = GUINT32_TO_BE(n);
        memcpy(header + 1, &be, sizeof(be));
        g_byte_array_append(out, header, sizeof(header));
        if (c->kind[page] == PAGE_DATA) {
            g_byte_array_append(out, c->mem + page * PFLASH_PAGE, n * PFLASH_PAGE);
        }
    }
    pthread_mutex_unlock(&s->lock);
    g_free(s->blob);
    s->blob_len = out->len;
    s->blob = g_byte_array_free(out, false);
    return true;
}

/* One run of the blob at *at; false if it has not the form. */
static bool next_run(const PFlash *s, uint32_t *at, uint32_t page, uint8_t *kind, uint32_t *n)
{
    uint32_t be;

    if (s->blob_len - *at < RUN_HEADER) {
        return false;
    }
    *kind = s->blob[*at];
    memcpy(&be, s->blob + *at + 1, sizeof(be));
    *n = GUINT32_FROM_BE(be);
    *at += RUN_HEADER;
    return *kind < PAGE_KINDS && *n > 0 && *n <= PFLASH_PAGES - page &&
           (*kind != PAGE_DATA || *n <= (s->blob_len - *at) / PFLASH_PAGE);
}

static bool blob_is_sane(const PFlash *s)
{
    uint32_t at = 0, n;
    uint8_t kind;

    for (uint32_t page = 0; page < PFLASH_PAGES; page += n) {
        if (!next_run(s, &at, page, &kind, &n)) {
            return false;
        }
        at += kind == PAGE_DATA ? n * PFLASH_PAGE : 0;
    }
    return at == s->blob_len;
}

static void remember(PFlash *s, uint32_t page)
{
    g_autofree UndoPage *u = g_new(UndoPage, 1);

    *u = (UndoPage){.page = page, .kind = s->content.kind[page],
                    .dirty = is_dirty(&s->content, page)};
    memcpy(u->data, s->content.mem + page * PFLASH_PAGE, PFLASH_PAGE);
    if (!s->undo) {
        s->undo = g_array_new(false, false, sizeof(UndoPage));
    }
    g_array_append_val(s->undo, *u);
}

void pflash_content_undo(PFlash *s)
{
    for (guint i = 0; s->undo && i < s->undo->len; i++) {
        const UndoPage *u = &g_array_index(s->undo, UndoPage, i);

        memcpy(s->content.mem + u->page * PFLASH_PAGE, u->data, PFLASH_PAGE);
        s->content.kind[u->page] = u->kind;
        if (!u->dirty) {
            clear_dirty(&s->content, u->page);
        }
        pflash_tell_cpus(s, u->page * PFLASH_PAGE, PFLASH_PAGE);
    }
    pflash_content_keep(s);
}

void pflash_content_keep(PFlash *s)
{
    g_clear_pointer(&s->undo, g_array_unref);
    if (s->blk) {
        aio_bh_schedule(s->bh);
    }
}

/* data NULL: the kind says it all.  Whether the page was another one before.  Lock held. */
static bool set_page(PFlash *s, uint32_t page, uint8_t kind, const uint8_t *data)
{
    uint8_t *mem = s->content.mem + page * PFLASH_PAGE;

    if (kind == s->content.kind[page] && (!data || !memcmp(mem, data, PFLASH_PAGE))) {
        return false;
    }
    remember(s, page);
    if (data) {
        memcpy(mem, data, PFLASH_PAGE);
    } else {
        memset(mem, kind == PAGE_BLANK ? 0xff : 0, PFLASH_PAGE);
    }
    s->content.kind[page] = data ? kind_of(data) : kind;
    pflash_tell_cpus(s, page * PFLASH_PAGE, PFLASH_PAGE);
    return true;
}

bool pflash_content_post_load(void *opaque, int version, GError **errp)
{
    PFlash *s = opaque;
    uint32_t at = 0, n, changed = 0;
    uint8_t kind;

    if (!blob_is_sane(s)) {
        error_setg(errp, "the content of flash bank '%s' has not the form that it must have",
                   s->name);
        return false;
    }
    if (s->read_only) {
        error_setg(errp, "flash bank '%s' is read-only; its content cannot become what the "
                         "machine state holds", s->name);
        return false;
    }
    pthread_mutex_lock(&s->lock);
    s->content_loaded = true;
    for (uint32_t page = 0; page < PFLASH_PAGES; page += n) {
        next_run(s, &at, page, &kind, &n);
        for (uint32_t i = page; i < page + n; i++) {
            bool differs = set_page(s, i, kind, kind == PAGE_DATA ? s->blob + at : NULL);

            if (differs && s->blk) {
                pflash_content_set_dirty(&s->content, i);
            }
            changed += differs;
            at += kind == PAGE_DATA ? PFLASH_PAGE : 0;
        }
    }
    s->written = s->written || changed;
    pthread_mutex_unlock(&s->lock);
    g_clear_pointer(&s->blob, g_free);
    return true;
}

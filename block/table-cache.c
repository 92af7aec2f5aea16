/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The cache of tables of images that are only read: see table-cache.h. */
#include <errno.h>
#include <string.h>
#include "table-cache.h"

typedef struct Piece {
    uint64_t offset; /* in the file, a multiple of TABLE_PIECE */
    int refs;
    bool loading, forgotten;
    int error;
    CoQueue waiters; /* for loading */
    GList link;      /* in lru; data is the piece itself */
    uint8_t data[TABLE_PIECE];
} Piece;

void table_cache_init(TableCache *c)
{
    c->pieces = g_hash_table_new(g_int64_hash, g_int64_equal);
    g_queue_init(&c->lru);
}

static void piece_free(Piece *p)
{
    co_queue_destroy(&p->waiters);
    g_free(p);
}

static void piece_forget(TableCache *c, Piece *p)
{
    g_hash_table_remove(c->pieces, &p->offset);
    g_queue_unlink(&c->lru, &p->link);
    p->forgotten = true;
    if (p->refs == 0) {
        piece_free(p);
    }
}

void table_cache_destroy(TableCache *c)
{
    if (!c->pieces) {
        return;
    }
    while (c->lru.head) {
        piece_forget(c, c->lru.head->data);
    }
    g_clear_pointer(&c->pieces, g_hash_table_destroy);
}

static void shrink(TableCache *c)
{
    GList *link = c->lru.tail;

    while (link && c->lru.length > TABLE_PIECES_MAX) {
        Piece *p = link->data;

        link = link->prev;
        if (p->refs == 0) {
            piece_forget(c, p);
        }
    }
}

/* A new piece, which is being loaded; its caller has a reference. */
static Piece *piece_new(TableCache *c, uint64_t offset)
{
    Piece *p = g_new0(Piece, 1);

    p->offset = offset;
    p->refs = 1;
    p->loading = true;
    p->link.data = p;
    co_queue_init(&p->waiters);
    g_hash_table_insert(c->pieces, &p->offset, p);
    g_queue_push_head_link(&c->lru, &p->link);
    shrink(c);
    return p;
}

static void coroutine_fn load(TableCache *c, BdrvChild *file, Piece *p)
{
    /* What lies behind the end of the file is zero; nobody asks for it. */
    p->error = bdrv_co_pread(file, p->offset, TABLE_PIECE, p->data, 0);
    p->loading = false;
    if (p->error < 0) {
        piece_forget(c, p);
    }
    co_queue_restart_all(&p->waiters);
}

static void piece_put(Piece *p)
{
    if (--p->refs == 0 && p->forgotten) {
        piece_free(p);
    }
}

/* Copies what lies within one piece. */
static int coroutine_fn read_piece(TableCache *c, BdrvChild *file, uint64_t offset, void *buf,
                                   size_t bytes)
{
    uint64_t start = offset - offset % TABLE_PIECE;
    Piece *p = g_hash_table_lookup(c->pieces, &start);
    int ret;

    if (!p) {
        p = piece_new(c, start);
        load(c, file, p);
    } else {
        p->refs++;
        g_queue_unlink(&c->lru, &p->link);
        g_queue_push_head_link(&c->lru, &p->link);
        while (p->loading) {
            co_queue_wait(&p->waiters, NULL);
        }
    }
    ret = p->error;
    if (ret >= 0) {
        memcpy(buf, p->data + (offset - start), bytes);
        ret = 0;
    }
    piece_put(p);
    return ret;
}

int coroutine_fn table_cache_read(TableCache *c, BdrvChild *file, uint64_t offset, void *buf,
                                  size_t bytes)
{
    uint64_t length = file->bs->length;
    size_t first = MIN(bytes, TABLE_PIECE - offset % TABLE_PIECE);
    int ret;

    if (offset > length || bytes > length - offset) {
        return -EIO;
    }
    ret = read_piece(c, file, offset, buf, first);
    if (ret == 0 && first < bytes) {
        ret = read_piece(c, file, offset + first, (char *)buf + first, bytes - first);
    }
    return ret;
}

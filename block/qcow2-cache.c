/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The caches of L2 tables and refcount blocks: whole tables, least recently used out first.
 * A cache never writes on its own: only clean tables leave it, dirty ones wait for a flush
 * (qcow2-flush.c), which qcow2_throttle() starts in time.  A flush works on the content of
 * one instant: a table that changes meanwhile keeps the older content as "frozen".  What
 * nobody needs for some time leaves the caches by a timer.
 */
#include "block/debug.h"
#include "qcow2.h"

#define NS_PER_S INT64_C(1000000000)

void qcow2_cache_init(Qcow2Cache *c, size_t table_size, uint8_t shift, size_t bytes)
{
    c->map = g_hash_table_new(g_int64_hash, g_int64_equal);
    g_queue_init(&c->lru);
    c->table_size = table_size;
    c->shift = shift;
    c->limit = MAX(bytes / table_size, 8);
    c->dirty = 0;
}

static void table_free(Qcow2Table *t)
{
    co_queue_destroy(&t->waiters);
    g_free(t->frozen);
    g_free(t->data);
    g_free(t);
}

void qcow2_cache_destroy(Qcow2Cache *c)
{
    GList *link;

    if (!c->map) {
        return;
    }
    while ((link = g_queue_pop_head_link(&c->lru))) {
        table_free(link->data);
    }
    g_hash_table_destroy(c->map);
    c->map = NULL;
}

static Qcow2Table *table_new(Qcow2Cache *c, uint64_t offset)
{
    Qcow2Table *t = g_new0(Qcow2Table, 1);

    t->offset = offset;
    t->used = c->generation;
    t->shift = c->shift;
    t->data = g_malloc0(c->table_size);
    t->refs = 1;
    t->link.data = t;
    co_queue_init(&t->waiters);
    g_hash_table_insert(c->map, &t->offset, t);
    g_queue_push_head_link(&c->lru, &t->link);
    return t;
}

static void table_remove(Qcow2Cache *c, Qcow2Table *t)
{
    g_hash_table_remove(c->map, &t->offset);
    g_queue_unlink(&c->lru, &t->link);
    if (t->dirty) {
        c->dirty--;
        t->dirty = false;
    }
    t->forgotten = true;
    if (t->refs == 0) {
        table_free(t);
    }
}

static void cache_shrink(Qcow2Cache *c)
{
    GList *link = c->lru.tail;
    unsigned looked = 0;

    while (link && c->lru.length > c->limit && looked++ < 2 * c->limit) {
        Qcow2Table *t = link->data;

        link = link->prev;
        if (t->refs == 0 && !t->dirty && !t->flushing) {
            table_remove(c, t);
        }
    }
}

/* Clean tables that nobody has asked for since the last time leave. */
static void cache_clean(Qcow2Cache *c)
{
    GList *link = c->lru.tail;

    while (link && ((Qcow2Table *)link->data)->used != c->generation) {
        Qcow2Table *t = link->data;

        link = link->prev;
        if (t->refs == 0 && !t->dirty && !t->flushing) {
            table_remove(c, t);
        }
    }
    c->generation++;
}

static void clean_due(void *opaque)
{
    BlockDriverState *bs = opaque;
    Qcow2State *s = bs->opaque;

    cache_clean(&s->l2_cache);
    cache_clean(&s->rb_cache);
    if (s->l2_cache.lru.length || s->rb_cache.lru.length) {
        aio_timer_mod(s->clean_timer, clock_now_ns() + s->options.clean_interval * NS_PER_S);
    } else {
        qcow2_cache_stop_cleaning(s);
    }
}

void qcow2_cache_stop_cleaning(Qcow2State *s)
{
    aio_timer_free(s->clean_timer);
    s->clean_timer = NULL;
}

static void start_cleaning(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;

    if (!s->clean_timer && s->options.clean_interval) {
        s->clean_timer = aio_timer_new(bs->ctx, clean_due, bs);
        aio_timer_mod(s->clean_timer, clock_now_ns() + s->options.clean_interval * NS_PER_S);
    }
}

int coroutine_fn qcow2_cache_get(BlockDriverState *bs, Qcow2Cache *c, uint64_t offset,
                                 Qcow2Table **table)
{
    Qcow2Table *t = g_hash_table_lookup(c->map, &offset);
    int ret = 0;

    if (t) {
        t->refs++;
        t->used = c->generation;
        if (c->lru.head != &t->link) {
            g_queue_unlink(&c->lru, &t->link);
            g_queue_push_head_link(&c->lru, &t->link);
        }
        while (t->loading) {
            co_queue_wait(&t->waiters, NULL);
        }
        ret = t->load_error;
    } else {
        t = table_new(c, offset);
        start_cleaning(bs);
        t->loading = true;
        bdrv_co_debug_event(bs->file, c == &((Qcow2State *)bs->opaque)->l2_cache
                                          ? BLKDEBUG_EVENT_L2_LOAD
                                          : BLKDEBUG_EVENT_REFBLOCK_LOAD);
        ret = bdrv_co_pread(bs->file, offset, c->table_size, t->data, 0);
        t->loading = false;
        if (ret < 0) {
            t->load_error = ret;
            if (!t->forgotten) {
                table_remove(c, t);
            }
        }
        co_queue_restart_all(&t->waiters);
        cache_shrink(c);
    }
    if (ret < 0) {
        qcow2_cache_put(c, t);
        t = NULL;
    }
    *table = t;
    return ret < 0 ? ret : 0;
}

Qcow2Table *qcow2_cache_new(Qcow2Cache *c, uint64_t offset)
{
    Qcow2Table *t;

    qcow2_cache_forget(c, offset);
    t = table_new(c, offset);
    t->dirty = true;
    c->dirty++;
    cache_shrink(c);
    return t;
}

void qcow2_cache_put(Qcow2Cache *c, Qcow2Table *t)
{
    if (t && --t->refs == 0 && t->forgotten) {
        table_free(t);
    }
}

void qcow2_cache_modify(Qcow2State *s, Qcow2Cache *c, Qcow2Table *t)
{
    if (t->flushing && !t->frozen) {
        t->frozen = g_memdup2(t->data, c->table_size);
    }
    if (!t->dirty && !t->forgotten) {
        t->dirty = true;
        c->dirty++;
    }
    s->write_seq++;
}

void qcow2_cache_forget(Qcow2Cache *c, uint64_t offset)
{
    Qcow2Table *t = g_hash_table_lookup(c->map, &offset);

    if (t) {
        table_remove(c, t);
    }
}

void qcow2_cache_rekey(Qcow2Cache *c, Qcow2Table *t, uint64_t offset)
{
    qcow2_cache_forget(c, offset);
    g_hash_table_remove(c->map, &t->offset);
    t->offset = offset;
    g_hash_table_insert(c->map, &t->offset, t);
}

void qcow2_cache_freeze(Qcow2Cache *c, GPtrArray *list)
{
    for (GList *link = c->lru.head; link; link = link->next) {
        Qcow2Table *t = link->data;

        if (t->dirty) {
            t->flushing = true;
            t->dirty = false;
            c->dirty--;
            t->refs++;
            g_ptr_array_add(list, t);
        }
    }
}

int coroutine_fn qcow2_cache_write_frozen(BlockDriverState *bs, Qcow2Cache *c, Qcow2Table *t)
{
    uint8_t *data;
    int ret;

    if (t->forgotten) {
        return 0;
    }
    if (!t->frozen) {
        /* The write may yield, and t->data may change under it. */
        t->frozen = g_memdup2(t->data, c->table_size);
    }
    data = t->frozen;
    bdrv_co_debug_event(bs->file, c == &((Qcow2State *)bs->opaque)->l2_cache
                                      ? BLKDEBUG_EVENT_L2_UPDATE
                                      : BLKDEBUG_EVENT_REFBLOCK_UPDATE);
    ret = bdrv_co_pwrite(bs->file, t->offset, c->table_size, data, 0);
    if (ret >= 0) {
        t->flushing = false;
        g_free(t->frozen);
        t->frozen = NULL;
    }
    return ret;
}

void qcow2_cache_thaw(Qcow2Cache *c, GPtrArray *list)
{
    for (guint i = 0; i < list->len; i++) {
        Qcow2Table *t = list->pdata[i];

        if (t->flushing) {
            t->flushing = false;
            g_free(t->frozen);
            t->frozen = NULL;
            if (!t->dirty && !t->forgotten) {
                t->dirty = true;
                c->dirty++;
            }
        }
        qcow2_cache_put(c, t);
    }
    g_ptr_array_set_size(list, 0);
}

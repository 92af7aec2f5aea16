/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A flash bank through its registers and its machine state: a content that comes back, a
 * load that is undone, streams that are wrong.  And one on a block node in an IOThread, with
 * a "guest" thread that writes while the node is drained and loads come.
 */
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>
#include "hw/block/pflash.h"
#include "hw/machine-lock.h"
#include "migration/vmstate-int.h"
#include "qapi/error.h"
#include "util/iothread.h"

typedef struct Bank {
    AddressSpace *as;
    PFlash *flash;
    const MemoryRegion *mr;
    VMStateRegistry *registry;
} Bank;

static void wr(Bank *b, uint64_t offset, uint32_t value)
{
    b->mr->ops->write(b->mr->opaque, offset, value, 4);
}

static uint32_t rd(Bank *b, uint64_t offset)
{
    return memory_region_reads_host(b->mr) ? *(uint32_t *)(b->mr->host + offset)
                                           : b->mr->ops->read(b->mr->opaque, offset, 4);
}

static uint8_t finish(Bank *b)
{
    uint32_t status;

    while (!((status = rd(b, 0)) & 0x80)) {
        g_thread_yield();
    }
    wr(b, 0, 0x50);
    wr(b, 0, 0xff);
    return status;
}

static uint8_t program(Bank *b, uint64_t offset, uint32_t value)
{
    wr(b, offset, 0x40);
    wr(b, offset, value);
    return finish(b);
}

static uint8_t erase(Bank *b, uint64_t offset)
{
    wr(b, offset, 0x20);
    wr(b, offset, 0xd0);
    return finish(b);
}

static void bank_new(Bank *b, BlockBackend *blk, bool keep)
{
    PFlashConfig c = {.name = "virt.flash1", .base = 0x22000000, .blk = blk, .keep = keep};

    b->as = address_space_new();
    machine_lock();
    b->flash = pflash_new(b->as, &c, NULL);
    machine_unlock();
    g_assert_nonnull(b->flash);
    b->mr = address_space_find(b->as, 0x22000000);
    b->registry = vmstate_registry_new();
    pflash_register(b->flash, b->registry, 0);
}

static void bank_free(Bank *b)
{
    pflash_free(b->flash);
    address_space_free(b->as);
    vmstate_registry_free(b->registry);
}

static GByteArray *save(Bank *b)
{
    VMStateEntry *e = vmstate_find(b->registry, "pflash", 0);
    GByteArray *out = g_byte_array_new();

    g_assert_true(vmstate_save_state(out, e->vmsd, e->opaque, NULL));
    return out;
}

static bool load(Bank *b, const uint8_t *data, size_t size, GError **errp)
{
    VMStateEntry *e = vmstate_find(b->registry, "pflash", 0);
    VMReader in = {.data = data, .size = size};

    return vmstate_load_state(&in, e->vmsd, NULL, e->vmsd->version, errp) &&
           (in.pos = 0, vmstate_load_state(&in, e->vmsd, e->opaque, e->vmsd->version, errp));
}

static void test_state(void)
{
    g_autoptr(GByteArray) state = NULL, before = NULL;
    Bank a, b;

    bank_new(&a, NULL, false);
    bank_new(&b, NULL, false);
    g_assert_cmpint(erase(&a, 0), ==, 0x80);
    g_assert_cmpint(program(&a, 0x1000, 0x12345678), ==, 0x80);
    wr(&a, 0, 0x98); /* and a mode */
    state = save(&a);

    g_assert_cmpint(erase(&b, 0x40000), ==, 0x80);
    before = save(&b);
    g_assert_true(load(&b, state->data, state->len, NULL));
    g_assert_cmphex(rd(&b, 0x40), ==, 0x510051);
    pflash_load_ended(b.flash, true);
    wr(&b, 0, 0xff);
    g_assert_cmphex(rd(&b, 0x1000), ==, 0x12345678);
    g_assert_cmphex(rd(&b, 0x1004), ==, 0xffffffff);
    g_assert_cmphex(rd(&b, 0x40000), ==, 0);

    /* a load that is not ended, but followed by one of what was before */
    g_assert_true(load(&b, before->data, before->len, NULL));
    g_assert_cmphex(rd(&b, 0x40000), ==, 0xffffffff);
    g_assert_true(load(&b, state->data, state->len, NULL));
    pflash_load_ended(b.flash, true);
    wr(&b, 0, 0xff);
    g_assert_cmphex(rd(&b, 0x1000), ==, 0x12345678);
    g_assert_cmphex(rd(&b, 0x40000), ==, 0);
    bank_free(&a);
    bank_free(&b);
}

/* Cut short or with one byte changed: an error, or some state that the bank can be in. */
static void test_wrong_state(void)
{
    g_autoptr(GByteArray) state = NULL;
    unsigned refused = 0;
    Bank b;

    bank_new(&b, NULL, false);
    erase(&b, 0);
    program(&b, 0x1000, 1);
    state = save(&b);
    for (guint len = 0; len < state->len; len += len < 200 ? 1 : 997) {
        g_autoptr(GError) err = NULL;
        /* up to the end of the registers it is a state without content */
        bool ok = load(&b, state->data, len, &err);

        g_assert_true(ok == !err && (!ok || len < 4300));
        pflash_load_ended(b.flash, true);
    }
    for (guint at = 0; at < state->len; at += at < 40 || at > 4100 ? 1 : 131) {
        g_autofree uint8_t *copy = g_memdup2(state->data, state->len);
        g_autoptr(GError) err = NULL;

        if (at > 4300) {
            break;
        }
        copy[at] ^= 0x80;
        refused += !load(&b, copy, state->len, &err);
        pflash_load_ended(b.flash, true);
        /* whatever it is, it takes commands */
        wr(&b, 0, 0xd0);
        wr(&b, 0, 0xff);
        pflash_reset(b.flash);
        g_assert_cmpint(program(&b, 0x3fffc, 0), ==, 0x80);
    }
    g_assert_cmpint(refused, >, 10);
    bank_free(&b);
}

/* --- On a node ------------------------------------------------------------------------------ */

typedef struct Rig {
    Bank bank;
    IOThread *thread;
    BlockBackend *blk;
    const char *path;
    bool stop; /* atomic */
    unsigned ops;
} Rig;

static void coroutine_fn open_entry(void *opaque)
{
    Rig *r = opaque;
    BlockDriverState *bs = bdrv_co_open_file(r->path, "raw", false, iothread_context(r->thread),
                                             NULL);

    g_assert_nonnull(bs);
    r->blk = blk_new("flash", bs, true, NULL);
    g_assert_nonnull(r->blk);
    bdrv_co_unref(bs);
    bank_new(&r->bank, r->blk, true);
    g_assert_true(pflash_co_open(r->bank.flash, NULL));
}

static void coroutine_fn close_entry(void *opaque)
{
    Rig *r = opaque;

    pflash_co_stop(r->bank.flash);
    blk_co_free(r->blk);
    bank_free(&r->bank);
}

/* Counts down in one word, and keeps the same in another block. */
static void *guest(void *opaque)
{
    Rig *r = opaque;
    uint32_t n = UINT32_MAX;

    while (!__atomic_load_n(&r->stop, __ATOMIC_SEQ_CST)) {
        n = n << 1 ? n << 1 : UINT32_MAX;
        if (n == UINT32_MAX) {
            g_assert_cmpint(erase(&r->bank, 0x80000), ==, 0x80);
        }
        g_assert_cmpint(program(&r->bank, 0x80000, n), ==, 0x80);
        g_assert_cmphex(rd(&r->bank, 0x80000), ==, n);
        r->ops++;
    }
    return NULL;
}

/* While the node is drained its file holds what the guest sees. */
static void coroutine_fn drain_entry(void *opaque)
{
    Rig *r = opaque;
    BlockDriverState *bs = blk_bs(r->blk);

    for (int i = 0; i < 50; i++) {
        g_autoptr(GByteArray) state = NULL;

        aio_co_reschedule_self(bdrv_context(bs));
        bdrv_co_drained_begin(bs);
        state = save(&r->bank);
        bdrv_drained_end(bs);
        aio_co_reschedule_self(main_aio_context());
        g_assert_cmpint(state->len, >, 4096);
        co_sleep_ns(1000000);
    }
}

static void coroutine_fn settle_entry(void *opaque)
{
    Rig *r = opaque;

    g_assert_true(pflash_co_settle(r->bank.flash, NULL));
}

static void test_node(void)
{
    g_autofree char *path = NULL, *data = NULL;
    g_autoptr(GByteArray) state = NULL;
    int fd = g_file_open_tmp("test-pflash-XXXXXX", &path, NULL);
    Rig r = {.path = path};
    GThread *t;
    gsize size;

    g_assert_true(fd >= 0 && ftruncate(fd, PFLASH_SIZE) == 0);
    close(fd);
    r.thread = iothread_new("flash", NULL);
    g_assert_nonnull(r.thread);
    aio_co_run_sync(main_aio_context(), open_entry, &r);
    g_assert_cmpint(erase(&r.bank, 0x80000), ==, 0x80);
    g_assert_cmpint(program(&r.bank, 0x80004, 7), ==, 0x80);
    state = save(&r.bank);

    t = g_thread_new("guest", guest, &r);
    aio_co_run_sync(main_aio_context(), drain_entry, &r);
    __atomic_store_n(&r.stop, true, __ATOMIC_SEQ_CST);
    g_thread_join(t);
    g_assert_cmpint(r.ops, >, 0);

    /* with the state's content the file follows */
    g_assert_cmpint(program(&r.bank, 0x80004, 0), ==, 0x80);
    g_assert_true(load(&r.bank, state->data, state->len, NULL));
    pflash_load_ended(r.bank.flash, true);
    aio_co_run_sync(main_aio_context(), settle_entry, &r);
    g_assert_true(g_file_get_contents(path, &data, &size, NULL));
    g_assert_cmpint(*(uint32_t *)(data + 0x80004), ==, 7);
    g_assert_cmphex(*(uint32_t *)(data + 0x80000), ==, 0xffffffff);
    aio_co_run_sync(main_aio_context(), close_entry, &r);
    iothread_destroy(r.thread);
    g_unlink(path);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    main_aio_context_init();
    bdrv_init();
    g_test_add_func("/pflash/state", test_state);
    g_test_add_func("/pflash/wrong-state", test_wrong_state);
    g_test_add_func("/pflash/node", test_node);
    return g_test_run();
}

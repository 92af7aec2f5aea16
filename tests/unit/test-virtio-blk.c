/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Failed requests of a virtio disk that shall be tried again while its node is drained: they
 * are those of the machine that was let go, not of one that is loaded or reset meanwhile.
 */
#include <glib.h>
#include "block-test.h"
#include "hw/block/virtio-blk-int.h"
#include "migration/vmstate-int.h"

/* The node's thread, drained: lets the guest go on and waits until the disk knows. */
static void coroutine_fn go_on(VirtIOBlock *s)
{
    s->nr_failed = 2;
    s->failed[0] = 3;
    s->failed[1] = 5;
    virtio_blk_vdev(s)->status = VIRTIO_STATUS_DRIVER_OK; /* else there is nothing to try again */
    virtio_blk_retry(s);
    while (!s->retry) {
        co_sleep_ns(100000);
    }
}

static GByteArray *save(VMStateEntry *e)
{
    GByteArray *out = g_byte_array_new();

    g_assert_true(vmstate_save_state(out, e->vmsd, e->opaque, NULL));
    return out;
}

static void load(VMStateEntry *e, GByteArray *state)
{
    VMReader in = {.data = state->data, .size = state->len};

    g_assert_true(vmstate_load_state(&in, e->vmsd, e->opaque, e->vmsd->version, NULL));
}

TEST_CO(test_retry_drained)
{
    BlockDriverState *bs = test_open("{'driver': 'null-co', 'node-name': 'n', 'size': 65536}");
    BlockBackend *blk = test_blk(bs, true);
    VirtIOBlock *s = virtio_blk_new(&(VirtIOBlockConfig){.blk = blk});
    VMStateRegistry *registry = vmstate_registry_new();
    g_autoptr(GByteArray) state = NULL;
    VMStateEntry *e;

    virtio_blk_register(s, registry, 0);
    e = vmstate_find(registry, "virtio-blk", 0);
    to_io();
    bdrv_co_drained_begin(bs);
    go_on(s);
    state = save(e);
    load(e, state);
    g_assert_cmpuint(s->nr_failed, ==, 2);
    g_assert_cmpuint(s->failed[1], ==, 5);
    g_assert_false(s->retry);

    go_on(s);
    virtio_reset_stopped(virtio_blk_vdev(s));
    g_assert_cmpuint(s->nr_failed, ==, 0);
    g_assert_false(s->retry);
    bdrv_drained_end(bs);
    to_main();
    virtio_blk_co_free(s);
    vmstate_registry_free(registry);
    blk_co_free(blk);
    bdrv_co_unref(bs);
}

static void add_tests(void)
{
    g_test_add_func("/virtio-blk/retry-drained", test_retry_drained);
}

int main(int argc, char **argv)
{
    return test_run(argc, argv, add_tests);
}

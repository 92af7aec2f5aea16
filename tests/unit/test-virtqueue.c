/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Split virtqueues under a well-behaved driver and under a hostile one, and the virtio-mmio
 * registers in front of them.
 */
#include <fcntl.h>
#include <glib.h>
#include <string.h>
#include <unistd.h>
#include "hw/virtio/virtio-mmio.h"
#include "util/log.h"

enum {
    RAM_BASE = 0x80000000, RAM_SIZE = 0x20000, QUEUE = 8, MMIO = 0x10001000,
    DESC = RAM_BASE, AVAIL = RAM_BASE + 0x1000, USED = RAM_BASE + 0x2000,
    DATA = RAM_BASE + 0x4000,
    NEXT = 1, WRITE = 2, INDIRECT = 4,
};

typedef struct Fixture {
    AddressSpace *as;
    uint8_t *ram;
    VirtIOMMIO *mmio;
    const MemoryRegion *mr;
    VirtIODevice vdev;
    bool irq;
    int notified, started, stopped, resets;
    uint16_t avail_idx;
} Fixture;

static Fixture *fixture; /* the device's callbacks have no opaque */

static void get_config(VirtIODevice *vdev, uint8_t *config)
{
    memcpy(config, "\1\2\3\4\5\6\7\10", 8);
}

static void count_start(VirtIODevice *vdev)
{
    fixture->started++;
}

static void count_notify(VirtIODevice *vdev, int n)
{
    fixture->notified++;
}

static void count_stop(VirtIODevice *vdev, void (*done)(void *opaque), void *opaque)
{
    fixture->stopped++;
    done(opaque);
}

static void count_reset(VirtIODevice *vdev)
{
    fixture->resets++;
}

static const VirtIODeviceOps ops = {
    .name = "virtio-test", .device_id = 42, .config_size = 8, .get_config = get_config,
    .start = count_start, .notify = count_notify, .stop = count_stop, .reset = count_reset,
};

static void set_irq(void *opaque, int n, bool level)
{
    ((Fixture *)opaque)->irq = level;
}

static void wr(Fixture *f, uint64_t offset, uint32_t value)
{
    f->mr->ops->write(f->mr->opaque, offset, value, 4);
}

static uint32_t rd(Fixture *f, uint64_t offset)
{
    return f->mr->ops->read(f->mr->opaque, offset, 4);
}

static void put(Fixture *f, uint64_t addr, uint64_t value, int size)
{
    memcpy(f->ram + (addr - RAM_BASE), &value, size);
}

static uint64_t get(Fixture *f, uint64_t addr, int size)
{
    uint64_t value = 0;

    memcpy(&value, f->ram + (addr - RAM_BASE), size);
    return value;
}

static void desc_at(Fixture *f, uint64_t table, int i, uint64_t addr, uint32_t len, int flags,
                    int next)
{
    put(f, table + 16 * i, addr, 8);
    put(f, table + 16 * i + 8, len, 4);
    put(f, table + 16 * i + 12, flags, 2);
    put(f, table + 16 * i + 14, next, 2);
}

static void desc(Fixture *f, int i, uint64_t addr, uint32_t len, int flags, int next)
{
    desc_at(f, DESC, i, addr, len, flags, next);
}

static void offer(Fixture *f, int head)
{
    put(f, AVAIL + 4 + 2 * (f->avail_idx % QUEUE), head, 2);
    put(f, AVAIL + 2, ++f->avail_idx, 2);
}

static void set_queue(Fixture *f, uint32_t num, uint64_t d, uint64_t a, uint64_t u)
{
    wr(f, 0x30, 0);
    wr(f, 0x38, num);
    wr(f, 0x80, d);
    wr(f, 0x84, d >> 32);
    wr(f, 0x90, a);
    wr(f, 0x94, a >> 32);
    wr(f, 0xa0, u);
    wr(f, 0xa4, u >> 32);
    wr(f, 0x44, 1);
}

static void negotiate(Fixture *f, uint64_t features)
{
    wr(f, 0x70, 0);
    wr(f, 0x70, 1);
    wr(f, 0x70, 3);
    wr(f, 0x24, 0);
    wr(f, 0x20, features);
    wr(f, 0x24, 1);
    wr(f, 0x20, features >> 32);
    wr(f, 0x70, 3 | 8);
}

static void start(Fixture *f, uint64_t features)
{
    negotiate(f, features | VIRTIO_F_VERSION_1);
    set_queue(f, QUEUE, DESC, AVAIL, USED);
    wr(f, 0x70, 3 | 8 | 4);
    g_assert_true(virtio_is_running(&f->vdev));
}

static bool is_broken(Fixture *f)
{
    return rd(f, 0x70) & VIRTIO_STATUS_NEEDS_RESET;
}

static void setup(Fixture *f, gconstpointer data)
{
    memset(f, 0, sizeof(*f));
    fixture = f;
    f->ram = g_malloc0(RAM_SIZE);
    f->as = address_space_new();
    address_space_add_ram(f->as, "ram", RAM_BASE, RAM_SIZE, f->ram, false);
    f->mmio = virtio_mmio_new(f->as, MMIO, (IrqLine){set_irq, f, 0});
    f->mr = address_space_find(f->as, MMIO);
    virtio_init(&f->vdev, &ops, 0, 1, QUEUE);
    virtio_mmio_plug(f->mmio, &f->vdev, f->as);
}

static void teardown(Fixture *f, gconstpointer data)
{
    virtio_mmio_free(f->mmio);
    virtio_cleanup(&f->vdev);
    address_space_free(f->as);
    g_free(f->ram);
}

static void test_registers(Fixture *f, gconstpointer data)
{
    g_assert_cmphex(rd(f, 0), ==, 0x74726976);
    g_assert_cmphex(rd(f, 4), ==, 2);
    g_assert_cmphex(rd(f, 8), ==, 42);
    g_assert_cmphex(rd(f, 0x34), ==, QUEUE);
    wr(f, 0x30, 1);
    g_assert_cmphex(rd(f, 0x34), ==, 0); /* no such queue */
    wr(f, 0x44, 1);
    wr(f, 0x30, 0xffffffff);
    wr(f, 0x80, 1);
    g_assert_cmphex(rd(f, 0x100), ==, 0x04030201);
    g_assert_cmphex(f->mr->ops->read(f->mr->opaque, 0x105, 1), ==, 6);
    g_assert_cmphex(rd(f, 0x106), ==, 0); /* across the end */
    g_assert_cmphex(rd(f, 0xb0), ==, 0xffffffff);
    wr(f, 0x50, 7); /* notification of a queue that is not there */
    g_assert_cmpint(f->notified, ==, 0);

    /* what the device has not is refused, and so is a driver without VERSION_1 */
    negotiate(f, VIRTIO_F_VERSION_1 | 1);
    g_assert_false(rd(f, 0x70) & 8);
    negotiate(f, 0);
    g_assert_false(rd(f, 0x70) & 8);
    start(f, 0);
    g_assert_cmpint(f->started, ==, 1);
    /* too late */
    wr(f, 0x24, 0);
    wr(f, 0x20, 0xffffffff);
    g_assert_cmphex(f->vdev.guest_features, ==, VIRTIO_F_VERSION_1);
    wr(f, 0x80, 0);
    g_assert_cmphex(f->vdev.vq[0].desc, ==, DESC);
    wr(f, 0x70, 0);
    g_assert_cmpint(f->stopped, ==, 1);
    g_assert_cmphex(rd(f, 0x70), ==, 0);
    g_assert_false(f->vdev.vq[0].ready);
}

static void test_empty_slot(Fixture *f, gconstpointer data)
{
    VirtIOMMIO *empty = virtio_mmio_new(f->as, MMIO + 0x1000, (IrqLine){set_irq, f, 0});
    const MemoryRegion *mr = address_space_find(f->as, MMIO + 0x1000);

    g_assert_cmphex(mr->ops->read(mr->opaque, 0, 4), ==, 0x74726976);
    g_assert_cmphex(mr->ops->read(mr->opaque, 8, 4), ==, 0);
    for (int i = 0; i < 0x200; i += 4) {
        mr->ops->write(mr->opaque, i, 0xffffffff, 4);
        mr->ops->read(mr->opaque, i, 4);
    }
    virtio_mmio_free(empty);
}

static void test_request(Fixture *f, gconstpointer data)
{
    VirtQueueElement *e;

    start(f, 0);
    g_assert_null(virtqueue_pop(&f->vdev, 0));
    desc(f, 2, DATA, 16, NEXT, 5);
    desc(f, 5, DATA + 0x100, 512, NEXT | WRITE, 1);
    desc(f, 1, DATA + 0x1000, 1, WRITE, 0);
    offer(f, 2);
    e = virtqueue_pop(&f->vdev, 0);
    g_assert_nonnull(e);
    g_assert_cmpuint(e->head, ==, 2);
    g_assert_cmpuint(e->out.size, ==, 16);
    g_assert_cmpuint(e->in.size, ==, 513);
    g_assert_true(e->in.iov[0].iov_base == f->ram + 0x4100);
    g_assert_cmphex(e->in_addr[1], ==, DATA + 0x1000);
    g_assert_null(virtqueue_pop(&f->vdev, 0));

    /* The same once more; the driver may have spoilt it meanwhile. */
    virtqueue_element_free(e);
    g_assert_null(virtqueue_again(&f->vdev, 0, QUEUE));
    e = virtqueue_again(&f->vdev, 0, 2);
    g_assert_nonnull(e);
    g_assert_cmpuint(e->head, ==, 2);
    g_assert_cmpuint(e->in.size, ==, 513);
    g_assert_null(virtqueue_pop(&f->vdev, 0));

    virtqueue_push(&f->vdev, 0, e, 513);
    virtqueue_notify(&f->vdev, 0);
    g_assert_cmpuint(get(f, USED + 2, 2), ==, 1);
    g_assert_cmpuint(get(f, USED + 4, 4), ==, 2);
    g_assert_cmpuint(get(f, USED + 8, 4), ==, 513);
    g_assert_true(f->irq);
    g_assert_cmphex(rd(f, 0x60), ==, VIRTIO_INT_QUEUE);
    wr(f, 0x64, VIRTIO_INT_QUEUE);
    g_assert_false(f->irq);

    put(f, AVAIL, 1, 2); /* the driver wants no interrupts */
    virtqueue_notify(&f->vdev, 0);
    g_assert_false(f->irq);
    virtqueue_element_free(e);

    g_assert_false(virtqueue_enable_notify(&f->vdev, 0, false));
    g_assert_cmpuint(get(f, USED, 2), ==, 1);
    offer(f, 2);
    g_assert_true(virtqueue_enable_notify(&f->vdev, 0, true));
    g_assert_cmpuint(get(f, USED, 2), ==, 0);
}

static void test_event_index(Fixture *f, gconstpointer data)
{
    VirtQueueElement *e[3];

    start(f, VIRTIO_F_EVENT_IDX);
    desc(f, 0, DATA, 16, 0, 0);
    for (int i = 0; i < 3; i++) {
        offer(f, 0);
        e[i] = virtqueue_pop(&f->vdev, 0);
        g_assert_nonnull(e[i]);
    }
    g_assert_false(virtqueue_enable_notify(&f->vdev, 0, true));
    g_assert_cmpuint(get(f, USED + 4 + 8 * QUEUE, 2), ==, 3); /* avail_event */

    /* the first always interrupts; then only past used_event */
    for (int i = 0; i < 3; i++) {
        put(f, AVAIL + 4 + 2 * QUEUE, 2, 2); /* wake me when the third is used */
        virtqueue_push(&f->vdev, 0, e[i], 0);
        virtqueue_notify(&f->vdev, 0);
        g_assert_cmpint(f->irq, ==, i != 1);
        wr(f, 0x64, 3);
        virtqueue_element_free(e[i]);
    }
}

static void test_indirect(Fixture *f, gconstpointer data)
{
    uint64_t table = DATA + 0x800 + 4; /* need not be aligned */
    VirtQueueElement *e;

    start(f, VIRTIO_F_INDIRECT_DESC);
    for (int i = 0; i < 20; i++) { /* longer than the queue */
        desc_at(f, table, i, DATA, 8, i < 19 ? NEXT : 0, i + 1);
    }
    desc(f, 0, table, 20 * 16, INDIRECT, 0);
    offer(f, 0);
    e = virtqueue_pop(&f->vdev, 0);
    g_assert_nonnull(e);
    g_assert_cmpint(e->out.niov, ==, 20);
    virtqueue_element_free(e);
}

/* --- A driver that breaks the rules: the device rests, with one message ------------------- */

static void bad_loop(Fixture *f)
{
    desc(f, 0, DATA, 16, NEXT, 1);
    desc(f, 1, DATA, 16, NEXT, 0);
    offer(f, 0);
}

static void bad_next(Fixture *f)
{
    desc(f, 0, DATA, 16, NEXT, QUEUE);
    offer(f, 0);
}

static void bad_head(Fixture *f)
{
    offer(f, QUEUE);
}

static void bad_index(Fixture *f)
{
    put(f, AVAIL + 2, QUEUE + 1, 2);
}

static void bad_address(Fixture *f)
{
    desc(f, 0, RAM_BASE + RAM_SIZE - 8, 16, 0, 0);
    offer(f, 0);
}

static void bad_wrap(Fixture *f)
{
    desc(f, 0, UINT64_MAX - 4, 0xffffffff, WRITE, 0);
    offer(f, 0);
}

static void bad_mmio(Fixture *f)
{
    desc(f, 0, MMIO, 16, 0, 0);
    offer(f, 0);
}

static void bad_length(Fixture *f)
{
    desc(f, 0, DATA, 0, 0, 0);
    offer(f, 0);
}

static void bad_order(Fixture *f)
{
    desc(f, 0, DATA, 16, NEXT | WRITE, 1);
    desc(f, 1, DATA, 16, 0, 0);
    offer(f, 0);
}

static void bad_indirect_size(Fixture *f)
{
    desc(f, 0, DATA, 24, INDIRECT, 0);
    offer(f, 0);
}

static void bad_indirect_nested(Fixture *f)
{
    desc_at(f, DATA, 0, DATA, 16, INDIRECT, 0);
    desc(f, 0, DATA, 16, INDIRECT, 0);
    offer(f, 0);
}

static void bad_indirect_chained(Fixture *f)
{
    desc(f, 0, DATA, 16, INDIRECT | NEXT, 1);
    offer(f, 0);
}

static void bad_indirect_outside(Fixture *f)
{
    desc(f, 0, RAM_BASE + RAM_SIZE - 16, 0xfffffff0, INDIRECT, 0);
    offer(f, 0);
}

static void bad_indirect_loop(Fixture *f)
{
    desc_at(f, DATA, 0, DATA, 16, NEXT, 0);
    desc(f, 0, DATA, 16, INDIRECT, 0);
    offer(f, 0);
}

static void (*const hostile[])(Fixture *f) = {
    bad_loop, bad_next, bad_head, bad_index, bad_address, bad_wrap, bad_mmio, bad_length,
    bad_order, bad_indirect_size, bad_indirect_nested, bad_indirect_chained,
    bad_indirect_outside, bad_indirect_loop,
};

static void test_hostile(Fixture *f, gconstpointer data)
{
    for (size_t i = 0; i < G_N_ELEMENTS(hostile); i++) {
        memset(f->ram, 0, RAM_SIZE);
        f->avail_idx = 0;
        start(f, VIRTIO_F_INDIRECT_DESC);
        hostile[i](f);
        g_assert_null(virtqueue_pop(&f->vdev, 0));
        g_assert_true(is_broken(f));
        g_assert_true(f->irq); /* configuration change */
        g_assert_null(virtqueue_pop(&f->vdev, 0));
    }
    /* an indirect table without the feature */
    f->avail_idx = 0;
    memset(f->ram, 0, RAM_SIZE);
    start(f, 0);
    desc_at(f, DATA, 0, DATA, 16, 0, 0);
    desc(f, 0, DATA, 16, INDIRECT, 0);
    offer(f, 0);
    g_assert_null(virtqueue_pop(&f->vdev, 0));
    g_assert_true(is_broken(f));
    /* and reset makes it good again */
    f->avail_idx = 0;
    memset(f->ram, 0, RAM_SIZE);
    start(f, 0);
    g_assert_false(is_broken(f));
}

static void test_hostile_again(Fixture *f, gconstpointer data)
{
    VirtQueueElement *e;

    start(f, 0);
    desc(f, 0, DATA, 16, 0, 0);
    offer(f, 0);
    e = virtqueue_pop(&f->vdev, 0);
    virtqueue_element_free(e);
    desc(f, 0, DATA, 16, NEXT, 0); /* a loop now */
    g_assert_null(virtqueue_again(&f->vdev, 0, 0));
    g_assert_true(is_broken(f));
    g_assert_null(virtqueue_again(&f->vdev, 0, 0));
}

static void test_hostile_rings(Fixture *f, gconstpointer data)
{
    static const struct {
        uint32_t num;
        uint64_t desc, avail, used;
    } bad[] = {
        {0, DESC, AVAIL, USED},
        {3, DESC, AVAIL, USED},
        {2 * QUEUE, DESC, AVAIL, USED},
        {0x80000000, DESC, AVAIL, USED},
        {QUEUE, DESC + 8, AVAIL, USED},
        {QUEUE, DESC, AVAIL + 1, USED},
        {QUEUE, DESC, AVAIL, USED + 2},
        {QUEUE, RAM_BASE + RAM_SIZE - 16, AVAIL, USED},
        {QUEUE, DESC, 0, USED},
        {QUEUE, DESC, AVAIL, UINT64_MAX - 3},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        negotiate(f, VIRTIO_F_VERSION_1);
        set_queue(f, bad[i].num, bad[i].desc, bad[i].avail, bad[i].used);
        g_assert_true(is_broken(f));
        g_assert_cmpuint(rd(f, 0x44), ==, 0);
        wr(f, 0x70, 3 | 8 | 4);
        g_assert_null(virtqueue_pop(&f->vdev, 0));
        g_assert_false(virtqueue_enable_notify(&f->vdev, 0, true));
    }
}

/* A pipe with no room as stderr; returns what it was, and the reading end in *reader. */
static int full_stderr(int *reader)
{
    static const char junk[4096];
    int fds[2], old;

    log_flush();
    old = dup(STDERR_FILENO);
    g_assert_cmpint(pipe(fds), ==, 0);
    fcntl(fds[1], F_SETFL, O_NONBLOCK);
    while (write(fds[1], junk, sizeof(junk)) > 0) {
    }
    fcntl(fds[1], F_SETFL, 0);
    dup2(fds[1], STDERR_FILENO);
    close(fds[1]);
    *reader = fds[0];
    return old;
}

/* What a guest does wrong is told, once, and nobody must read it for the guest to go on. */
static void test_hostile_unread(Fixture *f, gconstpointer data)
{
    g_autoptr(GString) text = g_string_new(NULL);
    const char *line = ": virtio-test: guest error: descriptor number 8 is out of range\n";
    int reader, old = full_stderr(&reader);
    char buf[4096];

    start(f, 0);
    offer(f, QUEUE);
    g_assert_null(virtqueue_pop(&f->vdev, 0));
    g_assert_null(virtqueue_pop(&f->vdev, 0));
    g_assert_true(is_broken(f));
    while (!g_str_has_suffix(text->str, line)) {
        ssize_t n = read(reader, buf, sizeof(buf));

        g_assert_cmpint(n, >, 0);
        for (ssize_t i = 0; i < n; i++) {
            if (buf[i]) {
                g_string_append_c(text, buf[i]);
            }
        }
    }
    g_assert_null(strstr(strstr(text->str, line) + 1, line));
    log_flush();
    dup2(old, STDERR_FILENO);
    close(old);
    close(reader);
}

#define ADD(name, fn) g_test_add(name, Fixture, NULL, setup, fn, teardown)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("/virtio/registers", test_registers);
    ADD("/virtio/empty-slot", test_empty_slot);
    ADD("/virtio/request", test_request);
    ADD("/virtio/event-index", test_event_index);
    ADD("/virtio/indirect", test_indirect);
    ADD("/virtio/hostile", test_hostile);
    ADD("/virtio/hostile-again", test_hostile_again);
    ADD("/virtio/hostile-rings", test_hostile_rings);
    ADD("/virtio/hostile-unread", test_hostile_unread);
    return g_test_run();
}

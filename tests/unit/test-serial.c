/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The UART as a driver sees it, on a back end that the test plays. */
#include <glib.h>
#include <pthread.h>
#include <string.h>
#include "hw/char/serial-16550.h"
#include "hw/machine-lock.h"
#include "util/aio.h"

enum { RBR = 0, THR = 0, IER = 1, IIR = 2, FCR = 2, LCR = 3, MCR = 4, LSR = 5, MSR = 6, SCR = 7 };

struct Chardev {
    const ChardevFrontOps *ops;
    void *opaque;
    GString *out;
    size_t room;
    int accepted;
};

bool chardev_attach(Chardev *chr, const ChardevFrontOps *ops, void *opaque)
{
    if (ops && chr->ops) {
        return false;
    }
    chr->ops = ops;
    chr->opaque = opaque;
    return true;
}

void chardev_accept_input(Chardev *chr)
{
    chr->accepted++;
}

size_t chardev_write(Chardev *chr, const void *buf, size_t len)
{
    len = MIN(len, chr->room);
    g_string_append_len(chr->out, buf, len);
    chr->room -= len;
    return len;
}

const char *chardev_label(Chardev *chr)
{
    return "test";
}

typedef struct Fixture {
    AddressSpace *as;
    Chardev chr;
    Serial16550 *serial;
    const MemoryRegion *mr;
    bool irq;
} Fixture;

static void set_irq(void *opaque, int n, bool level)
{
    ((Fixture *)opaque)->irq = level;
}

static void wr(Fixture *f, unsigned reg, uint8_t value)
{
    machine_lock();
    f->mr->ops->write(f->mr->opaque, reg, value, 1);
    machine_unlock();
}

static uint8_t rd(Fixture *f, unsigned reg)
{
    uint8_t value;

    machine_lock();
    value = f->mr->ops->read(f->mr->opaque, reg, 1);
    machine_unlock();
    return value;
}

static void type(Fixture *f, const char *text)
{
    f->chr.ops->receive(f->chr.opaque, (const uint8_t *)text, strlen(text));
}

static void setup(Fixture *f, gconstpointer data)
{
    memset(f, 0, sizeof(*f));
    f->chr.out = g_string_new(NULL);
    f->chr.room = SIZE_MAX;
    f->as = address_space_new();
    f->serial = serial_16550_new(f->as, 0x10000000, (IrqLine){set_irq, f, 0}, &f->chr);
    f->mr = address_space_find(f->as, 0x10000000);
    g_assert_true(serial_16550_attach(f->serial, NULL));
}

static void teardown(Fixture *f, gconstpointer data)
{
    serial_16550_free(f->serial);
    g_assert_null(f->chr.ops);
    address_space_free(f->as);
    g_string_free(f->chr.out, true);
}

static void test_transmit(Fixture *f, gconstpointer data)
{
    g_assert_cmphex(rd(f, LSR), ==, 0x60);
    wr(f, THR, 'a');
    g_assert_cmphex(rd(f, LSR), ==, 0x60);
    g_assert_cmpstr(f->chr.out->str, ==, "a");
    g_assert_false(f->irq);
    /* enabling the interrupt while the transmitter is empty raises it: Linux relies on it */
    wr(f, IER, 2);
    g_assert_true(f->irq);
    g_assert_cmphex(rd(f, IIR), ==, 0x02);
    g_assert_cmphex(rd(f, IIR), ==, 0x01); /* told once */
    g_assert_false(f->irq);
    wr(f, THR, 'b');
    g_assert_true(f->irq);
    wr(f, IER, 0);
    g_assert_false(f->irq);
    wr(f, IER, 2);
    g_assert_true(f->irq);
}

static void test_slow_peer(Fixture *f, gconstpointer data)
{
    wr(f, FCR, 1);
    wr(f, IER, 2);
    rd(f, IIR);
    f->chr.room = 2;
    for (int i = 0; i < 18; i++) {
        wr(f, THR, 'a' + i);
    }
    /* two are gone, sixteen wait; the guest sees a busy line, and nobody has waited */
    g_assert_cmphex(rd(f, LSR), ==, 0);
    g_assert_cmphex(rd(f, IIR), ==, 0xc1);
    wr(f, THR, 'z'); /* full: lost, as on the wire */
    f->chr.room = 3;
    f->chr.ops->writable(f->chr.opaque);
    g_assert_cmphex(rd(f, LSR), ==, 0);
    f->chr.room = SIZE_MAX;
    f->chr.ops->writable(f->chr.opaque);
    g_assert_cmpstr(f->chr.out->str, ==, "abcdefghijklmnopqr");
    g_assert_cmphex(rd(f, LSR), ==, 0x60);
    g_assert_cmphex(rd(f, IIR), ==, 0xc2);
}

typedef struct Holder {
    pthread_mutex_t mutex; /* which TSan knows, unlike glib's */
    pthread_cond_t cond;
    bool has_it, may_end;
} Holder;

/* A vCPU that the scheduler has put aside while it has the machine lock. */
static gpointer hold_lock(gpointer opaque)
{
    Holder *h = opaque;

    machine_lock();
    pthread_mutex_lock(&h->mutex);
    h->has_it = true;
    pthread_cond_signal(&h->cond);
    while (!h->may_end) {
        pthread_cond_wait(&h->cond, &h->mutex);
    }
    pthread_mutex_unlock(&h->mutex);
    machine_unlock();
    return NULL;
}

/* The main thread does not wait for it; what has come is there afterwards, in order. */
static void test_lock_held(Fixture *f, gconstpointer data)
{
    Holder h = {0};
    GThread *thread;
    uint8_t lsr;

    wr(f, FCR, 1);
    f->chr.accepted = 0;
    pthread_mutex_init(&h.mutex, NULL);
    pthread_cond_init(&h.cond, NULL);
    thread = g_thread_new("holder", hold_lock, &h);
    pthread_mutex_lock(&h.mutex);
    while (!h.has_it) {
        pthread_cond_wait(&h.cond, &h.mutex);
    }
    pthread_mutex_unlock(&h.mutex);
    g_assert_cmpuint(f->chr.ops->can_receive(f->chr.opaque), ==, 0);
    type(f, "abc");
    type(f, "defghijklmnopq"); /* one more than there is room for */
    g_assert_cmpuint(f->chr.ops->can_receive(f->chr.opaque), ==, 0);
    pthread_mutex_lock(&h.mutex);
    h.may_end = true;
    pthread_cond_signal(&h.cond);
    pthread_mutex_unlock(&h.mutex);
    g_thread_join(thread);
    while (!((lsr = rd(f, LSR)) & 1)) {
        aio_poll(main_aio_context(), true);
    }
    g_assert_cmphex(lsr & 2, ==, 2);
    g_assert_cmpint(f->chr.accepted, ==, 1);
    g_assert_cmpuint(f->chr.ops->can_receive(f->chr.opaque), ==, 0);
    for (char c = 'a'; c < 'q'; c++) {
        g_assert_cmpint(rd(f, THR), ==, c);
    }
    g_assert_cmpuint(f->chr.ops->can_receive(f->chr.opaque), ==, 16);
    pthread_mutex_destroy(&h.mutex);
    pthread_cond_destroy(&h.cond);
}

static void test_receive(Fixture *f, gconstpointer data)
{
    g_assert_cmpuint(f->chr.ops->can_receive(f->chr.opaque), ==, 1);
    wr(f, FCR, 0x81); /* trigger at 8 */
    wr(f, IER, 1);
    g_assert_cmpuint(f->chr.ops->can_receive(f->chr.opaque), ==, 16);
    type(f, "abc");
    g_assert_true(f->irq);
    g_assert_cmphex(rd(f, IIR), ==, 0xcc); /* below the trigger: timeout */
    type(f, "defgh");
    g_assert_cmphex(rd(f, IIR), ==, 0xc4);
    type(f, "ijklmnop");
    g_assert_cmpuint(f->chr.ops->can_receive(f->chr.opaque), ==, 0);
    f->chr.accepted = 0;
    g_assert_cmphex(rd(f, LSR) & 1, ==, 1);
    g_assert_cmpint(rd(f, RBR), ==, 'a');
    g_assert_cmpint(f->chr.accepted, ==, 1); /* it had been told that there is no room */
    for (int i = 1; i < 16; i++) {
        g_assert_cmpint(rd(f, RBR), ==, 'a' + i);
    }
    g_assert_cmphex(rd(f, LSR), ==, 0x60);
    g_assert_false(f->irq);
    g_assert_cmpint(rd(f, RBR), ==, 0);

    /* a back end that does not ask overruns it */
    wr(f, IER, 5);
    type(f, "0123456789abcdefX");
    g_assert_cmphex(rd(f, IIR), ==, 0xc6);
    g_assert_cmphex(rd(f, LSR), ==, 0x63);
    g_assert_cmphex(rd(f, LSR), ==, 0x61);
    wr(f, FCR, 3);
    g_assert_cmphex(rd(f, LSR), ==, 0x60);
}

static void test_registers(Fixture *f, gconstpointer data)
{
    wr(f, LCR, 0x83);
    wr(f, THR, 0x12);
    wr(f, IER, 0x34);
    g_assert_cmphex(rd(f, RBR), ==, 0x12);
    g_assert_cmphex(rd(f, IER), ==, 0x34);
    wr(f, LCR, 3);
    g_assert_cmpuint(f->chr.out->len, ==, 0);
    g_assert_cmphex(rd(f, IER), ==, 0);
    wr(f, SCR, 0x5a);
    g_assert_cmphex(rd(f, SCR), ==, 0x5a);
    wr(f, IER, 0xff);
    g_assert_cmphex(rd(f, IER), ==, 0x0f);
    g_assert_cmphex(rd(f, MSR) & 0xf0, ==, 0xb0);
    /* the loop-back that drivers probe with */
    wr(f, MCR, 0x1a);
    g_assert_cmphex(rd(f, MSR) & 0xf0, ==, 0x90);
    wr(f, THR, 'L');
    g_assert_cmpint(rd(f, RBR), ==, 'L');
    g_assert_cmpuint(f->chr.out->len, ==, 0);
    wr(f, MCR, 0);
    f->chr.ops->event(f->chr.opaque, CHARDEV_BREAK);
    g_assert_cmphex(rd(f, LSR) & 0x11, ==, 0x11);
}

static void test_busy_back_end(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) err = NULL;
    AddressSpace *as = address_space_new();
    Serial16550 *other = serial_16550_new(as, 0, (IrqLine){set_irq, f, 0}, &f->chr);

    g_assert_false(serial_16550_attach(other, &err));
    g_assert_nonnull(strstr(err->message, "test"));
    serial_16550_free(other);
    address_space_free(as);
}

#define ADD(name, fn) g_test_add(name, Fixture, NULL, setup, fn, teardown)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    main_aio_context_init();
    ADD("/serial/transmit", test_transmit);
    ADD("/serial/slow-peer", test_slow_peer);
    ADD("/serial/receive", test_receive);
    ADD("/serial/lock-held", test_lock_held);
    ADD("/serial/registers", test_registers);
    ADD("/serial/busy-back-end", test_busy_back_end);
    return g_test_run();
}

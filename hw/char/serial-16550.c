/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A 16550A UART (National Semiconductor's PC16550D data sheet).  Time does not pass on the
 * line: a byte is with the back end as soon as the guest has written it, and the receive
 * timeout is signalled at once.  A back end that cannot take a byte leaves it in the FIFO
 * until it says that there is room; the guest sees a busy transmitter, nobody waits.
 *
 * State: machine lock.  Registers from vCPU threads, the back end's calls in the main thread, which
 * does not wait for the lock: what it has for the guest stays with it until it gets the lock.
 */
#include <glib.h>
#include <string.h>
#include "hw/char/serial-16550.h"
#include "hw/machine-lock.h"
#include "qapi/error.h"
#include "util/aio.h"

enum { RBR_THR = 0, IER = 1, IIR_FCR = 2, LCR = 3, MCR = 4, LSR = 5, MSR = 6, SCR = 7 };

enum {
    IER_RDI = 0x01, IER_THRI = 0x02, IER_RLSI = 0x04, IER_MSI = 0x08,
    IIR_NONE = 0x01, IIR_MSI = 0x00, IIR_THRI = 0x02, IIR_RDI = 0x04, IIR_CTI = 0x0c,
    IIR_RLSI = 0x06, IIR_FIFO = 0xc0,
    FCR_ENABLE = 0x01, FCR_CLEAR_RX = 0x02, FCR_CLEAR_TX = 0x04, FCR_KEEP = 0xc9,
    LCR_DLAB = 0x80,
    MCR_DTR = 0x01, MCR_RTS = 0x02, MCR_OUT1 = 0x04, MCR_OUT2 = 0x08, MCR_LOOP = 0x10,
    LSR_DR = 0x01, LSR_OE = 0x02, LSR_BI = 0x10, LSR_THRE = 0x20, LSR_TEMT = 0x40,
    MSR_DELTA = 0x0f, MSR_CTS = 0x10, MSR_DSR = 0x20, MSR_RI = 0x40, MSR_DCD = 0x80,
    FIFO_SIZE = 16,
};

typedef struct Fifo {
    uint8_t data[FIFO_SIZE];
    uint32_t head, count;
} Fifo;

struct Serial16550 {
    IrqLine irq;
    Chardev *chr;
    bool attached;
    bool starved; /* the back end was told that there is no room */
    /* Main thread: what the back end has brought or told and the registers do not show yet. */
    uint8_t arrived[FIFO_SIZE];
    size_t n_arrived;
    bool got_break, can_write, overrun;
    bool refused; /* the back end was told that there is no room because of that */
    AioTimer *retry;
    /* machine state */
    Fifo rx, tx;
    uint8_t ier, fcr, lcr, mcr, lsr, msr, scr, dll, dlm;
    bool thr_pending; /* the transmitter has become empty and IIR has not told */
};

static void fifo_push(Fifo *f, uint8_t byte)
{
    f->data[(f->head + f->count) % FIFO_SIZE] = byte;
    f->count++;
}

static uint8_t fifo_pop(Fifo *f)
{
    uint8_t byte = f->data[f->head];

    f->head = (f->head + 1) % FIFO_SIZE;
    f->count--;
    return byte;
}

static unsigned depth(Serial16550 *s)
{
    return s->fcr & FCR_ENABLE ? FIFO_SIZE : 1;
}

static unsigned rx_trigger(Serial16550 *s)
{
    static const uint8_t level[4] = {1, 4, 8, 14};

    return s->fcr & FCR_ENABLE ? level[s->fcr >> 6] : 1;
}

/* What IIR shows: the pending interrupt of the highest priority. */
static uint8_t interrupt_id(Serial16550 *s)
{
    if (s->ier & IER_RLSI && s->lsr & (LSR_OE | LSR_BI)) {
        return IIR_RLSI;
    }
    if (s->ier & IER_RDI && s->rx.count) {
        return s->rx.count >= rx_trigger(s) ? IIR_RDI : IIR_CTI;
    }
    if (s->ier & IER_THRI && s->thr_pending) {
        return IIR_THRI;
    }
    if (s->ier & IER_MSI && s->msr & MSR_DELTA) {
        return IIR_MSI;
    }
    return IIR_NONE;
}

static void update_irq(Serial16550 *s)
{
    irq_set(&s->irq, interrupt_id(s) != IIR_NONE);
}

static void receive_byte(Serial16550 *s, uint8_t byte)
{
    if (s->rx.count >= depth(s)) {
        s->lsr |= LSR_OE;
        return;
    }
    fifo_push(&s->rx, byte);
    s->lsr |= LSR_DR;
}

/* Hands the back end what it takes; an emptied transmitter becomes an interrupt. */
static void transmit(Serial16550 *s)
{
    while (s->tx.count) {
        uint32_t n = MIN(s->tx.count, FIFO_SIZE - s->tx.head);

        if (s->mcr & MCR_LOOP) {
            for (uint32_t i = 0; i < n; i++) {
                receive_byte(s, s->tx.data[s->tx.head + i]);
            }
        } else if (s->attached) {
            n = chardev_write(s->chr, s->tx.data + s->tx.head, n);
        }
        if (n == 0) {
            return; /* serial_writable() follows */
        }
        s->tx.head = (s->tx.head + n) % FIFO_SIZE;
        s->tx.count -= n;
    }
    if (!(s->lsr & LSR_THRE)) {
        s->lsr |= LSR_THRE | LSR_TEMT;
        s->thr_pending = true;
    }
}

static void write_thr(Serial16550 *s, uint8_t byte)
{
    s->thr_pending = false;
    s->lsr &= ~(LSR_THRE | LSR_TEMT);
    if (s->tx.count < depth(s)) {
        fifo_push(&s->tx, byte);
    }
    transmit(s);
}

/* Returns the byte and, in *room, whether the back end waits for room. */
static uint8_t read_rbr(Serial16550 *s, bool *room)
{
    uint8_t byte = 0;

    if (s->rx.count) {
        byte = fifo_pop(&s->rx);
    }
    if (!s->rx.count) {
        s->lsr &= ~(LSR_DR | LSR_BI);
        *room = true;
    }
    if (s->starved) {
        s->starved = false;
        *room = true;
    }
    return byte;
}

static uint8_t modem_status(Serial16550 *s)
{
    uint8_t v;

    if (!(s->mcr & MCR_LOOP)) {
        return s->msr;
    }
    v = s->msr & MSR_DELTA;
    v |= s->mcr & MCR_DTR ? MSR_DSR : 0;
    v |= s->mcr & MCR_RTS ? MSR_CTS : 0;
    v |= s->mcr & MCR_OUT1 ? MSR_RI : 0;
    v |= s->mcr & MCR_OUT2 ? MSR_DCD : 0;
    return v;
}

static uint64_t serial_read(void *opaque, uint64_t offset, unsigned size)
{
    Serial16550 *s = opaque;
    bool room = false;
    uint8_t value = 0;

    switch (offset) {
    case RBR_THR:
        value = s->lcr & LCR_DLAB ? s->dll : read_rbr(s, &room);
        break;
    case IER:
        value = s->lcr & LCR_DLAB ? s->dlm : s->ier;
        break;
    case IIR_FCR:
        value = interrupt_id(s);
        if (value == IIR_THRI) {
            s->thr_pending = false; /* reading it is the acknowledgement */
        }
        value |= s->fcr & FCR_ENABLE ? IIR_FIFO : 0;
        break;
    case LCR:
        value = s->lcr;
        break;
    case MCR:
        value = s->mcr;
        break;
    case LSR:
        value = s->lsr;
        s->lsr &= ~(LSR_OE | LSR_BI);
        break;
    case MSR:
        value = modem_status(s);
        s->msr &= ~MSR_DELTA;
        break;
    case SCR:
        value = s->scr;
        break;
    }
    update_irq(s);
    if (room && s->attached) {
        chardev_accept_input(s->chr);
    }
    return value;
}

static void write_fcr(Serial16550 *s, uint8_t value)
{
    /* changing the FIFO mode clears both FIFOs, as the data sheet says */
    if ((value ^ s->fcr) & FCR_ENABLE) {
        value |= FCR_CLEAR_RX | FCR_CLEAR_TX;
    }
    if (value & FCR_CLEAR_RX) {
        s->rx.count = 0;
        s->lsr &= ~(LSR_DR | LSR_BI);
        s->starved = false;
        if (s->attached) {
            chardev_accept_input(s->chr);
        }
    }
    if (value & FCR_CLEAR_TX) {
        s->tx.count = 0;
        s->lsr |= LSR_THRE | LSR_TEMT;
    }
    s->fcr = value & FCR_KEEP;
}

static void serial_write(void *opaque, uint64_t offset, uint64_t wide, unsigned size)
{
    Serial16550 *s = opaque;
    uint8_t value = wide;

    switch (offset) {
    case RBR_THR:
        if (s->lcr & LCR_DLAB) {
            s->dll = value;
        } else {
            write_thr(s, value);
        }
        break;
    case IER:
        if (s->lcr & LCR_DLAB) {
            s->dlm = value;
            break;
        }
        /* enabling it while the transmitter is empty raises it: drivers rely on that */
        if (~s->ier & value & IER_THRI && s->lsr & LSR_THRE) {
            s->thr_pending = true;
        }
        s->ier = value & 0x0f;
        break;
    case IIR_FCR:
        write_fcr(s, value);
        break;
    case LCR:
        s->lcr = value;
        break;
    case MCR:
        s->mcr = value & 0x1f;
        break;
    case SCR:
        s->scr = value;
        break;
    }
    update_irq(s);
}

static const MMIOOps serial_ops = {
    .read = serial_read,
    .write = serial_write,
    .min_size = 1,
    .max_size = 4,
};

/* --- The back end's calls: main thread, no lock --------------------------------------- */

/* What has been kept for the registers; if a vCPU has the lock, soon. */
static void catch_up(void *opaque)
{
    Serial16550 *s = opaque;

    if (!machine_lock_soon()) {
        aio_timer_mod(s->retry, clock_now_ns() + MACHINE_LOCK_RETRY_NS);
        return;
    }
    for (size_t i = 0; i < s->n_arrived; i++) {
        receive_byte(s, s->arrived[i]);
    }
    s->lsr |= s->overrun ? LSR_OE : 0;
    if (s->got_break) {
        receive_byte(s, 0);
        s->lsr |= LSR_BI;
    }
    if (s->can_write) {
        transmit(s);
    }
    update_irq(s);
    machine_unlock();
    s->n_arrived = 0;
    s->got_break = s->can_write = s->overrun = false;
    if (s->refused) {
        s->refused = false;
        chardev_accept_input(s->chr);
    }
}

static size_t serial_can_receive(void *opaque)
{
    Serial16550 *s = opaque;
    size_t n;

    s->refused = s->n_arrived || s->got_break || !machine_lock_soon();
    if (s->refused) {
        aio_timer_mod(s->retry, clock_now_ns() + MACHINE_LOCK_RETRY_NS);
        return 0;
    }
    n = depth(s) > s->rx.count ? depth(s) - s->rx.count : 0;
    s->starved = n == 0;
    machine_unlock();
    return n;
}

static void serial_receive(void *opaque, const uint8_t *buf, size_t len)
{
    Serial16550 *s = opaque;

    while (len) {
        size_t n = MIN(len, FIFO_SIZE - s->n_arrived);

        if (n == 0) { /* a back end that does not ask */
            s->overrun = true;
            return;
        }
        memcpy(s->arrived + s->n_arrived, buf, n);
        s->n_arrived += n;
        buf += n;
        len -= n;
        catch_up(s);
    }
}

static void serial_event(void *opaque, ChardevEvent event)
{
    Serial16550 *s = opaque;

    if (event == CHARDEV_BREAK) {
        s->got_break = true;
        catch_up(s);
    }
}

static void serial_writable(void *opaque)
{
    Serial16550 *s = opaque;

    s->can_write = true;
    catch_up(s);
}

static void serial_change(void *opaque, Chardev *chr)
{
    Serial16550 *s = opaque;

    machine_lock();
    s->chr = chr;
    machine_unlock();
}

static const ChardevFrontOps serial_front_ops = {
    .can_receive = serial_can_receive,
    .receive = serial_receive,
    .event = serial_event,
    .writable = serial_writable,
    .change = serial_change,
};

/* --- Life ---------------------------------------------------------------------------- */

static bool serial_post_load(void *opaque, int version, GError **errp)
{
    Serial16550 *s = opaque;

    if (s->rx.head >= FIFO_SIZE || s->rx.count > FIFO_SIZE || s->tx.head >= FIFO_SIZE ||
        s->tx.count > FIFO_SIZE) {
        error_setg(errp, "serial: FIFO position out of range");
        return false;
    }
    s->starved = false;
    transmit(s);
    update_irq(s);
    if (s->attached) {
        chardev_accept_input(s->chr);
    }
    return true;
}

static const VMStateField fifo_fields[] = {
    VMSTATE_BUFFER(data, Fifo),
    VMSTATE_UINT32(head, Fifo),
    VMSTATE_UINT32(count, Fifo),
    VMSTATE_END,
};

static const VMStateDescription vmstate_fifo = {
    .name = "serial_fifo",
    .version = 1,
    .minimum_version = 1,
    .fields = fifo_fields,
};

static const VMStateField serial_fields[] = {
    VMSTATE_STRUCT(rx, Serial16550, vmstate_fifo, Fifo),
    VMSTATE_STRUCT(tx, Serial16550, vmstate_fifo, Fifo),
    VMSTATE_UINT8(ier, Serial16550),
    VMSTATE_UINT8(fcr, Serial16550),
    VMSTATE_UINT8(lcr, Serial16550),
    VMSTATE_UINT8(mcr, Serial16550),
    VMSTATE_UINT8(lsr, Serial16550),
    VMSTATE_UINT8(msr, Serial16550),
    VMSTATE_UINT8(scr, Serial16550),
    VMSTATE_UINT8(dll, Serial16550),
    VMSTATE_UINT8(dlm, Serial16550),
    VMSTATE_BOOL(thr_pending, Serial16550),
    VMSTATE_END,
};

static const VMStateDescription vmstate_serial = {
    .name = "serial",
    .version = 1,
    .minimum_version = 1,
    .post_load = serial_post_load,
    .fields = serial_fields,
};

Serial16550 *serial_16550_new(AddressSpace *as, uint64_t base, IrqLine irq, Chardev *chr)
{
    Serial16550 *s = g_new0(Serial16550, 1);

    s->irq = irq;
    s->chr = chr;
    s->dll = 0x0c;
    address_space_add_mmio(as, "serial", base, SERIAL_16550_SIZE, &serial_ops, s);
    s->retry = aio_timer_new(main_aio_context(), catch_up, s);
    serial_16550_reset(s);
    return s;
}

bool serial_16550_attach(Serial16550 *s, GError **errp)
{
    if (s->chr && !chardev_attach(s->chr, &serial_front_ops, s)) {
        error_setg(errp, "Device '%s' is in use", chardev_label(s->chr));
        return false;
    }
    s->attached = s->chr != NULL;
    return true;
}

void serial_16550_reset(Serial16550 *s)
{
    memset(&s->rx, 0, sizeof(s->rx));
    memset(&s->tx, 0, sizeof(s->tx));
    s->ier = s->fcr = s->lcr = s->scr = s->dlm = 0;
    s->dll = 0x0c; /* 9600 baud */
    s->mcr = MCR_OUT2;
    s->lsr = LSR_THRE | LSR_TEMT;
    s->msr = MSR_CTS | MSR_DSR | MSR_DCD;
    s->thr_pending = false;
    s->starved = false;
    update_irq(s);
}

void serial_16550_register(Serial16550 *s, VMStateRegistry *r)
{
    vmstate_register(r, "serial", 0, &vmstate_serial, s);
}

void serial_16550_free(Serial16550 *s)
{
    if (s->attached) {
        chardev_attach(s->chr, NULL, NULL);
    }
    aio_timer_free(s->retry);
    g_free(s);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goldfish RTC (device tree "google,goldfish-rtc"; registers as the Android goldfish
 * documentation gives them).  Shows the host's wall clock plus an offset that the guest may
 * set; so after loading a snapshot the guest sees today's time.  State: machine lock.
 */
#include <glib.h>
#include <time.h>
#include "hw/rtc/goldfish-rtc.h"
#include "hw/vm-clock.h"

enum {
    TIME_LOW = 0x00,  /* reading latches TIME_HIGH */
    TIME_HIGH = 0x04,
    ALARM_LOW = 0x08, /* writing arms the alarm */
    ALARM_HIGH = 0x0c,
    IRQ_ENABLED = 0x10,
    CLEAR_ALARM = 0x14,
    ALARM_STATUS = 0x18,
    CLEAR_INTERRUPT = 0x1c,
};

struct GoldfishRtc {
    IrqLine irq;
    VmTimer *timer;
    /* machine state */
    int64_t offset_ns; /* guest's wall clock minus the host's */
    uint64_t alarm_ns;
    uint32_t time_high, alarm_high;
    bool alarm_running, irq_pending, irq_enabled;
};

static uint64_t rtc_now(GoldfishRtc *s)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + ts.tv_nsec + (uint64_t)s->offset_ns;
}

static void update_irq(GoldfishRtc *s)
{
    irq_set(&s->irq, s->irq_pending && s->irq_enabled);
}

/* Fires an alarm that is due, else arms the timer for it. */
static void update_alarm(GoldfishRtc *s)
{
    uint64_t now = rtc_now(s), delta;
    int64_t at;

    if (!s->alarm_running) {
        vm_timer_del(s->timer);
        return;
    }
    if (s->alarm_ns <= now) {
        s->alarm_running = false;
        s->irq_pending = true;
        vm_timer_del(s->timer);
        update_irq(s);
        return;
    }
    delta = s->alarm_ns - now;
    if (delta > INT64_MAX || __builtin_add_overflow(vm_clock_ns(), (int64_t)delta, &at)) {
        vm_timer_del(s->timer);
    } else {
        vm_timer_mod(s->timer, at);
    }
}

static void alarm_due(void *opaque)
{
    update_alarm(opaque);
}

static uint64_t rtc_read(void *opaque, uint64_t offset, unsigned size)
{
    GoldfishRtc *s = opaque;

    switch (offset) {
    case TIME_LOW: {
        uint64_t now = rtc_now(s);

        s->time_high = now >> 32;
        return (uint32_t)now;
    }
    case TIME_HIGH:
        return s->time_high;
    case ALARM_LOW:
        return (uint32_t)s->alarm_ns;
    case ALARM_HIGH:
        return s->alarm_ns >> 32;
    case IRQ_ENABLED:
        return s->irq_enabled;
    case ALARM_STATUS:
        return s->alarm_running;
    default:
        return 0;
    }
}

static void rtc_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    GoldfishRtc *s = opaque;
    uint64_t now;

    switch (offset) {
    case TIME_LOW:
        now = rtc_now(s);
        s->offset_ns += (int64_t)(((now & ~(uint64_t)UINT32_MAX) | (uint32_t)value) - now);
        update_alarm(s);
        break;
    case TIME_HIGH:
        now = rtc_now(s);
        s->offset_ns += (int64_t)((value << 32 | (uint32_t)now) - now);
        update_alarm(s);
        break;
    case ALARM_LOW:
        s->alarm_ns = (uint64_t)s->alarm_high << 32 | (uint32_t)value;
        s->alarm_running = true;
        update_alarm(s);
        break;
    case ALARM_HIGH:
        s->alarm_high = value;
        break;
    case IRQ_ENABLED:
        s->irq_enabled = value & 1;
        update_irq(s);
        break;
    case CLEAR_ALARM:
        s->alarm_running = false;
        update_alarm(s);
        break;
    case CLEAR_INTERRUPT:
        s->irq_pending = false;
        update_irq(s);
        break;
    }
}

static const MMIOOps rtc_ops = {
    .read = rtc_read,
    .write = rtc_write,
    .min_size = 4,
    .max_size = 4,
};

static bool rtc_post_load(void *opaque, int version, GError **errp)
{
    update_irq(opaque);
    update_alarm(opaque);
    return true;
}

static const VMStateField rtc_fields[] = {
    VMSTATE_INT64(offset_ns, GoldfishRtc),
    VMSTATE_UINT64(alarm_ns, GoldfishRtc),
    VMSTATE_UINT32(time_high, GoldfishRtc),
    VMSTATE_UINT32(alarm_high, GoldfishRtc),
    VMSTATE_BOOL(alarm_running, GoldfishRtc),
    VMSTATE_BOOL(irq_pending, GoldfishRtc),
    VMSTATE_BOOL(irq_enabled, GoldfishRtc),
    VMSTATE_END,
};

static const VMStateDescription vmstate_rtc = {
    .name = "goldfish_rtc",
    .version = 1,
    .minimum_version = 1,
    .post_load = rtc_post_load,
    .fields = rtc_fields,
};

GoldfishRtc *goldfish_rtc_new(AddressSpace *as, uint64_t base, IrqLine irq)
{
    GoldfishRtc *s = g_new0(GoldfishRtc, 1);

    s->irq = irq;
    s->timer = vm_timer_new(alarm_due, s);
    address_space_add_mmio(as, "goldfish_rtc", base, GOLDFISH_RTC_SIZE, &rtc_ops, s);
    return s;
}

void goldfish_rtc_reset(GoldfishRtc *s)
{
    s->alarm_ns = 0;
    s->alarm_high = 0;
    s->alarm_running = s->irq_pending = s->irq_enabled = false;
    update_irq(s);
    update_alarm(s);
}

void goldfish_rtc_register(GoldfishRtc *s, VMStateRegistry *r)
{
    vmstate_register(r, "goldfish_rtc", 0, &vmstate_rtc, s);
}

void goldfish_rtc_free(GoldfishRtc *s)
{
    vm_timer_free(s->timer);
    g_free(s);
}

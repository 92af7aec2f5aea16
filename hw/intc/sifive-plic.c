/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Platform-level interrupt controller after the RISC-V PLIC specification 1.0.0: 96 level
 * triggered sources, 7 priorities, one claim/complete register for each context.
 *
 * Disks raise interrupts from their IOThreads, so the state has a lock of its own: a leaf,
 * taken by any thread, under which only the wires to the CPUs are driven.
 */
#include <glib.h>
#include <string.h>
#include <pthread.h>
#include "hw/intc/sifive-plic.h"

enum {
    PRIORITY = 0,
    PENDING = 0x1000,
    ENABLE = 0x2000,
    ENABLE_STRIDE = 0x80,
    CONTEXT = 0x200000,
    CONTEXT_STRIDE = 0x1000,
    WORDS = SIFIVE_PLIC_SOURCES / 32 + 1,
    PRIORITY_MASK = 7,
};

struct SifivePlic {
    pthread_mutex_t lock;
    int nr_contexts;
    IrqLine out[SIFIVE_PLIC_MAX_CONTEXTS];
    SifivePlicObserve observed; /* lock */
    void (*observer)(void *opaque, int n, bool level);
    void *observer_opaque;
    bool out_level[SIFIVE_PLIC_MAX_CONTEXTS];
    uint64_t count[SIFIVE_PLIC_SOURCES + 1];
    /* machine state */
    uint32_t priority[SIFIVE_PLIC_SOURCES + 1];
    uint32_t level[WORDS];   /* the wires as they are */
    uint32_t pending[WORDS]; /* accepted from the gateway, not claimed */
    uint32_t claimed[WORDS]; /* between claim and complete: the gateway is closed */
    uint32_t enable[SIFIVE_PLIC_MAX_CONTEXTS * WORDS];
    uint32_t threshold[SIFIVE_PLIC_MAX_CONTEXTS];
};

static bool test_bit(const uint32_t *words, int n)
{
    return words[n / 32] >> (n % 32) & 1;
}

static void assign_bit(uint32_t *words, int n, bool value)
{
    words[n / 32] = (words[n / 32] & ~(1u << n % 32)) | (uint32_t)value << n % 32;
}

static uint32_t *enable_word(SifivePlic *s, int context, int word)
{
    return &s->enable[context * WORDS + word];
}

/* The source to serve next: highest priority, lowest number; 0 if none counts. */
static int best_source(SifivePlic *s, int context)
{
    uint32_t best_priority = s->threshold[context];
    int best = 0;

    for (int w = 0; w < WORDS; w++) {
        uint32_t bits = s->pending[w] & *enable_word(s, context, w);

        for (; bits; bits &= bits - 1) {
            int n = w * 32 + __builtin_ctz(bits);

            if (s->priority[n] > best_priority) {
                best_priority = s->priority[n];
                best = n;
            }
        }
    }
    return best;
}

static void tell(SifivePlic *s, SifivePlicObserve what, int n, bool level)
{
    if (s->observed == what) {
        s->observer(s->observer_opaque, n, level);
    }
}

static void update(SifivePlic *s)
{
    for (int c = 0; c < s->nr_contexts; c++) {
        bool level = best_source(s, c) != 0;

        if (level != s->out_level[c]) {
            s->out_level[c] = level;
            irq_set(&s->out[c], level);
            tell(s, SIFIVE_PLIC_OBSERVE_OUT, c, level);
        }
    }
}

static void set_input(void *opaque, int n, bool level)
{
    SifivePlic *s = opaque;

    pthread_mutex_lock(&s->lock);
    if (level != test_bit(s->level, n)) {
        assign_bit(s->level, n, level);
        s->count[n] += level;
        tell(s, SIFIVE_PLIC_OBSERVE_IN, n, level);
        if (level && !test_bit(s->claimed, n)) {
            assign_bit(s->pending, n, true);
            update(s);
        }
    }
    pthread_mutex_unlock(&s->lock);
}

static uint32_t claim(SifivePlic *s, int context)
{
    int n = best_source(s, context);

    if (n) {
        assign_bit(s->pending, n, false);
        assign_bit(s->claimed, n, true);
        update(s);
    }
    return n;
}

static void complete(SifivePlic *s, int context, uint32_t n)
{
    if (n == 0 || n > SIFIVE_PLIC_SOURCES || !test_bit(enable_word(s, context, 0), n)) {
        return; /* the specification: silently ignored */
    }
    assign_bit(s->claimed, n, false);
    if (test_bit(s->level, n)) {
        assign_bit(s->pending, n, true);
    }
    update(s);
}

static uint64_t plic_read(void *opaque, uint64_t offset, unsigned size)
{
    SifivePlic *s = opaque;
    uint32_t value = 0;

    pthread_mutex_lock(&s->lock);
    if (offset >= CONTEXT) {
        uint64_t context = (offset - CONTEXT) / CONTEXT_STRIDE, reg = offset % CONTEXT_STRIDE;

        if (context < (unsigned)s->nr_contexts) {
            value = reg == 0 ? s->threshold[context] : reg == 4 ? claim(s, context) : 0;
        }
    } else if (offset >= ENABLE) {
        uint64_t context = (offset - ENABLE) / ENABLE_STRIDE;
        uint64_t word = (offset % ENABLE_STRIDE) / 4;

        if (context < (unsigned)s->nr_contexts && word < WORDS) {
            value = *enable_word(s, context, word);
        }
    } else if (offset >= PENDING) {
        if ((offset - PENDING) / 4 < WORDS) {
            value = s->pending[(offset - PENDING) / 4];
        }
    } else if (offset / 4 <= SIFIVE_PLIC_SOURCES) {
        value = s->priority[offset / 4];
    }
    pthread_mutex_unlock(&s->lock);
    return value;
}

static void plic_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    SifivePlic *s = opaque;

    pthread_mutex_lock(&s->lock);
    if (offset >= CONTEXT) {
        uint64_t context = (offset - CONTEXT) / CONTEXT_STRIDE, reg = offset % CONTEXT_STRIDE;

        if (context < (unsigned)s->nr_contexts && reg == 0) {
            s->threshold[context] = value & PRIORITY_MASK;
        } else if (context < (unsigned)s->nr_contexts && reg == 4) {
            complete(s, context, value);
        }
    } else if (offset >= ENABLE) {
        uint64_t context = (offset - ENABLE) / ENABLE_STRIDE;
        uint64_t word = (offset % ENABLE_STRIDE) / 4;

        if (context < (unsigned)s->nr_contexts && word < WORDS) {
            /* source 0 does not exist; nor does any above the last */
            uint32_t mask = word == 0 ? ~1u : word == WORDS - 1 ? 1u : ~0u;

            *enable_word(s, context, word) = value & mask;
        }
    } else if (offset < PENDING && offset >= 4 && offset / 4 <= SIFIVE_PLIC_SOURCES) {
        s->priority[offset / 4] = value & PRIORITY_MASK;
    }
    update(s);
    pthread_mutex_unlock(&s->lock);
}

static const MMIOOps plic_ops = {
    .read = plic_read,
    .write = plic_write,
    .min_size = 4,
    .max_size = 4,
    .lockless = true,
};

/* Drives every wire, whatever the other end believes. */
static void refresh(SifivePlic *s)
{
    for (int c = 0; c < s->nr_contexts; c++) {
        s->out_level[c] = best_source(s, c) != 0;
        irq_set(&s->out[c], s->out_level[c]);
    }
}

static bool plic_post_load(void *opaque, int version, GError **errp)
{
    SifivePlic *s = opaque;

    pthread_mutex_lock(&s->lock);
    for (int i = 0; i <= SIFIVE_PLIC_SOURCES; i++) {
        s->priority[i] &= PRIORITY_MASK;
    }
    for (int c = 0; c < SIFIVE_PLIC_MAX_CONTEXTS; c++) {
        s->threshold[c] &= PRIORITY_MASK;
        *enable_word(s, c, 0) &= ~1u;
        *enable_word(s, c, WORDS - 1) &= 1u;
    }
    refresh(s);
    pthread_mutex_unlock(&s->lock);
    return true;
}

static const VMStateField plic_fields[] = {
    VMSTATE_UINT32_ARRAY(priority, SifivePlic, SIFIVE_PLIC_SOURCES + 1),
    VMSTATE_UINT32_ARRAY(level, SifivePlic, WORDS),
    VMSTATE_UINT32_ARRAY(pending, SifivePlic, WORDS),
    VMSTATE_UINT32_ARRAY(claimed, SifivePlic, WORDS),
    VMSTATE_UINT32_ARRAY(enable, SifivePlic, SIFIVE_PLIC_MAX_CONTEXTS *WORDS),
    VMSTATE_UINT32_ARRAY(threshold, SifivePlic, SIFIVE_PLIC_MAX_CONTEXTS),
    VMSTATE_END,
};

static const VMStateDescription vmstate_plic = {
    .name = "riscv_sifive_plic",
    .version = 1,
    .minimum_version = 1,
    .post_load = plic_post_load,
    .fields = plic_fields,
};

SifivePlic *sifive_plic_new(AddressSpace *as, uint64_t base, int nr_contexts,
                            const IrqLine *out)
{
    SifivePlic *s = g_new0(SifivePlic, 1);

    g_assert(nr_contexts > 0 && nr_contexts <= SIFIVE_PLIC_MAX_CONTEXTS);
    pthread_mutex_init(&s->lock, NULL);
    s->nr_contexts = nr_contexts;
    for (int c = 0; c < nr_contexts; c++) {
        s->out[c] = out[c];
    }
    address_space_add_mmio(as, "riscv.sifive.plic", base, SIFIVE_PLIC_SIZE, &plic_ops, s);
    return s;
}

IrqLine sifive_plic_input(SifivePlic *s, int n)
{
    g_assert(n > 0 && n <= SIFIVE_PLIC_SOURCES);
    return (IrqLine){.set = set_input, .opaque = s, .n = n};
}

void sifive_plic_observe(SifivePlic *s, SifivePlicObserve what,
                         void (*fn)(void *opaque, int n, bool level), void *opaque)
{
    pthread_mutex_lock(&s->lock);
    s->observed = what;
    s->observer = fn;
    s->observer_opaque = opaque;
    pthread_mutex_unlock(&s->lock);
}

/* " name=00000000 00000000...", the sources from 0 on in the first word's lowest bit. */
static void print_words(GString *out, const char *name, const uint32_t *words)
{
    g_string_append_printf(out, " %s=", name);
    for (int w = 0; w < WORDS; w++) {
        g_string_append_printf(out, "%s%08x", w ? "," : "", words[w]);
    }
}

void sifive_plic_print(SifivePlic *s, GString *out)
{
    pthread_mutex_lock(&s->lock);
    g_string_append(out, "plic:");
    print_words(out, "level", s->level);
    print_words(out, "pending", s->pending);
    print_words(out, "claimed", s->claimed);
    for (int c = 0; c < s->nr_contexts; c++) {
        g_string_append_printf(out, "\nplic: context=%d out=%d threshold=%u", c, s->out_level[c],
                               s->threshold[c]);
        print_words(out, "enable", enable_word(s, c, 0));
    }
    for (int n = 1; n <= SIFIVE_PLIC_SOURCES; n++) {
        if (s->priority[n]) {
            g_string_append_printf(out, "\nplic: source=%d priority=%u", n, s->priority[n]);
        }
    }
    g_string_append_c(out, '\n');
    pthread_mutex_unlock(&s->lock);
}

uint64_t sifive_plic_count(SifivePlic *s, int n)
{
    uint64_t count;

    pthread_mutex_lock(&s->lock);
    count = s->count[n];
    pthread_mutex_unlock(&s->lock);
    return count;
}

void sifive_plic_reset(SifivePlic *s)
{
    pthread_mutex_lock(&s->lock);
    memset(s->priority, 0, sizeof(s->priority));
    memset(s->pending, 0, sizeof(s->pending));
    memset(s->claimed, 0, sizeof(s->claimed));
    memset(s->enable, 0, sizeof(s->enable));
    memset(s->threshold, 0, sizeof(s->threshold));
    /* a device that still holds its wire up is heard again */
    memcpy(s->pending, s->level, sizeof(s->pending));
    refresh(s);
    pthread_mutex_unlock(&s->lock);
}

void sifive_plic_register(SifivePlic *s, VMStateRegistry *r)
{
    vmstate_register(r, "riscv_sifive_plic", 0, &vmstate_plic, s);
}

void sifive_plic_free(SifivePlic *s)
{
    pthread_mutex_destroy(&s->lock);
    g_free(s);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the test server reads and writes: registers, words, and ranges of memory, whose data is text
 * in the protocol.  All of it in a worker, as a vCPU thread would make the access: a device's reset
 * may wait for its disk, and it takes milliseconds to make text of a megabyte.
 */
#include <string.h>

#include "hw/machine-lock.h"
#include "qtest-int.h"
#include "system-int.h"
#include "util/aio.h"
#include "util/guest-memory.h"

/* --- A register or a word ------------------------------------------------------------------ */

typedef struct Word {
    AddressSpace *as;
    const MemoryRegion *mr; /* whose register it is; NULL: memory, or nothing */
    uint64_t addr, size;
    uint64_t *value;
    bool write;
} Word;

/* As the CPU's own: what is not there reads as zero and takes writes without a trace. */
static void access_register(Word *a)
{
    const MemoryRegion *mr = a->mr;
    const MMIOOps *ops = mr->ops;
    uint64_t offset = a->addr - mr->base;

    if (!ops || a->addr % a->size || a->size > mr->size - offset ||
        a->size < (ops->min_size ? ops->min_size : 1) ||
        a->size > (ops->max_size ? ops->max_size : 8)) {
        return;
    }
    if (!ops->lockless) {
        machine_lock();
    }
    if (a->write && ops->write) {
        ops->write(mr->opaque, offset, *a->value, a->size);
    } else if (!a->write && ops->read) {
        *a->value = ops->read(mr->opaque, offset, a->size);
    }
    if (!ops->lockless) {
        machine_unlock();
    }
}

static int word_worker(void *opaque)
{
    Word *a = opaque;
    uint64_t le = GUINT64_TO_LE(*a->value);

    if (a->mr) {
        access_register(a);
        return 0;
    }
    guest_memory_begin();
    if (a->as && a->write) {
        address_space_write(a->as, a->addr, &le, a->size);
    } else if (!a->as || !address_space_read(a->as, a->addr, &le, a->size)) {
        le = 0;
    }
    guest_memory_end();
    if (!a->write) {
        *a->value = GUINT64_FROM_LE(le);
    }
    return 0;
}

static const MemoryRegion *find_register(const Word *a)
{
    const MemoryRegion *mr = a->as ? address_space_find(a->as, a->addr) : NULL;

    return mr && (a->write ? mr->ops != NULL : !memory_region_reads_host(mr)) ? mr : NULL;
}

bool coroutine_fn qtest_access_word(QTest *q, uint64_t addr, unsigned size, uint64_t *value,
                                    bool write)
{
    Word a = {.as = q->as, .addr = addr, .size = size, .value = value, .write = write};
    bool done;

    a.mr = find_register(&a);
    if (a.mr) {
        vm_co_lock_devices();
    }
    done = guest_co_run(word_worker, &a);
    if (a.mr) {
        vm_co_unlock_devices();
    }
    return done;
}

/* --- A range of memory ---------------------------------------------------------------------- */

/* "0x0123...": what is missing at the end is zero. */
static bool decode_hex(const char *text, uint8_t *buf, size_t len)
{
    const char *hex = g_str_has_prefix(text, "0x") ? text + 2 : "";

    for (size_t i = 0; i < len && hex[0]; i++, hex += 2) {
        int high = g_ascii_xdigit_value(hex[0]), low = g_ascii_xdigit_value(hex[1]);

        if (high < 0 || low < 0) {
            return false;
        }
        buf[i] = high << 4 | low;
    }
    return true;
}

static bool decode(const QTestRange *r, uint8_t *buf)
{
    g_autofree uint8_t *data = NULL;
    gsize n;

    switch (r->form) {
    case QTEST_HEX:
        return decode_hex(r->text, buf, r->len);
    case QTEST_BASE64:
        data = g_base64_decode(r->text, &n);
        memcpy(buf, data, MIN(n, r->len));
        return true;
    default:
        memset(buf, r->byte, r->len);
        return true;
    }
}

static char *encode(const QTestRange *r, const uint8_t *buf)
{
    static const char digits[] = "0123456789abcdef", head[] = "OK 0x";
    char *line, *p;

    if (r->form == QTEST_BASE64) {
        g_autofree char *text = g_base64_encode(buf, r->len);

        return g_strdup_printf("OK %s\n", text);
    }
    line = g_malloc(strlen(head) + 2 * r->len + 2);
    p = g_stpcpy(line, head);
    for (size_t i = 0; i < r->len; i++) {
        *p++ = digits[buf[i] >> 4];
        *p++ = digits[buf[i] & 15];
    }
    memcpy(p, "\n", 2);
    return line;
}

static int range_worker(void *opaque)
{
    QTestRange *r = opaque;
    g_autofree uint8_t *buf = g_malloc0(r->len);
    bool ok;

    if (r->write && !decode(r, buf)) {
        r->error = "FAIL bad data";
        return 0;
    }
    guest_memory_begin();
    ok = r->as && (r->write ? address_space_write(r->as, r->addr, buf, r->len)
                            : address_space_read(r->as, r->addr, buf, r->len));
    guest_memory_end();
    if (!ok) {
        r->error = "FAIL there is no memory";
    } else if (!r->write) {
        r->reply = encode(r, buf);
    }
    return 0;
}

void coroutine_fn qtest_access_range(QTest *q, QTestRange *r)
{
    r->as = q->as;
    if (!guest_co_run(range_worker, r)) {
        g_clear_pointer(&r->reply, g_free);
        r->error = "FAIL the machine ends";
    }
}

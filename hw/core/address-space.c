/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's physical address space as a sorted array of regions that never overlap.
 * Built by the main thread before the machine runs, constant afterwards: any thread may
 * look things up without a lock.  CPUs cache what they find in their TLBs.
 */
#include <glib.h>
#include <string.h>
#include "hw/address-space.h"

#define MAX_REGIONS 64

struct AddressSpace {
    MemoryRegion region[MAX_REGIONS];
    int nr;
    void (*dirty_fn)(void *opaque, uint64_t addr, uint64_t len);
    void *dirty_opaque;
};

AddressSpace *address_space_new(void)
{
    return g_new0(AddressSpace, 1);
}

void address_space_free(AddressSpace *as)
{
    g_free(as);
}

/* Boards place regions: an overlap is a bug of ours, never input. */
static void add_region(AddressSpace *as, const MemoryRegion *r)
{
    int i = as->nr;

    g_assert(as->nr < MAX_REGIONS);
    g_assert(r->size > 0 && r->base <= UINT64_MAX - (r->size - 1));
    while (i > 0 && as->region[i - 1].base > r->base) {
        as->region[i] = as->region[i - 1];
        i--;
    }
    g_assert(i == 0 || as->region[i - 1].base + (as->region[i - 1].size - 1) < r->base);
    g_assert(i == as->nr || r->base + (r->size - 1) < as->region[i + 1].base);
    as->region[i] = *r;
    as->nr++;
}

void address_space_add_ram(AddressSpace *as, const char *name, uint64_t base, uint64_t size,
                           uint8_t *host, bool read_only)
{
    add_region(as, &(MemoryRegion){.name = name, .base = base, .size = size, .host = host,
                                   .read_only = read_only});
}

void address_space_add_mmio(AddressSpace *as, const char *name, uint64_t base, uint64_t size,
                            const MMIOOps *ops, void *opaque)
{
    add_region(as, &(MemoryRegion){.name = name, .base = base, .size = size, .ops = ops,
                                   .opaque = opaque});
}

void address_space_add_romd(AddressSpace *as, const char *name, uint64_t base, uint64_t size,
                            uint8_t *host, const bool *direct, const MMIOOps *ops,
                            void *opaque)
{
    add_region(as, &(MemoryRegion){.name = name, .base = base, .size = size, .host = host,
                                   .read_only = true, .direct = direct, .ops = ops,
                                   .opaque = opaque});
}

const MemoryRegion *address_space_find(AddressSpace *as, uint64_t addr)
{
    int lo = 0, hi = as->nr;

    while (lo < hi) {
        int mid = (lo + hi) / 2;
        const MemoryRegion *r = &as->region[mid];

        if (addr < r->base) {
            hi = mid;
        } else if (addr - r->base >= r->size) {
            lo = mid + 1;
        } else {
            return r;
        }
    }
    return NULL;
}

const MemoryRegion *address_space_region(AddressSpace *as, unsigned i)
{
    return i < (unsigned)as->nr ? &as->region[i] : NULL;
}

void *address_space_map(AddressSpace *as, uint64_t addr, uint64_t len, bool for_write)
{
    const MemoryRegion *r = address_space_find(as, addr);

    if (!r || !memory_region_reads_host(r) || (for_write && r->read_only) || len > r->size - (addr - r->base)) {
        return NULL;
    }
    return r->host + (addr - r->base);
}

/* Walks [addr, addr + len) region by region; buf_in or buf_out says which way. */
static bool copy(AddressSpace *as, uint64_t addr, uint8_t *buf_out, const uint8_t *buf_in,
                 uint64_t len)
{
    uint64_t done = 0;

    while (done < len) {
        const MemoryRegion *r;
        uint64_t offset, n;

        if (addr > UINT64_MAX - done || !(r = address_space_find(as, addr + done)) ||
            !memory_region_reads_host(r) || (buf_in && r->read_only)) {
            return false;
        }
        offset = addr + done - r->base;
        n = MIN(len - done, r->size - offset);
        if (buf_in) {
            memcpy(r->host + offset, buf_in + done, n);
        } else {
            memcpy(buf_out + done, r->host + offset, n);
        }
        done += n;
    }
    return true;
}

bool address_space_read(AddressSpace *as, uint64_t addr, void *buf, uint64_t len)
{
    return copy(as, addr, buf, NULL, len);
}

bool address_space_write(AddressSpace *as, uint64_t addr, const void *buf, uint64_t len)
{
    bool ok = copy(as, addr, NULL, buf, len);

    address_space_dirtied(as, addr, len);
    return ok;
}

void address_space_dirtied(AddressSpace *as, uint64_t addr, uint64_t len)
{
    if (as->dirty_fn && len) {
        as->dirty_fn(as->dirty_opaque, addr, len);
    }
}

void address_space_set_dirty_listener(AddressSpace *as,
                                      void (*fn)(void *opaque, uint64_t addr, uint64_t len),
                                      void *opaque)
{
    g_assert(!fn || !as->dirty_fn);
    as->dirty_fn = fn;
    as->dirty_opaque = opaque;
}

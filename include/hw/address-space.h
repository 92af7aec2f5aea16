/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's physical address space: RAM, ROM and device registers.  Built before the
 * machine runs and not changed afterwards, so look-ups need no lock.
 */
#ifndef HW_ADDRESS_SPACE_H
#define HW_ADDRESS_SPACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct AddressSpace AddressSpace;

/* Device registers; called with the machine lock held unless the region is lockless. */
typedef struct MMIOOps {
    /* offset in the region; size 1, 2, 4 or 8.  Little endian value. */
    uint64_t (*read)(void *opaque, uint64_t offset, unsigned size);
    void (*write)(void *opaque, uint64_t offset, uint64_t value, unsigned size);
    unsigned min_size, max_size; /* accesses outside raise an access fault; 0: 1..8 */
    bool lockless;               /* the device does its own locking */
} MMIOOps;

typedef struct MemoryRegion {
    const char *name;
    uint64_t base, size;
    uint8_t *host; /* RAM or ROM, else NULL */
    bool read_only;
    const MMIOOps *ops;
    void *opaque;
    /*
     * Memory that is written through registers (flash): both host and ops, read_only.  Reads
     * go to host while *direct (atomic) is true and to ops else, writes always to ops.  Code
     * is fetched from host.
     */
    const bool *direct;
} MemoryRegion;

AddressSpace *address_space_new(void);
void address_space_free(AddressSpace *as);
void address_space_add_ram(AddressSpace *as, const char *name, uint64_t base, uint64_t size,
                           uint8_t *host, bool read_only);
void address_space_add_mmio(AddressSpace *as, const char *name, uint64_t base, uint64_t size,
                            const MMIOOps *ops, void *opaque);
/*
 * See MemoryRegion.direct.  *direct changes in ops->write(), or while no CPU runs and before
 * the engine's flush().
 */
void address_space_add_romd(AddressSpace *as, const char *name, uint64_t base, uint64_t size,
                            uint8_t *host, const bool *direct, const MMIOOps *ops,
                            void *opaque);
/* Whether reads of the region are reads of host. */
static inline bool memory_region_reads_host(const MemoryRegion *r)
{
    return r->host && (!r->direct || __atomic_load_n(r->direct, __ATOMIC_ACQUIRE));
}
/* The region that contains addr, NULL if none.  Any thread. */
const MemoryRegion *address_space_find(AddressSpace *as, uint64_t addr);
/* Region number i in order of addresses, NULL behind the last one.  Any thread. */
const MemoryRegion *address_space_region(AddressSpace *as, unsigned i);
/*
 * Host address of the guest physical range [addr, addr + len), which must lie in one RAM
 * region (and not in ROM if for_write); NULL otherwise.  Any thread.
 */
void *address_space_map(AddressSpace *as, uint64_t addr, uint64_t len, bool for_write);
/* Copies; false if part of the range is not RAM.  Any thread. */
bool address_space_read(AddressSpace *as, uint64_t addr, void *buf, uint64_t len);
bool address_space_write(AddressSpace *as, uint64_t addr, const void *buf, uint64_t len);
/*
 * A device has written guest RAM behind the CPUs' back (DMA): translated code from there
 * is stale.  Any thread; lock free.
 */
void address_space_dirtied(AddressSpace *as, uint64_t addr, uint64_t len);
/* The CPU engine's listener for address_space_dirtied(); at most one. */
void address_space_set_dirty_listener(AddressSpace *as,
                                      void (*fn)(void *opaque, uint64_t addr, uint64_t len),
                                      void *opaque);

#endif

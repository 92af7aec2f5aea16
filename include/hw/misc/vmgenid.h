/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The VM generation ID: 16 bytes that are new whenever the machine goes on from a state that
 * may be lived through more than once, so that the guest makes anew what must be unique.
 * Device tree binding "microsoft,vmgenid".  Machine lock for everything.
 */
#ifndef HW_MISC_VMGENID_H
#define HW_MISC_VMGENID_H

#include "hw/address-space.h"
#include "hw/irq.h"
#include "migration/vmstate.h"

enum { VMGENID_SIZE = 16, VMGENID_REGION = 4096 };

typedef struct VmGenId VmGenId;

/* The ID at base, in the order in which a UUID is written. */
VmGenId *vmgenid_new(AddressSpace *as, uint64_t base, IrqLine irq,
                     const uint8_t id[VMGENID_SIZE]);
void vmgenid_free(VmGenId *s);
void vmgenid_register(VmGenId *s, VMStateRegistry *r);
/* Another ID: the guest is interrupted. */
void vmgenid_change(VmGenId *s, const uint8_t id[VMGENID_SIZE]);
const uint8_t *vmgenid_get(VmGenId *s);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Goldfish real-time clock: the wall clock in ns, and an alarm. */
#ifndef HW_RTC_GOLDFISH_RTC_H
#define HW_RTC_GOLDFISH_RTC_H

#include "hw/address-space.h"
#include "hw/irq.h"
#include "migration/vmstate.h"

enum { GOLDFISH_RTC_SIZE = 0x24 };

typedef struct GoldfishRtc GoldfishRtc;

/* Machine lock held for all of these. */
GoldfishRtc *goldfish_rtc_new(AddressSpace *as, uint64_t base, IrqLine irq);
void goldfish_rtc_reset(GoldfishRtc *s);
void goldfish_rtc_register(GoldfishRtc *s, VMStateRegistry *r);
void goldfish_rtc_free(GoldfishRtc *s);

#endif

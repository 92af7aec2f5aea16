/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The block layer's table of HMP commands. */
#ifndef BLOCK_BLOCK_HMP_H
#define BLOCK_BLOCK_HMP_H

#include "qapi/hmp.h"

/* HMPCommand.complete for a command whose first argument is a block device. */
void coroutine_fn hmp_complete_block(HMPCompletion *c, int nr);

extern const HMPCommand block_hmp_commands[];

#endif

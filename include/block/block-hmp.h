/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The block layer's table of HMP commands. */
#ifndef BLOCK_BLOCK_HMP_H
#define BLOCK_BLOCK_HMP_H

#include "qapi/hmp.h"

extern const HMPCommand block_hmp_commands[];

#endif

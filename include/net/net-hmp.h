/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The human monitor's commands about the network. */
#ifndef NET_NET_HMP_H
#define NET_NET_HMP_H

#include "qapi/hmp.h"

extern const HMPCommand net_hmp_commands[];

#endif

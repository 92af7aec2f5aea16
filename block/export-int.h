/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The export drivers that live in block/. */
#ifndef BLOCK_EXPORT_INT_H
#define BLOCK_EXPORT_INT_H

#include "block/export.h"

extern const BlockExportDriver block_export_fuse;

#endif

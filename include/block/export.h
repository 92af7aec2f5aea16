/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Exports: nodes, and what is in them, shown to other programs.  An export has a name, a
 * handle on its node and a driver.  Everything here: coroutines in the main thread; a driver
 * serves its clients in the node's home context.
 */
#ifndef BLOCK_EXPORT_H
#define BLOCK_EXPORT_H

#include "block/block.h"
#include "qapi/qapi-types-block-export.h"

typedef struct BlockExport BlockExport;

typedef struct BlockExportDriver {
    BlockExportType type;
    bool can_write;
    /* Begins to serve exp->blk; sets exp->opaque.  false and errp: nothing is left. */
    bool coroutine_fn (*co_start)(BlockExport *exp, const BlockExportOptions *options,
                                  GError **errp);
    /* Returns when no client's request is left and nothing refers to exp any more. */
    void coroutine_fn (*co_stop)(BlockExport *exp);
} BlockExportDriver;

struct BlockExport {
    const BlockExportDriver *drv;
    char *id;
    BlockBackend *blk;
    bool writable, writethrough;
    bool starting, shutting_down;
    void *opaque; /* the driver's */
};

/* Before the first export of its type is made; drv is static. */
void block_export_register(const BlockExportDriver *drv);
bool coroutine_fn block_export_co_add(const BlockExportOptions *options, GError **errp);
/* false and errp if bs is exported: then another process cannot have it.  Main thread. */
bool block_export_check_unused(BlockDriverState *bs, GError **errp);
/* NULL if there is none, or it has not started yet.  Main thread. */
BlockExport *block_export_find(const char *id);
/* Returns when there is no export of that name any more. */
void coroutine_fn block_export_co_wait_removed(const char *id);
/* Removes exp soon; nothing if it is being removed already.  Main thread. */
void block_export_remove_later(BlockExport *exp);
/* Removes all exports.  Before the nodes are closed. */
void coroutine_fn block_export_co_remove_all(void);

#endif

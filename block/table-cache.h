/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A bounded cache of the tables by which an image file says where its content is, for formats
 * that are only read: pieces of the file, least recently used out first.  How long the tables
 * are does not matter.  In the node's home context.
 */
#ifndef BLOCK_TABLE_CACHE_H
#define BLOCK_TABLE_CACHE_H

#include "block/block-int.h"

/* 4 MiB for an image: the whole map of 64 GiB in blocks of 64 KiB with 4-byte entries. */
#define TABLE_PIECE 16384
#define TABLE_PIECES_MAX 256

typedef struct TableCache {
    GHashTable *pieces; /* by their offset in the file */
    GQueue lru;
} TableCache;

void table_cache_init(TableCache *c);
/* Also one that was never initialised, if it is all zeroes.  Nobody may be reading. */
void table_cache_destroy(TableCache *c);
/*
 * Copies bytes (at most TABLE_PIECE) of file at offset to buf.  0 or -errno; -EIO where they
 * do not all lie in the file.
 */
int coroutine_fn table_cache_read(TableCache *c, BdrvChild *file, uint64_t offset, void *buf,
                                  size_t bytes);

#endif

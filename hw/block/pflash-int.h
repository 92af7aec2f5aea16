/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What pflash.c (the chips' commands) and pflash-store.c (their content) share. */
#ifndef HW_BLOCK_PFLASH_INT_H
#define HW_BLOCK_PFLASH_INT_H

#include <pthread.h>
#include "hw/block/pflash.h"
#include "util/co-lock.h"

enum {
    PFLASH_BUFFER = 4096, /* bytes that one buffered program command takes */
    PFLASH_PAGE = 4096,   /* what is compared, kept and written back as a whole */
    PFLASH_PAGES = PFLASH_SIZE / PFLASH_PAGE,
    PFLASH_DIRTY_WORDS = PFLASH_PAGES / 64,
};

/* Status register (Intel StrataFlash, "Status Register Definitions"). */
enum {
    SR_READY = 0x80,
    SR_ERASE_ERROR = 0x20,
    SR_PROGRAM_ERROR = 0x10,
    SR_LOCKED = 0x02,
    SR_SEQUENCE_ERROR = SR_ERASE_ERROR | SR_PROGRAM_ERROR,
};

typedef enum PFlashOp { PFLASH_OP_NONE, PFLASH_OP_PROGRAM, PFLASH_OP_ERASE } PFlashOp;

/* The chips' state, as it is saved.  Offsets are in the bank. */
typedef struct PFlashRegs {
    uint8_t mode;   /* PFlashMode: what reads give */
    uint8_t setup;  /* PFlashSetup: what the next write means */
    uint8_t status; /* error bits; SR_READY is while there is no op */
    uint8_t op;     /* PFlashOp being carried out */
    bool bad;       /* buffered data went where it must not */
    uint32_t setup_offset;
    uint32_t remaining;   /* writes of buffered data still to come */
    uint32_t buf_offset, buf_len; /* where buf belongs */
    uint32_t op_offset, op_len;
    uint8_t buf[PFLASH_BUFFER]; /* data to program */
} PFlashRegs;

/* One state of the content. */
typedef struct PFlashContent {
    uint8_t *mem;  /* PFLASH_SIZE bytes */
    uint8_t *kind; /* of each page: PAGE_... */
    uint64_t dirty[PFLASH_DIRTY_WORDS]; /* pages that the node has not */
    unsigned nr_dirty;
} PFlashContent;

struct PFlash {
    const char *name;
    AddressSpace *as;
    uint64_t base;
    BlockBackend *blk; /* NULL: none */
    AioContext *ctx;   /* blk's home */
    bool read_only, write_through, keep;
    bool written;      /* there is no node, but a content all the same */
    bool direct;       /* atomic: reads are reads of memory */

    /* Leaf: everything here.  regs, content and direct change under it. */
    pthread_mutex_t lock;
    PFlashRegs regs;
    PFlashContent content;
    uint64_t generation;  /* of regs: a load or a reset makes a new one */
    bool content_loaded;  /* in this generation: mem, not the node, is right */
    bool op_taken;        /* home has begun regs.op */
    char *error;          /* why dirty pages cannot be written, or NULL */
    bool warned;          /* of it, on stderr */
    bool loading;         /* from pre_load to pflash_load_ended(): home takes no work */
    GArray *undo;         /* of what loading has replaced in content */

    /* home: what runs in ctx */
    AioBH *bh;
    AioTimer *timer;
    CoMutex work;    /* held by who writes to the node */
    CoQueue undrained;
    bool working;    /* a coroutine has been started by bh */
    bool drained, stopped;
    bool flush_owed, flush_due;
    uint8_t *io;     /* PFLASH_BLOCK bytes on their way to the node */
    PFlashContent *other; /* while the node goes back to a snapshot: that content, or the old */
    bool switched;

    PFlashRegs saved; /* on its way to or from a stream */
    uint8_t *blob;    /* the content in short, likewise */
    uint32_t blob_len;
};

/* --- pflash.c: lock held -------------------------------------------------------------------- */

/* The operation is over: status bits to add, 0 for success. */
void pflash_op_done(PFlash *s, uint8_t error_bits);

/* --- pflash-store.c ------------------------------------------------------------------------- */

bool pflash_store_init(PFlash *s, GError **errp);
void pflash_store_free(PFlash *s);
/* Begins regs.op.  Lock held. */
void pflash_store_begin(PFlash *s);

/* --- pflash-content.c: lock held, but for those that the state's description calls ---------- */

/* A bank of zeroes; c is zeroed. */
bool pflash_content_alloc(PFlashContent *c, GError **errp);
void pflash_content_free(PFlashContent *c);
/* Bytes of mem have changed: looks at their pages again. */
void pflash_content_classify(PFlashContent *c, uint32_t offset, uint32_t len);
/* Fills whole pages of a bank of zeroes; leaves those of zeroes untouched. */
void pflash_content_put(PFlashContent *c, uint32_t offset, const uint8_t *buf, uint32_t len);
bool pflash_content_same(const PFlashContent *a, const PFlashContent *b, uint32_t page);
void pflash_content_set_dirty(PFlashContent *c, uint32_t page);
/* Takes a run of dirty pages, at most PFLASH_BLOCK bytes; there is one. */
void pflash_content_take_dirty(PFlashContent *c, uint32_t *offset, uint32_t *len);
/* Code that was decoded from there is stale. */
void pflash_tell_cpus(PFlash *s, uint32_t offset, uint32_t len);
/* Puts back what loading has replaced; or forgets it. */
void pflash_content_undo(PFlash *s);
void pflash_content_keep(PFlash *s);
/* Whether the content belongs into the machine state; content to blob, blob to content. */
bool pflash_content_needed(void *opaque);
bool pflash_content_pre_save(void *opaque, GError **errp);
bool pflash_content_post_load(void *opaque, int version, GError **errp);

#endif

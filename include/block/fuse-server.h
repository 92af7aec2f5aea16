/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A FUSE mount whose requests are coroutines in one AioContext, many in flight.  Nothing
 * blocks there: what has no asynchronous form (mount, unmount) runs in a worker.
 */
#ifndef BLOCK_FUSE_SERVER_H
#define BLOCK_FUSE_SERVER_H

#define FUSE_USE_VERSION 31
#include <fuse_lowlevel.h>
#include "qapi/qapi-types-block-export.h"
#include "util/aio.h"

typedef struct FuseServer FuseServer;

typedef struct FuseServerConfig {
    const char *id;         /* shown as what is mounted; no commas */
    const char *mountpoint; /* exists; a directory or a regular file */
    bool directory;
    bool read_only;
    FuseExportAllowOther allow_other;
    AioContext *ctx;
    /*
     * Called in ctx by the functions of libfuse.  Each takes what it needs and calls
     * fuse_server_request(); fuse_req_userdata() is the FuseServer.
     */
    const struct fuse_lowlevel_ops *ops;
    /* Main thread, once: somebody else has unmounted it.  May be NULL. */
    void (*unmounted)(void *opaque);
    void *opaque;
} FuseServerConfig;

/* A request; each kind of server puts it first in a struct of its own arguments. */
typedef struct FuseRequest {
    FuseServer *server;
    fuse_req_t req;
} FuseRequest;

/*
 * Mounts and begins to serve.  A mount that a killed process has left behind is taken off
 * first.  NULL and errp on failure.  Main thread.
 */
FuseServer *coroutine_fn fuse_server_co_start(const FuseServerConfig *config, GError **errp);
/*
 * Writes back what the kernel caches of a mount that is not read-only, waits for the
 * requests in flight, unmounts and frees.  Main thread.
 */
void coroutine_fn fuse_server_co_stop(FuseServer *s);

/* What the configuration's opaque was, and whether other users may use the mount. */
void *fuse_server_opaque(FuseServer *s);
bool fuse_server_allows_other(FuseServer *s);

/*
 * Runs entry(r) as a coroutine in the server's context.  entry replies, exactly once, and r
 * is freed behind it.  r is a new FuseRequest (or what begins with one).
 */
void fuse_server_request(FuseRequest *r, fuse_req_t req, CoroutineEntry *entry);

#endif

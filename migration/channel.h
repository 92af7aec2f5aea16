/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A stream of bytes to or from another process or a file, for migration.  Nothing blocks:
 * names are resolved and files are opened by workers, all else waits in the event loop.
 *
 * One coroutine uses a channel at a time, in whatever context it runs; cancelling is for
 * any thread.
 */
#ifndef MIGRATION_CHANNEL_H
#define MIGRATION_CHANNEL_H

#include <sys/uio.h>
#include "qapi/qapi-types-migrate.h"
#include "util/coroutine.h"

typedef struct MigChannel MigChannel;

MigChannel *mig_channel_new(void);
/* Closes; a program that is still there is killed. */
void coroutine_fn mig_channel_free(MigChannel *ch);
/* Makes what is being waited for, and all further I/O, end with -ECANCELED.  Any thread. */
void mig_channel_cancel(MigChannel *ch);

/* Opens the way out.  false and errp. */
bool coroutine_fn mig_channel_connect(MigChannel *ch, const MigrationAddress *addr, GError **errp);
/*
 * Opens the way in as far as is possible without a peer: listens, starts the program, opens
 * the file.  listening, unless NULL, is set to where a peer can come to, or NULL: the
 * caller's.
 */
bool coroutine_fn mig_channel_listen(MigChannel *ch, const MigrationAddress *addr,
                                     MigrationSocketAddress **listening, GError **errp);
/* Waits for the peer, if one must come; no other is let in after that. */
bool coroutine_fn mig_channel_accept(MigChannel *ch, GError **errp);

/* Writes all of it; iov is used up.  0 or -errno. */
int coroutine_fn mig_channel_writev(MigChannel *ch, struct iovec *iov, int niov);
/* At least one byte, 0 at the end, or -errno. */
ssize_t coroutine_fn mig_channel_read(MigChannel *ch, void *buf, size_t len);
/* Whether the other side can answer on the same channel. */
bool mig_channel_is_duplex(MigChannel *ch);
/*
 * Nothing more will be written: tells the other side, and for a program waits for its end,
 * for a file until it is on the disk.  false and errp if that tells of a failure.
 */
bool coroutine_fn mig_channel_finish(MigChannel *ch, GError **errp);

#endif

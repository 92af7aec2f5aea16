/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The character device interface between a front end (a UART, a monitor session) and a
 * back end (socket, stdio, file, pty, null: monitor/char-*.c).  A Chardev has at most one
 * front end.  All calls and callbacks happen in the main thread, except chardev_write(),
 * which any thread may call.
 */
#ifndef UTIL_CHARDEV_H
#define UTIL_CHARDEV_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Chardev Chardev;

typedef enum ChardevEvent {
    CHARDEV_OPENED, /* a peer is there */
    CHARDEV_CLOSED, /* the peer went away */
    CHARDEV_BREAK,
} ChardevEvent;

/* Front end's callbacks; NULL members are not called. */
typedef struct ChardevFrontOps {
    size_t (*can_receive)(void *opaque); /* bytes that receive() would take now */
    void (*receive)(void *opaque, const uint8_t *buf, size_t len);
    void (*event)(void *opaque, ChardevEvent event);
    void (*writable)(void *opaque); /* after a short write: there is room again */
    void (*focus)(void *opaque, bool in); /* of a multiplexed back end: input comes here */
    /*
     * The peer of a socket sends no more, but may still read (shutdown(2)): chardev_finish() when it
     * has got all.  NULL: that is taken for the peer's end.
     */
    void (*input_ended)(void *opaque);
    /*
     * The front end is attached to chr from now on (chardev-change); when this returns, no
     * thread of it writes to the old device any more.  NULL: it cannot do that.
     */
    void (*change)(void *opaque, Chardev *chr);
} ChardevFrontOps;

/*
 * Attaches the front end; ops NULL detaches.  Returns false if another is attached.  If a
 * peer is there already, event(CHARDEV_OPENED) is called before this returns.
 */
bool chardev_attach(Chardev *chr, const ChardevFrontOps *ops, void *opaque);
/*
 * can_receive() may now return more than before; it is asked from the main loop, so the
 * caller may hold the lock that it takes.  Any thread.
 */
void chardev_accept_input(Chardev *chr);
/*
 * Queues bytes for the peer; never blocks.  Returns how many were taken (0: the bounded
 * queue is full, writable() follows).  Without a peer all bytes are taken and dropped.
 * Bytes go out at once where that is cheap, else within a turn of the main loop.  Any
 * thread.
 */
size_t chardev_write(Chardev *chr, const void *buf, size_t len);
/* Closes the connection when all that is queued has been taken.  Main thread. */
void chardev_finish(Chardev *chr);
bool chardev_connected(Chardev *chr);
/* The name given at creation, and QEMU's description, "unix:/path,server=on". */
const char *chardev_label(Chardev *chr);
const char *chardev_filename(Chardev *chr);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The debugger's stub: gdbstub.c has the connection and the run state, gdb-commands.c answers
 * packets.  Everything: main thread.
 */
#ifndef SYSTEM_GDB_INT_H
#define SYSTEM_GDB_INT_H

#include "accel/accel.h"
#include "gdb-packet.h"
#include "util/chardev.h"
#include "util/coroutine.h"

typedef struct GdbStub {
    Chardev *chr;
    char *own_label; /* of chr, if it was made for the stub */
    CPUState *cpu;
    const CpuDebugOps *debug;

    int refs; /* co's, and those of who looks at it while it may end */
    Coroutine *co;
    bool idle;  /* co waits for something to happen */
    bool ended; /* the stub is to go */
    GByteArray *input;
    GdbReader reader;
    /* Peers are counted: what is said to one that is gone must not reach the next. */
    unsigned peer, served;
    bool connected;

    /* What the peer served has chosen. */
    bool no_ack, multiprocess, physical;
    bool stopping;   /* it has asked for a stop that has not come yet */
    bool resumed;    /* it has let the guest go, and waits to hear that it stands */
    GString *sent;   /* the last packet */
} GdbStub;

/* Sends a packet. */
void coroutine_fn gdb_send(GdbStub *s, const char *data, size_t len);
void coroutine_fn gdb_send_text(GdbStub *s, const char *text);
/* Tells the peer why the guest stands. */
void coroutine_fn gdb_send_stop(GdbStub *s);
/* Lets the guest go, for one instruction or until something stops it. */
void coroutine_fn gdb_resume(GdbStub *s, bool step);
/* Keeps the CPUs still, whatever becomes of the run state, until gdb_let_go(). */
void coroutine_fn gdb_hold(GdbStub *s);
void gdb_let_go(GdbStub *s);
/* Removes all breakpoints and watchpoints. */
void coroutine_fn gdb_clear(GdbStub *s);

/* Does what the packet asks for, and answers. */
void coroutine_fn gdb_handle_packet(GdbStub *s, GString *packet);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The telnet protocol on a socket, as far as a terminal on a serial line needs it.  Folder-private. */
#ifndef MONITOR_CHAR_TELNET_H
#define MONITOR_CHAR_TELNET_H

#include "monitor/chardev-int.h"

typedef enum {
    TELNET_DATA,
    TELNET_COMMAND,     /* behind IAC */
    TELNET_OPTION,      /* behind IAC WILL and its like */
    TELNET_SUB,         /* between IAC SB and IAC SE */
    TELNET_SUB_COMMAND, /* there, behind IAC */
} TelnetState;

/* What a peer has sent so far. */
typedef struct Telnet {
    TelnetState state;
    uint8_t verb, last; /* WILL and its like; the byte of data before */
    bool binary;        /* the peer's CR NUL is two bytes, not one */
} Telnet;

/* For a new peer. */
void telnet_init(Telnet *t);
/* What a server says first, to a peer that has just connected: it echoes, and takes all bytes. */
void telnet_offer(int fd);
/* Hands what is data in buf to the front end, and a break as the event.  Main thread. */
void telnet_received(Telnet *t, Chardev *chr, const uint8_t *buf, size_t len);
/* ChardevFilter: doubles what would begin a command. */
size_t telnet_filter(void *opaque, uint8_t last, const uint8_t *buf, size_t len,
                     ChardevInsert *before);

#endif

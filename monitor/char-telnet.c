/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The telnet protocol (RFC 854, 856, 857, 858) on a socket.  A server offers to echo, which the guest
 * does, to leave out go-aheads and to take and send all bytes; what a peer answers or asks for is taken
 * out of its input and not answered.  Main thread, but for the filter.
 */
#include <string.h>
#include <sys/socket.h>

#include "monitor/char-telnet.h"

enum {
    SE = 240,
    BREAK = 243,
    SB = 250,
    WILL = 251,
    DO = 253,
    DONT = 254,
    IAC = 255,
};

enum {
    OPTION_BINARY = 0,
    OPTION_ECHO = 1,
    OPTION_NO_GO_AHEAD = 3,
};

void telnet_init(Telnet *t)
{
    *t = (Telnet){.state = TELNET_DATA};
}

void telnet_offer(int fd)
{
    static const uint8_t offer[] = {
        IAC, WILL, OPTION_ECHO, IAC, WILL, OPTION_NO_GO_AHEAD,
        IAC, WILL, OPTION_BINARY, IAC, DO, OPTION_BINARY,
    };

    /* A new connection has room for it; one that has gone is noticed by who reads it. */
    send(fd, offer, sizeof(offer), MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* The byte behind IAC, outside of a subnegotiation; IAC itself is data. */
static TelnetState after_command(Telnet *t, uint8_t c)
{
    t->verb = c;
    return c == SB ? TELNET_SUB : c >= WILL && c <= DONT ? TELNET_OPTION : TELNET_DATA;
}

/* Whether the byte is data. */
static bool take_byte(Telnet *t, uint8_t c, bool *is_break)
{
    switch (t->state) {
    case TELNET_DATA:
        if (c == IAC) {
            t->state = TELNET_COMMAND;
            return false;
        }
        if (!c && t->last == '\r' && !t->binary) {
            t->last = c;
            return false;
        }
        t->last = c;
        return true;
    case TELNET_COMMAND:
        *is_break = c == BREAK;
        t->state = after_command(t, c);
        t->last = c;
        return c == IAC;
    case TELNET_OPTION:
        t->binary = c == OPTION_BINARY ? t->verb == WILL || (t->binary && t->verb >= DO) : t->binary;
        t->state = TELNET_DATA;
        return false;
    case TELNET_SUB:
        t->state = c == IAC ? TELNET_SUB_COMMAND : TELNET_SUB;
        return false;
    default:
        t->state = c == SE ? TELNET_DATA : TELNET_SUB;
        return false;
    }
}

void telnet_received(Telnet *t, Chardev *chr, const uint8_t *buf, size_t len)
{
    g_autofree uint8_t *data = g_malloc(len);
    size_t n = 0;

    for (size_t i = 0; i < len; i++) {
        bool is_break = false;

        if (take_byte(t, buf[i], &is_break)) {
            data[n++] = buf[i];
        }
        if (is_break) {
            chardev_front_receive(chr, data, n);
            chardev_front_event(chr, CHARDEV_BREAK);
            n = 0;
        }
    }
    if (n) {
        chardev_front_receive(chr, data, n);
    }
}

size_t telnet_filter(void *opaque, uint8_t last, const uint8_t *buf, size_t len,
                     ChardevInsert *before)
{
    const uint8_t *next = len > 1 ? memchr(buf + 1, IAC, len - 1) : NULL;

    if (buf[0] == IAC) {
        before->text[before->len++] = (char)IAC;
    }
    return next ? (size_t)(next - buf) : len;
}

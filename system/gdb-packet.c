/* SPDX-License-Identifier: GPL-2.0-or-later */
/* GDB's packets: from bytes and to bytes.  No state but the reader's; any thread. */
#include <string.h>

#include "gdb-packet.h"

#define ESCAPE 0x7d

void gdb_reader_init(GdbReader *r)
{
    memset(r, 0, sizeof(*r));
    r->data = g_string_new(NULL);
}

void gdb_reader_reset(GdbReader *r)
{
    r->state = GDB_READER_IDLE;
}

void gdb_reader_destroy(GdbReader *r)
{
    g_string_free(r->data, true);
}

static void begin(GdbReader *r)
{
    g_string_truncate(r->data, 0);
    r->sum = 0;
    r->too_long = false;
    r->state = GDB_READER_DATA;
}

static GdbInput feed_idle(GdbReader *r, uint8_t byte)
{
    switch (byte) {
    case '$':
        begin(r);
        return GDB_INPUT_MORE;
    case '-':
        return GDB_INPUT_RESEND;
    case 3:
        return GDB_INPUT_BREAK;
    default:
        return GDB_INPUT_MORE; /* '+', or noise on the line */
    }
}

static GdbInput feed_data(GdbReader *r, uint8_t byte)
{
    if (byte == '#') {
        r->state = GDB_READER_SUM1;
    } else if (byte == '$') {
        begin(r); /* the end of the one before was lost */
    } else {
        r->sum += byte;
        r->too_long = r->too_long || r->data->len == GDB_PACKET_MAX;
        if (!r->too_long) {
            g_string_append_c(r->data, byte);
        }
    }
    return GDB_INPUT_MORE;
}

GdbInput gdb_reader_feed(GdbReader *r, uint8_t byte)
{
    int digit;

    switch (r->state) {
    case GDB_READER_IDLE:
        return feed_idle(r, byte);
    case GDB_READER_DATA:
        return feed_data(r, byte);
    case GDB_READER_SUM1:
    case GDB_READER_SUM2:
        break;
    }
    digit = g_ascii_xdigit_value(byte);
    if (r->state == GDB_READER_SUM1 && digit >= 0) {
        r->told = digit << 4;
        r->state = GDB_READER_SUM2;
        return GDB_INPUT_MORE;
    }
    r->state = GDB_READER_IDLE;
    if (digit < 0 || (r->told | digit) != r->sum) {
        return GDB_INPUT_BAD;
    }
    return r->too_long ? GDB_INPUT_TOO_LONG : GDB_INPUT_PACKET;
}

void gdb_unescape(GString *s)
{
    size_t n = 0;

    for (size_t i = 0; i < s->len; i++) {
        bool escaped = s->str[i] == ESCAPE && i + 1 < s->len;

        i += escaped;
        s->str[n++] = escaped ? s->str[i] ^ 0x20 : s->str[i];
    }
    g_string_truncate(s, n);
}

void gdb_frame(GString *out, const char *data, size_t len)
{
    uint8_t sum = 0;

    g_string_append_c(out, '$');
    for (size_t i = 0; i < len; i++) {
        char c = data[i];

        if (c == '#' || c == '$' || c == '*' || c == ESCAPE) {
            g_string_append_c(out, ESCAPE);
            sum += ESCAPE;
            c ^= 0x20;
        }
        g_string_append_c(out, c);
        sum += (uint8_t)c;
    }
    g_string_append_printf(out, "#%02x", sum);
}

void gdb_append_hex(GString *s, const void *bytes, size_t len)
{
    const uint8_t *p = bytes;

    for (size_t i = 0; i < len; i++) {
        g_string_append_printf(s, "%02x", p[i]);
    }
}

bool gdb_parse_hex(const char *text, void *bytes, size_t len)
{
    uint8_t *p = bytes;

    for (size_t i = 0; i < len; i++) {
        int high = g_ascii_xdigit_value(text[2 * i]);
        int low = high < 0 ? -1 : g_ascii_xdigit_value(text[2 * i + 1]);

        if (low < 0) {
            return false;
        }
        p[i] = high << 4 | low;
    }
    return true;
}

bool gdb_parse_number(const char **text, uint64_t *value)
{
    const char *p = *text;
    uint64_t v = 0;

    for (int digit; (digit = g_ascii_xdigit_value(*p)) >= 0; p++) {
        if (v >> 60) {
            return false;
        }
        v = v << 4 | digit;
    }
    if (p == *text) {
        return false;
    }
    *text = p;
    *value = v;
    return true;
}

bool gdb_skip(const char **text, char c)
{
    if (**text != c) {
        return false;
    }
    (*text)++;
    return true;
}

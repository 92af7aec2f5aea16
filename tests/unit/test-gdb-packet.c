/* SPDX-License-Identifier: GPL-2.0-or-later */
/* GDB's packets: what is sent comes back, and what is broken is told from what is not. */
#include <glib.h>
#include <string.h>

#include "system/gdb-packet.h"

/* Feeds all bytes; the last result that is not "more", and how many such there were. */
static GdbInput feed(GdbReader *r, const char *bytes, size_t len, int *n)
{
    GdbInput last = GDB_INPUT_MORE;

    *n = 0;
    for (size_t i = 0; i < len; i++) {
        GdbInput input = gdb_reader_feed(r, bytes[i]);

        if (input != GDB_INPUT_MORE) {
            last = input;
            (*n)++;
        }
    }
    return last;
}

static void assert_input(const char *text, GdbInput want, const char *data)
{
    GdbReader r;
    int n;

    gdb_reader_init(&r);
    g_assert_cmpint(feed(&r, text, strlen(text), &n), ==, want);
    g_assert_cmpint(n, ==, want == GDB_INPUT_MORE ? 0 : 1);
    if (data) {
        g_assert_cmpstr(r.data->str, ==, data);
    }
    gdb_reader_destroy(&r);
}

static void test_reader(void)
{
    assert_input("$g#67", GDB_INPUT_PACKET, "g");
    assert_input("+$m80000000,4#55", GDB_INPUT_PACKET, "m80000000,4");
    assert_input("$#00", GDB_INPUT_PACKET, "");
    assert_input("$g#68", GDB_INPUT_BAD, NULL);
    assert_input("$g#6x", GDB_INPUT_BAD, NULL);
    assert_input("$g#x7", GDB_INPUT_BAD, NULL);
    assert_input("$half$g#67", GDB_INPUT_PACKET, "g");
    assert_input("noise+", GDB_INPUT_MORE, NULL);
    assert_input("\3", GDB_INPUT_BREAK, NULL);
    assert_input("-", GDB_INPUT_RESEND, NULL);
    assert_input("$\3#03", GDB_INPUT_PACKET, "\3");
}

static void test_length(void)
{
    for (size_t len = GDB_PACKET_MAX - 1; len <= GDB_PACKET_MAX + 1; len++) {
        g_autofree char *data = g_strnfill(len, 'a');
        g_autoptr(GString) packet = g_string_new(NULL);
        GdbReader r;
        int n;

        gdb_frame(packet, data, len);
        gdb_reader_init(&r);
        g_assert_cmpint(feed(&r, packet->str, packet->len, &n), ==,
                        len <= GDB_PACKET_MAX ? GDB_INPUT_PACKET : GDB_INPUT_TOO_LONG);
        g_assert_cmpint(r.data->len, ==, MIN(len, GDB_PACKET_MAX));
        /* and the next one is read as if nothing had been */
        g_assert_cmpint(feed(&r, "$g#67", 5, &n), ==, GDB_INPUT_PACKET);
        g_assert_cmpstr(r.data->str, ==, "g");
        gdb_reader_destroy(&r);
    }
}

static void test_every_byte(void)
{
    g_autoptr(GString) packet = g_string_new(NULL);
    char all[256];
    GdbReader r;
    int n;

    for (int i = 0; i < 256; i++) {
        all[i] = (char)i;
    }
    gdb_frame(packet, all, sizeof(all));
    gdb_reader_init(&r);
    g_assert_cmpint(feed(&r, packet->str, packet->len, &n), ==, GDB_INPUT_PACKET);
    g_assert_cmpint(n, ==, 1);
    gdb_unescape(r.data);
    g_assert_cmpmem(r.data->str, r.data->len, all, sizeof(all));
    gdb_reader_destroy(&r);
}

static void test_numbers(void)
{
    const char *p = "12ab,ffffffffffffffff;10000000000000000";
    g_autoptr(GString) text = g_string_new(NULL);
    uint8_t bytes[3];
    uint64_t v;

    g_assert_true(gdb_parse_number(&p, &v));
    g_assert_cmphex(v, ==, 0x12ab);
    g_assert_false(gdb_skip(&p, ';'));
    g_assert_true(gdb_skip(&p, ','));
    g_assert_true(gdb_parse_number(&p, &v));
    g_assert_cmphex(v, ==, UINT64_MAX);
    g_assert_false(gdb_parse_number(&p, &v));
    g_assert_true(gdb_skip(&p, ';'));
    g_assert_false(gdb_parse_number(&p, &v));
    g_assert_true(gdb_parse_hex("00fF7d", bytes, 3));
    gdb_append_hex(text, bytes, 3);
    g_assert_cmpstr(text->str, ==, "00ff7d");
    g_assert_false(gdb_parse_hex("00fF7", bytes, 3));
    g_assert_false(gdb_parse_hex("00fFg0", bytes, 3));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/gdb-packet/reader", test_reader);
    g_test_add_func("/gdb-packet/length", test_length);
    g_test_add_func("/gdb-packet/every-byte", test_every_byte);
    g_test_add_func("/gdb-packet/numbers", test_numbers);
    return g_test_run();
}

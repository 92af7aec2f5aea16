/* SPDX-License-Identifier: GPL-2.0-or-later */
/* IOVector against a flat buffer, and buffer_is_zero() at every length and place. */
#include <glib.h>
#include <string.h>
#include "util/iov.h"

static void test_add_copy(void)
{
    unsigned char flat[1000], copy[1000], back[1000];
    IOVector v, w;
    size_t at = 0;

    for (size_t i = 0; i < sizeof(flat); i++) {
        flat[i] = i * 3;
    }
    memcpy(copy, flat, sizeof(flat));
    io_vector_init(&v, 0);
    for (size_t len = 0; at < sizeof(flat); at += len, len = len % 37 + 1) {
        len = MIN(len, sizeof(flat) - at);
        io_vector_add(&v, copy + at, len);
    }
    g_assert_cmpuint(v.size, ==, sizeof(flat));
    for (size_t offset = 0; offset <= sizeof(flat); offset += 31) {
        for (size_t len = 0; len <= sizeof(flat); len += 97) {
            size_t expected = MIN(len, sizeof(flat) - offset);

            memset(back, 0xaa, sizeof(back));
            g_assert_cmpuint(io_vector_to_buf(&v, offset, back, len), ==, expected);
            g_assert_cmpint(memcmp(back, flat + offset, expected), ==, 0);
            g_assert_true(expected == sizeof(back) || back[expected] == 0xaa);

            io_vector_init(&w, 1);
            io_vector_concat(&w, &v, offset, len);
            g_assert_cmpuint(w.size, ==, expected);
            g_assert_cmpuint(io_vector_to_buf(&w, 0, back, SIZE_MAX), ==, expected);
            g_assert_cmpint(memcmp(back, flat + offset, expected), ==, 0);
            io_vector_reset(&w);
            g_assert_cmpuint(w.size, ==, 0);
            g_assert_cmpint(w.niov, ==, 0);
            io_vector_destroy(&w);
        }
    }
    g_assert_cmpuint(io_vector_to_buf(&v, SIZE_MAX, back, 10), ==, 0);

    memset(back, 0x55, sizeof(back));
    g_assert_cmpuint(io_vector_from_buf(&v, 100, back, 300), ==, 300);
    g_assert_cmpuint(io_vector_memset(&v, 950, 0x66, 300), ==, 50);
    memset(flat + 100, 0x55, 300);
    memset(flat + 950, 0x66, 50);
    g_assert_cmpint(memcmp(copy, flat, sizeof(flat)), ==, 0);
    io_vector_destroy(&v);
}

static void test_wrap(void)
{
    char buf[100];
    struct iovec iov[3] = {{buf, 10}, {buf + 10, 0}, {buf + 10, 90}};
    IOVector v;

    memset(buf, 0, sizeof(buf));
    io_vector_init_buf(&v, buf, sizeof(buf));
    g_assert_cmpuint(v.size, ==, 100);
    g_assert_cmpint(v.niov, ==, 1);
    g_assert_true(io_vector_is_zero(&v));
    io_vector_destroy(&v);
    io_vector_init_external(&v, iov, 3);
    g_assert_cmpuint(v.size, ==, 100);
    g_assert_true(io_vector_is_zero(&v));
    g_assert_cmpuint(io_vector_memset(&v, 99, 1, 1), ==, 1);
    g_assert_cmpint(buf[99], ==, 1);
    g_assert_false(io_vector_is_zero(&v));
    io_vector_destroy(&v);
    io_vector_init(&v, 4);
    g_assert_true(io_vector_is_zero(&v));
    io_vector_destroy(&v);
}

static void test_zero(void)
{
    enum { MAX_LEN = 700 };
    unsigned char buf[MAX_LEN + 64 + 2];

    for (size_t align = 0; align < 64; align += 7) {
        unsigned char *p = buf + 1 + align;

        for (size_t len = 0; len <= MAX_LEN; len++) {
            memset(buf, 0xff, sizeof(buf));
            memset(p, 0, len);
            g_assert_true(buffer_is_zero(p, len));
        }
        for (size_t len = 1; len <= MAX_LEN; len += 13) {
            memset(p, 0, len);
            for (size_t i = 0; i < len; i++) {
                p[i] = 0x80;
                g_assert_false(buffer_is_zero(p, len));
                p[i] = 0;
            }
        }
    }
}

static void test_zero_speed(void)
{
    enum { SIZE = 64 << 20, PIECE = 4096 };
    char *buf = g_malloc0(SIZE);
    double best = 0;

    memset(buf, 0, SIZE);
    for (int round = 0; round < 5; round++) {
        int64_t start = g_get_monotonic_time();

        for (size_t i = 0; i < SIZE; i += PIECE) {
            g_assert_true(buffer_is_zero(buf + i, PIECE));
        }
        best = MAX(best, SIZE / 1e3 / (g_get_monotonic_time() - start));
    }
    g_test_maximized_result(best, "buffer_is_zero: %.1f GB/s", best);
    g_free(buf);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/iov/add-copy", test_add_copy);
    g_test_add_func("/iov/wrap", test_wrap);
    g_test_add_func("/iov/zero", test_zero);
    g_test_add_func("/iov/zero-speed", test_zero_speed);
    return g_test_run();
}

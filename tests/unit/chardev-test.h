/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the tests of character devices share: a front end that notes what happens, and peers. */
#ifndef TESTS_CHARDEV_TEST_H
#define TESTS_CHARDEV_TEST_H

#include "tests/unit/monitor-test.h"

static char *dir; /* where sockets and files are made */

typedef struct Front {
    Chardev *chr;
    GString *in;
    int opened, closed, breaks, writables, focus;
    size_t room;
} Front;

static inline size_t front_can_receive(void *opaque)
{
    Front *f = opaque;

    return f->room;
}

static inline void front_receive(void *opaque, const uint8_t *buf, size_t len)
{
    Front *f = opaque;

    g_assert_cmpuint(len, <=, f->room);
    g_string_append_len(f->in, (const char *)buf, len);
}

static inline void front_event(void *opaque, ChardevEvent event)
{
    Front *f = opaque;

    f->opened += event == CHARDEV_OPENED;
    f->closed += event == CHARDEV_CLOSED;
    f->breaks += event == CHARDEV_BREAK;
}

static inline void front_writable(void *opaque)
{
    ((Front *)opaque)->writables++;
}

static inline void front_focus(void *opaque, bool in)
{
    ((Front *)opaque)->focus = in;
}

static const ChardevFrontOps front_ops = {
    .can_receive = front_can_receive,
    .receive = front_receive,
    .event = front_event,
    .writable = front_writable,
    .focus = front_focus,
};

static inline void front_attach(Front *f, Chardev *chr)
{
    memset(f, 0, sizeof(*f));
    f->chr = chr;
    f->in = g_string_new(NULL);
    f->room = 1000;
    g_assert_true(chardev_attach(chr, &front_ops, f));
}

static inline void front_detach(Front *f)
{
    g_assert_true(chardev_attach(f->chr, NULL, NULL));
    g_string_free(f->in, true);
}

static inline Chardev *new_spec(const char *label, const char *fmt, const char *name)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    g_autofree char *spec = g_strdup_printf(fmt, path);
    GError *err = NULL;
    Chardev *chr = chardev_new_from_spec(label, spec, &err);

    g_assert_no_error(err);
    return chr;
}

static inline TestClient *connect_to(const char *name)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);

    return client_connect(path);
}

static inline void write_all(Chardev *chr, const char *text)
{
    g_assert_cmpuint(chardev_write(chr, text, strlen(text)), ==, strlen(text));
}

static inline void expect_bytes(TestClient *c, const char *text)
{
    while (c->in->len < strlen(text)) {
        g_assert_false(c->eof);
        client_pump(c);
        if (c->in->len < strlen(text)) {
            aio_poll(main_aio_context(), true);
        }
    }
    g_assert_cmpstr(c->in->str, ==, text);
    g_string_truncate(c->in, 0);
}

#endif

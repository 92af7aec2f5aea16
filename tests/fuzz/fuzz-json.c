/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The reader and the writer of JSON.  The first byte says in pieces of which size a session
 * would have read the rest.  What was read is written, read and written again: the text must
 * stay the same.
 */
#include <string.h>

#include "fuzz.h"
#include "qapi/json-stream.h"
#include "qapi/json-write.h"
#include "qapi/json.h"

static json_object *parse(const GString *text)
{
    GError *err = NULL;
    json_object *obj = json_parse_text(text->str, text->len, &err);

    g_assert_no_error(err);
    return obj;
}

static void write_and_read(json_object *obj)
{
    g_autoptr(GString) first = g_string_new(NULL), second = g_string_new(NULL),
                       third = g_string_new(NULL);

    if (!obj) {
        return; /* null is no text of its own */
    }
    /* The first time may change the type of a number: 5.0 is written as 5. */
    json_write(first, obj, true);
    obj = parse(first);
    json_write(second, obj, false);
    json_object_put(obj);
    obj = parse(second);
    json_write(third, obj, false);
    json_object_put(obj);
    g_assert_cmpstr(second->str, ==, third->str);
}

/* JSONStreamEmit */
static bool emit(void *opaque, json_object *obj, GError *err)
{
    unsigned *left = opaque;

    g_assert_true(!obj || !err);
    if (err) {
        g_assert_true(*err->message);
        g_error_free(err);
    } else {
        write_and_read(obj);
        json_object_put(obj);
    }
    return --*left % 3 > 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const JSONLimits limits = {4096, 1000};
    g_autoptr(GError) err = NULL;
    json_object *obj;
    JSONStream stream;
    unsigned left = 1u << 31;
    size_t piece;

    if (!size) {
        return 0;
    }
    piece = MAX(data[0], 1);
    json_stream_init(&stream, &limits, emit, &left);
    for (size_t at = 1; at < size;) {
        size_t len = MIN(piece, size - at), used = json_stream_feed(&stream, data + at, len);

        g_assert_cmpuint(used, <=, len);
        g_assert_cmpuint(stream.text->len, <=, limits.bytes + 1);
        at += used;
    }
    json_stream_destroy(&stream);

    obj = json_parse_text((const char *)data + 1, size - 1, &err);
    fuzz_check_outcome(obj != NULL, err);
    json_object_put(obj);
    return 0;
}

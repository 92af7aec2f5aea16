/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Complete JSON texts, read by the same scanner and parser as a client's messages (json-stream.c,
 * json-parse.c), so that the same mistake has the same message everywhere.  Any thread.
 */
#include <string.h>
#include "qapi/error.h"
#include "qapi/json-stream.h"
#include "qapi/json.h"

static const JSONLimits text_limits = {JSON_MAX_TEXT, JSON_MAX_TEXT_TOKENS};

typedef struct WholeText {
    json_object *obj;
    GError *err;
    bool done;
} WholeText;

/* JSONStreamEmit: the first value is all that is wanted. */
static bool whole_text_emit(void *opaque, json_object *obj, GError *err)
{
    WholeText *w = opaque;

    w->obj = obj;
    w->err = err;
    w->done = true;
    return false;
}

static bool only_space(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (!text[i] || !strchr(" \t\r\n", text[i])) {
            return false;
        }
    }
    return true;
}

json_object *json_parse_text(const char *text, size_t len, GError **errp)
{
    WholeText w = {0};
    JSONStream s;
    size_t used;

    if (len > JSON_MAX_TEXT) {
        error_setg(errp, "JSON text is longer than %zu bytes", (size_t)JSON_MAX_TEXT);
        return NULL;
    }
    json_stream_init(&s, &text_limits, whole_text_emit, &w);
    used = json_stream_feed(&s, (const uint8_t *)text, len);
    if (!w.done) {
        /* A number or a word ends with what follows it. */
        json_stream_feed(&s, (const uint8_t *)" ", 1);
    }
    json_stream_destroy(&s);

    if (!w.done) {
        error_setg(errp, "JSON parse error, premature EOI");
    } else if (w.err) {
        g_propagate_error(errp, w.err);
    } else if (!only_space(text + used, len - used)) {
        error_setg(errp, "Expecting at most one JSON value");
    } else if (!w.obj) {
        error_setg(errp, "JSON parse error, expecting value");
    } else {
        return w.obj;
    }
    json_object_put(w.obj);
    return NULL;
}

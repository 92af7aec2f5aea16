/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * JSON text from a byte stream, as QMP clients send it: values follow each other with or
 * without white space, strings may be in single quotes, and after garbage the reader finds
 * its way back.  Values are json-c objects.  Not thread-safe; no I/O.
 */
#ifndef MONITOR_JSON_STREAM_H
#define MONITOR_JSON_STREAM_H

#include <glib.h>
#include <json-c/json.h>
#include <stdbool.h>

/*
 * What one value may be at most: bytes of text, and levels of nesting.  All that walks a
 * value recursively does so on the small stack of a coroutine.
 */
#define JSON_STREAM_MAX_BYTES (1024 * 1024)
#define JSON_STREAM_MAX_NESTING 256

/*
 * Called for each complete value, or for each error with err set and obj NULL (the JSON
 * null is obj NULL as well, with err NULL).  Both are the callee's.  Returns false to make
 * json_stream_feed() stop after this one.
 */
typedef bool JSONStreamEmit(void *opaque, json_object *obj, GError *err);

typedef struct JSONStream {
    JSONStreamEmit *emit;
    void *opaque;
    int state;
    char quote;
    int braces, brackets;
    size_t token_start; /* offset in text where the present token begins */
    GByteArray *text;   /* the value read so far */
} JSONStream;

void json_stream_init(JSONStream *s, JSONStreamEmit *emit, void *opaque);
void json_stream_destroy(JSONStream *s);
/* Returns how many of the len bytes were consumed: fewer only if emit said so. */
size_t json_stream_feed(JSONStream *s, const uint8_t *buf, size_t len);

/*
 * Parses one whole value.  Returns true and the value in *obj (NULL for null), or false
 * and errp.
 */
bool json_parse(const char *text, size_t len, json_object **obj, GError **errp);

#endif

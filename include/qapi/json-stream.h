/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * JSON text from a byte stream, as QMP clients send it: values follow each other with or
 * without white space, strings may be in single quotes, and after garbage the reader finds
 * its way back.  Values are json-c objects.  A stream belongs to one thread at a time; no I/O.
 */
#ifndef QAPI_JSON_STREAM_H
#define QAPI_JSON_STREAM_H

#include <glib.h>
#include <json-c/json.h>
#include <stdbool.h>

/*
 * What one value may be at most: bytes of text; tokens, because an empty object costs
 * several hundred bytes of memory and three of text; and levels of nesting, because all that
 * walks a value recursively does so on the small stack of a coroutine.
 */
typedef struct JSONLimits {
    size_t bytes, tokens;
} JSONLimits;

#define JSON_STREAM_MAX_BYTES (1024 * 1024)
#define JSON_STREAM_MAX_TOKENS (128 * 1024)
#define JSON_MAX_NESTING 256

/* Of a client's messages: the two numbers above. */
extern const JSONLimits json_stream_limits;

/*
 * Called for each complete value, or for each error with err set and obj NULL (the JSON
 * null is obj NULL as well, with err NULL).  Both are the callee's.  Returns false to make
 * json_stream_feed() stop after this one.
 */
typedef bool JSONStreamEmit(void *opaque, json_object *obj, GError *err);

typedef struct JSONStream {
    const JSONLimits *limits;
    JSONStreamEmit *emit;
    void *opaque;
    int state;
    char quote;
    int braces, brackets;
    size_t token_start; /* offset in text where the present token begins */
    size_t tokens;      /* of the value read so far; for emit(), of the complete one */
    GByteArray *text;   /* the value read so far */
} JSONStream;

/* limits: not copied. */
void json_stream_init(JSONStream *s, const JSONLimits *limits, JSONStreamEmit *emit,
                      void *opaque);
void json_stream_destroy(JSONStream *s);
/* Returns how many of the len bytes were consumed: fewer only if emit said so. */
size_t json_stream_feed(JSONStream *s, const uint8_t *buf, size_t len);

#endif

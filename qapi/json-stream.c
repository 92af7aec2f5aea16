/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Splits a byte stream into JSON values.  A small scanner follows strings and nesting just
 * closely enough to know where a value ends; json-parse.c then makes an object of it.
 * Bytes that no JSON text can contain are reported at once; after that everything up to
 * the next structural character or line end is skipped, so that one typing error costs one
 * command.  The memory held is bounded by the limits.
 */
#include <string.h>

#include "json-parse.h"
#include "qapi/error.h"
#include "qapi/json-stream.h"

enum {
    SCAN_START, /* between tokens */
    SCAN_STRING,
    SCAN_ESCAPE, /* behind a backslash in a string */
    SCAN_KEYWORD,
    SCAN_MINUS,
    SCAN_ZERO,
    SCAN_DIGITS,
    SCAN_POINT,
    SCAN_FRACTION,
    SCAN_EXP,
    SCAN_EXP_SIGN,
    SCAN_EXP_DIGITS,
    SCAN_RECOVERY, /* behind garbage */
};

/* What the scanner does with a byte. */
typedef enum ScanStep {
    STEP_NEXT,  /* part of the token */
    STEP_DONE,  /* last byte of the token */
    STEP_AGAIN, /* the token ended before this byte */
    STEP_BAD,
} ScanStep;

const JSONLimits json_stream_limits = {JSON_STREAM_MAX_BYTES, JSON_STREAM_MAX_TOKENS};

void json_stream_init(JSONStream *s, const JSONLimits *limits, JSONStreamEmit *emit, void *opaque)
{
    memset(s, 0, sizeof(*s));
    s->limits = limits;
    s->emit = emit;
    s->opaque = opaque;
    s->text = g_byte_array_new();
}

void json_stream_destroy(JSONStream *s)
{
    g_byte_array_unref(s->text);
    s->text = NULL;
}

static void json_stream_reset(JSONStream *s, int state)
{
    if (s->text->len > 64 * 1024) {
        g_byte_array_unref(s->text);
        s->text = g_byte_array_new();
    }
    g_byte_array_set_size(s->text, 0);
    s->braces = s->brackets = 0;
    s->state = state;
}

/* Hands over what is complete, or an error; returns false if no more is wanted. */
static bool json_stream_emit(JSONStream *s, int state, json_object *obj, GError *err)
{
    bool go_on;

    json_stream_reset(s, state);
    go_on = s->emit(s->opaque, obj, err);
    s->tokens = 0;
    return go_on;
}

static bool is_space(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Begins a token with c; false if none begins so. */
static ScanStep scan_start(JSONStream *s, uint8_t c)
{
    switch (c) {
    case '{':
        s->braces++;
        return STEP_DONE;
    case '}':
        s->braces--;
        return STEP_DONE;
    case '[':
        s->brackets++;
        return STEP_DONE;
    case ']':
        s->brackets--;
        return STEP_DONE;
    case ',':
    case ':':
        return STEP_DONE;
    case '"':
    case '\'':
        s->quote = c;
        s->state = SCAN_STRING;
        return STEP_NEXT;
    case '-':
        s->state = SCAN_MINUS;
        return STEP_NEXT;
    case '0':
        s->state = SCAN_ZERO;
        return STEP_NEXT;
    case '1' ... '9':
        s->state = SCAN_DIGITS;
        return STEP_NEXT;
    case 'a' ... 'z':
        s->state = SCAN_KEYWORD;
        return STEP_NEXT;
    default:
        return STEP_BAD;
    }
}

static ScanStep scan_to(JSONStream *s, int state)
{
    s->state = state;
    return STEP_NEXT;
}

static ScanStep scan_number(JSONStream *s, uint8_t c)
{
    bool digit = c >= '0' && c <= '9';

    switch (s->state) {
    case SCAN_MINUS:
        return digit ? scan_to(s, c == '0' ? SCAN_ZERO : SCAN_DIGITS) : STEP_BAD;
    case SCAN_ZERO:
        if (digit) {
            return STEP_BAD;
        }
        /* fall through */
    case SCAN_DIGITS:
        if (c == '.') {
            return scan_to(s, SCAN_POINT);
        }
        /* fall through */
    case SCAN_FRACTION:
        if (c == 'e' || c == 'E') {
            return scan_to(s, SCAN_EXP);
        }
        return digit ? STEP_NEXT : STEP_AGAIN;
    case SCAN_POINT:
        return digit ? scan_to(s, SCAN_FRACTION) : STEP_BAD;
    case SCAN_EXP:
        if (c == '+' || c == '-') {
            return scan_to(s, SCAN_EXP_SIGN);
        }
        /* fall through */
    case SCAN_EXP_SIGN:
        return digit ? scan_to(s, SCAN_EXP_DIGITS) : STEP_BAD;
    default:
        return digit ? STEP_NEXT : STEP_AGAIN;
    }
}

static ScanStep scan_byte(JSONStream *s, uint8_t c)
{
    switch (s->state) {
    case SCAN_START:
        return scan_start(s, c);
    case SCAN_STRING:
        if (c < 0x20 || c >= 0xfe) {
            return STEP_BAD;
        }
        if (c == '\\') {
            return scan_to(s, SCAN_ESCAPE);
        }
        return c == s->quote ? STEP_DONE : STEP_NEXT;
    case SCAN_ESCAPE:
        return c < 0x20 || c >= 0xfe ? STEP_BAD : scan_to(s, SCAN_STRING);
    case SCAN_KEYWORD:
        return c >= 'a' && c <= 'z' ? STEP_NEXT : STEP_AGAIN;
    default:
        return scan_number(s, c);
    }
}

/* A token is complete; returns false if the emitter wants no more. */
static bool token_done(JSONStream *s)
{
    GError *err = NULL;
    json_object *obj = NULL;

    s->state = SCAN_START;
    if (++s->tokens > s->limits->tokens) {
        error_setg(&err, "JSON token count limit exceeded");
        return json_stream_emit(s, SCAN_START, NULL, err);
    }
    if ((s->braces > 0 || s->brackets > 0) && s->braces >= 0 && s->brackets >= 0) {
        if (s->braces + s->brackets > JSON_MAX_NESTING) {
            error_setg(&err, "JSON nesting depth limit exceeded");
            return json_stream_emit(s, SCAN_START, NULL, err);
        }
        return true;
    }
    json_parse_value((const char *)s->text->data, s->text->len, &obj, &err);
    return json_stream_emit(s, SCAN_START, obj, err);
}

static bool stray(JSONStream *s)
{
    GError *err = NULL;

    error_setg(&err, "JSON parse error, stray '%.*s'", (int)MIN(s->text->len - s->token_start, 256),
               (const char *)s->text->data + s->token_start);
    return json_stream_emit(s, SCAN_RECOVERY, NULL, err);
}

/* How many bytes from buf on are plain content of the present string. */
static size_t string_run(const JSONStream *s, const uint8_t *buf, size_t len)
{
    size_t n = 0;

    while (n < len && buf[n] >= 0x20 && buf[n] < 0xfe && buf[n] != '\\' && buf[n] != s->quote) {
        n++;
    }
    return n;
}

/* Takes at least one byte, except when a token ends before it. */
static size_t scan_some(JSONStream *s, const uint8_t *buf, size_t len, bool *go_on)
{
    uint8_t c = *buf;

    if (s->state == SCAN_RECOVERY) {
        if (strchr("{}[]:,", c) && c) {
            s->state = SCAN_START;
            return 0;
        }
        if (c == '\n' || c == '\r' || c == 0xff) {
            s->state = SCAN_START;
        }
        return 1;
    }
    if (s->state == SCAN_START) {
        if (is_space(c)) {
            /* One blank is kept: it may part two tokens. */
            if (s->text->len && s->text->data[s->text->len - 1] != ' ') {
                g_byte_array_append(s->text, (const uint8_t *)" ", 1);
            }
            return 1;
        }
        s->token_start = s->text->len;
    }
    if (s->text->len >= s->limits->bytes) {
        GError *err = NULL;

        error_setg(&err, "JSON token size limit exceeded");
        *go_on = json_stream_emit(s, SCAN_RECOVERY, NULL, err);
        return 1;
    }
    if (s->state == SCAN_STRING) {
        size_t n = string_run(s, buf, MIN(len, s->limits->bytes - s->text->len));

        if (n) {
            g_byte_array_append(s->text, buf, n);
            return n;
        }
    }
    switch (scan_byte(s, c)) {
    case STEP_NEXT:
        g_byte_array_append(s->text, &c, 1);
        return 1;
    case STEP_DONE:
        g_byte_array_append(s->text, &c, 1);
        *go_on = token_done(s);
        return 1;
    case STEP_AGAIN:
        *go_on = token_done(s);
        return 0;
    case STEP_BAD:
    default:
        g_byte_array_append(s->text, &c, 1);
        *go_on = stray(s);
        return 1;
    }
}

size_t json_stream_feed(JSONStream *s, const uint8_t *buf, size_t len)
{
    size_t pos = 0;
    bool go_on = true;

    while (pos < len && go_on) {
        pos += scan_some(s, buf + pos, len - pos, &go_on);
    }
    return pos;
}

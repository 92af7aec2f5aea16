/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A recursive-descent parser for the text of one JSON value; the grammar is RFC 8259 plus
 * strings in single quotes.  Error texts are those that QMP clients know.  The scanner has
 * bounded the nesting, and with it the recursion.
 */
#include <errno.h>
#include <float.h>
#include <stdlib.h>
#include <string.h>

#include "json-parse.h"
#include "qapi/error.h"

typedef struct Parser {
    const char *p, *end;
    GString *scratch;
} Parser;

static bool parse_any(Parser *ps, json_object **obj, GError **errp);

static bool fail(GError **errp, const char *what)
{
    error_setg(errp, "JSON parse error, %s", what);
    return false;
}

/* The next token's first character, 0 at the end. */
static char peek(Parser *ps)
{
    while (ps->p < ps->end && (*ps->p == ' ' || (*ps->p >= '\t' && *ps->p <= '\r'))) {
        ps->p++;
    }
    return ps->p < ps->end ? *ps->p : 0;
}

static bool code_point_ok(uint32_t code)
{
    return code <= 0x10ffff && (code & 0xfffff800) != 0xd800 &&
           !(code >= 0xfdd0 && code <= 0xfdef) && (code & 0xfffe) != 0xfffe;
}

size_t json_utf8_decode(const char *p, size_t len, uint32_t *code)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    uint8_t c = *p;
    size_t n = c < 0x80 ? 1 : c < 0xc0 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf8 ? 4 : 0;
    uint32_t v;

    if (!n || n > len) {
        return 0;
    }
    v = n == 1 ? c : c & (0x7f >> n);
    for (size_t i = 1; i < n; i++) {
        if (((uint8_t)p[i] & 0xc0) != 0x80) {
            return 0;
        }
        v = v << 6 | ((uint8_t)p[i] & 0x3f);
    }
    if ((v < least[n] && !(n == 2 && v == 0)) || !code_point_ok(v)) {
        return 0;
    }
    *code = v;
    return n;
}

/* Reads the four digits behind "\u"; returns how many there are. */
static int hex4(const char *p, const char *end, uint32_t *value)
{
    int n = 0;

    *value = 0;
    while (n < 4 && p + n < end && g_ascii_isxdigit(p[n])) {
        *value = *value << 4 | g_ascii_xdigit_value(p[n]);
        n++;
    }
    return n;
}

static void append_code(GString *s, uint32_t code)
{
    char utf8[6];

    if (code == 0) {
        g_string_append_len(s, "\xc0\x80", 2);
    } else {
        g_string_append_len(s, utf8, g_unichar_to_utf8(code, utf8));
    }
}

/* At "\uXXXX" in a string. */
static bool parse_unicode_escape(Parser *ps, GError **errp)
{
    const char *start = ps->p;
    uint32_t code, low;
    int n = hex4(start + 2, ps->end, &code);

    if (n < 4) {
        int shown = MIN(2 + n + 1, ps->end - start);

        error_setg(errp, "JSON parse error, %.*s is not a valid Unicode character", shown, start);
        return false;
    }
    ps->p += 6;
    if (code >= 0xd800 && code <= 0xdbff && ps->end - ps->p >= 6 && ps->p[0] == '\\' &&
        ps->p[1] == 'u' && hex4(ps->p + 2, ps->end, &low) == 4 && low >= 0xdc00 &&
        low <= 0xdfff) {
        code = 0x10000 + ((code & 0x3ff) << 10) + (low & 0x3ff);
        ps->p += 6;
    }
    if (!code_point_ok(code)) {
        error_setg(errp, "JSON parse error, %.6s is not a valid Unicode character", start);
        return false;
    }
    append_code(ps->scratch, code);
    return true;
}

static bool parse_escape(Parser *ps, GError **errp)
{
    static const char from[] = "bfnrt\"'\\/", to[] = "\b\f\n\r\t\"'\\/";
    const char *hit;

    if (ps->end - ps->p < 2) {
        return fail(errp, "premature EOI");
    }
    if (ps->p[1] == 'u') {
        return parse_unicode_escape(ps, errp);
    }
    hit = ps->p[1] ? strchr(from, ps->p[1]) : NULL;
    if (!hit) {
        return fail(errp, "invalid escape sequence in string");
    }
    g_string_append_c(ps->scratch, to[hit - from]);
    ps->p += 2;
    return true;
}

/* Leaves the string's content in ps->scratch. */
static bool parse_string(Parser *ps, GError **errp)
{
    char quote = *ps->p++;

    g_string_truncate(ps->scratch, 0);
    while (ps->p < ps->end && *ps->p != quote) {
        const char *run = ps->p;
        uint32_t code;
        size_t n;

        while (ps->p < ps->end && *ps->p != quote && *ps->p != '\\' && !(*ps->p & 0x80)) {
            ps->p++;
        }
        g_string_append_len(ps->scratch, run, ps->p - run);
        if (ps->p == ps->end || *ps->p == quote) {
            continue;
        }
        if (*ps->p == '\\') {
            if (!parse_escape(ps, errp)) {
                return false;
            }
            continue;
        }
        n = json_utf8_decode(ps->p, ps->end - ps->p, &code);
        if (!n) {
            return fail(errp, "invalid UTF-8 sequence in string");
        }
        g_string_append_len(ps->scratch, ps->p, n);
        ps->p += n;
    }
    if (ps->p == ps->end) {
        return fail(errp, "premature EOI");
    }
    ps->p++;
    return true;
}

static void skip_number(Parser *ps, bool *integer)
{
    *integer = true;
    while (ps->p < ps->end && *ps->p && strchr("+-.0123456789eE", *ps->p)) {
        if (strchr(".eE", *ps->p)) {
            *integer = false;
        }
        ps->p++;
    }
}

/*
 * 64-bit integers stay exact; what does not fit becomes a double, the largest one if need be:
 * JSON has no infinity that could be sent back.
 */
static bool parse_number(Parser *ps, json_object **obj, GError **errp)
{
    const char *start = ps->p;
    g_autofree char *text = NULL;
    bool integer;

    skip_number(ps, &integer);
    text = g_strndup(start, ps->p - start);
    if (integer) {
        errno = 0;
        if (*text == '-') {
            long long v = strtoll(text, NULL, 10);

            if (errno == 0) {
                *obj = json_object_new_int64(v);
                return true;
            }
        } else {
            unsigned long long v = strtoull(text, NULL, 10);

            if (errno == 0) {
                *obj = v <= INT64_MAX ? json_object_new_int64(v) : json_object_new_uint64(v);
                return true;
            }
        }
    }
    *obj = json_object_new_double(CLAMP(g_ascii_strtod(text, NULL), -DBL_MAX, DBL_MAX));
    return true;
}

static bool parse_keyword(Parser *ps, json_object **obj, GError **errp)
{
    const char *start = ps->p;
    size_t n;

    while (ps->p < ps->end && *ps->p >= 'a' && *ps->p <= 'z') {
        ps->p++;
    }
    n = ps->p - start;
    if (n == 4 && !memcmp(start, "true", 4)) {
        *obj = json_object_new_boolean(true);
    } else if (n == 5 && !memcmp(start, "false", 5)) {
        *obj = json_object_new_boolean(false);
    } else if (n == 4 && !memcmp(start, "null", 4)) {
        *obj = NULL;
    } else {
        error_setg(errp, "JSON parse error, invalid keyword '%.*s'", (int)MIN(n, 256), start);
        return false;
    }
    return true;
}

/* One "key": value into dict. */
static bool parse_pair(Parser *ps, json_object *dict, GError **errp)
{
    g_autofree char *key = NULL;
    json_object *value = NULL;
    char c = peek(ps);

    if (c == '"' || c == '\'') {
        if (!parse_string(ps, errp)) {
            return false;
        }
        key = g_strdup(ps->scratch->str);
    } else {
        if (parse_any(ps, &value, errp)) {
            json_object_put(value);
            fail(errp, "key is not a string in object");
        }
        return false;
    }
    if (peek(ps) != ':') {
        return fail(errp, "missing : in object pair");
    }
    ps->p++;
    if (!parse_any(ps, &value, errp)) {
        return false;
    }
    if (json_object_object_get_ex(dict, key, NULL)) {
        json_object_put(value);
        return fail(errp, "duplicate key");
    }
    json_object_object_add(dict, key, value);
    return true;
}

static bool parse_dict(Parser *ps, json_object **obj, GError **errp)
{
    json_object *dict = json_object_new_object();

    ps->p++;
    if (peek(ps) == '}') {
        ps->p++;
        *obj = dict;
        return true;
    }
    while (parse_pair(ps, dict, errp)) {
        char c = peek(ps);

        if (c == '}') {
            ps->p++;
            *obj = dict;
            return true;
        }
        if (c != ',') {
            fail(errp, "expected separator in dict");
            break;
        }
        ps->p++;
    }
    json_object_put(dict);
    return false;
}

static bool parse_list(Parser *ps, json_object **obj, GError **errp)
{
    json_object *list = json_object_new_array_ext(1);
    json_object *item;

    ps->p++;
    if (peek(ps) == ']') {
        ps->p++;
        *obj = list;
        return true;
    }
    while (parse_any(ps, &item, errp)) {
        char c = peek(ps);

        json_object_array_add(list, item);
        if (c == ']') {
            ps->p++;
            *obj = list;
            return true;
        }
        if (c != ',') {
            fail(errp, "expected separator in list");
            break;
        }
        ps->p++;
    }
    json_object_put(list);
    return false;
}

static bool parse_any(Parser *ps, json_object **obj, GError **errp)
{
    char c = peek(ps);

    *obj = NULL;
    switch (c) {
    case '{':
        return parse_dict(ps, obj, errp);
    case '[':
        return parse_list(ps, obj, errp);
    case '"':
    case '\'':
        if (!parse_string(ps, errp)) {
            return false;
        }
        *obj = json_object_new_string_len(ps->scratch->str, ps->scratch->len);
        return true;
    case '-':
    case '0' ... '9':
        return parse_number(ps, obj, errp);
    case 'a' ... 'z':
        return parse_keyword(ps, obj, errp);
    default:
        return fail(errp, "expecting value");
    }
}

bool json_parse_value(const char *text, size_t len, json_object **obj, GError **errp)
{
    Parser ps = {.p = text, .end = text + len, .scratch = g_string_sized_new(64)};
    bool ok = parse_any(&ps, obj, errp);

    g_string_free(ps.scratch, true);
    return ok;
}

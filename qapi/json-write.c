/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The writer of QMP's JSON.  json-c's own output differs from what QMP clients and golden
 * files expect (blanks, escapes, non-ASCII text), hence this one.
 */
#include <math.h>
#include <string.h>

#include "json-parse.h"
#include "qapi/json-write.h"

void json_write_indent(GString *out, bool pretty, int depth)
{
    if (pretty) {
        g_string_append_c(out, '\n');
        for (int i = 0; i < depth; i++) {
            g_string_append(out, "    ");
        }
    }
}

static void write_code(GString *out, uint32_t code)
{
    if (code > 0xffff) {
        code -= 0x10000;
        g_string_append_printf(out, "\\u%04X\\u%04X", 0xd800 + (code >> 10),
                               0xdc00 + (code & 0x3ff));
    } else {
        g_string_append_printf(out, "\\u%04X", code);
    }
}

/* Writes the special character(s) at p; returns how many bytes it took. */
static size_t write_special(GString *out, const char *p, size_t len)
{
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
    const char *hit = *p ? strchr(from, *p) : NULL;
    uint32_t code;
    size_t n;

    if (hit) {
        g_string_append_c(out, '\\');
        g_string_append_c(out, to[hit - from]);
        return 1;
    }
    n = json_utf8_decode(p, len, &code);
    write_code(out, n ? code : 0xfffd);
    return n ? n : 1;
}

void json_write_string(GString *out, const char *str, size_t len)
{
    const char *end = str + len;

    g_string_append_c(out, '"');
    while (str < end) {
        const char *run = str;

        while (str < end && (uint8_t)*str >= 0x20 && (uint8_t)*str < 0x7f && *str != '"' &&
               *str != '\\') {
            str++;
        }
        g_string_append_len(out, run, str - run);
        if (str < end) {
            str += write_special(out, str, end - str);
        }
    }
    g_string_append_c(out, '"');
}

static void write_dict(GString *out, json_object *obj, bool pretty, int depth)
{
    bool first = true;

    g_string_append_c(out, '{');
    json_object_object_foreach(obj, key, value)
    {
        if (!first) {
            g_string_append(out, pretty ? "," : ", ");
        }
        first = false;
        json_write_indent(out, pretty, depth + 1);
        json_write_string(out, key, strlen(key));
        g_string_append(out, ": ");
        json_write_at(out, value, pretty, depth + 1);
    }
    json_write_indent(out, pretty, depth);
    g_string_append_c(out, '}');
}

static void write_list(GString *out, json_object *obj, bool pretty, int depth)
{
    size_t n = json_object_array_length(obj);

    g_string_append_c(out, '[');
    for (size_t i = 0; i < n; i++) {
        if (i) {
            g_string_append(out, pretty ? "," : ", ");
        }
        json_write_indent(out, pretty, depth + 1);
        json_write_at(out, json_object_array_get_idx(obj, i), pretty, depth + 1);
    }
    json_write_indent(out, pretty, depth);
    g_string_append_c(out, ']');
}

static void write_int(GString *out, json_object *obj)
{
    int64_t v = json_object_get_int64(obj);

    /* json-c clips an unsigned value that is too large for int64_t. */
    if (v == INT64_MAX) {
        g_string_append_printf(out, "%" G_GUINT64_FORMAT, json_object_get_uint64(obj));
    } else {
        g_string_append_printf(out, "%" G_GINT64_FORMAT, v);
    }
}

/* %.17g in the C locale: enough digits to read the same double back. */
static void write_double(GString *out, json_object *obj)
{
    char buf[G_ASCII_DTOSTR_BUF_SIZE];

    g_string_append(out, g_ascii_formatd(buf, sizeof(buf), "%.17g", json_object_get_double(obj)));
}

void json_write_at(GString *out, json_object *obj, bool pretty, int depth)
{
    switch (json_object_get_type(obj)) {
    case json_type_null:
        g_string_append(out, "null");
        break;
    case json_type_boolean:
        g_string_append(out, json_object_get_boolean(obj) ? "true" : "false");
        break;
    case json_type_int:
        write_int(out, obj);
        break;
    case json_type_double:
        write_double(out, obj);
        break;
    case json_type_string:
        json_write_string(out, json_object_get_string(obj), json_object_get_string_len(obj));
        break;
    case json_type_object:
        write_dict(out, obj, pretty, depth);
        break;
    case json_type_array:
        write_list(out, obj, pretty, depth);
        break;
    }
}

void json_write(GString *out, json_object *obj, bool pretty)
{
    json_write_at(out, obj, pretty, 0);
}

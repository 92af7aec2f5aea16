/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Parsing of complete JSON texts.  json-c's tokener does the work; what it lets pass and
 * QMP does not - a key that comes twice, an integer beyond 64 bits that would silently
 * become the largest one - is caught by a look at the text first.  Any thread.
 */
#include "config-host.h"
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <json-c/json_tokener.h>
#include "qapi/error.h"
#include "qapi/json.h"

/* Length of the string literal at s, quotes included, or up to the end of the text. */
static size_t string_length(const char *s, size_t len)
{
    for (size_t i = 1; i < len; i++) {
        if (s[i] == '\\') {
            i++;
        } else if (s[i] == s[0]) {
            return i + 1;
        }
    }
    return len;
}

/* Whether the len characters at s are an integer that 64 bits cannot hold. */
static bool too_large(const char *s, size_t len)
{
    bool negative = s[0] == '-';
    size_t digits = len - negative;

    if (digits < 19 || strspn(s + negative, "0123456789") < digits) {
        return false;
    }
    g_autofree char *text = g_strndup(s, len);
    errno = 0;
    if (negative) {
        g_ascii_strtoll(text, NULL, 10);
    } else {
        g_ascii_strtoull(text, NULL, 10);
    }
    return errno == ERANGE;
}

/*
 * Copies text, with integers beyond 64 bits as floating point numbers, and counts the
 * members of all objects.
 */
static char *prepare(const char *text, size_t len, size_t *members)
{
    GString *copy = g_string_sized_new(len + 1);

    *members = 0;
    for (size_t i = 0; i < len;) {
        size_t n = 1;

        if (text[i] == '"' || text[i] == '\'') {
            n = string_length(text + i, len - i);
        } else if (text[i] == '-' || g_ascii_isdigit(text[i])) {
            while (i + n < len && (g_ascii_isalnum(text[i + n]) ||
                                   strchr("+-.", text[i + n] ? text[i + n] : 'x'))) {
                n++;
            }
        } else if (text[i] == ':') {
            ++*members;
        }
        g_string_append_len(copy, text + i, n);
        if (text[i] != '"' && text[i] != '\'' && too_large(text + i, n)) {
            g_string_append(copy, ".0");
        }
        i += n;
    }
    return g_string_free(copy, false);
}

/* The members of all objects below json. */
static size_t count_members(json_object *json)
{
    size_t n = 0;

    if (json_object_is_type(json, json_type_object)) {
        n = json_object_object_length(json);
        json_object_object_foreach(json, key, value)
        {
            (void)key;
            n += count_members(value);
        }
    } else if (json_object_is_type(json, json_type_array)) {
        for (size_t i = 0; i < json_object_array_length(json); i++) {
            n += count_members(json_object_array_get_idx(json, i));
        }
    }
    return n;
}

json_object *json_parse_text(const char *text, size_t len, GError **errp)
{
    size_t members;

    if (len > JSON_MAX_TEXT) {
        error_setg(errp, "JSON text is longer than %zu bytes", (size_t)JSON_MAX_TEXT);
        return NULL;
    }
    g_autofree char *copy = prepare(text, len, &members);
    size_t copy_len = strlen(copy);
    json_tokener *tok = json_tokener_new_ex(JSON_MAX_DEPTH);
    /* The terminating NUL tells the tokener that a number or a word is complete. */
    json_object *json = json_tokener_parse_ex(tok, copy, copy_len + 1);
    enum json_tokener_error status = json_tokener_get_error(tok);
    size_t end = json_tokener_get_parse_end(tok);
    bool ok = false;

    if (status == json_tokener_continue || status == json_tokener_error_parse_eof) {
        error_setg(errp, "JSON parse error, premature EOI");
    } else if (status == json_tokener_error_depth) {
        error_setg(errp, "JSON nesting depth limit exceeded");
    } else if (status != json_tokener_success) {
        error_setg(errp, "JSON parse error, %s", json_tokener_error_desc(status));
    } else if (end + strspn(copy + end, " \t\r\n") < copy_len) {
        error_setg(errp, "Expecting at most one JSON value");
    } else if (!json) {
        error_setg(errp, "JSON parse error, expecting value");
    } else if (count_members(json) != members) {
        error_setg(errp, "JSON parse error, duplicate key");
    } else {
        ok = true;
    }
    json_tokener_free(tok);
    if (!ok) {
        json_object_put(json);
        return NULL;
    }
    return json;
}

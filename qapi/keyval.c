/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * key=value text to a tree (include/qapi/keyval.h).  Keys are taken apart at their dots
 * into nested objects; afterwards objects whose keys are all numbers become lists.
 * Any thread.
 */
#include "config-host.h"
#include <errno.h>
#include <math.h>
#include <string.h>
#include "qapi/error.h"
#include "qapi/json.h"
#include "qapi/keyval.h"

#define MAX_KEY_LEN 1024
#define MAX_FRAGMENT_LEN 127
#define MAX_LIST_LEN 65536

/* "a", "x-b_c", "__org.example_d" is not ours: letters, digits, '-', '_'; or a number. */
static bool fragment_ok(const char *s, size_t len)
{
    if (!len || len > MAX_FRAGMENT_LEN) {
        return false;
    }
    if (g_ascii_isdigit(s[0])) {
        for (size_t i = 0; i < len; i++) {
            if (!g_ascii_isdigit(s[i])) {
                return false;
            }
        }
        return true;
    }
    if (!g_ascii_isalpha(s[0]) && s[0] != '_') {
        return false;
    }
    for (size_t i = 1; i < len; i++) {
        if (!g_ascii_isalnum(s[i]) && s[i] != '-' && s[i] != '_') {
            return false;
        }
    }
    return true;
}

static bool check_length(const char *key, GError **errp)
{
    if (strlen(key) > MAX_KEY_LEN) {
        error_setg(errp, "Parameter name '%.32s...' is too long", key);
        return false;
    }
    return true;
}

/* Stores value, which it takes, below root at key "a.b.c". */
static bool store(json_object *root, const char *key, json_object *value, GError **errp)
{
    json_object *at = root;
    const char *s = key;

    if (!check_length(key, errp)) {
        json_object_put(value);
        return false;
    }
    for (;;) {
        size_t len = strcspn(s, ".");
        bool last = !s[len];

        if (!fragment_ok(s, len) || (s == key && g_ascii_isdigit(*s))) {
            error_setg(errp, "Invalid parameter '%s'", key);
            json_object_put(value);
            return false;
        }
        g_autofree char *part = g_strndup(s, len);
        json_object *old = NULL;
        bool exists = json_object_object_get_ex(at, part, &old);
        if (exists && json_object_is_type(old, json_type_object) == last) {
            error_setg(errp, "Parameters '%.*s.*' used inconsistently",
                       (int)(s + len - key), key);
            json_object_put(value);
            return false;
        }
        if (last) {
            json_object_object_add(at, part, value);
            return true;
        }
        if (!exists) {
            old = json_object_new_object();
            json_object_object_add(at, part, old);
        }
        at = old;
        s += len + 1;
    }
}

size_t keyval_item_length(const char *text)
{
    size_t n = 0;

    while (text[n] && (text[n] != ',' || text[n + 1] == ',')) {
        n += text[n] == ',' ? 2 : 1;
    }
    return n;
}

char *keyval_take_value(const char **text)
{
    GString *value = g_string_new(NULL);
    const char *s = *text;

    for (; *s; s++) {
        if (*s == ',') {
            if (s[1] != ',') {
                s++;
                break;
            }
            s++;
        }
        g_string_append_c(value, *s);
    }
    *text = s;
    return g_string_free(value, false);
}

/* The list for an object whose keys are numbers.  prefix names it in messages. */
static json_object *to_list(json_object *obj, const char *prefix, GError **errp)
{
    int n = json_object_object_length(obj);
    g_autofree json_object **items = g_new0(json_object *, n);

    json_object_object_foreach(obj, key, value)
    {
        guint64 index;

        if (!g_ascii_isdigit(key[0])) {
            error_setg(errp, "Parameters '%s.*' used inconsistently", prefix);
            return NULL;
        }
        if (g_ascii_string_to_unsigned(key, 10, 0, MAX_LIST_LEN, &index, NULL) &&
            index < (guint64)n) {
            items[index] = value;
        }
    }
    json_object *list = json_object_new_array();
    for (int i = 0; i < n; i++) {
        if (!items[i]) {
            error_setg(errp, "Parameter '%s.%d' missing", prefix, i);
            json_object_put(list);
            return NULL;
        }
        json_object_array_add(list, json_object_get(items[i]));
    }
    return list;
}

/*
 * Turns number-keyed objects below *value into lists, innermost first.  prefix is the key
 * that leads here.
 */
static bool make_lists(json_object **value, const char *prefix, GError **errp)
{
    bool numbers = false;

    if (!json_object_is_type(*value, json_type_object)) {
        return true;
    }
    json_object_object_foreach(*value, key, child)
    {
        g_autofree char *path = *prefix ? g_strconcat(prefix, ".", key, NULL) : g_strdup(key);
        json_object *now = child;

        numbers |= g_ascii_isdigit(key[0]);
        if (!make_lists(&now, path, errp)) {
            return false;
        }
        if (now != child) {
            /* The key exists, so this replaces in place and the loop may go on. */
            json_object_object_add(*value, key, now);
        }
    }
    if (numbers) {
        *value = to_list(*value, prefix, errp);
        return *value != NULL;
    }
    return true;
}

json_object *keyval_parse(const char *text, const char *implied_key, GError **errp)
{
    json_object *root = json_object_new_object();
    const char *s = text;

    while (*s) {
        size_t len = strcspn(s, "=,");
        g_autofree char *key = NULL;
        g_autofree char *value = NULL;

        if (s[len] == '=') {
            key = g_strndup(s, len);
            s += len + 1;
            value = keyval_take_value(&s);
        } else if (s == text && implied_key && len) {
            key = g_strdup(implied_key);
            value = keyval_take_value(&s);
        } else {
            g_autofree char *name = g_strndup(s, len);
            bool ok = len && (fragment_ok(name, strcspn(name, ".")));
            error_setg(errp, ok ? "Expected '=' after parameter '%s'" : "Invalid parameter '%s'",
                       name);
            goto fail;
        }
        if (!store(root, key, json_object_new_string(value), errp)) {
            goto fail;
        }
    }
    json_object *result = root;
    if (make_lists(&result, "", errp)) {
        return result;
    }
fail:
    json_object_put(root);
    return NULL;
}

/* Stores the leaves of value below root, at keys that begin with prefix. */
static bool store_leaves(json_object *root, const char *prefix, json_object *value, GError **errp)
{
    size_t items = json_object_is_type(value, json_type_array) ? json_object_array_length(value) : 0;

    if (json_object_is_type(value, json_type_object) && json_object_object_length(value)) {
        json_object_object_foreach(value, key, child)
        {
            g_autofree char *path = *prefix ? g_strconcat(prefix, ".", key, NULL) : g_strdup(key);

            if (!check_length(path, errp) || !store_leaves(root, path, child, errp)) {
                return false;
            }
        }
        return true;
    }
    for (size_t i = 0; i < items; i++) {
        g_autofree char *path = g_strdup_printf("%s.%zu", prefix, i);

        if (!check_length(path, errp) ||
            !store_leaves(root, path, json_object_array_get_idx(value, i), errp)) {
            return false;
        }
    }
    return items || store(root, prefix, json_object_get(value), errp);
}

json_object *keyval_from_json(json_object *options, GError **errp)
{
    json_object *root = json_object_new_object(), *result = root;

    if ((!json_object_object_length(options) || store_leaves(root, "", options, errp)) &&
        make_lists(&result, "", errp)) {
        return result;
    }
    json_object_put(root);
    return NULL;
}

json_object *keyval_or_json_parse(const char *text, const char *implied_key, bool *is_json,
                                  GError **errp)
{
    *is_json = text[0] == '{';
    return *is_json ? json_parse_text(text, strlen(text), errp)
                    : keyval_parse(text, implied_key, errp);
}

bool qapi_id_is_wellformed(const char *id)
{
    if (!g_ascii_isalpha(*id)) {
        return false;
    }
    while (g_ascii_isalnum(*id) || (*id && strchr("-._", *id))) {
        id++;
    }
    return !*id;
}

bool qapi_parse_bool(const char *text, bool *value)
{
    static const char *const yes[] = {"on", "yes", "true", "y", NULL};
    static const char *const no[] = {"off", "no", "false", "n", NULL};

    *value = g_strv_contains(yes, text);
    return *value || g_strv_contains(no, text);
}

bool qapi_parse_size(const char *text, uint64_t *size)
{
    static const char suffixes[] = "BKMGTPE";
    bool hex = g_str_has_prefix(text, "0x") || g_str_has_prefix(text, "0X");
    uint64_t whole, scale = 1;
    double fraction = 0;
    char *end;

    if (!g_ascii_isdigit(text[0])) {
        return false; /* no sign, no white space, no bare fraction */
    }
    errno = 0;
    whole = g_ascii_strtoull(text, &end, hex ? 16 : 10);
    if (errno || (hex && end == text + 1)) {
        return false;
    }
    if (*end == '.' && !hex) {
        char *digits = end;
        /* Digits only: strtod would take an exponent too. */
        size_t n = strspn(digits + 1, "0123456789");
        g_autofree char *part = g_strndup(digits, n + 1);
        fraction = n ? g_ascii_strtod(part, NULL) : 0;
        end = digits + 1 + n;
    }
    if (*end && !(hex && strchr("bBeE", *end))) {
        const char *suffix = strchr(suffixes, g_ascii_toupper(*end));
        if (!suffix || end[1]) {
            return false;
        }
        scale <<= 10 * (suffix - suffixes);
    } else if (*end) {
        return false;
    }
    if (fraction > 0 && scale == 1) {
        return false; /* no part of a byte */
    }
    uint64_t rest = fraction * (double)scale + 0.5;
    return !__builtin_mul_overflow(whole, scale, size) &&
           !__builtin_add_overflow(*size, rest, size);
}

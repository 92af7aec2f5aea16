/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The configuration file of blkdebug: groups [inject-error] and [set-state], each one rule,
 * with lines  name = "value".  '#' begins a comment line.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "blkdebug-int.h"
#include "qapi/error.h"
#include "qapi/qapi-visit-block-core.h"
#include "qapi/util.h"

#define FILE_MAX (1024 * 1024)

typedef struct Load {
    BlkdebugRules *rules;
    const char *path;
    char *text;
    GError *err;
} Load;

static int read_worker(void *opaque)
{
    Load *l = opaque;
    FILE *f = fopen(l->path, "r");
    int ret = 0;
    size_t n;

    if (!f) {
        return -errno;
    }
    l->text = g_malloc(FILE_MAX + 1);
    n = fread(l->text, 1, FILE_MAX + 1, f);
    if (ferror(f)) {
        ret = -EIO;
    } else if (n > FILE_MAX) {
        ret = -EFBIG;
    } else {
        l->text[n] = '\0';
    }
    fclose(f);
    return ret;
}

/* Adds the rule of one group: members as strings, NULL: there has been no group yet. */
static bool add_group(Load *l, json_object *group, bool is_state)
{
    if (!group) {
        return true;
    }
    if (!json_object_object_get_ex(group, "event", NULL)) {
        error_setg(&l->err, "Missing event name for rule");
        return false;
    }
    if (is_state) {
        BlkdebugSetStateOptions *o = NULL;
        BlkdebugSetStateOptionsList list = { 0 };
        bool ok = qapi_input_keyval(&qapi_type_BlkdebugSetStateOptions, group, NULL, &o, &l->err);

        list.value = o;
        ok = ok && blkdebug_rules_add(l->rules, NULL, &list, &l->err);
        qapi_free_BlkdebugSetStateOptions(o);
        return ok;
    } else {
        BlkdebugInjectErrorOptions *o = NULL;
        BlkdebugInjectErrorOptionsList list = { 0 };
        bool ok = qapi_input_keyval(&qapi_type_BlkdebugInjectErrorOptions, group, NULL, &o,
                                    &l->err);

        list.value = o;
        ok = ok && blkdebug_rules_add(l->rules, &list, NULL, &l->err);
        qapi_free_BlkdebugInjectErrorOptions(o);
        return ok;
    }
}

/* "[name]": which kind of rule begins. */
static bool parse_group(Load *l, const char *line, bool *is_state)
{
    g_autofree char *name = NULL;
    const char *end = strpbrk(line, " ]");

    if (!end) {
        error_setg(&l->err, "parse error");
        return false;
    }
    name = g_strndup(line + 1, end - line - 1);
    *is_state = !strcmp(name, "set-state");
    if (!*is_state && strcmp(name, "inject-error")) {
        error_setg(&l->err, "There is no option group '%s'", name);
        return false;
    }
    return true;
}

/* name = "value": into the group. */
static bool parse_member(Load *l, const char *line, json_object *group, bool is_state)
{
    static const char *const numbers[] = {
        "state", "new_state", "errno", "sector", "after", "delay-ns",
    };
    static const char *const error_names[] = {
        "event", "state", "iotype", "errno", "sector", "once", "immediately", "after", "delay-ns",
        NULL,
    };
    static const char *const state_names[] = { "event", "state", "new_state", NULL };
    g_autofree char *name = NULL, *value = NULL;
    const char *equals = strchr(line, '=');
    const char *open = equals ? strchr(equals, '"') : NULL;
    const char *close = open ? strchr(open + 1, '"') : NULL;

    if (!group) {
        error_setg(&l->err, "no group defined");
        return false;
    }
    if (!close) {
        error_setg(&l->err, "parse error");
        return false;
    }
    name = g_strstrip(g_strndup(line, equals - line));
    value = g_strndup(open + 1, close - open - 1);
    if (!g_strv_contains(is_state ? state_names : error_names, name)) {
        error_setg(&l->err, "Invalid parameter '%s'", name);
        return false;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(numbers); i++) {
        int64_t number;

        if (!strcmp(name, numbers[i]) &&
            !g_ascii_string_to_signed(value, 10, INT64_MIN, INT64_MAX, &number, NULL)) {
            error_setg(&l->err, "Parameter '%s' expects a number", name);
            return false;
        }
    }
    if ((!strcmp(name, "event") &&
         qapi_enum_parse(&BlkdebugEvent_lookup, value, -1, NULL) < 0) ||
        (!strcmp(name, "iotype") &&
         qapi_enum_parse(&BlkdebugIOType_lookup, value, -1, NULL) < 0)) {
        error_setg(&l->err, "invalid parameter value: %s", value);
        return false;
    }
    json_object_object_add(group, name, json_object_new_string(value));
    return true;
}

static bool parse(Load *l)
{
    g_auto(GStrv) lines = g_strsplit(l->text, "\n", -1);
    json_object *group = NULL;
    bool is_state = false, ok = true;

    for (int i = 0; lines[i] && ok; i++) {
        const char *line = g_strstrip(lines[i]);

        if (*line == '[') {
            ok = add_group(l, group, is_state) && parse_group(l, line, &is_state);
            json_object_put(group);
            group = json_object_new_object();
        } else if (*line && *line != '#') {
            ok = parse_member(l, line, group, is_state);
        }
    }
    ok = ok && add_group(l, group, is_state);
    json_object_put(group);
    return ok;
}

bool coroutine_fn blkdebug_config_co_load(BlkdebugRules *r, const char *path, GError **errp)
{
    Load l = { .rules = r, .path = path };
    int ret = co_run_in_worker(read_worker, &l);
    bool ok = false;

    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not read blkdebug config file");
    } else {
        ok = parse(&l);
        if (!ok) {
            g_propagate_error(errp, l.err);
        }
    }
    g_free(l.text);
    return ok;
}

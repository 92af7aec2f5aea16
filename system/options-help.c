/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * "help" as an argument of an option, or in one: what kinds of things there are, and what can be
 * said of one kind.  Parameters are read from the schema, so there is no second list of them.
 * Main thread, start-up.
 */
#include <string.h>
#include "options-int.h"
#include "qom.h"

/* What "help" alone prints where there are kinds to choose from. */
static const struct {
    const char *member, *text;
} lists[] = {
    {"accel", "Accelerators supported in QEMU binary:\ntcg\n"},
    {"machine", "Supported machines are:\n"
                "none                 empty machine\n"
                "virt                 RISC-V VirtIO board (default)\n"},
    {"cpu", "max\nrv64\n"},
    {"device", QOM_DEVICES},
};

/* Those whose kinds are the values of a union's tag: what stands above them, in front of each. */
static const struct {
    const char *member, *title, *indent;
} unions[] = {
    {"chardev", "Available chardev backend types: ", "  "},
    {"netdev", "Available netdev backend types:", ""},
    {"object", "List of user creatable objects:", "  "},
};

static bool print_list(const char *member, const QapiType *type)
{
    for (size_t i = 0; i < G_N_ELEMENTS(lists); i++) {
        if (!strcmp(lists[i].member, member)) {
            g_print("%s", lists[i].text);
            return true;
        }
    }
    for (size_t i = 0; i < G_N_ELEMENTS(unions); i++) {
        if (!strcmp(unions[i].member, member)) {
            const QEnumLookup *kinds = qapi_find_member(type, type->tag_name)->type->lookup;

            g_print("%s\n", unions[i].title);
            for (int kind = 0; kind < kinds->n; kind++) {
                g_print("%s%s\n", unions[i].indent, kinds->names[kind]);
            }
            return true;
        }
    }
    return false;
}

/* --- Parameters ------------------------------------------------------------------------------- */

static gint by_text(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Takes lines. */
static void print_lines(GPtrArray *lines, const char *of)
{
    if (!lines->len) {
        g_print("There are no options for %s.\n", of);
    } else {
        g_print("%s options:\n", of);
    }
    g_ptr_array_sort(lines, by_text);
    for (guint i = 0; i < lines->len; i++) {
        g_print("  %s\n", (char *)lines->pdata[i]);
    }
    g_ptr_array_unref(lines);
}

static const char *kind_text(const QapiType *type)
{
    switch (type->kind) {
    case QAPI_KIND_BOOL:
        return "bool (on/off)";
    case QAPI_KIND_SIZE:
        return "size";
    case QAPI_KIND_NUMBER ... QAPI_KIND_UINT64:
        return "num";
    case QAPI_KIND_STR:
        return "str";
    default:
        return type->name;
    }
}

static void add_members(GPtrArray *lines, const QapiType *type)
{
    for (int i = 0; type && i < type->n_members; i++) {
        g_ptr_array_add(lines, g_strdup_printf("%s=<%s>", type->members[i].name,
                                               kind_text(type->members[i].type)));
    }
}

static void add_property(GPtrArray *lines, const QomType *type, const char *name)
{
    g_autofree char *left = NULL, *initial = NULL;
    const QomProperty *more;
    const char *of_type, *text;

    if (!qom_type_find_property(type, name, &of_type, &more)) {
        return;
    }
    text = more ? more->description : NULL;
    text = !text && !strcmp(of_type, "bool") ? "on/off" : text;
    left = g_strdup_printf("%s=<%s>", name, of_type);
    initial = more && more->initial ? g_strdup_printf(" (default: %s)", more->initial) : g_strdup("");
    g_ptr_array_add(lines, text || *initial
                               ? g_strdup_printf("%-22s - %s%s", left, text ? text : "", initial)
                               : g_steal_pointer(&left));
}

static void print_properties(const QomType *type)
{
    GPtrArray *lines = g_ptr_array_new_with_free_func(g_free);

    for (const QomType *t = type; t; t = t->parent ? qom_type(t->parent) : NULL) {
        for (int i = 0; t->options && i < t->options->n_members; i++) {
            add_property(lines, type, t->options->members[i].name);
        }
    }
    print_lines(lines, type->name);
}

/* NULL if there is no such branch. */
static const QapiType *branch_of(const QapiType *type, const char *kind)
{
    const QapiMember *tag = qapi_find_member(type, type->tag_name);
    int value = qapi_enum_parse(tag->type->lookup, kind, -1, NULL);

    return value < 0 ? NULL : type->branches[value] ? type->branches[value] : &qapi_type_empty;
}

/* Of a kind of thing; false if there is none of that name: the option itself says so. */
static bool print_kind(const char *member, const QapiType *type, const char *kind)
{
    bool machine = !strcmp(member, "machine");
    g_autofree char *name = g_strconcat(kind, machine ? "-machine" : "", NULL);
    const QomType *qom = machine || !strcmp(member, "device") || !strcmp(member, "object")
                             ? qom_type(name) : NULL;
    const QapiType *branch = type->branches ? branch_of(type, kind) : NULL;
    GPtrArray *lines;

    if (qom && (machine || branch)) {
        print_properties(qom);
        return true;
    }
    if (!branch) {
        return false;
    }
    lines = g_ptr_array_new_with_free_func(g_free);
    add_members(lines, type);
    add_members(lines, branch);
    print_lines(lines, kind);
    return true;
}

/* --- The argument ------------------------------------------------------------------------------- */

static bool is_help(const char *item)
{
    return !strcmp(item, "help") || !strcmp(item, "?");
}

/* What a first item without '=' says, or key=; NULL if nothing does. */
static const char *kind_in(char **items, const char *key)
{
    size_t len = key ? strlen(key) : 0;

    if (items[0] && !strchr(items[0], '=')) {
        return is_help(items[0]) ? NULL : items[0];
    }
    for (; key && *items; items++) {
        if (g_str_has_prefix(*items, key) && (*items)[len] == '=') {
            return *items + len + 1;
        }
    }
    return NULL;
}

static bool asks(char **items)
{
    for (; *items; items++) {
        if (is_help(*items)) {
            return true;
        }
    }
    return false;
}

/* Whether a first value without '=' can be any text, "help" too: a name. */
static bool first_is_text(const QapiType *type, const char *key)
{
    const QapiMember *m = key ? qapi_find_member(type, key) : NULL;

    return m && m->type->kind == QAPI_KIND_STR;
}

bool option_print_help(const char *member, const QapiType *type, const char *key, const char *arg)
{
    g_auto(GStrv) items = g_strsplit(arg, ",", -1);
    GPtrArray *lines;
    const char *kind;

    if (!asks(items) || *arg == '{') {
        return false;
    }
    kind = type->branches || !strcmp(member, "machine")
               ? kind_in(items, key ? key : type->tag_name) : NULL;
    if (kind) {
        return print_kind(member, type, kind);
    }
    if (is_help(items[0]) && print_list(member, type)) {
        return true;
    }
    if (type->branches || (is_help(items[0]) && first_is_text(type, key))) {
        return false;
    }
    lines = g_ptr_array_new_with_free_func(g_free);
    add_members(lines, type);
    print_lines(lines, member);
    return true;
}

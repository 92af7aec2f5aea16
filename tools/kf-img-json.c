/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * JSON on standard output as qemu-img prints it: four spaces per level, and the members of
 * an object in the order in which its scripts' golden files have them.
 */
#include <stdio.h>
#include <string.h>
#include <json-c/json.h>
#include "kf-img-int.h"

static const char *const order[] = {
    "flags", "icount", "vm-clock-nsec", "name", "date-sec", "date-nsec", "vm-clock-sec", "id",
    "vm-state-size", "type", "data", "cid", "parent-cid", "create-type", "extents", "compressed",
    "compat", "compression-type", "lazy-refcounts", "bitmaps",
    "refcount-bits", "data-file", "data-file-raw", "corrupt", "extended-l2", "snapshots", "image-end-offset",
    "compressed-clusters", "backing-filename-format", "virtual-size", "total-clusters",
    "corruptions-fixed", "corruptions", "check-errors", "leaks-fixed", "leaks",
    "allocated-clusters", "filename", "cluster-size", "format", "fragmented-clusters",
    "actual-size", "format-specific", "bitmaps", "required", "fully-allocated", "full-backing-filename", "backing-filename", "dirty-flag",
};

static size_t rank_of(const char *name)
{
    size_t i = 0;

    while (i < G_N_ELEMENTS(order) && strcmp(order[i], name)) {
        i++;
    }
    return i;
}

static int by_rank(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;
    size_t rx = rank_of(*x), ry = rank_of(*y);

    return rx != ry ? (rx < ry ? -1 : 1) : strcmp(*x, *y);
}

static void indent(int depth)
{
    printf("%*s", depth * 4, "");
}

static void print_value(json_object *v, int depth);

static void print_object(json_object *v, int depth)
{
    GPtrArray *names = g_ptr_array_new();

    json_object_object_foreach(v, name, value) {
        (void)value;
        g_ptr_array_add(names, name);
    }
    g_ptr_array_sort(names, by_rank);
    printf("{\n");
    for (guint i = 0; i < names->len; i++) {
        indent(depth + 1);
        printf("\"%s\": ", (char *)names->pdata[i]);
        print_value(json_object_object_get(v, names->pdata[i]), depth + 1);
        printf("%s\n", i + 1 < names->len ? "," : "");
    }
    indent(depth);
    printf("}");
    g_ptr_array_free(names, true);
}

static void print_array(json_object *v, int depth)
{
    size_t n = json_object_array_length(v);

    printf("[\n");
    for (size_t i = 0; i < n; i++) {
        indent(depth + 1);
        print_value(json_object_array_get_idx(v, i), depth + 1);
        printf("%s\n", i + 1 < n ? "," : "");
    }
    indent(depth);
    printf("]");
}

static void print_value(json_object *v, int depth)
{
    if (json_object_is_type(v, json_type_object)) {
        print_object(v, depth);
    } else if (json_object_is_type(v, json_type_array)) {
        print_array(v, depth);
    } else {
        printf("%s", json_object_to_json_string_ext(v, JSON_C_TO_STRING_PLAIN |
                                                           JSON_C_TO_STRING_NOSLASHESCAPE));
    }
}

void img_print_json(json_object *json)
{
    print_value(json, 0);
    printf("\n");
    json_object_put(json);
}

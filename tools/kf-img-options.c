/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Creation options of the formats, "-o name=value,...": the table of them, checking, and
 * the list for -o help.  Drivers check values again as they use them.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "kf-img-options.h"
#include "qapi/error.h"
#include "qapi/keyval.h"

/*
 * In the order in which "Formatting ..." shows them.  Those without help are known by name, so
 * that the driver can say that it does not support them.
 */
const ImgOption img_option_table[] = {
    { "qcow2", "encryption", IMG_OPTION_BOOL, NULL, NULL },
    { "qcow2", "encrypt.format", IMG_OPTION_STRING, NULL, NULL },
    { "qcow2", "encrypt.key-secret", IMG_OPTION_STRING, NULL, NULL },
    { "qcow2", "encrypt.cipher-alg", IMG_OPTION_STRING, NULL, NULL },
    { "qcow2", "encrypt.cipher-mode", IMG_OPTION_STRING, NULL, NULL },
    { "qcow2", "encrypt.ivgen-alg", IMG_OPTION_STRING, NULL, NULL },
    { "qcow2", "encrypt.ivgen-hash-alg", IMG_OPTION_STRING, NULL, NULL },
    { "qcow2", "encrypt.hash-alg", IMG_OPTION_STRING, NULL, NULL },
    { "qcow2", "encrypt.iter-time", IMG_OPTION_NUMBER, NULL, NULL },
    { "qcow2", "cluster_size", IMG_OPTION_SIZE, "65536", "qcow2 cluster size" },
    { "qcow2", "extended_l2", IMG_OPTION_BOOL, "off", "Extended L2 tables" },
    { "qcow2", "preallocation", IMG_OPTION_STRING, NULL,
      "Preallocation mode (allowed values: off, metadata, falloc, full)" },
    { "qcow2", "compression_type", IMG_OPTION_STRING, "zlib",
      "Compression method used for image cluster compression" },
    { NULL, "size", IMG_OPTION_SIZE, NULL, "Virtual disk size" },
    { "qcow2", "compat", IMG_OPTION_STRING, NULL,
      "Compatibility level (v2 [0.10] or v3 [1.1])" },
    { "qcow2", "backing_file", IMG_OPTION_STRING, NULL, "File name of a base image" },
    { "qcow2", "backing_fmt", IMG_OPTION_STRING, NULL, "Image format of the base image" },
    { "qcow2", "data_file", IMG_OPTION_STRING, NULL, "File name of an external data file" },
    { "qcow2", "data_file_raw", IMG_OPTION_BOOL, NULL,
      "The external data file must stay valid as a raw image" },
    { "qcow2", "lazy_refcounts", IMG_OPTION_BOOL, "off", "Postpone refcount updates" },
    { "qcow2", "refcount_bits", IMG_OPTION_NUMBER, "16",
      "Width of a reference count entry in bits" },
    { "file", "nocow", IMG_OPTION_BOOL, NULL, "Turn off copy-on-write (valid only on btrfs)" },
    { "file", "preallocation", IMG_OPTION_STRING, NULL,
      "Preallocation mode (allowed values: off, falloc, full)" },
    { "file", "extent_size_hint", IMG_OPTION_SIZE, NULL,
      "Extent size hint for the image file, 0 to disable" },
    { 0 },
};

GHashTable *img_options_new(void)
{
    return g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
}

bool img_parse_options(const char *text, GHashTable *options)
{
    const char *p = text;
    size_t commas = 0;

    for (size_t i = strlen(text); i && text[i - 1] == ','; i--) {
        commas++; /* at the end: two stand for one in the value */
    }
    if (!*text || *text == ',' || commas % 2) {
        img_error("Invalid option list: %s", text);
        return false;
    }
    while (*p) {
        size_t name_len = strcspn(p, "=,");
        char *name = g_strndup(p, name_len);
        char *value;

        p += name_len;
        if (*p == '=') {
            p++;
            value = keyval_take_value(&p);
        } else {
            bool off = g_str_has_prefix(name, "no");

            value = g_strdup(off ? "off" : "on");
            if (off) {
                memmove(name, name + 2, name_len - 1);
            }
            p += *p == ',';
        }
        g_hash_table_replace(options, name, value);
    }
    return true;
}

/* Whether the option is the format's, not its file's. */
static bool is_own(const ImgOption *o, const BlockDriver *drv)
{
    return !o->driver || !strcmp(o->driver, drv->name);
}

/* A format's own option hides the file's of that name. */
static bool is_hidden(const ImgOption *o, const BlockDriver *drv)
{
    for (const ImgOption *own = img_option_table; own->name; own++) {
        if (is_own(own, drv) && !strcmp(own->name, o->name)) {
            return true;
        }
    }
    return false;
}

bool img_option_applies(const ImgOption *o, const BlockDriver *drv)
{
    return is_own(o, drv) || (!strcmp(o->driver, "file") && !is_hidden(o, drv));
}

static const ImgOption *find_option(const BlockDriver *drv, bool of_file, const char *name)
{
    for (const ImgOption *o = img_option_table; o->name; o++) {
        if (!strcmp(o->name, name) && (of_file ? img_option_applies(o, drv) : is_own(o, drv))) {
            return o;
        }
    }
    return NULL;
}

/* The value in its plain form, or NULL and errp. */
static char *normalise(const ImgOption *o, const char *value, GError **errp)
{
    uint64_t number;
    bool on;

    switch (o->type) {
    case IMG_OPTION_SIZE:
        if (qapi_parse_size(value, &number)) {
            return g_strdup_printf("%" PRIu64, number);
        }
        error_setg(errp, "Parameter '%s' expects a non-negative number below 2^64\n"
                   "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n"
                   "and exabytes, respectively.", o->name);
        return NULL;
    case IMG_OPTION_NUMBER:
        if (g_ascii_string_to_unsigned(value, 10, 0, G_MAXUINT64, &number, NULL)) {
            return g_strdup_printf("%" PRIu64, number);
        }
        error_setg(errp, "Parameter '%s' expects a number", o->name);
        return NULL;
    case IMG_OPTION_BOOL:
        if (qapi_parse_bool(value, &on)) {
            return g_strdup(on ? "on" : "off");
        }
        error_setg(errp, "Parameter '%s' expects 'on' or 'off'", o->name);
        return NULL;
    default:
        return g_strdup(value);
    }
}

bool img_check_options(const BlockDriver *drv, bool of_file, GHashTable *options, GError **errp)
{
    GHashTableIter iter;
    gpointer name, value;

    g_hash_table_iter_init(&iter, options);
    while (g_hash_table_iter_next(&iter, &name, &value)) {
        const ImgOption *o = find_option(drv, of_file, name);
        char *plain;

        if (!o) {
            error_setg(errp, "Invalid parameter '%s'", (char *)name);
            return false;
        }
        plain = normalise(o, value, errp);
        if (!plain) {
            return false;
        }
        g_hash_table_iter_replace(&iter, plain);
    }
    return true;
}

GHashTable *img_driver_options(GHashTable *options)
{
    static const char *const common[] = { "size", "backing_file", "backing_fmt" };
    GHashTable *own = img_options_new();
    GHashTableIter iter;
    gpointer name, value;

    g_hash_table_iter_init(&iter, options);
    while (g_hash_table_iter_next(&iter, &name, &value)) {
        bool is_common = false;

        for (size_t i = 0; i < G_N_ELEMENTS(common); i++) {
            is_common |= !strcmp(name, common[i]);
        }
        if (!is_common) {
            g_hash_table_insert(own, g_strdup(name), g_strdup(value));
        }
    }
    return own;
}

static int by_name(const void *a, const void *b)
{
    const ImgOption *const *x = a, *const *y = b;

    return strcmp((*x)->name, (*y)->name);
}

/* The options in list, which is freed. */
static void print_list(GPtrArray *list)
{
    static const char *const types[] = { "str", "size", "num", "bool (on/off)" };

    g_ptr_array_sort(list, by_name);
    for (guint i = 0; i < list->len; i++) {
        const ImgOption *o = list->pdata[i];
        g_autofree char *left = g_strdup_printf("%s=<%s>", o->name, types[o->type]);

        printf("  %-22s - %s\n", left, o->help);
    }
    g_ptr_array_free(list, true);
}

void img_print_amend_options(const BlockDriver *drv)
{
    static const char *const fixed[] = { "cluster_size", "extended_l2", "preallocation",
                                         "compression_type", NULL };
    GPtrArray *list = g_ptr_array_new();

    for (const ImgOption *o = img_option_table; o->name; o++) {
        if (o->help && is_own(o, drv) && !g_strv_contains(fixed, o->name)) {
            g_ptr_array_add(list, (gpointer)o);
        }
    }
    printf("Amend options for '%s':\n", drv->name);
    print_list(list);
}

void img_print_options(const BlockDriver *drv, bool have_file)
{
    GPtrArray *list = g_ptr_array_new();

    for (const ImgOption *o = img_option_table; o->name; o++) {
        if (o->help && img_option_applies(o, drv) &&
            (have_file || !o->driver || strcmp(o->driver, "file"))) {
            g_ptr_array_add(list, (gpointer)o);
        }
    }
    if (have_file) {
        printf("Supported options:\n");
    } else {
        printf("Supported %s options:\n", drv->name);
    }
    print_list(list);
    if (!have_file) {
        printf("\nThe protocol level may support further options.\n"
               "Specify the target filename to include those options.\n");
    }
}

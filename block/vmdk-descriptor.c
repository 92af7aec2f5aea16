/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The descriptor of a VMDK disk ("The Descriptor File"): lines "key=value", lines about extents
 * ("RW 4192256 SPARSE "disk-s001.vmdk""), and comments.  What is not needed for reading the
 * disk is passed over.  Any thread.
 */
#include <stdio.h>
#include "qapi/error.h"
#include "vmdk.h"

void vmdk_descriptor_clear(VmdkDescriptor *d)
{
    g_free(d->create_type);
    g_free(d->parent);
    g_free(d->extent_type);
    g_free(d->extent_file);
    *d = (VmdkDescriptor){ 0 };
}

/* A comment, or nothing. */
static bool says_nothing(const char *line, size_t n)
{
    size_t i = 0;

    while (i < n && line[i] == ' ') {
        i++;
    }
    return i == n || *line == '#';
}

bool vmdk_is_descriptor(const char *buf, size_t len)
{
    const char *end = buf + len;

    while (buf < end) {
        const char *newline = memchr(buf, '\n', end - buf);
        size_t n = (newline ? newline : end) - buf;

        if (n && buf[n - 1] == '\r') {
            n--;
        }
        if (n == 9 && !memcmp(buf, "version=", 8) && buf[8] >= '1' && buf[8] <= '3') {
            return true;
        }
        if (!newline || !says_nothing(buf, n)) {
            return false;
        }
        buf = newline + 1;
    }
    return false;
}

static bool parse_number(const char *text, int base, uint64_t max, uint64_t *value)
{
    char *end;

    if (!g_ascii_isalnum(*text)) {
        return false;
    }
    errno = 0;
    *value = g_ascii_strtoull(text, &end, base);
    return errno == 0 && *value <= max && (!*end || g_ascii_isspace(*end));
}

/* A value without the quotes around it, if there are any. */
static char *unquote(const char *value)
{
    size_t n = strlen(value);

    return n >= 2 && *value == '"' && value[n - 1] == '"' ? g_strndup(value + 1, n - 2)
                                                         : g_strdup(value);
}

static void set_string(char **slot, const char *value)
{
    if (!*slot) {
        *slot = unquote(value);
    }
}

static bool take_value(VmdkDescriptor *d, char *key, char *value, bool *has_parent, GError **errp)
{
    uint64_t number;

    g_strstrip(key);
    g_strstrip(value);
    if (!g_ascii_strcasecmp(key, "createType")) {
        set_string(&d->create_type, value);
    } else if (!g_ascii_strcasecmp(key, "parentFileNameHint")) {
        set_string(&d->parent, value);
    } else if (!g_ascii_strcasecmp(key, "CID") || !g_ascii_strcasecmp(key, "parentCID")) {
        bool is_parent = g_ascii_tolower(*key) == 'p';

        if (!parse_number(value, 16, UINT32_MAX, &number)) {
            error_setg(errp, "Invalid %s in the VMDK descriptor", is_parent ? "parentCID" : "CID");
            return false;
        }
        *(is_parent ? &d->parent_cid : &d->cid) = number;
        *has_parent |= is_parent;
    }
    return true;
}

/* ACCESS SECTORS TYPE ["FILE" [START]] */
static bool take_extent(VmdkDescriptor *d, const char *line, GError **errp)
{
    const char *open = strchr(line, '"'), *close = open ? strchr(open + 1, '"') : NULL;
    g_autofree char *head = g_strndup(line, open ? (size_t)(open - line) : strlen(line));
    g_autofree char *start = NULL;
    char sectors[21], type[17], more;

    if (d->extents++) {
        return true;
    }
    if (sscanf(head, "%*s %20s %16s %c", sectors, type, &more) != 2 || (open && !close) ||
        !parse_number(sectors, 10, INT64_MAX / VMDK_SECTOR, &d->extent_sectors)) {
        error_setg(errp, "Invalid extent line in the VMDK descriptor: %.80s", line);
        return false;
    }
    d->extent_type = g_strdup(type);
    if (close) {
        d->extent_file = g_strndup(open + 1, close - open - 1);
        start = g_strstrip(g_strdup(close + 1));
        if (*start && !parse_number(start, 10, INT64_MAX / VMDK_SECTOR, &d->extent_start)) {
            error_setg(errp, "Invalid extent line in the VMDK descriptor: %.80s", line);
            return false;
        }
    }
    return true;
}

static bool is_extent(const char *line)
{
    static const char *const access[] = { "RW", "RDONLY", "NOACCESS" };

    for (size_t i = 0; i < G_N_ELEMENTS(access); i++) {
        if (g_str_has_prefix(line, access[i])) {
            return g_ascii_isspace(line[strlen(access[i])]);
        }
    }
    return false;
}

static bool take_line(VmdkDescriptor *d, char *line, bool *has_parent, GError **errp)
{
    char *equals;

    g_strstrip(line); /* moves it */
    equals = strchr(line, '=');
    if (*line == '#') {
        return true;
    }
    if (is_extent(line)) {
        return take_extent(d, line, errp);
    }
    if (!equals) {
        return true;
    }
    *equals = '\0';
    return take_value(d, line, equals + 1, has_parent, errp);
}

bool vmdk_descriptor_parse(VmdkDescriptor *d, const char *text, size_t len, GError **errp)
{
    g_autofree char *copy = g_strndup(text, len);
    bool has_parent = false;

    d->cid = d->parent_cid = VMDK_NO_PARENT;
    for (char *line = copy, *next; line; line = next) {
        next = strchr(line, '\n');
        if (next) {
            *next++ = '\0';
        }
        if (!take_line(d, line, &has_parent, errp)) {
            return false;
        }
    }
    if (!has_parent || !d->create_type) {
        error_setg(errp, "The VMDK descriptor has no %s", has_parent ? "createType" : "parentCID");
        return false;
    }
    return true;
}

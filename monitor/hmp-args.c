/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The parser for the args_type mini language of HMP commands.  Any thread. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "monitor/hmp-args.h"

#define MIB (1024 * 1024)

typedef struct HMPArg {
    char *name;
    char *str;
    int64_t number; /* of a format: whether it has a count */
    HMPFormat format;
} HMPArg;

struct HMPArgs {
    GArray *list; /* of HMPArg: those that were given */
};

static void arg_clear(gpointer data)
{
    HMPArg *arg = data;

    g_free(arg->name);
    g_free(arg->str);
}

void hmp_args_free(HMPArgs *args)
{
    g_array_unref(args->list);
    g_free(args);
}

static const HMPArg *find_arg(const HMPArgs *args, const char *name)
{
    for (guint i = 0; i < args->list->len; i++) {
        const HMPArg *arg = &g_array_index(args->list, HMPArg, i);

        if (!strcmp(arg->name, name)) {
            return arg;
        }
    }
    return NULL;
}

const char *hmp_arg_str(const HMPArgs *args, const char *name)
{
    const HMPArg *arg = find_arg(args, name);

    return arg ? arg->str : NULL;
}

int64_t hmp_arg_int(const HMPArgs *args, const char *name, int64_t fallback)
{
    const HMPArg *arg = find_arg(args, name);

    return arg ? arg->number : fallback;
}

bool hmp_arg_flag(const HMPArgs *args, const char *name)
{
    const HMPArg *arg = find_arg(args, name);

    return arg && arg->number;
}

bool hmp_arg_given(const HMPArgs *args, const char *name)
{
    return find_arg(args, name) != NULL;
}

HMPFormat hmp_arg_format(const HMPArgs *args, const char *name)
{
    const HMPArg *arg = find_arg(args, name);

    return arg ? arg->format : (HMPFormat){0};
}

static void add_arg(HMPArgs *args, const char *name, char *str, int64_t number)
{
    HMPArg arg = {g_strdup(name), str, number, {0}};

    g_array_append_val(args->list, arg);
}

static void skip_blanks(const char **p)
{
    while (g_ascii_isspace(**p)) {
        (*p)++;
    }
}

/* A word, or text in double quotes with \n \r \\ \' \".  NULL if there is none. */
static char *take_string(const char **p)
{
    static const char from[] = "nr\\'\"", to[] = "\n\r\\'\"";
    GString *s;

    skip_blanks(p);
    if (!**p) {
        return NULL;
    }
    s = g_string_new(NULL);
    if (**p != '"') {
        while (**p && !g_ascii_isspace(**p)) {
            g_string_append_c(s, *(*p)++);
        }
        return g_string_free(s, false);
    }
    for ((*p)++; **p && **p != '"'; (*p)++) {
        if (**p == '\\') {
            const char *hit = (*p)[1] ? strchr(from, (*p)[1]) : NULL;

            if (!hit) {
                break;
            }
            (*p)++;
            g_string_append_c(s, to[hit - from]);
        } else {
            g_string_append_c(s, **p);
        }
    }
    if (**p != '"') {
        g_string_free(s, true);
        return NULL;
    }
    (*p)++;
    return g_string_free(s, false);
}

/* A number with an optional fraction and suffix; MiB without one. */
static bool take_size(const char **p, int64_t *value)
{
    static const char suffixes[] = "bkmgtpe";
    const char *hit;
    double n, unit = MIB;
    char *end;

    skip_blanks(p);
    if (!g_ascii_isdigit(**p)) {
        return false;
    }
    n = g_ascii_strtod(*p, &end);
    hit = *end ? strchr(suffixes, g_ascii_tolower(*end)) : NULL;
    if (hit) {
        unit = ldexp(1, 10 * (hit - suffixes));
        end++;
    }
    if (n * unit >= 0x1p63) {
        return false;
    }
    *p = end;
    *value = n * unit;
    return true;
}

static bool take_on_off(const char **p, int64_t *value, char **message)
{
    g_autofree char *word = take_string(p);

    if (g_strcmp0(word, "on") && g_strcmp0(word, "off")) {
        *message = g_strdup("Expected 'on' or 'off'");
        return false;
    }
    *value = !strcmp(word, "on");
    return true;
}

/* "/4xw": a count, letters for the form and for the size, in any order. */
static bool take_format(HMPArgs *args, const char *name, const char **p, char **message)
{
    HMPArg arg = {.name = (char *)name};

    skip_blanks(p);
    if (**p != '/') {
        return true;
    }
    (*p)++;
    for (; g_ascii_isdigit(**p); (*p)++) {
        arg.format.count = MIN(arg.format.count * 10 + (**p - '0'), INT32_MAX);
        arg.number = 1;
    }
    if (!arg.number) {
        arg.format.count = 1;
    }
    for (; **p && !g_ascii_isspace(**p); (*p)++) {
        static const char sizes[] = "bhwg";
        const char *size = strchr(sizes, **p);

        if (size) {
            arg.format.size = 1 << (size - sizes);
        } else if (strchr("xduoci", **p)) {
            arg.format.format = **p;
        } else {
            *message = g_strdup_printf("invalid char in format: '%c'", **p);
            return false;
        }
    }
    arg.name = g_strdup(name);
    g_array_append_val(args->list, arg);
    return true;
}

/* One argument that is not a flag. */
static bool take_arg(HMPArgs *args, const char *command, const char *name, char type,
                     const char **p, char **message)
{
    int64_t number = 0;
    char *str;

    switch (type) {
    case 's':
    case 'F':
    case 'B':
        str = take_string(p);
        if (!str) {
            *message = g_strdup_printf("%s: %s expected", command,
                                       type == 's'   ? "string"
                                       : type == 'F' ? "filename"
                                                     : "block device name");
            return false;
        }
        add_arg(args, name, str, 0);
        return true;
    case 'S':
        str = g_strchomp(g_strdup(*p));
        *p += strlen(*p);
        if (!*str) {
            g_free(str);
            *message = g_strdup_printf("%s: string expected", command);
            return false;
        }
        add_arg(args, name, str, 0);
        return true;
    case 'i':
    case 'l':
        if (!hmp_expr_parse(p, &number, message)) {
            return false;
        }
        if (type == 'i' && (number < INT32_MIN || number > UINT32_MAX)) {
            *message = g_strdup_printf("'%s' has failed: integer is for 32-bit values", command);
            return false;
        }
        break;
    case 'o':
        if (!take_size(p, &number)) {
            *message = g_strdup("invalid size");
            return false;
        }
        break;
    case 'b':
        if (!take_on_off(p, &number, message)) {
            return false;
        }
        break;
    default:
        g_assert_not_reached();
    }
    add_arg(args, name, NULL, number);
    return true;
}

typedef struct FlagSpec {
    char letter;
    const char *name;
} FlagSpec;

/* "-d -f" or "-df", in any order; flags are those in front of the other arguments. */
static bool take_flags(HMPArgs *args, const char *command, const FlagSpec *flags, int n,
                       const char **p, char **message)
{
    for (;;) {
        skip_blanks(p);
        if (**p != '-') {
            return true;
        }
        (*p)++;
        do {
            int i = 0;

            while (i < n && flags[i].letter != **p) {
                i++;
            }
            if (!**p || i == n) {
                *message = g_strdup_printf("%s: unsupported option -%.*s", command, !!**p, *p);
                return false;
            }
            add_arg(args, flags[i].name, NULL, 1);
            (*p)++;
        } while (**p && !g_ascii_isspace(**p));
    }
}

static bool parse_all(HMPArgs *args, const char *command, char **specs, const char *p,
                      char **message)
{
    FlagSpec flags[16];
    int n_flags = 0;

    for (; *specs; specs++) {
        char *colon = strchr(*specs, ':');

        g_assert(colon);
        *colon = 0;
        if (colon[1] == '-') {
            g_assert(n_flags < (int)G_N_ELEMENTS(flags));
            flags[n_flags++] = (FlagSpec){colon[2], *specs};
            if (specs[1]) {
                continue;
            }
        }
        if (n_flags) {
            if (!take_flags(args, command, flags, n_flags, &p, message)) {
                return false;
            }
            n_flags = 0;
        }
        if (colon[1] == '-') {
            break;
        }
        skip_blanks(&p);
        if (colon[1] == '/') {
            if (!take_format(args, *specs, &p, message)) {
                return false;
            }
            continue;
        }
        if (!*p && colon[2] == '?') {
            continue;
        }
        if (!take_arg(args, command, *specs, colon[1], &p, message)) {
            return false;
        }
    }
    skip_blanks(&p);
    if (*p) {
        *message = g_strdup_printf("%s: extraneous characters at the end of line", command);
        return false;
    }
    return true;
}

HMPArgs *hmp_args_parse(const char *name, const char *args_type, const char *text,
                        char **message)
{
    g_auto(GStrv) specs = g_strsplit(args_type ? args_type : "", ",", -1);
    HMPArgs *args = g_new0(HMPArgs, 1);

    args->list = g_array_new(false, false, sizeof(HMPArg));
    g_array_set_clear_func(args->list, arg_clear);
    *message = NULL;
    if (!parse_all(args, name, specs, text, message)) {
        hmp_args_free(args);
        return NULL;
    }
    return args;
}

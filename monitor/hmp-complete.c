/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Completion of an HMP line: names of commands, behind "help" and "info" too, and arguments
 * as the command offers them.  In the coroutine of the session; what may wait, such as a
 * directory, is read by a worker.
 */
#include <dirent.h>
#include <string.h>
#include <sys/stat.h>

#include "monitor/monitor-int.h"

struct HMPCompletion {
    GPtrArray *args; /* char *, in front of the word, without flags */
    const char *word;
    GPtrArray *found;
};

void hmp_complete_add(HMPCompletion *c, const char *word)
{
    if (g_str_has_prefix(word, c->word)) {
        g_ptr_array_add(c->found, g_strdup(word));
    }
}

const char *hmp_complete_word(const HMPCompletion *c)
{
    return c->word;
}

const char *hmp_complete_arg(const HMPCompletion *c, int n)
{
    return n >= 0 && n < (int)c->args->len ? c->args->pdata[n] : NULL;
}

/* --- Commands -------------------------------------------------------------------------- */

typedef struct Names {
    HMPCompletion *c;
    bool info;
} Names;

static void add_names(const HMPCommand *cmd, void *opaque)
{
    Names *n = opaque;
    const char *blank = strchr(cmd->name, ' ');
    g_auto(GStrv) names = NULL;

    if (!!blank != n->info) {
        return;
    }
    names = g_strsplit(blank ? blank + 1 : cmd->name, "|", -1);
    for (char **name = names; *name; name++) {
        hmp_complete_add(n->c, *name);
    }
}

/* --- Files ----------------------------------------------------------------------------- */

/* Worker. */
static int list_files(void *opaque)
{
    HMPCompletion *c = opaque;
    const char *slash = strrchr(c->word, '/');
    g_autofree char *dir = slash ? g_strndup(c->word, slash - c->word + 1) : g_strdup("");
    const char *prefix = slash ? slash + 1 : c->word;
    DIR *d = opendir(*dir ? dir : ".");
    struct dirent *e;

    while (d && (e = readdir(d))) {
        g_autofree char *path = g_strconcat(dir, e->d_name, NULL);
        struct stat st;

        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..") ||
            !g_str_has_prefix(e->d_name, prefix)) {
            continue;
        }
        if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
            g_autofree char *shown = g_strconcat(path, "/", NULL);

            hmp_complete_add(c, shown);
        } else {
            hmp_complete_add(c, path);
        }
    }
    if (d) {
        closedir(d);
    }
    return 0;
}

void coroutine_fn hmp_complete_files(HMPCompletion *c)
{
    co_run_in_worker(list_files, c);
}

/* --- Arguments ------------------------------------------------------------------------- */

/* The type of argument nr, flags not counted; 0 if there is none. */
static char type_of_arg(const char *args_type, int nr)
{
    g_auto(GStrv) specs = g_strsplit(args_type ? args_type : "", ",", -1);

    for (char **spec = specs; *spec; spec++) {
        const char *colon = strchr(*spec, ':');

        if (colon && colon[1] != '-' && nr-- == 0) {
            return colon[1];
        }
    }
    return 0;
}

static void coroutine_fn complete_arg(HMPCompletion *c, const HMPCommand *cmd)
{
    int nr = c->args->len;

    if (cmd->complete) {
        cmd->complete(c, nr);
        return;
    }
    switch (type_of_arg(cmd->args_type, nr)) {
    case 'F':
        hmp_complete_files(c);
        break;
    case 'b':
        hmp_complete_add(c, "on");
        hmp_complete_add(c, "off");
        break;
    }
}

static gint compare_words(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void sort_unique(GPtrArray *words)
{
    g_ptr_array_sort(words, compare_words);
    for (guint i = 1; i < words->len;) {
        if (!strcmp(words->pdata[i - 1], words->pdata[i])) {
            g_ptr_array_remove_index(words, i);
        } else {
            i++;
        }
    }
}

GPtrArray *coroutine_fn hmp_complete_line(const char *line)
{
    HMPCompletion c = {.args = g_ptr_array_new(), .word = strrchr(line, ' '),
                       .found = g_ptr_array_new_with_free_func(g_free)};
    g_autofree char *before = NULL;
    g_auto(GStrv) words = NULL;
    const HMPCommand *cmd;
    const char *rest;
    guint at = 0, n = 0;

    c.word = c.word ? c.word + 1 : line;
    before = g_strndup(line, c.word - line);
    words = g_strsplit(before, " ", -1);
    for (guint i = 0; words[i]; i++) { /* without the empty ones between blanks */
        if (*words[i]) {
            g_ptr_array_add(c.args, words[i]);
        }
    }
    n = c.args->len;
    if (at < n && (!strcmp(c.args->pdata[at], "help") || !strcmp(c.args->pdata[at], "?"))) {
        at++;
    }
    if (at == n) {
        hmp_for_each_command(add_names, &(Names){&c, false});
    } else if (at + 1 == n && !strcmp(c.args->pdata[at], "info")) {
        hmp_for_each_command(add_names, &(Names){&c, true});
    } else if (at == 0 && (cmd = hmp_find_command(before, &rest))) {
        g_ptr_array_remove_range(c.args, 0, strchr(cmd->name, ' ') ? 2 : 1);
        while (c.args->len && *(char *)c.args->pdata[0] == '-') {
            g_ptr_array_remove_index(c.args, 0);
        }
        complete_arg(&c, cmd);
    }
    g_ptr_array_unref(c.args);
    sort_unique(c.found);
    return c.found;
}

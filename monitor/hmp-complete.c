/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Completion of an HMP line: names of commands, behind "help" and "info" too, and arguments
 * as the command offers them.  In the coroutine of the session; what may wait, such as a
 * directory, is read by a worker.  However many candidates there are, few are kept: the first
 * in order, and the last, with which it is known what all of them have in common.
 */
#include <dirent.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>

#include "monitor/monitor-int.h"

#define FOUND_MAX 256

struct HMPCompletion {
    GPtrArray *args; /* char *, in front of the word, without flags */
    const char *word;
    GPtrArray *found; /* char *, the first FOUND_MAX, sorted */
    char *last;       /* of all others the last in order */
    uint64_t more;    /* how many others there are */
    atomic_bool given_up;
};

/* The first of found that is not less than word. */
static guint place_of(const HMPCompletion *c, const char *word)
{
    guint low = 0, high = c->found->len;

    while (low < high) {
        guint middle = (low + high) / 2;

        if (strcmp(c->found->pdata[middle], word) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* Takes word. */
static void leave_out(HMPCompletion *c, char *word)
{
    c->more++;
    if (!c->last || strcmp(word, c->last) > 0) {
        g_free(c->last);
        c->last = word;
    } else {
        g_free(word);
    }
}

void hmp_complete_add(HMPCompletion *c, const char *word)
{
    guint place;

    if (!g_str_has_prefix(word, c->word)) {
        return;
    }
    place = place_of(c, word);
    if (place < c->found->len && !strcmp(c->found->pdata[place], word)) {
        return;
    }
    if (place == FOUND_MAX) {
        leave_out(c, g_strdup(word));
        return;
    }
    if (c->found->len == FOUND_MAX) {
        leave_out(c, g_ptr_array_steal_index(c->found, FOUND_MAX - 1));
    }
    g_ptr_array_insert(c->found, place, g_strdup(word));
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

static bool is_directory(const struct dirent *e, const char *path)
{
    struct stat st;

    if (e->d_type == DT_UNKNOWN || e->d_type == DT_LNK) {
        return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
    }
    return e->d_type == DT_DIR;
}

/* Worker. */
static int list_files(void *opaque)
{
    HMPCompletion *c = opaque;
    const char *slash = strrchr(c->word, '/');
    g_autofree char *dir = slash ? g_strndup(c->word, slash - c->word + 1) : g_strdup("");
    const char *prefix = slash ? slash + 1 : c->word;
    DIR *d = opendir(*dir ? dir : ".");
    struct dirent *e;

    while (d && !atomic_load(&c->given_up) && (e = readdir(d))) {
        g_autofree char *path = NULL, *shown = NULL;

        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..") ||
            !g_str_has_prefix(e->d_name, prefix)) {
            continue;
        }
        path = g_strconcat(dir, e->d_name, NULL);
        shown = is_directory(e, path) ? g_strconcat(path, "/", NULL) : g_strdup(path);
        hmp_complete_add(c, shown);
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

/* The user has typed Ctrl-C, or is gone. */
static void give_up(void *opaque)
{
    HMPCompletion *c = opaque;

    atomic_store(&c->given_up, true);
}

static void coroutine_fn complete_arg_or_give_up(HMPSession *s, HMPCompletion *c,
                                                 const HMPCommand *cmd)
{
    hmp_set_interrupt(s, give_up, c);
    s->reader = true;
    complete_arg(c, cmd);
    hmp_set_interrupt(s, NULL, NULL);
}

/* With the last one, from which readline sees what all have in common. */
static GPtrArray *result(HMPCompletion *c, uint64_t *more)
{
    if (atomic_load(&c->given_up)) {
        g_ptr_array_set_size(c->found, 0);
        g_clear_pointer(&c->last, g_free);
        c->more = 0;
    }
    if (c->last) {
        g_ptr_array_add(c->found, c->last);
        c->more--;
    }
    *more = c->more;
    return c->found;
}

GPtrArray *coroutine_fn hmp_complete_line(HMPSession *s, const char *line, uint64_t *more)
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
        complete_arg_or_give_up(s, &c, cmd);
    }
    g_ptr_array_unref(c.args);
    return result(&c, more);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The monitor's own HMP commands: help, info and what the monitor itself can tell. */
#include <string.h>

#include "config-host.h"
#include "monitor/monitor-int.h"
#include "monitor/readline.h"
#include "qapi/qapi-commands-misc.h"

typedef struct CommandList {
    bool info;
    GPtrArray *commands;
} CommandList;

static void collect(const HMPCommand *cmd, void *opaque)
{
    CommandList *list = opaque;

    if (!!strchr(cmd->name, ' ') == list->info) {
        g_ptr_array_add(list->commands, (void *)cmd);
    }
}

static gint by_name(gconstpointer a, gconstpointer b)
{
    const HMPCommand *const *x = a, *const *y = b;

    return strcmp((*x)->name, (*y)->name);
}

static void coroutine_fn print_help(HMPSession *s, const HMPCommand *cmd)
{
    const char *params = cmd->params ? cmd->params : "";

    hmp_printf(s, "%s %s -- %s\n", cmd->name, params, cmd->help);
}

static void coroutine_fn print_list(HMPSession *s, bool info)
{
    g_autoptr(GPtrArray) commands = g_ptr_array_new();
    CommandList list = {info, commands};

    hmp_for_each_command(collect, &list);
    g_ptr_array_sort(commands, by_name);
    for (guint i = 0; i < commands->len; i++) {
        print_help(s, g_ptr_array_index(commands, i));
    }
}

static void coroutine_fn hmp_help(HMPSession *s, const HMPArgs *args)
{
    const char *name = hmp_arg_str(args, "name"), *rest;
    const HMPCommand *cmd;

    if (!name) {
        print_list(s, false);
        return;
    }
    if (!strcmp(name, "info")) {
        print_list(s, true);
        return;
    }
    cmd = hmp_find_command(name, &rest);
    if (cmd) {
        print_help(s, cmd);
    } else {
        hmp_printf(s, "unknown command: '%.*s'\n", (int)(rest - name), name);
    }
}

static void coroutine_fn hmp_info(HMPSession *s, const HMPArgs *args)
{
    print_list(s, true);
}

static void coroutine_fn hmp_info_version(HMPSession *s, const HMPArgs *args)
{
    hmp_printf(s, "Keyframe %s\n", KEYFRAME_VERSION);
}

static void coroutine_fn hmp_info_history(HMPSession *s, const HMPArgs *args)
{
    const GPtrArray *history = s->readline ? readline_history(s->readline) : NULL;

    for (guint i = 0; history && i < history->len; i++) {
        hmp_printf(s, "%u: '%s'\n", i, (char *)g_ptr_array_index(history, i));
    }
}

static void coroutine_fn hmp_getfd(HMPSession *s, const HMPArgs *args)
{
    MonitorSession *peer = s->session;
    int fd = !peer ? qmp_session_take_fd() : peer->chr ? chardev_take_passed_fd(peer->chr) : -1;
    GError *err = NULL;

    monitor_name_fd(fd, hmp_arg_str(args, "fdname"), &err);
    hmp_handle_error(s, err);
}

static void coroutine_fn hmp_closefd(HMPSession *s, const HMPArgs *args)
{
    GError *err = NULL;

    qmp_closefd(hmp_arg_str(args, "fdname"), &err);
    hmp_handle_error(s, err);
}

const HMPCommand hmp_own_commands[] = {
    {"getfd", "fdname:s", "getfd name",
     "receive a file descriptor via SCM rights and assign it a name", hmp_getfd},
    {"closefd", "fdname:s", "closefd name",
     "close a file descriptor previously passed via SCM rights", hmp_closefd},
    {"help|?", "name:S?", "[cmd]", "show the help", hmp_help},
    {"info", "item:s?", "[subcommand]", "show various information about the system state",
     hmp_info},
    {"info history", "", "", "show the command line history", hmp_info_history},
    {"info version", "", "", "show the version of Keyframe", hmp_info_version},
    {0},
};

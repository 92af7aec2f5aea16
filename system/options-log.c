/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What -d, -D and -trace say.  It counts at once: the options behind them are watched, too. */
#include <string.h>
#include "options-int.h"
#include "util/log.h"
#include "util/trace-event.h"

static bool is_help(const char *arg)
{
    return !strcmp(arg, "help") || !strcmp(arg, "?");
}

bool opt_log(VmOptions *o, const char *option, const char *arg, GError **errp)
{
    if (is_help(arg)) {
        g_autofree char *help = log_items_help(false);

        g_print("%s", help);
        option_ends();
        return true;
    }
    if (!strcmp(arg, "trace:help")) {
        trace_list();
        option_ends();
        return true;
    }
    return log_set_items(arg, errp);
}

bool opt_log_file(VmOptions *o, const char *option, const char *arg, GError **errp)
{
    return log_set_file(arg, errp);
}

bool opt_qtest_log(VmOptions *o, const char *option, const char *arg, GError **errp)
{
    o->qtest_quiet = !strcmp(arg, "none");
    return o->qtest_quiet || log_set_file(arg, errp);
}

bool opt_trace(VmOptions *o, const char *option, const char *arg, GError **errp)
{
    if (is_help(arg)) {
        trace_list();
        option_ends();
        return true;
    }
    return trace_parse_option(arg, errp);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How messages on stderr begin: -msg.  Everything that the program prints there goes through
 * g_printerr(), in any thread.
 */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include "system-int.h"
#include "util/trace-event.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool with_time;
static char *guest;       /* or NULL */
static bool inside;       /* lock: what was printed last did not end its line */

static void print(const char *text)
{
    g_autoptr(GString) s = g_string_new(NULL);

    pthread_mutex_lock(&lock);
    if (!inside && with_time) {
        g_autoptr(GDateTime) now = g_date_time_new_now_utc();
        g_autofree char *day = g_date_time_format(now, "%Y-%m-%dT%H:%M:%S");

        g_string_append_printf(s, "%s.%06dZ ", day, g_date_time_get_microsecond(now));
    }
    if (!inside && guest) {
        g_string_append_printf(s, "%s ", guest);
    }
    g_string_append(s, text);
    fputs(s->str, stderr); /* as a whole: it is lost as a whole if nobody reads (util/stdio.h) */
    inside = *text && text[strlen(text) - 1] != '\n';
    pthread_mutex_unlock(&lock);
}

void messages_init(const VmOptions *o)
{
    const MessageOptions *m = o->given->msg;

    if (!m || !(m->timestamp || m->guest_name)) {
        return;
    }
    with_time = m->has_timestamp && m->timestamp;
    trace_set_timestamps(with_time);
    guest = m->has_guest_name && m->guest_name ? g_strdup(o->name) : NULL;
    g_set_printerr_handler(print);
}

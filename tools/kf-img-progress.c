/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How far a subcommand is (-p, or SIGUSR1 without it), and the limit on its speed (-r).  The
 * signal's handler only sets a flag: what it asks for is said at the next step.
 */
#include <signal.h>
#include <stdio.h>
#include "kf-img-int.h"

#define STEP 1.0 /* percent */

static bool showing;
static double last;
static volatile sig_atomic_t asked;

static void on_signal(int signum)
{
    asked = 1;
}

static void show_now(double percent)
{
    printf("    (%3.2f/100%%)\r", percent);
    fflush(stdout);
    last = percent;
}

void img_progress_begin(bool show)
{
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };

    showing = show;
    if (show) {
        show_now(0);
    } else {
        sigaction(SIGUSR1, &action, NULL);
    }
}

void img_progress(double percent)
{
    if (showing && (percent >= last + STEP || (percent >= 100 && last < 100))) {
        show_now(percent);
    } else if (!showing && asked) {
        asked = 0;
        printf("    (%3.2f/100%%)\n", percent);
        fflush(stdout);
    }
}

void img_progress_end(void)
{
    if (showing) {
        printf("\n");
    }
}

void coroutine_fn img_rate_wait(ImgRate *rate, int64_t bytes)
{
    int64_t now = clock_now_ns(), start;

    if (!rate->limit) {
        return;
    }
    start = MAX(now, rate->next_ns);
    rate->next_ns = start + (int64_t)((double)bytes * 1e9 / rate->limit);
    if (start > now) {
        co_sleep_ns(start - now);
    }
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A limit on how fast a job moves bytes.  What it has moved is a debt that time pays off at
 * the speed that is allowed; while there is a debt the job begins nothing new.  There is no
 * credit: a job that was slow for a while does not make up for it in a burst.
 */
#include "config-host.h"
#include "job-int.h"

/* Time pays.  With the rate's lock held. */
static void settle(JobRate *r, int64_t now)
{
    unsigned __int128 paid = (unsigned __int128)(now - r->since) * r->speed / 1000000000;

    if (paid >= r->debt) {
        r->debt = 0;
        r->since = now;
    } else {
        /* Only whole bytes are paid; time that is left over pays for the next one. */
        r->debt -= (uint64_t)paid;
        r->since += (int64_t)(paid * 1000000000 / r->speed);
    }
}

void job_rate_init(JobRate *r)
{
    pthread_mutex_init(&r->lock, NULL);
}

void job_rate_destroy(JobRate *r)
{
    pthread_mutex_destroy(&r->lock);
}

void job_rate_set(JobRate *r, uint64_t speed, int64_t now)
{
    pthread_mutex_lock(&r->lock);
    /* What was moved without a limit, or under another, is not held against the job. */
    r->debt = 0;
    r->since = now;
    r->speed = speed;
    pthread_mutex_unlock(&r->lock);
}

uint64_t job_rate_speed(JobRate *r)
{
    uint64_t speed;

    pthread_mutex_lock(&r->lock);
    speed = r->speed;
    pthread_mutex_unlock(&r->lock);
    return speed;
}

void job_rate_add(JobRate *r, uint64_t bytes, int64_t now)
{
    pthread_mutex_lock(&r->lock);
    if (r->speed) {
        settle(r, now);
        r->debt += bytes;
    }
    pthread_mutex_unlock(&r->lock);
}

bool job_rate_exceeded(JobRate *r, int64_t now)
{
    bool exceeded;

    pthread_mutex_lock(&r->lock);
    if (r->speed && r->debt) {
        settle(r, now);
    }
    exceeded = r->speed && r->debt;
    pthread_mutex_unlock(&r->lock);
    return exceeded;
}

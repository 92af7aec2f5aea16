/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Measures against a hazard that a self-test can switch off, to show that the hazard's test
 * would see it (docs/devel/testing.md has the list).  Only in a build of its own, the test
 * program kf-system-breakable: in every other one the question is answered when it is
 * compiled, and nothing of it remains.
 */
#ifndef UTIL_COUNTERMEASURE_H
#define UTIL_COUNTERMEASURE_H

#include <stdbool.h>

#ifdef KEYFRAME_BREAKABLE
#include <stdlib.h>
#include <string.h>
/* Whether KEYFRAME_BREAK names it.  Any thread. */
static inline bool countermeasure_off(const char *name)
{
    const char *off = getenv("KEYFRAME_BREAK");

    return off && !strcmp(off, name);
}
#else
static inline bool countermeasure_off(const char *name)
{
    return false;
}
#endif

#endif

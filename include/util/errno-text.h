/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UTIL_ERRNO_TEXT_H
#define UTIL_ERRNO_TEXT_H

#include <string.h>

/*
 * What an errno value says, in English.  A constant: any thread, nothing is cached or locked (the
 * locks in g_strerror() are ones that TSan cannot see).
 */
static inline const char *errno_text(int errnum)
{
    const char *text = strerrordesc_np(errnum);

    return text ? text : "Unknown error";
}

#endif

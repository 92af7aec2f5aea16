/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The policy for what the schema calls deprecated or unstable.  Set at start-up, before other
 * threads use it; the other functions in any thread.
 */
#ifndef QAPI_COMPAT_H
#define QAPI_COMPAT_H

#include <glib.h>
#include <stdbool.h>
#include "qapi/builtin-types.h"
#include "qapi/error.h"
#include "qapi/qapi-types-compat.h"

/* What is left out of policy is accepted. */
void qapi_set_compat_policy(const CompatPolicy *policy);
/*
 * Whether a client may use what has the QapiSpecial flags of special; kind and name are for
 * the message, cls is its class.
 */
bool qapi_compat_may_use(unsigned special, const char *kind, const char *name,
                         QapiErrorClass cls, GError **errp);
/* Whether a client is not to see it. */
bool qapi_compat_hides(unsigned special);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The compatibility policy: include/qapi/compat.h. */
#include <stdlib.h>
#include "config-host.h"
#include "qapi/compat.h"

static CompatPolicyInput deprecated_input, unstable_input;
static unsigned hidden; /* QapiSpecial */

void qapi_set_compat_policy(const CompatPolicy *p)
{
    deprecated_input = p->has_deprecated_input ? p->deprecated_input : COMPAT_POLICY_INPUT_ACCEPT;
    unstable_input = p->has_unstable_input ? p->unstable_input : COMPAT_POLICY_INPUT_ACCEPT;
    hidden = 0;
    if (p->has_deprecated_output && p->deprecated_output == COMPAT_POLICY_OUTPUT_HIDE) {
        hidden |= QAPI_DEPRECATED;
    }
    if (p->has_unstable_output && p->unstable_output == COMPAT_POLICY_OUTPUT_HIDE) {
        hidden |= QAPI_UNSTABLE;
    }
}

static bool check(CompatPolicyInput policy, const char *what, const char *kind, const char *name,
                  QapiErrorClass cls, GError **errp)
{
    if (policy == COMPAT_POLICY_INPUT_CRASH) {
        g_printerr("%s: %s %s %s used, and -compat says crash\n", g_get_prgname(), what, kind,
                   name);
        abort();
    }
    if (policy == COMPAT_POLICY_INPUT_REJECT) {
        error_set_class(errp, cls, "%s %s %s disabled by policy", what, kind, name);
        return false;
    }
    return true;
}

bool qapi_compat_may_use(unsigned special, const char *kind, const char *name,
                         QapiErrorClass cls, GError **errp)
{
    return (!(special & QAPI_DEPRECATED) ||
            check(deprecated_input, "Deprecated", kind, name, cls, errp)) &&
           (!(special & QAPI_UNSTABLE) ||
            check(unstable_input, "Unstable", kind, name, cls, errp));
}

bool qapi_compat_hides(unsigned special)
{
    return special & hidden;
}

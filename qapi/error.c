/* SPDX-License-Identifier: GPL-2.0-or-later */
/* GErrors with QMP error classes (include/qapi/error.h).  Any thread. */
#include "config-host.h"
#include <string.h>
#include "qapi/error.h"
#include "util/errno-text.h"

/* As G_DEFINE_QUARK() has it, but that errors are made by several threads at once. */
GQuark qapi_error_quark(void)
{
    static GQuark quark;
    GQuark q = __atomic_load_n(&quark, __ATOMIC_RELAXED);

    if (!q) {
        q = g_quark_from_static_string("keyframe-qapi-error-quark");
        __atomic_store_n(&quark, q, __ATOMIC_RELAXED);
    }
    return q;
}

static const char *const class_names[] = {
    [QAPI_ERROR_GENERIC] = "GenericError",
    [QAPI_ERROR_COMMAND_NOT_FOUND] = "CommandNotFound",
    [QAPI_ERROR_DEVICE_NOT_ACTIVE] = "DeviceNotActive",
    [QAPI_ERROR_DEVICE_NOT_FOUND] = "DeviceNotFound",
    [QAPI_ERROR_KVM_MISSING_CAP] = "KVMMissingCap",
};

static void G_GNUC_PRINTF(3, 0) set_valist(GError **errp, QapiErrorClass cls, const char *fmt,
                                           va_list ap)
{
    if (errp) {
        g_assert(!*errp);
        *errp = g_error_new_valist(QAPI_ERROR, cls, fmt, ap);
    }
}

void error_setg(GError **errp, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    set_valist(errp, QAPI_ERROR_GENERIC, fmt, ap);
    va_end(ap);
}

void error_setg_errno(GError **errp, int errnum, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    g_autofree char *text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    error_setg(errp, "%s: %s", text, errno_text(errnum));
}

void error_set_class(GError **errp, QapiErrorClass cls, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    set_valist(errp, cls, fmt, ap);
    va_end(ap);
}

QapiErrorClass error_get_class(const GError *err)
{
    return err->domain == QAPI_ERROR ? (QapiErrorClass)err->code : QAPI_ERROR_GENERIC;
}

const char *error_class_name(QapiErrorClass cls)
{
    g_assert(cls < G_N_ELEMENTS(class_names));
    return class_names[cls];
}

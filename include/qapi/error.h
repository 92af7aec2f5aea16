/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Errors as QMP clients see them.  Every failing control path fills a GError; one whose
 * domain is QAPI_ERROR carries a QMP error class, every other domain is GenericError.
 */
#ifndef QAPI_ERROR_H
#define QAPI_ERROR_H

#include <glib.h>

typedef enum QapiErrorClass {
    QAPI_ERROR_GENERIC,
    QAPI_ERROR_COMMAND_NOT_FOUND,
    QAPI_ERROR_DEVICE_NOT_ACTIVE,
    QAPI_ERROR_DEVICE_NOT_FOUND,
    QAPI_ERROR_KVM_MISSING_CAP,
} QapiErrorClass;

#define QAPI_ERROR (qapi_error_quark())
GQuark qapi_error_quark(void);

/* GenericError with a printf message.  errp may be NULL. */
void error_setg(GError **errp, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
/* GenericError with ": " and strerror(errnum) appended.  errnum is positive. */
void error_setg_errno(GError **errp, int errnum, const char *fmt, ...) G_GNUC_PRINTF(3, 4);
void error_set_class(GError **errp, QapiErrorClass cls, const char *fmt, ...)
    G_GNUC_PRINTF(3, 4);
/* The class to send for err. */
QapiErrorClass error_get_class(const GError *err);
/* Its name on the wire, "GenericError" and so on. */
const char *error_class_name(QapiErrorClass cls);

#endif

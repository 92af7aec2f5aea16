/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Helpers around json-c for text that is not trusted.  Any thread. */
#ifndef QAPI_JSON_H
#define QAPI_JSON_H

#include <glib.h>
#include <json-c/json_object.h>
#include <json-c/linkhash.h>

#define JSON_MAX_DEPTH 256

/*
 * Parses len bytes of text, which must be one JSON value and nothing else.  NULL and errp
 * on failure; duplicate keys are an error.  Single-quoted strings are taken as QEMU does.
 */
json_object *json_parse_text(const char *text, size_t len, GError **errp);

#endif

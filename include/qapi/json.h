/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Complete JSON texts that are not trusted.  Any thread. */
#ifndef QAPI_JSON_H
#define QAPI_JSON_H

#include <stdbool.h>
#include <glib.h>
#include <json-c/json_object.h>
#include <json-c/linkhash.h>

#define JSON_MAX_TEXT (64 * 1024 * 1024)
#define JSON_MAX_TEXT_TOKENS (2 * 1024 * 1024)

/*
 * Parses len bytes of text, which must be one JSON value other than null, and nothing
 * else.  NULL and errp on failure: nesting beyond JSON_MAX_NESTING, text beyond
 * JSON_MAX_TEXT, more than JSON_MAX_TEXT_TOKENS tokens and duplicate keys are errors.  As in
 * QEMU, strings may be in single quotes, and an integer beyond 64 bits becomes a floating
 * point number.
 */
json_object *json_parse_text(const char *text, size_t len, GError **errp);

#endif

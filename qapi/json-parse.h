/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The text of one JSON value to a json-c object.  Folder-private, see json-stream.h. */
#ifndef QAPI_JSON_PARSE_H
#define QAPI_JSON_PARSE_H

#include <glib.h>
#include <json-c/json.h>
#include <stdbool.h>

/*
 * text has passed the scanner of json-stream.c: its tokens are well formed, its nesting is
 * bounded.  Returns true and the value (NULL for null), or false and errp.
 */
bool json_parse_value(const char *text, size_t len, json_object **obj, GError **errp);

/*
 * Decodes one UTF-8 sequence of at most len > 0 bytes.  Returns its length and the code
 * point; 0 if it is malformed, overlong (but for U+0000 as C0 80, which keeps C strings
 * whole), a surrogate or a noncharacter.
 */
size_t json_utf8_decode(const char *p, size_t len, uint32_t *code);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* json-c objects as text in the form of QMP: one line, or indented. */
#ifndef QAPI_JSON_WRITE_H
#define QAPI_JSON_WRITE_H

#include <glib.h>
#include <json-c/json.h>
#include <stdbool.h>

/* Appends obj (NULL: null).  Only ASCII comes out, whatever bytes the strings hold. */
void json_write(GString *out, json_object *obj, bool pretty);
/* As above for a value that stands at the given depth of an indented text. */
void json_write_at(GString *out, json_object *obj, bool pretty, int depth);
/* Appends the string in quotes, escaped. */
void json_write_string(GString *out, const char *str, size_t len);
/* Begins line number depth of an indented text; a blank or nothing in one line. */
void json_write_indent(GString *out, bool pretty, int depth);

#endif

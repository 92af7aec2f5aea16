/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Structured options on a command line: "driver=qcow2,file.driver=file,file.filename=a,,b"
 * as a tree.  A key's dots make nested objects, fragments that are numbers from 0 make
 * lists, ",," stands for a comma in a value.  All leaves are strings.  Any thread.
 */
#ifndef QAPI_KEYVAL_H
#define QAPI_KEYVAL_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <json-c/json_object.h>

/*
 * Parses text.  implied_key, if not NULL, is the key of a first value without '='.
 * Returns a new object for qapi_input_keyval(); NULL and errp on failure.
 */
json_object *keyval_parse(const char *text, const char *implied_key, GError **errp);

/*
 * Parses text as JSON if it starts with '{', else as key=value.  *is_json says which:
 * whether the result is for qapi_input() or qapi_input_keyval().
 */
json_object *keyval_or_json_parse(const char *text, const char *implied_key, bool *is_json,
                                  GError **errp);

/* The length of text up to a single comma or its end; ",," does not end it. */
size_t keyval_item_length(const char *text);
/*
 * Takes a value off *text, which is then behind the single comma that ended it, or at its end.
 * Returns a new string, in which ",," has become a comma.
 */
char *keyval_take_value(const char **text);

/*
 * The tree of a JSON object whose keys may have dots ("file.filename"), at any level: the same as
 * of nested objects.  Leaves keep their types.  options stays the caller's.  Returns a new object
 * for qapi_input_keyval(); NULL and errp on failure.
 */
json_object *keyval_from_json(json_object *options, GError **errp);

/*
 * A size in bytes: decimal with optional fraction, or hexadecimal, and a suffix b, k, M, G,
 * T, P or E (powers of 1024, either case).  false if text is no such thing or too large.
 */
bool qapi_parse_size(const char *text, uint64_t *size);
/* Whether id may be a user's name for something: a letter, then letters, digits, '-', '.', '_'. */
bool qapi_id_is_wellformed(const char *id);
/* on/yes/true/y or off/no/false/n. */
bool qapi_parse_bool(const char *text, bool *value);

#endif

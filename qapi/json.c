/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Parsing of complete JSON texts with json-c's tokener.  Any thread. */
#include "config-host.h"
#include <limits.h>
#include <string.h>
#include <json-c/json_tokener.h>
#include "qapi/error.h"
#include "qapi/json.h"

json_object *json_parse_text(const char *text, size_t len, GError **errp)
{
    json_tokener *tok = json_tokener_new_ex(JSON_MAX_DEPTH);
    json_object *json = NULL;

    if (len > INT_MAX) {
        error_setg(errp, "JSON text is longer than %d bytes", INT_MAX);
        json_tokener_free(tok);
        return NULL;
    }
    json = json_tokener_parse_ex(tok, text, len);
    enum json_tokener_error status = json_tokener_get_error(tok);
    size_t end = json_tokener_get_parse_end(tok);
    if (status == json_tokener_continue) {
        error_setg(errp, "JSON parse error, premature EOI");
    } else if (status != json_tokener_success) {
        error_setg(errp, "JSON parse error, %s", json_tokener_error_desc(status));
    } else if (end + strspn(text + end, " \t\r\n") < len) {
        error_setg(errp, "Expecting at most one JSON value");
        g_clear_pointer(&json, json_object_put);
    } else if (!json) {
        error_setg(errp, "JSON parse error, expecting value");
    }
    json_tokener_free(tok);
    return json;
}

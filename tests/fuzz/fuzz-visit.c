/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The input visitor with the tables of all types.  An input is the name of a type in a line,
 * or two bytes that number it, and then JSON or key=value text.  A value that was taken is put
 * out, taken in again, copied: the JSON must stay the same.
 */
#include <string.h>

#include "fuzz.h"
#include "qapi/json-write.h"
#include "qapi/json.h"
#include "qapi/visitor.h"

#include "fuzz-types.h" /* static const QapiType *const types[] */

static const QapiType *choose(const uint8_t **data, size_t *size)
{
    const uint8_t *end = *size ? memchr(*data, '\n', *size) : NULL;
    const QapiType *type;
    size_t skip = end ? end + 1 - *data : 0;

    for (size_t i = 0; i < G_N_ELEMENTS(types) && end; i++) {
        if (strlen(types[i]->name) + 1 == skip && !memcmp(types[i]->name, *data, skip - 1)) {
            *data += skip;
            *size -= skip;
            return types[i];
        }
    }
    if (*size < 2) {
        return NULL;
    }
    type = types[((*data)[0] | (*data)[1] << 8) % G_N_ELEMENTS(types)];
    *data += 2;
    *size -= 2;
    return type;
}

typedef union Slot {
    void *pointer;
    uint64_t number;
    double real;
} Slot;

static bool is_scalar(const QapiType *type)
{
    return type->kind != QAPI_KIND_STR && type->kind != QAPI_KIND_ANY &&
           type->kind != QAPI_KIND_OBJECT && type->kind != QAPI_KIND_ALTERNATE &&
           type->kind != QAPI_KIND_LIST;
}

static char *text_of(const QapiType *type, const Slot *slot)
{
    GString *text = g_string_new(NULL);
    json_object *json = qapi_output(type, slot);

    json_write(text, json, false);
    json_object_put(json);
    return g_string_free(text, false);
}

/* What was taken in can be copied, put out and taken in again. */
static void check_value(const QapiType *type, const Slot *slot)
{
    g_autofree char *text = text_of(type, slot), *copied = NULL, *again = NULL;
    json_object *json = qapi_output(type, slot);
    Slot copy = {0}, other = {0};
    g_autoptr(GError) err = NULL;

    qapi_clone_value(type, slot, &copy);
    copied = text_of(type, &copy);
    qapi_free_value(type, &copy);
    g_assert_cmpstr(text, ==, copied);

    qapi_input(type, json, NULL, &other, &err);
    json_object_put(json);
    g_assert_no_error(err);
    again = text_of(type, &other);
    qapi_free_value(type, &other);
    g_assert_cmpstr(text, ==, again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const QapiType *type = choose(&data, &size);
    g_autofree char *text = fuzz_text(data, size);
    g_autoptr(GError) err = NULL;
    json_object *json = NULL;
    Slot slot = {0};
    bool ok;

    if (!type) {
        return 0;
    }
    json = json_parse_text(text, strlen(text), NULL);
    ok = json ? qapi_input(type, json, NULL, &slot, &err)
              : qapi_input_str(type, text, NULL, &slot, &err);
    fuzz_check_outcome(ok, err);
    if (ok) {
        check_value(type, &slot);
        qapi_free_value(type, &slot);
    } else {
        g_assert_true(is_scalar(type) || !slot.pointer);
    }
    json_object_put(json);
    return 0;
}

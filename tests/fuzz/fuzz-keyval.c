/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The parsers of structured options, of sizes and of booleans. */
#include "fuzz.h"
#include "qapi/keyval.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *text = fuzz_text(data, size);
    static const char *const implied[] = {NULL, "driver"};

    for (size_t i = 0; i < G_N_ELEMENTS(implied); i++) {
        g_autoptr(GError) err = NULL;
        json_object *obj;
        bool is_json;

        obj = keyval_parse(text, implied[i], &err);
        fuzz_check_outcome(obj != NULL, err);
        json_object_put(obj);
        g_clear_error(&err);
        obj = keyval_or_json_parse(text, implied[i], &is_json, &err);
        fuzz_check_outcome(obj != NULL, err);
        json_object_put(obj);
    }
    uint64_t bytes;
    bool flag;
    qapi_parse_size(text, &bytes);
    qapi_parse_bool(text, &flag);
    return 0;
}

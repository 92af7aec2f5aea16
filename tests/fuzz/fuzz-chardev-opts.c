/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The options of -chardev, as key=value text and as JSON, and the short forms of -serial and others. */
#include "fuzz.h"
#include "monitor/chardev-int.h"
#include "monitor/monitor.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *text = fuzz_text(data, size);
    static const char *const known[] = {"path", "server", "wait", NULL};
    g_autoptr(ChardevOpts) opts = chardev_opts_new();
    g_autoptr(ChardevOptions) options = NULL, short_form = NULL;
    g_autoptr(GError) err = NULL, options_err = NULL, short_err = NULL;
    int64_t number;
    bool flag, ok = chardev_opts_parse(opts, text, true, &err);

    fuzz_check_outcome(ok, err);
    chardev_opts_get_bool(opts, "server", true, &flag, NULL);
    chardev_opts_get_int(opts, "wait", -1, &number, NULL);
    chardev_opts_check(opts, known, NULL, NULL);
    options = chardev_options_from_text(text, &options_err);
    fuzz_check_outcome(options != NULL, options_err);
    short_form = chardev_options_from_spec("label", text, &short_err);
    fuzz_check_outcome(short_form != NULL, short_err);
    return 0;
}

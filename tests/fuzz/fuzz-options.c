/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Arguments of structured options: the first byte chooses the option, the rest is what it says. */
#include <string.h>
#include "fuzz.h"
#include "system/options.h"

/* Those that change nothing but what they return. */
static const char *const names[] = {"-drive",  "-netdev", "-nic",     "-blockdev", "-device",
                                    "-object", "-machine", "-smp",    "-m",        "-cpu",
                                    "-action", "-net",    "-display", "-boot",     "-mon",
                                    "-name",   "-rtc",    "-accel",   "-chardev"};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *text = NULL;
    g_autoptr(GError) err = NULL;
    VmOptions *options;
    int exit_code = 0;

    if (!size) {
        return 0;
    }
    text = fuzz_text(data + 1, size - 1);
    if (strstr(text, "help") || strchr(text, '?')) {
        return 0; /* it prints, and takes the time of all else */
    }
    options = options_parse(3, (char *[]){"fuzz", (char *)names[data[0] % G_N_ELEMENTS(names)],
                                          text, NULL}, &exit_code, &err);
    fuzz_check_outcome(options != NULL, err);
    if (options) {
        options_free(options);
    }
    return 0;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The arguments of human monitor commands.  The first byte chooses how they are declared, the
 * rest is the line.
 */
#include "fuzz.h"
#include "monitor/hmp-args.h"
#include "monitor/monitor-int.h"

/* Every type, optional ones, flags before and behind. */
static const char *const declarations[] = {
    "",
    "name:s",
    "name:s?",
    "detach:-d,force:-f,name:s?",
    "args:S",
    "device:B,target:F,format:s?",
    "addr:l,value:i,rest:S",
    "count:i?,size:o?,on:b?",
    "size:o",
    "on:b",
    "full:-f,size:o,speed:l",
    "fmt:/,addr:l",
};

static const char *const names[] = {"name", "args", "device", "target", "addr", "value", "rest",
                                    "count", "size", "on", "detach", "fmt", "none"};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *text = NULL, *message = NULL;
    g_autoptr(HMPArgs) args = NULL;
    const char *rest;

    if (!size) {
        return 0;
    }
    text = fuzz_text(data + 1, size - 1);
    args = hmp_args_parse("cmd", declarations[data[0] % G_N_ELEMENTS(declarations)], text,
                          &message);
    g_assert_true((args == NULL) == (message != NULL));
    for (size_t i = 0; args && i < G_N_ELEMENTS(names); i++) {
        const char *str = hmp_arg_str(args, names[i]);

        g_assert_true(!str || strlen(str) <= size);
        hmp_arg_int(args, names[i], -1);
        hmp_arg_flag(args, names[i]);
        hmp_arg_format(args, names[i]);
    }
    hmp_set_tables(NULL, 0);
    hmp_find_command(text, &rest);
    g_assert_true(rest >= text && rest <= text + strlen(text));
    return 0;
}

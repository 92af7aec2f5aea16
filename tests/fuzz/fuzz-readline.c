/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The line editor: any bytes as keys, with and without echo. */
#include <string.h>

#include "fuzz.h"
#include "monitor/readline.h"

static size_t printed;

static void print(void *opaque, const char *buf, size_t len)
{
    g_assert_true(buf || !len);
    printed += len;
}

/* A few words, some of which share a beginning. */
static GPtrArray *candidates(const char *line)
{
    static const char *const words[] = {"info", "info2", "savevm", "sa", "dir/", "h\xc3\xa4"};
    GPtrArray *found = g_ptr_array_new_with_free_func(g_free);
    const char *blank = strrchr(line, ' ');
    const char *word = blank ? blank + 1 : line;

    for (size_t i = 0; i < G_N_ELEMENTS(words); i++) {
        if (g_str_has_prefix(words[i], word)) {
            g_ptr_array_add(found, g_strdup(words[i]));
        }
    }
    return found;
}

static const ReadlineOps ops = {.print = print};

static void complete(Readline *rl)
{
    g_autofree char *text = readline_text(rl);
    g_autoptr(GPtrArray) words = candidates(text);

    readline_complete(rl, words, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (int echo = 0; echo < 2; echo++) {
        Readline *rl = readline_new(&ops, NULL, "(qemu) ", echo);

        for (size_t i = 0; i < size; i++) {
            g_autofree char *line = NULL;
            ReadlineEvent event = readline_input(rl, data[i], &line);

            g_assert_true((event == READLINE_LINE) == (line != NULL));
            if (event == READLINE_COMPLETE) {
                complete(rl);
            } else if (line) {
                g_assert_cmpuint(strlen(line), <, 4096);
                readline_show(rl);
            }
        }
        g_assert_cmpuint(readline_history(rl)->len, <=, 64);
        readline_free(rl);
    }
    return 0;
}

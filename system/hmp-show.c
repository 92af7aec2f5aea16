/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How the human monitor shows numbers: the forms of x, xp and print.  What a format leaves
 * out is as it was last time, as in QEMU.  Main thread.
 */
#include <inttypes.h>
#include "system-int.h"

static char last_format = 'x';
static int last_size = 4;

HMPFormat hmp_show_format(HMPFormat format)
{
    if (!format.count && !format.format && !format.size) {
        format.count = 1; /* no format at all; "/0x" has a form */
    }
    if (!format.format) {
        format.format = last_format;
    }
    if (!format.size) {
        format.size = last_size;
    }
    last_format = format.format == 'i' ? last_format : format.format;
    last_size = format.size;
    return format;
}

/* A character constant; what cannot be printed as an escape. */
static void show_char(GString *out, uint32_t c)
{
    switch (c) {
    case '\'':
        g_string_append(out, "'\\''");
        break;
    case '\\':
        g_string_append(out, "'\\\\'");
        break;
    case '\n':
        g_string_append(out, "'\\n'");
        break;
    case '\r':
        g_string_append(out, "'\\r'");
        break;
    default:
        if (c >= 32 && c <= 126) {
            g_string_append_printf(out, "'%c'", (char)c);
        } else {
            g_string_append_printf(out, "'\\x%02x'", c);
        }
    }
}

void hmp_show_item(GString *out, HMPFormat format, uint64_t value)
{
    int bits = format.size * 8;

    g_string_append_c(out, ' ');
    switch (format.format) {
    case 'o':
        g_string_append_printf(out, "%#*" PRIo64, (bits + 2) / 3, value);
        break;
    case 'x':
        g_string_append_printf(out, "0x%0*" PRIx64, format.size * 2, value);
        break;
    case 'u':
        g_string_append_printf(out, "%*" PRIu64, (bits * 10 + 32) / 33, value);
        break;
    case 'd':
        g_string_append_printf(out, "%*" PRId64, (bits * 10 + 32) / 33, (int64_t)value);
        break;
    case 'c':
        show_char(out, value);
        break;
    }
}

void hmp_show_number(GString *out, HMPFormat format, int64_t value)
{
    switch (format.format) {
    case 'o':
        g_string_append_printf(out, "%#" PRIo64, (uint64_t)value);
        break;
    case 'x':
        g_string_append_printf(out, "%#" PRIx64, (uint64_t)value);
        break;
    case 'u':
        g_string_append_printf(out, "%" PRIu64, (uint64_t)value);
        break;
    case 'c':
        show_char(out, value);
        break;
    default:
        g_string_append_printf(out, "%" PRId64, value);
    }
}

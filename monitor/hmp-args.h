/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Arguments of an HMP command, from its args_type (include/qapi/hmp.h).  Folder-private. */
#ifndef MONITOR_HMP_ARGS_H
#define MONITOR_HMP_ARGS_H

#include "qapi/hmp.h"

/*
 * Parses text.  name stands in front of messages.  NULL on failure: *message is then what
 * to tell the user, without a line end; the caller frees it.
 */
HMPArgs *hmp_args_parse(const char *name, const char *args_type, const char *text,
                        char **message);
/*
 * Reads an expression at *p and moves *p behind it.  False on failure, with *message as
 * above.
 */
bool hmp_expr_parse(const char **p, int64_t *value, char **message);
void hmp_args_free(HMPArgs *args);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HMPArgs, hmp_args_free)

#endif

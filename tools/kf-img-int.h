/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the subcommands of kf-img share.  Each runs as a coroutine in the main thread, in
 * whose context its nodes live too, and returns the exit code.
 */
#ifndef KF_IMG_INT_H
#define KF_IMG_INT_H

#include <getopt.h>
#include <glib.h>
#include <json-c/json_object.h>
#include "block/block-int.h"

int coroutine_fn img_create(int argc, char **argv);
int coroutine_fn img_info(int argc, char **argv);
int coroutine_fn img_check(int argc, char **argv);
int coroutine_fn img_snapshot(int argc, char **argv);
int coroutine_fn img_convert(int argc, char **argv);
int coroutine_fn img_compare(int argc, char **argv);
int coroutine_fn img_vmstate(int argc, char **argv);

/* Before there are threads: a mount goes to the background.  false after an error message. */
bool img_vmstate_before(int argc, char **argv);

/* "PROGRAM: MESSAGE" on stderr. */
void img_error(const char *format, ...) G_GNUC_PRINTF(1, 2);
/* The same for err, with prefix in front (may be ""), and frees err. */
void img_report(GError *err, const char *prefix);
/* img_error() and "Try 'PROGRAM --help' for more information"; returns 1. */
int img_usage_error(const char *format, ...) G_GNUC_PRINTF(1, 2);
/*
 * For the result c of getopt_long() that is no option of the subcommand: '?' and ':' (an
 * option string starts with ':'), 'h' for help.  Returns the exit code.
 */
int img_bad_option(int c, char **argv);

/* Opens an image; on failure reports it and returns NULL. */
BlockDriverState *coroutine_fn img_open(const BdrvOpenFile *params);
/* Cache mode of -t and -T: sets params' cache members; false if there is no such mode. */
bool img_parse_cache(const char *mode, BdrvOpenFile *params);
/* --output: human or json; false after an error message. */
bool img_parse_output(const char *text, bool *json);

/* json (taken over) on stdout, indented by 4, members in qemu-img's order. */
void img_print_json(json_object *json);
/* "    (12.34/100%)" and a carriage return, if show. */
void img_progress(bool show, double percent);

#endif

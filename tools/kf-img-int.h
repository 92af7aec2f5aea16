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

int coroutine_fn img_amend(int argc, char **argv);
int coroutine_fn img_bench(int argc, char **argv);
int coroutine_fn img_bitmap(int argc, char **argv);
int coroutine_fn img_check(int argc, char **argv);
int coroutine_fn img_commit(int argc, char **argv);
int coroutine_fn img_compare(int argc, char **argv);
int coroutine_fn img_convert(int argc, char **argv);
int coroutine_fn img_create(int argc, char **argv);
int coroutine_fn img_dd(int argc, char **argv);
int coroutine_fn img_info(int argc, char **argv);
int coroutine_fn img_map(int argc, char **argv);
int coroutine_fn img_measure(int argc, char **argv);
int coroutine_fn img_rebase(int argc, char **argv);
int coroutine_fn img_resize(int argc, char **argv);
int coroutine_fn img_snapshot(int argc, char **argv);
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

/* Values of options without a letter; a subcommand's own begin at IMG_OPTION_OWN. */
enum { IMG_OPTION_OBJECT = 256, IMG_OPTION_IMAGE_OPTS, IMG_OPTION_OWN };
/* What every subcommand but create and dd starts its table of long options with. */
#define IMG_COMMON_OPTIONS \
    { "help", no_argument, NULL, 'h' }, { "object", required_argument, NULL, IMG_OPTION_OBJECT }, \
    { "image-opts", no_argument, NULL, IMG_OPTION_IMAGE_OPTS }
/*
 * The options -f, -U, --image-opts and --object, and what img_bad_option() is for.  -1: taken;
 * else the exit code.
 */
int img_common_option(int c, char **argv, BdrvOpenFile *params);
/* Whether -f and --image-opts are not given together; false after an error message. */
bool img_check_open_options(const BdrvOpenFile *params);

/* Opens an image; on failure reports it and returns NULL. */
BlockDriverState *coroutine_fn img_open(const BdrvOpenFile *params);
/* A handle on bs; on failure reports it and returns NULL. */
BlockBackend *img_backend(BlockDriverState *bs, bool writable);
/* Whether an image can be made under this name, as far as the name says; false after a message. */
bool coroutine_fn img_check_new_name(const char *filename);
/* -f of a program whose user may mean several files: drv by name, or NULL and a message. */
const BlockDriver *img_format(const char *name);
/* Cache mode of -t and -T: sets params' cache members; false if there is no such mode. */
bool img_parse_cache(const char *mode, BdrvOpenFile *params);
/* --output: human or json; false after an error message. */
bool img_parse_output(const char *text, bool *json);

/*
 * A number with an optional suffix, from min to max.  what it is for is said in messages:
 * "Invalid WHAT specified. ..."; false after one.
 */
bool img_parse_number(const char *what, const char *text, int64_t min, int64_t max,
                      int64_t *value);

/*
 * A source's snapshot, as convert and measure take it: "NAME_OR_ID" or "snapshot.id=ID,
 * snapshot.name=NAME".  param: what -l says; bs shows the snapshot from then on.  false
 * after an error message.
 */
bool img_check_snapshot_param(const char *param);
bool coroutine_fn img_show_snapshot(BlockDriverState *bs, const char *param);

/*
 * The id of the snapshot that a user means: one with this id, else one with this name.  NULL if
 * there is none (errp unset) or on error.
 */
char *coroutine_fn img_find_snapshot(BlockDriverState *bs, const char *id_or_name, GError **errp);

/* json (taken over) on stdout, indented by 4, members in qemu-img's order. */
void img_print_json(json_object *json);
/*
 * Progress on stdout, "    (12.34/100%)" and a carriage return: with show now and then, else
 * when the process gets SIGUSR1.  begin says 0 %, end ends the line; both once, main thread.
 */
void img_progress_begin(bool show);
void img_progress(double percent);
void img_progress_end(void);

/* A limit on bytes per second; zeroed: none. */
typedef struct ImgRate {
    int64_t limit;
    int64_t next_ns; /* when the next bytes may go */
} ImgRate;
/* Waits as long as bytes need under the limit. */
void coroutine_fn img_rate_wait(ImgRate *rate, int64_t bytes);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Creation options of image formats: what kf-img create and convert know of them. */
#ifndef KF_IMG_OPTIONS_H
#define KF_IMG_OPTIONS_H

#include "kf-img-int.h"

typedef enum ImgOptionType {
    IMG_OPTION_STRING,
    IMG_OPTION_SIZE,
    IMG_OPTION_NUMBER,
    IMG_OPTION_BOOL,
} ImgOptionType;

typedef struct ImgOption {
    const char *driver; /* NULL: every one; "file": those of the file in which an image lies */
    const char *name;
    ImgOptionType type;
    const char *fallback; /* shown when it is not given */
    const char *help; /* NULL: not listed, since it is known in order to be refused */
} ImgOption;

extern const ImgOption img_option_table[]; /* ends with a zeroed element */

/* Whether images of drv, or their files, have the option. */
bool img_option_applies(const ImgOption *o, const BlockDriver *drv);
/* A table of name -> value, both owned. */
GHashTable *img_options_new(void);
/* "name=value,name,noname" (",," is a comma in a value); false after an error message. */
bool img_parse_options(const char *text, GHashTable *options);
/* Checks against the table, of_file: with the options of the file, and brings the values into plain
 * form. */
bool img_check_options(const BlockDriver *drv, bool of_file, GHashTable *options, GError **errp);
/* The part of options that is the driver's own: a new table. */
GHashTable *img_driver_options(GHashTable *options);
/* Lists the options of drv for -o help; have_file: of a file that has been named. */
void img_print_options(const BlockDriver *drv, bool have_file);

/* The same for amend. */
void img_print_amend_options(const BlockDriver *drv);

/*
 * Makes an image as kf-img create does.  options holds everything: size (0 bytes if it is
 * missing), backing_file, backing_fmt and the driver's own.
 */
bool coroutine_fn img_make(const BlockDriver *drv, const char *filename, GHashTable *options,
                           GError **errp);

#endif

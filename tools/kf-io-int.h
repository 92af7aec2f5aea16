/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of kf-io share. */
#ifndef KF_IO_INT_H
#define KF_IO_INT_H

#include "block/io-cmd.h"

/* How an image is to be opened; strings are its own. */
typedef struct IoImage {
    char *name;    /* file name, or options with is_options; NULL: none */
    char *options; /* "driver=qcow2,..." beside the file name, NULL: none */
    bool is_options;
    bool read_only, force_share, snapshot, copy_on_read;
    bool direct, no_flush, write_through;
    bool discard;
    const char *aio; /* constant; NULL: not said */
} IoImage;

/* With the defaults of qemu-io. */
IoImage *io_image_new(void);
IoImage *io_image_copy(const IoImage *image);
void io_image_free(IoImage *image);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(IoImage, io_image_free)

/* Values of -t, -d and -i; false after an error message. */
bool io_image_set_cache(IoImage *image, const char *mode);
bool io_image_set_discard(IoImage *image, const char *mode);
bool io_image_set_aio(IoImage *image, const char *mode);
/* Options -o of the open command. */
void io_image_add_options(IoImage *image, const char *options);

/* Opens it in the session, which has none open.  false after an error message. */
bool coroutine_fn io_image_open(IoSession *s, const IoImage *image);
/* Closes what is open in the session, when its requests have ended. */
void coroutine_fn io_image_close(IoSession *s);

/* "PROGRAM: MESSAGE" on stderr. */
void io_error(const char *format, ...) G_GNUC_PRINTF(1, 2);

/* The commands open, close and reopen; their opaque is an IoState. */
typedef struct IoState {
    IoImage *image; /* what is open, NULL: nothing */
    bool quit;      /* the user is done */
    bool image_opts; /* files are described by options */
} IoState;

extern const IoCommand io_tool_commands[];

#endif

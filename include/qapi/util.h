/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Building generated lists.  list is a lvalue of type TList *; values are taken over. */
#ifndef QAPI_UTIL_H
#define QAPI_UTIL_H

#include <glib.h>

/* Puts value in front of list. */
#define QAPI_LIST_PREPEND(list, element) \
    do { \
        typeof(list) new_element_ = g_malloc(sizeof(*new_element_)); \
        new_element_->value = (element); \
        new_element_->next = (list); \
        (list) = new_element_; \
    } while (0)

/*
 * Puts value at the end: tail is a variable TList **, at first the address of the list's
 * head, and is moved on.
 */
#define QAPI_LIST_APPEND(tail, element) \
    do { \
        *(tail) = g_malloc0(sizeof(**(tail))); \
        (*(tail))->value = (element); \
        (tail) = &(*(tail))->next; \
    } while (0)

/* Number of elements. */
#define QAPI_LIST_LENGTH(list) \
    ({ \
        size_t length_ = 0; \
        for (typeof(list) element_ = (list); element_; element_ = element_->next) { \
            length_++; \
        } \
        length_; \
    })

#endif

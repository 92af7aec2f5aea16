/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Access to memory that the guest, or a thread on its behalf, may be using at the same time.
 * What orders such accesses - write protection, the guest's own fences, a notification - is
 * not what ThreadSanitizer knows, so it is told to look away between these two.  The guest's
 * accesses are atomic; who reads like this must be able to live with any value.
 */
#ifndef UTIL_GUEST_MEMORY_H
#define UTIL_GUEST_MEMORY_H

#if defined(__SANITIZE_THREAD__)
#define GUEST_MEMORY_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define GUEST_MEMORY_TSAN 1
#endif
#endif

#ifdef GUEST_MEMORY_TSAN
void AnnotateIgnoreReadsBegin(const char *file, int line);
void AnnotateIgnoreReadsEnd(const char *file, int line);
void AnnotateIgnoreWritesBegin(const char *file, int line);
void AnnotateIgnoreWritesEnd(const char *file, int line);
#endif

/* Any thread; no yield before guest_memory_end(). */
static inline void guest_memory_begin(void)
{
#ifdef GUEST_MEMORY_TSAN
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
#endif
}

static inline void guest_memory_end(void)
{
#ifdef GUEST_MEMORY_TSAN
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
#endif
}

#endif

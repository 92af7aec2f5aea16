/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * buffer_is_zero(): as fast as memory, with the widest vectors the processor has.  Most
 * data that is not zero shows it at one of three places, which are looked at first.
 */
#include "util/guest-memory.h"
#include "util/iov.h"

#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

static inline uint64_t load64(const void *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof(v));
    return v;
}

static bool small_is_zero(const unsigned char *p, size_t len)
{
    unsigned int any = 0;

    for (size_t i = 0; i < len; i++) {
        any |= p[i];
    }
    return !any;
}

/* The big_* functions take len >= 128; the last block may overlap the one before. */
#if defined(__x86_64__)
static bool big_sse2(const unsigned char *p, size_t len)
{
    const unsigned char *last = p + len - 64;
    const __m128i zero = _mm_setzero_si128();

    for (;; p = p + 64 < last ? p + 64 : last) {
        const __m128i *q = (const __m128i *)p;
        __m128i any = _mm_or_si128(_mm_or_si128(_mm_loadu_si128(q), _mm_loadu_si128(q + 1)),
                                   _mm_or_si128(_mm_loadu_si128(q + 2), _mm_loadu_si128(q + 3)));

        if (_mm_movemask_epi8(_mm_cmpeq_epi8(any, zero)) != 0xffff) {
            return false;
        }
        if (p == last) {
            return true;
        }
    }
}

__attribute__((target("avx2"))) static bool big_avx2(const unsigned char *p, size_t len)
{
    const unsigned char *last = p + len - 128;

    for (;; p = p + 128 < last ? p + 128 : last) {
        const __m256i *q = (const __m256i *)p;
        __m256i any =
            _mm256_or_si256(_mm256_or_si256(_mm256_loadu_si256(q), _mm256_loadu_si256(q + 1)),
                            _mm256_or_si256(_mm256_loadu_si256(q + 2), _mm256_loadu_si256(q + 3)));

        if (!_mm256_testz_si256(any, any)) {
            return false;
        }
        if (p == last) {
            return true;
        }
    }
}

static inline bool big_is_zero(const unsigned char *p, size_t len)
{
    /* A load and a bit test: the compiler's runtime has asked the processor at start. */
    return __builtin_cpu_supports("avx2") ? big_avx2(p, len) : big_sse2(p, len);
}
#else
static bool big_is_zero(const unsigned char *p, size_t len)
{
    const unsigned char *last = p + len - 32;

    for (;; p = p + 32 < last ? p + 32 : last) {
        if (load64(p) | load64(p + 8) | load64(p + 16) | load64(p + 24)) {
            return false;
        }
        if (p == last) {
            return true;
        }
    }
}
#endif

bool buffer_is_zero(const void *buf, size_t len)
{
    const unsigned char *p = buf;
    bool zero;

    guest_memory_begin();
    if (len < 128) {
        zero = small_is_zero(p, len);
    } else {
        zero = !(load64(p) | load64(p + len / 2) | load64(p + len - 8)) && big_is_zero(p, len);
    }
    guest_memory_end();
    return zero;
}

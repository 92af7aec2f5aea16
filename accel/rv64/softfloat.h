/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * IEEE 754-2008 arithmetic on bit patterns, with RISC-V's choices: NaN results are
 * canonical, tininess is detected after rounding, conversions saturate.  Pure functions:
 * rounding mode and flags are in SfEnv, nothing of the host's floating point is used.
 */
#ifndef ACCEL_RV64_SOFTFLOAT_H
#define ACCEL_RV64_SOFTFLOAT_H

#include <stdbool.h>
#include <stdint.h>

/* As in the instructions' rm field. */
enum { RM_RNE = 0, RM_RTZ = 1, RM_RDN = 2, RM_RUP = 3, RM_RMM = 4 };

typedef struct SfEnv {
    uint8_t rm;
    uint8_t flags; /* FFLAG_*, added to */
} SfEnv;

typedef struct SfFormat {
    int frac; /* bits of the fraction */
    int bias;
    uint64_t inf; /* the exponent field, all ones */
    uint64_t sign;
    uint64_t nan; /* canonical */
} SfFormat;

/* A 32-bit value is in the low half of its uint64_t, the high half zero. */
extern const SfFormat sf_f32, sf_f64;

uint64_t sf_add(const SfFormat *f, uint64_t a, uint64_t b, SfEnv *env);
uint64_t sf_mul(const SfFormat *f, uint64_t a, uint64_t b, SfEnv *env);
uint64_t sf_div(const SfFormat *f, uint64_t a, uint64_t b, SfEnv *env);
uint64_t sf_sqrt(const SfFormat *f, uint64_t a, SfEnv *env);
/* a * b + c, rounded once */
uint64_t sf_fma(const SfFormat *f, uint64_t a, uint64_t b, uint64_t c, SfEnv *env);
uint64_t sf_convert(const SfFormat *to, const SfFormat *from, uint64_t a, SfEnv *env);
/* To an integer of 32 or 64 bits; the result is sign-extended from its width. */
uint64_t sf_to_int(const SfFormat *f, uint64_t a, int width, bool is_signed, SfEnv *env);
uint64_t sf_from_int(const SfFormat *f, uint64_t v, bool is_signed, SfEnv *env);

bool sf_is_nan(const SfFormat *f, uint64_t a);
bool sf_is_snan(const SfFormat *f, uint64_t a);
/* For numbers: less, and equal (zeros of both signs are). */
bool sf_lt(const SfFormat *f, uint64_t a, uint64_t b);
bool sf_eq(const SfFormat *f, uint64_t a, uint64_t b);
/* The mask that fclass gives. */
uint64_t sf_class(const SfFormat *f, uint64_t a);

#endif

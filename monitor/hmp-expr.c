/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Numbers in HMP commands are expressions, as QEMU has them:
 *
 *   logic: sum { ("&" | "|" | "^") sum }         from left to right
 *   sum:   product { ("+" | "-") product }
 *   product: unary { ("*" | "/" | "%") unary }
 *   unary: ("+" | "-" | "~") unary | "(" logic ")" | 'c' | number | $register
 *
 * An expression is as long as it can be: text behind it must not begin with an operator, or
 * stand in quotes.  The registers of a hart have no names here, as in QEMU.  Any thread.
 */
#include <errno.h>
#include <string.h>

#include "monitor/hmp-args.h"

/* A line is much longer than anything that a user would nest. */
#define DEPTH_MAX 32

typedef struct Parser {
    const char *p;
    char **message;
    int depth;
} Parser;

static bool parse_logic(Parser *x, uint64_t *value);

static bool fail(Parser *x, const char *message)
{
    *x->message = g_strdup(message);
    return false;
}

static void skip_blanks(Parser *x)
{
    while (g_ascii_isspace(*x->p)) {
        x->p++;
    }
}

/* The next character, if it is one of the set; it is taken. */
static char take_one_of(Parser *x, const char *set)
{
    skip_blanks(x);
    return *x->p && strchr(set, *x->p) ? *x->p++ : 0;
}

static bool parse_number(Parser *x, uint64_t *value)
{
    char *end;

    if (!*x->p) {
        return fail(x, "unexpected end of expression");
    }
    errno = 0;
    *value = g_ascii_isdigit(*x->p) ? g_ascii_strtoull(x->p, &end, 0) : 0;
    if (!g_ascii_isdigit(*x->p)) {
        *x->message = g_strdup_printf("invalid char '%c' in expression", *x->p);
        return false;
    }
    if (errno == ERANGE) {
        return fail(x, "number too large");
    }
    x->p = end;
    return true;
}

static bool parse_character(Parser *x, uint64_t *value)
{
    if (!*x->p) {
        return fail(x, "character constant expected");
    }
    *value = (uint8_t)*x->p++;
    if (*x->p != '\'') {
        return fail(x, "missing terminating ' character");
    }
    x->p++;
    return true;
}

static bool parse_primary(Parser *x, uint64_t *value)
{
    switch (take_one_of(x, "('$")) {
    case '(':
        if (!parse_logic(x, value)) {
            return false;
        }
        return take_one_of(x, ")") || fail(x, "')' expected");
    case '\'':
        return parse_character(x, value);
    case '$':
        return fail(x, "unknown register");
    default:
        return parse_number(x, value);
    }
}

static bool parse_unary(Parser *x, uint64_t *value)
{
    char op;
    bool ok;

    if (x->depth++ > DEPTH_MAX) {
        return fail(x, "expression is nested too deeply");
    }
    op = take_one_of(x, "+-~");
    ok = op ? parse_unary(x, value) : parse_primary(x, value);
    if (op == '-') {
        *value = -*value;
    } else if (op == '~') {
        *value = ~*value;
    }
    x->depth--;
    return ok;
}

static bool parse_product(Parser *x, uint64_t *value)
{
    uint64_t right;
    char op;

    if (!parse_unary(x, value)) {
        return false;
    }
    while ((op = take_one_of(x, "*/%"))) {
        if (!parse_unary(x, &right)) {
            return false;
        }
        if (op == '*') {
            *value *= right;
        } else if (right == 0) {
            return fail(x, "division by zero");
        } else if (right == UINT64_MAX) { /* -1: the smallest number has no negative */
            *value = op == '/' ? -*value : 0;
        } else if (op == '/') {
            *value = (int64_t)*value / (int64_t)right;
        } else {
            *value = (int64_t)*value % (int64_t)right;
        }
    }
    return true;
}

static bool parse_sum(Parser *x, uint64_t *value)
{
    uint64_t right;
    char op;

    if (!parse_product(x, value)) {
        return false;
    }
    while ((op = take_one_of(x, "+-"))) {
        if (!parse_product(x, &right)) {
            return false;
        }
        *value += op == '+' ? right : -right;
    }
    return true;
}

static bool parse_logic(Parser *x, uint64_t *value)
{
    uint64_t right;
    char op;

    if (!parse_sum(x, value)) {
        return false;
    }
    while ((op = take_one_of(x, "&|^"))) {
        if (!parse_sum(x, &right)) {
            return false;
        }
        *value = op == '&' ? *value & right : op == '|' ? *value | right : *value ^ right;
    }
    return true;
}

bool hmp_expr_parse(const char **p, int64_t *value, char **message)
{
    Parser x = {*p, message, 0};
    uint64_t result = 0;

    if (!parse_logic(&x, &result)) {
        return false;
    }
    *p = x.p;
    *value = result;
    return true;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The line editor of the human monitor.  Positions are bytes, but the cursor moves over
 * whole UTF-8 characters.  The state of the terminal is not known; all it must understand
 * is carriage return, "erase to the end of the line" and "cursor to the left".
 */
#include <stdint.h>
#include <string.h>

#include "monitor/readline.h"

#define LINE_MAX_BYTES 4095
#define HISTORY_MAX 64
/* Candidates are shown in columns, as on a terminal of this width. */
#define SCREEN_COLUMNS 80
#define MIN_COLUMN 10
#define CTRL(c) ((c) & 0x1f)

enum { ESC_NONE, ESC_START, ESC_CSI, ESC_SS3 };

struct Readline {
    const ReadlineOps *ops;
    void *opaque;
    const char *prompt;
    bool echo;
    GString *line;
    size_t cursor;
    int escape, escape_number;
    bool after_cr; /* the LF of a CR LF is to be left out */
    GPtrArray *history;
    guint history_at; /* history->len: the new line */
    char *draft;      /* the new line while an old one is shown */
};

Readline *readline_new(const ReadlineOps *ops, void *opaque, const char *prompt, bool echo)
{
    Readline *rl = g_new0(Readline, 1);

    rl->ops = ops;
    rl->opaque = opaque;
    rl->prompt = prompt;
    rl->echo = echo;
    rl->line = g_string_new(NULL);
    rl->history = g_ptr_array_new_with_free_func(g_free);
    return rl;
}

void readline_free(Readline *rl)
{
    g_string_free(rl->line, true);
    g_ptr_array_unref(rl->history);
    g_free(rl->draft);
    g_free(rl);
}

const GPtrArray *readline_history(const Readline *rl)
{
    return rl->history;
}

/* --- Output -------------------------------------------------------------------------- */

static void print(Readline *rl, const char *text, size_t len)
{
    if (rl->echo) {
        rl->ops->print(rl->opaque, text, len);
    }
}

static bool is_continuation(char c)
{
    return ((uint8_t)c & 0xc0) == 0x80;
}

static size_t columns(const char *p, size_t len)
{
    size_t n = 0;

    for (size_t i = 0; i < len; i++) {
        n += !is_continuation(p[i]);
    }
    return n;
}

static void cursor_left(Readline *rl, size_t n)
{
    if (n) {
        g_autofree char *text = g_strdup_printf("\033[%zuD", n);

        print(rl, text, strlen(text));
    }
}

/* Redraws from the byte position on, with the cursor there on the screen. */
static void redraw_from(Readline *rl, size_t pos)
{
    print(rl, rl->line->str + pos, rl->line->len - pos);
    print(rl, "\033[K", 3);
    cursor_left(rl, columns(rl->line->str + rl->cursor, rl->line->len - rl->cursor));
}

void readline_show(Readline *rl)
{
    rl->ops->print(rl->opaque, rl->prompt, strlen(rl->prompt));
    if (rl->line->len) {
        redraw_from(rl, 0);
    }
}

/* --- Editing ------------------------------------------------------------------------- */

static size_t char_before(const Readline *rl, size_t pos)
{
    while (pos > 0 && is_continuation(rl->line->str[--pos])) {
    }
    return pos;
}

static size_t char_after(const Readline *rl, size_t pos)
{
    if (pos < rl->line->len) {
        pos++;
    }
    while (pos < rl->line->len && is_continuation(rl->line->str[pos])) {
        pos++;
    }
    return pos;
}

static void move_to(Readline *rl, size_t pos)
{
    if (pos < rl->cursor) {
        cursor_left(rl, columns(rl->line->str + pos, rl->cursor - pos));
    } else {
        print(rl, rl->line->str + rl->cursor, pos - rl->cursor);
    }
    rl->cursor = pos;
}

static void insert(Readline *rl, const char *text, size_t len)
{
    size_t at = rl->cursor;

    if (rl->line->len + len > LINE_MAX_BYTES) {
        return;
    }
    g_string_insert_len(rl->line, at, text, len);
    rl->cursor += len;
    if (rl->cursor == rl->line->len) {
        print(rl, text, len);
    } else {
        redraw_from(rl, at);
    }
}

/* Erases the bytes [from, to), one of which is the cursor's position. */
static void erase(Readline *rl, size_t from, size_t to)
{
    if (from < to) {
        move_to(rl, from);
        g_string_erase(rl->line, from, to - from);
        redraw_from(rl, from);
    }
}

static size_t word_before(const Readline *rl)
{
    size_t pos = rl->cursor;

    while (pos > 0 && rl->line->str[pos - 1] == ' ') {
        pos--;
    }
    while (pos > 0 && rl->line->str[pos - 1] != ' ') {
        pos--;
    }
    return pos;
}

static void replace_line(Readline *rl, const char *text)
{
    move_to(rl, 0);
    g_string_assign(rl->line, text);
    rl->cursor = rl->line->len;
    redraw_from(rl, 0);
}

/* --- History ------------------------------------------------------------------------- */

static void history_go(Readline *rl, int step)
{
    guint to = rl->history_at + step;

    if ((step < 0 && rl->history_at == 0) || to > rl->history->len) {
        return;
    }
    if (rl->history_at == rl->history->len) {
        g_free(rl->draft);
        rl->draft = g_strdup(rl->line->str);
    }
    rl->history_at = to;
    replace_line(rl, to == rl->history->len ? rl->draft : g_ptr_array_index(rl->history, to));
}

static void history_add(Readline *rl, const char *line)
{
    for (guint i = 0; i < rl->history->len; i++) {
        if (!strcmp(g_ptr_array_index(rl->history, i), line)) {
            g_ptr_array_remove_index(rl->history, i);
            break;
        }
    }
    if (*line) {
        g_ptr_array_add(rl->history, g_strdup(line));
    }
    if (rl->history->len > HISTORY_MAX) {
        g_ptr_array_remove_index(rl->history, 0);
    }
    rl->history_at = rl->history->len;
    g_clear_pointer(&rl->draft, g_free);
}

/* --- Completion ---------------------------------------------------------------------- */

static size_t common_prefix(const GPtrArray *words)
{
    const char *first = g_ptr_array_index(words, 0);
    size_t len = strlen(first);

    for (guint i = 1; i < words->len; i++) {
        const char *word = g_ptr_array_index(words, i);
        size_t n = 0;

        while (n < len && word[n] == first[n]) {
            n++;
        }
        len = n;
    }
    return len;
}

static void show_candidates(Readline *rl, const GPtrArray *words, uint64_t more)
{
    size_t width = MIN_COLUMN, per_line;

    for (guint i = 0; i < words->len; i++) {
        const char *word = g_ptr_array_index(words, i);

        width = MAX(width, columns(word, strlen(word)) + 2);
    }
    per_line = MAX(SCREEN_COLUMNS / width, 1);
    print(rl, "\r\n", 2);
    for (guint i = 0; i < words->len; i++) {
        const char *word = g_ptr_array_index(words, i);
        bool ends_line = (i + 1) % per_line == 0 || i + 1 == words->len;
        g_autofree char *cell = g_strdup_printf(
            "%s%*s%s", word, (int)(width - columns(word, strlen(word))), "",
            ends_line ? "\r\n" : "");

        print(rl, cell, strlen(cell));
    }
    if (more) {
        g_autofree char *left_out = g_strdup_printf("(and %" G_GUINT64_FORMAT " more)\r\n", more);

        print(rl, left_out, strlen(left_out));
    }
    readline_show(rl);
}

char *readline_text(const Readline *rl)
{
    return g_strndup(rl->line->str, rl->cursor);
}

void readline_complete(Readline *rl, const GPtrArray *words, uint64_t more)
{
    size_t have, common;
    const char *first;

    if (!words->len) {
        return;
    }
    have = rl->cursor;
    while (have > 0 && rl->line->str[have - 1] != ' ') {
        have--;
    }
    have = rl->cursor - have;
    first = g_ptr_array_index(words, 0);
    common = common_prefix(words);
    if (common > have) {
        insert(rl, first + have, common - have);
    } else if (words->len > 1) {
        show_candidates(rl, words, more);
    }
    if (words->len == 1 && !g_str_has_suffix(first, "/")) {
        insert(rl, " ", 1);
    }
}

/* --- Keys ---------------------------------------------------------------------------- */

static void escape_key(Readline *rl, char c)
{
    switch (c) {
    case 'A':
        history_go(rl, -1);
        break;
    case 'B':
        history_go(rl, 1);
        break;
    case 'C':
        move_to(rl, char_after(rl, rl->cursor));
        break;
    case 'D':
        move_to(rl, char_before(rl, rl->cursor));
        break;
    case 'H':
        move_to(rl, 0);
        break;
    case 'F':
        move_to(rl, rl->line->len);
        break;
    case '~':
        if (rl->escape_number == 1 || rl->escape_number == 7) {
            move_to(rl, 0);
        } else if (rl->escape_number == 4 || rl->escape_number == 8) {
            move_to(rl, rl->line->len);
        } else if (rl->escape_number == 3) {
            erase(rl, rl->cursor, char_after(rl, rl->cursor));
        }
        break;
    }
}

/* Returns whether c was part of an escape sequence. */
static bool escape_input(Readline *rl, char c)
{
    switch (rl->escape) {
    case ESC_NONE:
        return false;
    case ESC_START:
        rl->escape = c == '[' ? ESC_CSI : c == 'O' ? ESC_SS3 : ESC_NONE;
        rl->escape_number = 0;
        return true;
    case ESC_CSI:
        if (c >= '0' && c <= '9') {
            rl->escape_number = MIN(rl->escape_number * 10 + (c - '0'), 1000);
            return true;
        }
        if (c == ';') {
            rl->escape_number = 0;
            return true;
        }
        break;
    }
    rl->escape = ESC_NONE;
    escape_key(rl, c);
    return true;
}

/* Ctrl-C: what was typed is dropped, a new line begins. */
static void give_up(Readline *rl)
{
    move_to(rl, rl->line->len);
    print(rl, "^C\r\n", 4);
    g_string_truncate(rl->line, 0);
    rl->cursor = 0;
    rl->history_at = rl->history->len;
    readline_show(rl);
}

static char *finish(Readline *rl)
{
    char *line = g_strdup(rl->line->str);

    move_to(rl, rl->line->len);
    print(rl, "\r\n", 2);
    g_string_truncate(rl->line, 0);
    rl->cursor = 0;
    history_add(rl, line);
    return line;
}

static void control_key(Readline *rl, char c)
{
    switch (c) {
    case CTRL('A'):
        move_to(rl, 0);
        break;
    case CTRL('B'):
        move_to(rl, char_before(rl, rl->cursor));
        break;
    case CTRL('C'):
        give_up(rl);
        break;
    case CTRL('D'):
        erase(rl, rl->cursor, char_after(rl, rl->cursor));
        break;
    case CTRL('E'):
        move_to(rl, rl->line->len);
        break;
    case CTRL('F'):
        move_to(rl, char_after(rl, rl->cursor));
        break;
    case CTRL('H'):
    case 127:
        erase(rl, char_before(rl, rl->cursor), rl->cursor);
        break;
    case CTRL('K'):
        erase(rl, rl->cursor, rl->line->len);
        break;
    case CTRL('L'):
        print(rl, "\033[2J\033[1;1H", 10);
        readline_show(rl);
        break;
    case CTRL('N'):
        history_go(rl, 1);
        break;
    case CTRL('P'):
        history_go(rl, -1);
        break;
    case CTRL('U'):
        erase(rl, 0, rl->cursor);
        break;
    case CTRL('W'):
        erase(rl, word_before(rl), rl->cursor);
        break;
    case 27:
        rl->escape = ESC_START;
        break;
    }
}

ReadlineEvent readline_input(Readline *rl, char c, char **line)
{
    bool lf_of_crlf = rl->after_cr && c == '\n';

    rl->after_cr = c == '\r';
    if (lf_of_crlf || (rl->echo && escape_input(rl, c))) {
        return READLINE_MORE;
    }
    if (c == '\n' || c == '\r') {
        *line = finish(rl);
        return READLINE_LINE;
    }
    if (c == '\t' && rl->echo) {
        return READLINE_COMPLETE;
    }
    if ((uint8_t)c >= 0x20 && c != 127) {
        insert(rl, &c, 1);
    } else if (rl->echo) {
        control_key(rl, c);
    }
    return READLINE_MORE;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Integer instructions one by one: words as the GNU assembler encodes them, operands at the
 * edges, results from the specification.  Then compressed forms, loads and stores, jumps,
 * atomics, and the pairs that the engine fuses.
 */
#include "rv64-test.h"

/* clang-format off */
/* a1 and a2 go in, a0 comes out. */
static const struct {
    const char *name;
    uint32_t word;
    uint64_t a1, a2, a0;
} insns[] = {
    {"add a0, a1, a2", 0x00c58533, UINT64_C(0xffffffffffffffff), 1, 0},
    {"add a0, a1, a2", 0x00c58533, UINT64_C(0x8123456789abcdef), UINT64_C(0xfedcba987654321), UINT64_C(0x9111111111111110)},
    {"sub a0, a1, a2", 0x40c58533, 0, 1, UINT64_C(0xffffffffffffffff)},
    {"sub a0, a1, a2", 0x40c58533, UINT64_C(0x8000000000000000), 1, UINT64_C(0x7fffffffffffffff)},
    {"sll a0, a1, a2", 0x00c59533, 1, 0x3f, UINT64_C(0x8000000000000000)},
    {"sll a0, a1, a2", 0x00c59533, 1, 0x40, 1},
    {"sll a0, a1, a2", 0x00c59533, UINT64_C(0x8123456789abcdef), UINT64_C(0xffffffffffffffc4), UINT64_C(0x123456789abcdef0)},
    {"srl a0, a1, a2", 0x00c5d533, UINT64_C(0x8000000000000000), 0x3f, 1},
    {"srl a0, a1, a2", 0x00c5d533, UINT64_C(0x8123456789abcdef), 0x48, UINT64_C(0x8123456789abcd)},
    {"sra a0, a1, a2", 0x40c5d533, UINT64_C(0x8000000000000000), 0x3f, UINT64_C(0xffffffffffffffff)},
    {"sra a0, a1, a2", 0x40c5d533, UINT64_C(0x8123456789abcdef), 0x44, UINT64_C(0xf8123456789abcde)},
    {"slt a0, a1, a2", 0x00c5a533, UINT64_C(0x8000000000000000), 0, 1},
    {"slt a0, a1, a2", 0x00c5a533, 0, UINT64_C(0x8000000000000000), 0},
    {"slt a0, a1, a2", 0x00c5a533, 5, 5, 0},
    {"sltu a0, a1, a2", 0x00c5b533, 0, UINT64_C(0xffffffffffffffff), 1},
    {"sltu a0, a1, a2", 0x00c5b533, UINT64_C(0xffffffffffffffff), 0, 0},
    {"xor a0, a1, a2", 0x00c5c533, UINT64_C(0x8123456789abcdef), UINT64_C(0xfedcba987654321), UINT64_C(0x8ece8ece0ece8ece)},
    {"or a0, a1, a2", 0x00c5e533, UINT64_C(0x8123456789abcdef), UINT64_C(0xfedcba987654321), UINT64_C(0x8fefcfef8fefcfef)},
    {"and a0, a1, a2", 0x00c5f533, UINT64_C(0x8123456789abcdef), UINT64_C(0xfedcba987654321), UINT64_C(0x121412181214121)},
    {"addw a0, a1, a2", 0x00c5853b, 0x7fffffff, 1, UINT64_C(0xffffffff80000000)},
    {"addw a0, a1, a2", 0x00c5853b, UINT64_C(0x8123456789abcdef), UINT64_C(0xfedcba987654321), 0x11111110},
    {"subw a0, a1, a2", 0x40c5853b, 0, 1, UINT64_C(0xffffffffffffffff)},
    {"subw a0, a1, a2", 0x40c5853b, UINT64_C(0xffffffff80000000), 1, 0x7fffffff},
    {"sllw a0, a1, a2", 0x00c5953b, 1, 0x1f, UINT64_C(0xffffffff80000000)},
    {"sllw a0, a1, a2", 0x00c5953b, 1, 0x20, 1},
    {"sllw a0, a1, a2", 0x00c5953b, UINT64_C(0x8123456789abcdef), 0x24, UINT64_C(0xffffffff9abcdef0)},
    {"srlw a0, a1, a2", 0x00c5d53b, UINT64_C(0x8123456789abcdef), 4, 0x89abcde},
    {"srlw a0, a1, a2", 0x00c5d53b, UINT64_C(0x80000000), 0, UINT64_C(0xffffffff80000000)},
    {"srlw a0, a1, a2", 0x00c5d53b, UINT64_C(0xffffffff80000000), 0x20, UINT64_C(0xffffffff80000000)},
    {"sraw a0, a1, a2", 0x40c5d53b, UINT64_C(0x80000000), 0x1f, UINT64_C(0xffffffffffffffff)},
    {"sraw a0, a1, a2", 0x40c5d53b, UINT64_C(0x8123456789abcdef), 0x24, UINT64_C(0xfffffffff89abcde)},
    {"mul a0, a1, a2", 0x02c58533, UINT64_C(0x8123456789abcdef), UINT64_C(0xfedcba987654321), UINT64_C(0xa2236d88fe5618cf)},
    {"mul a0, a1, a2", 0x02c58533, UINT64_C(0xffffffffffffffff), UINT64_C(0xffffffffffffffff), 1},
    {"mulh a0, a1, a2", 0x02c59533, UINT64_C(0xffffffffffffffff), UINT64_C(0xffffffffffffffff), 0},
    {"mulh a0, a1, a2", 0x02c59533, UINT64_C(0x8000000000000000), UINT64_C(0x8000000000000000), UINT64_C(0x4000000000000000)},
    {"mulh a0, a1, a2", 0x02c59533, UINT64_C(0x8123456789abcdef), UINT64_C(0xfedcba987654321), UINT64_C(0xf81b39cb4724dbe3)},
    {"mulh a0, a1, a2", 0x02c59533, UINT64_C(0x8000000000000000), 1, UINT64_C(0xffffffffffffffff)},
    {"mulhu a0, a1, a2", 0x02c5b533, UINT64_C(0xffffffffffffffff), UINT64_C(0xffffffffffffffff), UINT64_C(0xfffffffffffffffe)},
    {"mulhu a0, a1, a2", 0x02c5b533, UINT64_C(0x8123456789abcdef), UINT64_C(0xfedcba987654321), UINT64_C(0x8090574ce8a1f04)},
    {"mulhsu a0, a1, a2", 0x02c5a533, UINT64_C(0xffffffffffffffff), UINT64_C(0xffffffffffffffff), UINT64_C(0xffffffffffffffff)},
    {"mulhsu a0, a1, a2", 0x02c5a533, UINT64_C(0x8000000000000000), UINT64_C(0xffffffffffffffff), UINT64_C(0x8000000000000000)},
    {"mulhsu a0, a1, a2", 0x02c5a533, UINT64_C(0x8123456789abcdef), UINT64_C(0x8123456789abcdef), UINT64_C(0xc0014b66dc33f6ac)},
    {"mulhsu a0, a1, a2", 0x02c5a533, 5, UINT64_C(0xffffffffffffffff), 4},
    {"div a0, a1, a2", 0x02c5c533, 7, 0, UINT64_C(0xffffffffffffffff)},
    {"div a0, a1, a2", 0x02c5c533, UINT64_C(0x8000000000000000), UINT64_C(0xffffffffffffffff), UINT64_C(0x8000000000000000)},
    {"div a0, a1, a2", 0x02c5c533, UINT64_C(0xfffffffffffffff9), 2, UINT64_C(0xfffffffffffffffd)},
    {"div a0, a1, a2", 0x02c5c533, 7, UINT64_C(0xfffffffffffffffe), UINT64_C(0xfffffffffffffffd)},
    {"div a0, a1, a2", 0x02c5c533, UINT64_C(0xfffffffffffffff9), UINT64_C(0xfffffffffffffffe), 3},
    {"divu a0, a1, a2", 0x02c5d533, 7, 0, UINT64_C(0xffffffffffffffff)},
    {"divu a0, a1, a2", 0x02c5d533, UINT64_C(0x8000000000000000), UINT64_C(0xffffffffffffffff), 0},
    {"divu a0, a1, a2", 0x02c5d533, UINT64_C(0x8123456789abcdef), 3, UINT64_C(0x2b0bc1cd2de3ef4f)},
    {"rem a0, a1, a2", 0x02c5e533, 7, 0, 7},
    {"rem a0, a1, a2", 0x02c5e533, UINT64_C(0x8000000000000000), UINT64_C(0xffffffffffffffff), 0},
    {"rem a0, a1, a2", 0x02c5e533, UINT64_C(0xfffffffffffffff9), 2, UINT64_C(0xffffffffffffffff)},
    {"rem a0, a1, a2", 0x02c5e533, 7, UINT64_C(0xfffffffffffffffe), 1},
    {"rem a0, a1, a2", 0x02c5e533, UINT64_C(0xfffffffffffffff7), 0, UINT64_C(0xfffffffffffffff7)},
    {"remu a0, a1, a2", 0x02c5f533, UINT64_C(0x8123456789abcdef), 0, UINT64_C(0x8123456789abcdef)},
    {"remu a0, a1, a2", 0x02c5f533, UINT64_C(0x8123456789abcdef), 0xa, 3},
    {"mulw a0, a1, a2", 0x02c5853b, 0x10000, 0x8000, UINT64_C(0xffffffff80000000)},
    {"mulw a0, a1, a2", 0x02c5853b, UINT64_C(0x8123456789abcdef), UINT64_C(0xfedcba987654321), UINT64_C(0xfffffffffe5618cf)},
    {"divw a0, a1, a2", 0x02c5c53b, UINT64_C(0x80000000), UINT64_C(0xffffffffffffffff), UINT64_C(0xffffffff80000000)},
    {"divw a0, a1, a2", 0x02c5c53b, UINT64_C(0x8123456789abcdef), 0, UINT64_C(0xffffffffffffffff)},
    {"divw a0, a1, a2", 0x02c5c53b, UINT64_C(0x1fffffff9), 2, UINT64_C(0xfffffffffffffffd)},
    {"divuw a0, a1, a2", 0x02c5d53b, UINT64_C(0x80000000), 1, UINT64_C(0xffffffff80000000)},
    {"divuw a0, a1, a2", 0x02c5d53b, UINT64_C(0x700000000), 0, UINT64_C(0xffffffffffffffff)},
    {"divuw a0, a1, a2", 0x02c5d53b, UINT64_C(0xffffffff), UINT64_C(0xffffffffffffffff), 1},
    {"divuw a0, a1, a2", 0x02c5d53b, UINT64_C(0x100000000), 1, 0},
    {"remw a0, a1, a2", 0x02c5e53b, UINT64_C(0x80000000), UINT64_C(0xffffffffffffffff), 0},
    {"remw a0, a1, a2", 0x02c5e53b, UINT64_C(0x180000007), 0, UINT64_C(0xffffffff80000007)},
    {"remw a0, a1, a2", 0x02c5e53b, UINT64_C(0xfffffffffffffff9), 2, UINT64_C(0xffffffffffffffff)},
    {"remuw a0, a1, a2", 0x02c5f53b, UINT64_C(0x80000003), 0, UINT64_C(0xffffffff80000003)},
    {"remuw a0, a1, a2", 0x02c5f53b, UINT64_C(0xffffffff), 0x10, 0xf},
    {"remuw a0, a1, a2", 0x02c5f53b, UINT64_C(0xffffffff), UINT64_C(0x100000000), UINT64_C(0xffffffffffffffff)},
    {"add.uw a0, a1, a2", 0x08c5853b, UINT64_C(0xffffffffffffffff), 1, UINT64_C(0x100000000)},
    {"add.uw a0, a1, a2", 0x08c5853b, UINT64_C(0x8123456789abcdef), UINT64_C(0xfedcba987654321), UINT64_C(0xfedcbaa11111110)},
    {"sh1add a0, a1, a2", 0x20c5a533, UINT64_C(0x8123456789abcdef), UINT64_C(0xfedcba987654321), UINT64_C(0x123456789abcdeff)},
    {"sh2add a0, a1, a2", 0x20c5c533, UINT64_C(0x8123456789abcdef), UINT64_C(0xfedcba987654321), UINT64_C(0x147ae147ae147add)},
    {"sh3add a0, a1, a2", 0x20c5e533, UINT64_C(0x8123456789abcdef), UINT64_C(0xfedcba987654321), UINT64_C(0x1907f6e5d4c3b299)},
    {"sh1add.uw a0, a1, a2", 0x20c5a53b, UINT64_C(0x8123456789abcdef), UINT64_C(0xfedcba987654321), UINT64_C(0xfedcbaa9abcdeff)},
    {"sh2add.uw a0, a1, a2", 0x20c5c53b, UINT64_C(0x8123456789abcdef), UINT64_C(0xfedcba987654321), UINT64_C(0xfedcbabae147add)},
    {"sh3add.uw a0, a1, a2", 0x20c5e53b, UINT64_C(0x8123456789abcdef), UINT64_C(0xfedcba987654321), UINT64_C(0xfedcbadd4c3b299)},
    {"andn a0, a1, a2", 0x40c5f533, UINT64_C(0x8123456789abcdef), UINT64_C(0xfedcba987654321), UINT64_C(0x80020446088a8cce)},
    {"orn a0, a1, a2", 0x40c5e533, UINT64_C(0x8123456789abcdef), UINT64_C(0xfedcba987654321), UINT64_C(0xf1337577f9bbfdff)},
    {"xnor a0, a1, a2", 0x40c5c533, UINT64_C(0x8123456789abcdef), UINT64_C(0xfedcba987654321), UINT64_C(0x71317131f1317131)},
    {"max a0, a1, a2", 0x0ac5e533, UINT64_C(0xffffffffffffffff), 0, 0},
    {"max a0, a1, a2", 0x0ac5e533, UINT64_C(0x8000000000000000), UINT64_C(0xffffffffffffffff), UINT64_C(0xffffffffffffffff)},
    {"maxu a0, a1, a2", 0x0ac5f533, UINT64_C(0xffffffffffffffff), 0, UINT64_C(0xffffffffffffffff)},
    {"min a0, a1, a2", 0x0ac5c533, UINT64_C(0xffffffffffffffff), 0, UINT64_C(0xffffffffffffffff)},
    {"min a0, a1, a2", 0x0ac5c533, 1, UINT64_C(0x8000000000000000), UINT64_C(0x8000000000000000)},
    {"minu a0, a1, a2", 0x0ac5d533, UINT64_C(0xffffffffffffffff), 0, 0},
    {"rol a0, a1, a2", 0x60c59533, UINT64_C(0x8123456789abcdef), 8, UINT64_C(0x23456789abcdef81)},
    {"rol a0, a1, a2", 0x60c59533, UINT64_C(0x8123456789abcdef), 0x40, UINT64_C(0x8123456789abcdef)},
    {"rol a0, a1, a2", 0x60c59533, UINT64_C(0x8123456789abcdef), 0, UINT64_C(0x8123456789abcdef)},
    {"ror a0, a1, a2", 0x60c5d533, UINT64_C(0x8123456789abcdef), 8, UINT64_C(0xef8123456789abcd)},
    {"ror a0, a1, a2", 0x60c5d533, UINT64_C(0x8123456789abcdef), 0x80, UINT64_C(0x8123456789abcdef)},
    {"rolw a0, a1, a2", 0x60c5953b, UINT64_C(0x8123456789abcdef), 8, UINT64_C(0xffffffffabcdef89)},
    {"rolw a0, a1, a2", 0x60c5953b, UINT64_C(0x8123456789abcdef), 0x20, UINT64_C(0xffffffff89abcdef)},
    {"rorw a0, a1, a2", 0x60c5d53b, UINT64_C(0x8123456789abcdef), 4, UINT64_C(0xfffffffff89abcde)},
    {"rorw a0, a1, a2", 0x60c5d53b, UINT64_C(0x80000000), 0, UINT64_C(0xffffffff80000000)},
    {"bclr a0, a1, a2", 0x48c59533, UINT64_C(0xffffffffffffffff), 0x3f, UINT64_C(0x7fffffffffffffff)},
    {"bclr a0, a1, a2", 0x48c59533, UINT64_C(0xffffffffffffffff), 0x40, UINT64_C(0xfffffffffffffffe)},
    {"bext a0, a1, a2", 0x48c5d533, UINT64_C(0x8000000000000000), 0x3f, 1},
    {"bext a0, a1, a2", 0x48c5d533, UINT64_C(0x8000000000000000), 0x3e, 0},
    {"bext a0, a1, a2", 0x48c5d533, 2, 0x41, 1},
    {"binv a0, a1, a2", 0x68c59533, 0, 0x3f, UINT64_C(0x8000000000000000)},
    {"binv a0, a1, a2", 0x68c59533, UINT64_C(0xffffffffffffffff), 0, UINT64_C(0xfffffffffffffffe)},
    {"bset a0, a1, a2", 0x28c59533, 0, 0x1f, UINT64_C(0x80000000)},
    {"bset a0, a1, a2", 0x28c59533, 0, 0x7f, UINT64_C(0x8000000000000000)},
    {"addi a0, a1, -2048", 0x80058513, 0, 0, UINT64_C(0xfffffffffffff800)},
    {"addi a0, a1, 2047", 0x7ff58513, UINT64_C(0xffffffffffffffff), 0, 0x7fe},
    {"slti a0, a1, -1", 0xfff5a513, UINT64_C(0xfffffffffffffffe), 0, 1},
    {"slti a0, a1, -1", 0xfff5a513, 0, 0, 0},
    {"sltiu a0, a1, -1", 0xfff5b513, 5, 0, 1},
    {"sltiu a0, a1, 1", 0x0015b513, 0, 0, 1},
    {"sltiu a0, a1, -1", 0xfff5b513, UINT64_C(0xffffffffffffffff), 0, 0},
    {"xori a0, a1, -1", 0xfff5c513, UINT64_C(0x8123456789abcdef), 0, UINT64_C(0x7edcba9876543210)},
    {"ori a0, a1, -2048", 0x8005e513, 1, 0, UINT64_C(0xfffffffffffff801)},
    {"andi a0, a1, -16", 0xff05f513, UINT64_C(0x8123456789abcdef), 0, UINT64_C(0x8123456789abcde0)},
    {"slli a0, a1, 63", 0x03f59513, 1, 0, UINT64_C(0x8000000000000000)},
    {"slli a0, a1, 0", 0x00059513, UINT64_C(0x8123456789abcdef), 0, UINT64_C(0x8123456789abcdef)},
    {"srli a0, a1, 63", 0x03f5d513, UINT64_C(0xffffffffffffffff), 0, 1},
    {"srai a0, a1, 63", 0x43f5d513, UINT64_C(0x8000000000000000), 0, UINT64_C(0xffffffffffffffff)},
    {"srai a0, a1, 1", 0x4015d513, UINT64_C(0x8000000000000000), 0, UINT64_C(0xc000000000000000)},
    {"addiw a0, a1, -1", 0xfff5851b, 0, 0, UINT64_C(0xffffffffffffffff)},
    {"addiw a0, a1, 1", 0x0015851b, 0x7fffffff, 0, UINT64_C(0xffffffff80000000)},
    {"addiw a0, a1, 0", 0x0005851b, UINT64_C(0x8123456789abcdef), 0, UINT64_C(0xffffffff89abcdef)},
    {"slliw a0, a1, 31", 0x01f5951b, 1, 0, UINT64_C(0xffffffff80000000)},
    {"srliw a0, a1, 31", 0x01f5d51b, UINT64_C(0xffffffff80000000), 0, 1},
    {"srliw a0, a1, 0", 0x0005d51b, UINT64_C(0x80000000), 0, UINT64_C(0xffffffff80000000)},
    {"sraiw a0, a1, 31", 0x41f5d51b, UINT64_C(0x80000000), 0, UINT64_C(0xffffffffffffffff)},
    {"sraiw a0, a1, 4", 0x4045d51b, UINT64_C(0x780000000), 0, UINT64_C(0xfffffffff8000000)},
    {"slli.uw a0, a1, 63", 0x0bf5951b, 1, 0, UINT64_C(0x8000000000000000)},
    {"slli.uw a0, a1, 4", 0x0845951b, UINT64_C(0x8123456789abcdef), 0, UINT64_C(0x89abcdef0)},
    {"rori a0, a1, 1", 0x6015d513, 1, 0, UINT64_C(0x8000000000000000)},
    {"rori a0, a1, 0", 0x6005d513, UINT64_C(0x8123456789abcdef), 0, UINT64_C(0x8123456789abcdef)},
    {"rori a0, a1, 20", 0x6145d513, UINT64_C(0x8123456789abcdef), 0, UINT64_C(0xbcdef8123456789a)},
    {"roriw a0, a1, 1", 0x6015d51b, 1, 0, UINT64_C(0xffffffff80000000)},
    {"roriw a0, a1, 0", 0x6005d51b, UINT64_C(0x80000000), 0, UINT64_C(0xffffffff80000000)},
    {"roriw a0, a1, 12", 0x60c5d51b, UINT64_C(0x8123456789abcdef), 0, UINT64_C(0xffffffffdef89abc)},
    {"bclri a0, a1, 63", 0x4bf59513, UINT64_C(0xffffffffffffffff), 0, UINT64_C(0x7fffffffffffffff)},
    {"bexti a0, a1, 63", 0x4bf5d513, UINT64_C(0x8000000000000000), 0, 1},
    {"binvi a0, a1, 32", 0x6a059513, 0, 0, UINT64_C(0x100000000)},
    {"bseti a0, a1, 63", 0x2bf59513, 0, 0, UINT64_C(0x8000000000000000)},
    {"clz a0, a1", 0x60059513, 0, 0, 0x40},
    {"clz a0, a1", 0x60059513, 1, 0, 0x3f},
    {"clz a0, a1", 0x60059513, UINT64_C(0x8000000000000000), 0, 0},
    {"ctz a0, a1", 0x60159513, 0, 0, 0x40},
    {"ctz a0, a1", 0x60159513, UINT64_C(0x8000000000000000), 0, 0x3f},
    {"cpop a0, a1", 0x60259513, UINT64_C(0xffffffffffffffff), 0, 0x40},
    {"cpop a0, a1", 0x60259513, UINT64_C(0x8123456789abcdef), 0, 0x21},
    {"clzw a0, a1", 0x6005951b, 0, 0, 0x20},
    {"clzw a0, a1", 0x6005951b, UINT64_C(0x100000000), 0, 0x20},
    {"clzw a0, a1", 0x6005951b, UINT64_C(0x80000000), 0, 0},
    {"ctzw a0, a1", 0x6015951b, UINT64_C(0x100000000), 0, 0x20},
    {"ctzw a0, a1", 0x6015951b, UINT64_C(0x80000000), 0, 0x1f},
    {"cpopw a0, a1", 0x6025951b, UINT64_C(0xffffffffffffffff), 0, 0x20},
    {"cpopw a0, a1", 0x6025951b, UINT64_C(0xf00000001), 0, 1},
    {"sext.b a0, a1", 0x60459513, 0x80, 0, UINT64_C(0xffffffffffffff80)},
    {"sext.b a0, a1", 0x60459513, 0x17f, 0, 0x7f},
    {"sext.h a0, a1", 0x60559513, 0x8000, 0, UINT64_C(0xffffffffffff8000)},
    {"zext.h a0, a1", 0x0805c53b, UINT64_C(0xffffffffffffffff), 0, 0xffff},
    {"orc.b a0, a1", 0x2875d513, UINT64_C(0x100000080000010), 0, UINT64_C(0xff000000ff0000ff)},
    {"orc.b a0, a1", 0x2875d513, 0, 0, 0},
    {"orc.b a0, a1", 0x2875d513, UINT64_C(0xffffffffffffffff), 0, UINT64_C(0xffffffffffffffff)},
    {"orc.b a0, a1", 0x2875d513, UINT64_C(0x8004000200001), 0, UINT64_C(0xff00ff00ff00ff)},
    {"rev8 a0, a1", 0x6b85d513, UINT64_C(0x123456789abcdef), 0, UINT64_C(0xefcdab8967452301)},
    {"lui a0, 0x80000", 0x80000537, 0, 0, UINT64_C(0xffffffff80000000)},
    {"lui a0, 0x7ffff", 0x7ffff537, 0, 0, 0x7ffff000},
};

/* a0 and a1 go in, a0 comes out; sp is 0x80010000. */
static const struct {
    const char *name;
    uint16_t word;
    uint64_t a0, a1, result;
} compressed[] = {
    {"c.addi a0, -32", 0x1501, 5, 0, UINT64_C(0xffffffffffffffe5)},
    {"c.addi a0, 31", 0x057d, UINT64_C(0xffffffffffffffff), 0, 0x1e},
    {"c.addiw a0, 1", 0x2505, 0x7fffffff, 0, UINT64_C(0xffffffff80000000)},
    {"c.addiw a0, 0", 0x2501, UINT64_C(0x8123456789abcdef), 0, UINT64_C(0xffffffff89abcdef)},
    {"c.li a0, -1", 0x557d, 0, 0, UINT64_C(0xffffffffffffffff)},
    {"c.li a0, 31", 0x457d, 0, 0, 0x1f},
    {"c.lui a0, 1", 0x6505, 0, 0, 0x1000},
    {"c.lui a0, 0xfffff", 0x757d, 0, 0, UINT64_C(0xfffffffffffff000)},
    {"c.lui a0, 31", 0x657d, 0, 0, 0x1f000},
    {"c.lui a0, 0xfffe0", 0x7501, 0, 0, UINT64_C(0xfffffffffffe0000)},
    {"c.slli a0, 63", 0x157e, 1, 0, UINT64_C(0x8000000000000000)},
    {"c.slli a0, 1", 0x0506, UINT64_C(0x8123456789abcdef), 0, UINT64_C(0x2468acf13579bde)},
    {"c.srli a0, 63", 0x917d, UINT64_C(0xffffffffffffffff), 0, 1},
    {"c.srli a0, 33", 0x9105, UINT64_C(0x8123456789abcdef), 0, 0x4091a2b3},
    {"c.srai a0, 63", 0x957d, UINT64_C(0x8000000000000000), 0, UINT64_C(0xffffffffffffffff)},
    {"c.srai a0, 7", 0x851d, UINT64_C(0x8123456789abcdef), 0, UINT64_C(0xff02468acf13579b)},
    {"c.andi a0, -32", 0x9901, UINT64_C(0x8123456789abcdef), 0, UINT64_C(0x8123456789abcde0)},
    {"c.andi a0, 31", 0x897d, UINT64_C(0x8123456789abcdef), 0, 0xf},
    {"c.mv a0, a1", 0x852e, UINT64_C(0x8123456789abcdef), UINT64_C(0xfedcba987654321), UINT64_C(0xfedcba987654321)},
    {"c.add a0, a1", 0x952e, UINT64_C(0x8123456789abcdef), UINT64_C(0xfedcba987654321), UINT64_C(0x9111111111111110)},
    {"c.sub a0, a1", 0x8d0d, UINT64_C(0x8123456789abcdef), UINT64_C(0xfedcba987654321), UINT64_C(0x713579be02468ace)},
    {"c.xor a0, a1", 0x8d2d, UINT64_C(0x8123456789abcdef), UINT64_C(0xfedcba987654321), UINT64_C(0x8ece8ece0ece8ece)},
    {"c.or a0, a1", 0x8d4d, UINT64_C(0x8123456789abcdef), UINT64_C(0xfedcba987654321), UINT64_C(0x8fefcfef8fefcfef)},
    {"c.and a0, a1", 0x8d6d, UINT64_C(0x8123456789abcdef), UINT64_C(0xfedcba987654321), UINT64_C(0x121412181214121)},
    {"c.subw a0, a1", 0x9d0d, 0, 1, UINT64_C(0xffffffffffffffff)},
    {"c.addw a0, a1", 0x9d2d, 0x7fffffff, 1, UINT64_C(0xffffffff80000000)},
    {"c.addi4spn a0, sp, 4", 0x0048, 0, 0, UINT64_C(0x80010004)},
    {"c.addi4spn a0, sp, 1020", 0x1fe8, 0, 0, UINT64_C(0x800103fc)},
    {"c.addi4spn a0, sp, 8", 0x0028, 0, 0, UINT64_C(0x80010008)},
    {"c.addi4spn a0, sp, 64", 0x0088, 0, 0, UINT64_C(0x80010040)},
    {"c.addi4spn a0, sp, 512", 0x0408, 0, 0, UINT64_C(0x80010200)},
};
/* clang-format on */

static void test_table(RvMachine *m, gconstpointer data)
{
    for (size_t i = 0; i < G_N_ELEMENTS(insns); i++) {
        rv_reset(m);
        m->cpu->x[A1] = insns[i].a1;
        m->cpu->x[A2] = insns[i].a2;
        RV_RUN(m, insns[i].word);
        g_test_message("%s %" PRIx64 " %" PRIx64, insns[i].name, insns[i].a1, insns[i].a2);
        rv_assert_no_trap(m);
        g_assert_cmphex(m->cpu->x[A0], ==, insns[i].a0);
        g_assert_cmphex(m->cpu->pc, ==, RV_CODE + 8);

        /* The same with x0 as destination changes nothing. */
        rv_reset(m);
        m->cpu->x[A1] = insns[i].a1;
        m->cpu->x[A2] = insns[i].a2;
        RV_RUN(m, insns[i].word & ~0xf80u, ADD(A0, 0, 0));
        g_assert_cmphex(m->cpu->x[A0], ==, 0);
    }
}

/* Sources and destination may be the same register. */
static void test_table_aliased(RvMachine *m, gconstpointer data)
{
    for (size_t i = 0; i < G_N_ELEMENTS(insns); i++) {
        rv_reset(m);
        m->cpu->x[A1] = insns[i].a1;
        m->cpu->x[A2] = insns[i].a2;
        RV_RUN(m, (insns[i].word & ~0xf80u) | A1 << 7);
        g_assert_cmphex(m->cpu->x[A1], ==, insns[i].a0);
    }
}

static void test_compressed(RvMachine *m, gconstpointer data)
{
    for (size_t i = 0; i < G_N_ELEMENTS(compressed); i++) {
        rv_reset(m);
        m->cpu->x[A0] = compressed[i].a0;
        m->cpu->x[A1] = compressed[i].a1;
        m->cpu->x[2] = RV_DATA;
        RV_RUN(m, compressed[i].word | 0x00010000u); /* and c.nop */
        g_test_message("%s", compressed[i].name);
        rv_assert_no_trap(m);
        g_assert_cmphex(m->cpu->x[A0], ==, compressed[i].result);
        g_assert_cmphex(m->cpu->pc, ==, RV_CODE + 8);
    }
}

#define PAIR(c) ((uint32_t)(c) | 0x00010000u)

static void test_compressed_memory(RvMachine *m, gconstpointer data)
{
    static const struct {
        uint16_t word;
        int off;
        bool word_size, fp, store;
    } t[] = {
        {0x5de8, 124, true, false, false},  {0x41c8, 4, true, false, false},
        {0x41a8, 64, true, false, false},   {0x7de8, 248, false, false, false},
        {0x6588, 8, false, false, false},   {0x61a8, 64, false, false, false},
        {0xdde8, 124, true, false, true},   {0xfde8, 248, false, false, true},
        {0x557e, 252, true, false, false},  {0x4512, 4, true, false, false},
        {0x757e, 504, false, false, false}, {0x6522, 8, false, false, false},
        {0xdfaa, 252, true, false, true},   {0xffaa, 504, false, false, true},
        {0x3de8, 248, false, true, false},  {0xbde8, 248, false, true, true},
        {0x357e, 504, false, true, false},  {0xbfaa, 504, false, true, true},
    };
    const uint64_t value = UINT64_C(0x8877665598765432);

    for (size_t i = 0; i < G_N_ELEMENTS(t); i++) {
        uint64_t *reg = t[i].fp ? m->cpu->f : m->cpu->x, now = 0;
        uint8_t *mem = m->ram + (RV_DATA + t[i].off - RV_RAM);

        rv_reset(m);
        m->cpu->mstatus |= MSTATUS_FS;
        m->cpu->x[A1] = m->cpu->x[2] = RV_DATA;
        reg[A0] = t[i].store ? value : 0;
        memcpy(mem, t[i].store ? &now : &value, 8);
        RV_RUN(m, PAIR(t[i].word));
        rv_assert_no_trap(m);
        if (t[i].store) {
            memcpy(&now, mem, 8);
            g_assert_cmphex(now, ==, t[i].word_size ? (uint32_t)value : value);
        } else {
            g_assert_cmphex(reg[A0], ==,
                            t[i].word_size ? UINT64_C(0xffffffff98765432) : value);
        }
    }
}

static void test_compressed_jumps(RvMachine *m, gconstpointer data)
{
    static const struct {
        uint16_t word;
        int64_t sp;
    } sp[] = {{0x7101, -512}, {0x617d, 496}, {0x6141, 16}};

    for (size_t i = 0; i < G_N_ELEMENTS(sp); i++) {
        rv_reset(m);
        m->cpu->x[2] = RV_DATA;
        RV_RUN(m, PAIR(sp[i].word));
        g_assert_cmphex(m->cpu->x[2], ==, RV_DATA + sp[i].sp);
    }
    /* c.jalr a1, c.jr a1: bit 0 of the target is dropped */
    rv_reset(m);
    m->cpu->x[A1] = RV_CODE + 0x101;
    RV_PLACE(m, RV_CODE + 0x100, WFI);
    RV_RUN(m, PAIR(0x9582));
    g_assert_cmphex(m->cpu->pc, ==, RV_CODE + 0x104);
    g_assert_cmphex(m->cpu->x[1], ==, RV_CODE + 2);
    rv_reset(m);
    m->cpu->x[A1] = RV_CODE + 0x101;
    RV_RUN(m, PAIR(0x8582));
    g_assert_cmphex(m->cpu->pc, ==, RV_CODE + 0x104);
    g_assert_cmphex(m->cpu->x[1], ==, 0);
    /* c.ebreak; the all-zero word; a reserved form (c.addiw x0) */
    RV_RUN(m, PAIR(0x9002));
    rv_assert_trap(m, EXC_BREAKPOINT, RV_CODE, RV_CODE);
    RV_RUN(m, 0);
    rv_assert_trap(m, EXC_ILLEGAL, RV_CODE, 0);
    RV_RUN(m, PAIR(0x2005));
    rv_assert_trap(m, EXC_ILLEGAL, RV_CODE, 0x2005);
}

static void test_loads(RvMachine *m, gconstpointer data)
{
    static const struct {
        uint32_t f3;
        int off;
        uint64_t value;
    } t[] = {
        {0, 7, UINT64_C(0xfffffffffffffff1)}, {1, 6, UINT64_C(0xfffffffffffff1e2)},
        {2, 4, UINT64_C(0xfffffffff1e2d3c4)}, {3, 0, UINT64_C(0xf1e2d3c4b5a69788)},
        {4, 7, 0xf1},                         {5, 6, 0xf1e2},
        {6, 4, 0xf1e2d3c4},
        /* misaligned */
        {1, 5, UINT64_C(0xffffffffffffe2d3)}, {2, 1, UINT64_C(0xffffffffc4b5a697)},
        {3, 3, UINT64_C(0x332211f1e2d3c4b5)}, {6, 3, 0xe2d3c4b5 + UINT64_C(0)},
    };
    /* In one page, and across two. */
    static const uint64_t places[] = {RV_DATA, RV_DATA + 0x1000 - 8, RV_DATA + 0x1000 - 5};

    for (size_t p = 0; p < G_N_ELEMENTS(places); p++) {
        for (size_t i = 0; i < G_N_ELEMENTS(t); i++) {
            static const uint64_t bytes[2] = {UINT64_C(0xf1e2d3c4b5a69788),
                                              UINT64_C(0x8877665544332211)};
            uint64_t value;

            rv_reset(m);
            memcpy(m->ram + (places[p] - RV_RAM), bytes, sizeof(bytes));
            m->cpu->x[A1] = places[p];
            RV_RUN(m, LOAD_(t[i].f3, A2, t[i].off, A1), LOAD_(t[i].f3, A0, t[i].off, A1));
            rv_assert_no_trap(m);
            g_assert_cmphex(m->cpu->x[A2], ==, t[i].value);
            g_assert_cmphex(m->cpu->x[A0], ==, t[i].value);
            /* Stores of each size write these bytes only. */
            if (t[i].f3 > 3) {
                continue;
            }
            rv_reset(m);
            memset(m->ram + (places[p] - RV_RAM), 0, 16);
            m->cpu->x[A1] = places[p];
            m->cpu->x[A0] = t[i].value;
            /* Twice: once it fills the TLB, once it hits. */
            m->cpu->x[A2] = ~t[i].value;
            RV_RUN(m, S_TYPE(t[i].off, A2, A1, t[i].f3, 0x23),
                   S_TYPE(t[i].off, A0, A1, t[i].f3, 0x23));
            rv_assert_no_trap(m);
            value = 0;
            memcpy(&value, m->ram + (places[p] - RV_RAM) + t[i].off, 1 << t[i].f3);
            g_assert_cmpmem(&value, 1 << t[i].f3, &t[i].value, 1 << t[i].f3);
            for (int b = 0; b < 16; b++) {
                if (b < t[i].off || b >= t[i].off + (1 << t[i].f3)) {
                    g_assert_cmpint(m->ram[places[p] - RV_RAM + b], ==, 0);
                }
            }
        }
    }
}

static void test_amo(RvMachine *m, gconstpointer data)
{
    static const struct {
        unsigned f5;
        uint64_t mem, reg, word, dword;
    } t[] = {
        {0x00, UINT64_C(0x7fffffffffffffff), 1, 0, UINT64_C(0x8000000000000000)},
        {0x01, 5, 9, 9, 9},
        {0x04, 0xff, 0x0f, 0xf0, 0xf0},
        {0x0c, 0xff, 0x0f, 0x0f, 0x0f},
        {0x08, 0xf0, 0x0f, 0xff, 0xff},
        {0x10, UINT64_MAX, 1, 0xffffffff, UINT64_MAX},
        {0x14, UINT64_MAX, 1, 1, 1},
        {0x18, UINT64_MAX, 1, 1, 1},
        {0x1c, UINT64_MAX, 1, 0xffffffff, UINT64_MAX},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(t); i++) {
        for (unsigned f3 = 2; f3 <= 3; f3++) {
            uint64_t *mem = rv_dword(m, RV_DATA);

            rv_reset(m);
            *mem = t[i].mem;
            m->cpu->x[A1] = RV_DATA;
            m->cpu->x[A2] = t[i].reg;
            RV_RUN(m, AMO(t[i].f5, f3, A0, A2, A1));
            rv_assert_no_trap(m);
            if (f3 == 2) {
                g_assert_cmphex((uint32_t)*mem, ==, t[i].word);
                g_assert_cmphex(*mem >> 32, ==, t[i].mem >> 32);
                g_assert_cmphex(m->cpu->x[A0], ==, (uint64_t)(int64_t)(int32_t)t[i].mem);
            } else {
                g_assert_cmphex(*mem, ==, t[i].dword);
                g_assert_cmphex(m->cpu->x[A0], ==, t[i].mem);
            }
        }
    }
    m->cpu->x[A1] = RV_DATA + 4;
    RV_RUN(m, AMO(0, 3, A0, A2, A1));
    rv_assert_trap(m, EXC_STORE_MISALIGNED, RV_CODE, RV_DATA + 4);
    m->cpu->x[A1] = RV_DATA + 2;
    RV_RUN(m, AMO(2, 2, A0, 0, A1));
    rv_assert_trap(m, EXC_LOAD_MISALIGNED, RV_CODE, RV_DATA + 2);
    m->cpu->x[A1] = RV_DEVICE;
    RV_RUN(m, AMO(0, 2, A0, A2, A1));
    rv_assert_trap(m, EXC_STORE_ACCESS, RV_CODE, RV_DEVICE);
    g_assert_cmpint(m->reads + m->writes, ==, 0);
}

static void test_lr_sc(RvMachine *m, gconstpointer data)
{
    uint64_t *mem = rv_dword(m, RV_DATA);

    m->cpu->x[A1] = RV_DATA;
    m->cpu->x[A2] = 77;
    *mem = 42;
    RV_RUN(m, AMO(2, 3, A3, 0, A1), AMO(3, 3, A0, A2, A1), AMO(3, 3, A4, A2, A1));
    g_assert_cmpint(m->cpu->x[A3], ==, 42);
    g_assert_cmpint(m->cpu->x[A0], ==, 0);
    g_assert_cmpint(m->cpu->x[A4], ==, 1); /* the reservation is used up */
    g_assert_cmpint(*mem, ==, 77);
    /* A store in between, another address, another size. */
    m->cpu->x[A3] = 1;
    RV_RUN(m, AMO(2, 3, A5, 0, A1), SD(A3, 0, A1), AMO(3, 3, A0, A2, A1));
    g_assert_cmpint(m->cpu->x[A0], ==, 1);
    g_assert_cmpint(*mem, ==, 1);
    RV_RUN(m, AMO(2, 3, A5, 0, A1), ADDI(A4, A1, 8), AMO(3, 3, A0, A2, A4));
    g_assert_cmpint(m->cpu->x[A0], ==, 1);
    RV_RUN(m, AMO(2, 3, A5, 0, A1), AMO(3, 2, A0, A2, A1));
    g_assert_cmpint(m->cpu->x[A0], ==, 1);
    /* A trap in between. */
    RV_PLACE(m, RV_HANDLER, CSRRS(A5, 0x341, 0), ADDI(A5, A5, 4), CSRRW(0, 0x341, A5), MRET);
    RV_RUN(m, AMO(2, 3, A5, 0, A1), ECALL, AMO(3, 3, A0, A2, A1));
    g_assert_cmpint(m->cpu->x[A0], ==, 1);
    g_assert_cmpint(*mem, ==, 1);
}

static void test_control(RvMachine *m, gconstpointer data)
{
    static const struct {
        unsigned f3;
        int64_t a, b;
        bool taken;
    } t[] = {
        {0, 1, 1, true}, {0, 1, 2, false}, {1, 1, 2, true}, {1, 3, 3, false},
        {4, -1, 1, true}, {4, 1, 1, false}, {5, 1, 1, true}, {5, -1, 1, false},
        {6, 1, -1, true}, {6, -1, 1, false}, {7, -1, 1, true}, {7, 1, -1, false},
        {0, 0, 0, true}, {1, 0, 0, false},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(t); i++) {
        rv_reset(m);
        m->cpu->x[A1] = (uint64_t)t[i].a;
        m->cpu->x[A2] = (uint64_t)t[i].b;
        RV_RUN(m, BRANCH_(t[i].f3, A1, A2, 12), ADDI(A0, A0, 1), NOP, ADDI(A0, A0, 2));
        g_assert_cmpint(m->cpu->x[A0], ==, t[i].taken ? 2 : 3);
    }
    /* Backwards, and a count of what was retired. */
    rv_reset(m);
    RV_RUN(m, ADDI(A1, 0, 1000), ADDI(A0, A0, 3), ADDI(A1, A1, -1), BNE(A1, 0, -8),
           CSRRS(A2, 0xb02, 0));
    g_assert_cmpint(m->cpu->x[A0], ==, 3000);
    g_assert_cmpint(m->cpu->x[A2], ==, 1 + 3 * 1000);
    /* jal over a page and back, jalr with rd = rs1 */
    rv_reset(m);
    RV_PLACE(m, RV_CODE + 0x1100, ADDI(A0, A0, 5), JALR(1, 0, 1));
    RV_RUN(m, JAL(1, 0x1100), ADDI(A0, A0, 7));
    g_assert_cmpint(m->cpu->x[A0], ==, 12);
    g_assert_cmphex(m->cpu->x[1], ==, RV_CODE + 0x1108);
    rv_reset(m);
    m->cpu->x[A1] = RV_DATA;
    m->cpu->x[A0] = 1;
    RV_RUN(m, BEQ(A0, 0, 8), ADD(A2, A0, A0), BEQ(0, 0, 8), EBREAK, JAL(0, 8), EBREAK);
    rv_assert_no_trap(m);
    g_assert_cmpint(m->cpu->x[A2], ==, 2);
}

/* lui and auipc with what follows: fused or not, the result is the same. */
static void test_pairs(RvMachine *m, gconstpointer data)
{
    RV_RUN(m, LUI(A0, 0x12345), ADDI(A0, A0, -1), LUI(A1, 0x80000), ADDI(A1, A1, -1),
           LUI(A2, 0x80000), I_TYPE(-1, A2, 0, A2, 0x1b), LUI(A3, 5), ADDI(A4, A3, 1));
    g_assert_cmphex(m->cpu->x[A0], ==, 0x12344fff);
    g_assert_cmphex(m->cpu->x[A1], ==, UINT64_C(0xffffffff7fffffff));
    g_assert_cmphex(m->cpu->x[A2], ==, 0x7fffffff);
    g_assert_cmphex(m->cpu->x[A3], ==, 0x5000);
    g_assert_cmphex(m->cpu->x[A4], ==, 0x5001);
    *rv_dword(m, RV_DATA + 8) = UINT64_C(0x8001020304050607);
    RV_RUN(m, AUIPC(A0, 0x10), LD(A0, 8, A0), AUIPC(A1, 0x10), LW(A1, 4, A1), AUIPC(A2, 0x10),
           LD(A3, -8, A2), AUIPC(A4, 0), ADDI(A4, A4, -24));
    g_assert_cmphex(m->cpu->x[A0], ==, UINT64_C(0x8001020304050607));
    g_assert_cmphex(m->cpu->x[A1], ==, UINT64_C(0xffffffff80010203));
    g_assert_cmphex(m->cpu->x[A2], ==, RV_DATA + 16);
    g_assert_cmphex(m->cpu->x[A3], ==, UINT64_C(0x8001020304050607));
    g_assert_cmphex(m->cpu->x[A4], ==, RV_CODE);
    /* A call through auipc and jalr. */
    RV_PLACE(m, RV_CODE + 0x1800, ADDI(A0, 0, 9), JALR(0, 0, 1));
    RV_RUN(m, NOP, AUIPC(1, 1), JALR(1, 0x7fc, 1));
    rv_assert_no_trap(m);
    g_assert_cmpint(m->cpu->x[A0], ==, 9);
    g_assert_cmphex(m->cpu->x[1], ==, RV_CODE + 12);
    /* The load of a pair faults: auipc has been executed, the load has not. */
    RV_RUN(m, NOP, AUIPC(A0, 0x70000), LD(A0, -4, A0));
    rv_assert_trap(m, EXC_LOAD_ACCESS, RV_CODE + 8, RV_CODE + UINT64_C(0x70000000));
    g_assert_cmphex(m->cpu->x[A0], ==, RV_CODE + UINT64_C(0x70000004));
    RV_RUN(m, AUIPC(A0, 0x70000), CSRRS(A1, 0xb02, 0), LD(A0, 1, A0));
    rv_assert_trap(m, EXC_LOAD_ACCESS, RV_CODE + 8, RV_CODE + UINT64_C(0x70000001));
}

static void test_illegal(RvMachine *m, gconstpointer data)
{
    static const uint32_t words[] = {
        0xffffffff, 0x00000007, 0x0000400b, R_TYPE(0x40, 1, 1, 0, 1, 0x33),
        R_TYPE(0x02, 1, 1, 1, 1, 0x13), AMO(5, 2, 1, 1, 1), AMO(2, 2, 1, 1, 1),
        I_TYPE(0, 1, 7, 1, 0x03), S_TYPE(0, 1, 1, 4, 0x23), BRANCH_(2, 1, 1, 8),
        I_TYPE(0, 1, 1, 1, 0x67), CSRRS(1, 0x7c0, 0), CSRRW(0, 0xf11, 1), CSRRS(1, 0xc21, 0),
        R_TYPE(0x20, 1, 1, 1, 1, 0x3b), R_TYPE(0x01, 0, 1, 1, 1, 0x1b),
    };

    for (size_t i = 0; i < G_N_ELEMENTS(words); i++) {
        rv_reset(m);
        m->cpu->mstatus |= MSTATUS_FS;
        RV_RUN(m, NOP, words[i]);
        rv_assert_trap(m, EXC_ILLEGAL, RV_CODE + 4, words[i]);
    }
}

static gpointer kick_once(gpointer opaque)
{
    rv64_accel_ops.kick(opaque);
    return NULL;
}

/* A handler that cannot be fetched: the hart traps for ever, and still hears a kick. */
static void test_endless_traps(RvMachine *m, gconstpointer data)
{
    GThread *thread;

    rv_reset(m);
    m->cpu->mtvec = 0;
    *rv_word(m, RV_CODE) = ECALL;
    thread = g_thread_new("kick", kick_once, m->cpu);
    g_assert_cmpint(rv64_accel_ops.run(m->cpu), ==, CPU_EXIT_KICKED);
    g_thread_join(thread);
}

static void add(const char *path, void (*test)(RvMachine *m, gconstpointer data))
{
    g_test_add(path, RvMachine, NULL, rv_setup, test, rv_teardown);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    add("/rv64/insn/table", test_table);
    add("/rv64/insn/aliased", test_table_aliased);
    add("/rv64/insn/compressed", test_compressed);
    add("/rv64/insn/compressed-memory", test_compressed_memory);
    add("/rv64/insn/compressed-jumps", test_compressed_jumps);
    add("/rv64/insn/loads-and-stores", test_loads);
    add("/rv64/insn/amo", test_amo);
    add("/rv64/insn/lr-sc", test_lr_sc);
    add("/rv64/insn/control", test_control);
    add("/rv64/insn/pairs", test_pairs);
    add("/rv64/insn/illegal", test_illegal);
    add("/rv64/insn/endless-traps", test_endless_traps);
    return g_test_run();
}

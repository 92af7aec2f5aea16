# SPDX-License-Identifier: GPL-2.0-or-later
# Sourced by tests in sh: running a program with its command line, output and exit code shown.

# Shows the command (by its last name) and its result; stderr comes with stdout.
img()
{
    echo "+ qemu-img $*"
    "$IMG" "$@" 2>&1 || echo "exit code $?"
}

# The same without what depends on the file system or on how programs lay out a file.
filter_info()
{
    sed -e 's/^disk size: .*/disk size: SIZE/' -e 's/"actual-size": [0-9]*/"actual-size": SIZE/' \
        -e 's/[0-9]\{4\}-[0-9][0-9]-[0-9][0-9] [0-9:]\{8\}/DATE/' \
        -e 's/"date-\(n*sec\)": [0-9]*/"date-\1": DATE/' \
        -e 's/^Image end offset: .*/Image end offset: END/' \
        -e 's/"image-end-offset": [0-9]*/"image-end-offset": END/' \
        -e 's/, [0-9.]*% fragmented/, FRAG% fragmented/'
}

# fill FILE BYTE OFFSET LENGTH: raw bytes into a file without changing its size otherwise.
fill()
{
    python3 - "$@" << 'EOF'
import sys
name, byte, offset, length = sys.argv[1], *map(int, sys.argv[2:])
with open(name, 'r+b') as f:
    f.seek(offset)
    f.write(bytes([byte]) * length)
EOF
}

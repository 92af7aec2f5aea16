# SPDX-License-Identifier: GPL-2.0-or-later
# Sourced by tests in sh: running a program with its command line, output and exit code shown.

# Shows the command (by its last name) and its result; stderr comes with stdout.
img()
{
    echo "+ qemu-img $*"
    "$IMG" "$@" 2>&1 || echo "exit code $?"
}

# io IMAGE COMMAND...: the commands, and what qemu-io says to them, without times.  IMAGE may
# have options, '|' between them.  stderr comes last: one program flushes stdout after each
# command, the other at its end.
io()
{
    io_image=$1
    shift
    echo "+ qemu-io $io_image" | sed "s/$IMGFMT/IMGFMT/g"
    io_n=$#
    while [ "$io_n" -gt 0 ]; do
        echo "  $1" | sed "s/$IMGFMT/IMGFMT/g"
        set -- "$@" -c "$1"
        shift
        io_n=$((io_n - 1))
    done
    io_ifs=$IFS
    IFS='|'
    # shellcheck disable=SC2086
    "$IO" "$@" $io_image > io.out 2> io.err < /dev/null
    io_code=$?
    IFS=$io_ifs
    cat io.out io.err | sed -E -e 's/[0-9:.]+( sec)? \([0-9.]+ [A-Za-z]+\/sec and [0-9.]+ ops\/sec\)/TIME (RATE)/' \
        -e 's/^([0-9]+,1),.*/\1,TIME/' -e '/Failed to flush the /d' -e "s/$IMGFMT/IMGFMT/g"
    [ "$io_code" = 0 ] || echo "exit code $io_code"
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

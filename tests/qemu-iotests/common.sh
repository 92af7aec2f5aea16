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

# plain_map ARGUMENTS: what "map" says without where in the files things lie, which a program may
# choose, and without how zeroes come about: one line for each part of the disk.
plain_map()
{
    echo "+ qemu-img map $*"
    "$IMG" map --output=json "$@" | python3 -c '
import json, sys
parts = []
for e in json.load(sys.stdin):
    kind = ("zero" if e["zero"] else "data at" if "offset" in e else "data"), e["depth"]
    if parts and parts[-1][2] == kind:
        parts[-1][1] += e["length"]
    else:
        parts.append([e["start"], e["length"], kind])
for start, length, kind in parts:
    print("%#x %#x %s, depth %d" % (start, length, *kind))'
}

# layers IMAGE: which parts of the disk are whose: of the image (0), of its backing file (1), ...
layers()
{
    echo "layers of $1"
    "$IMG" map --output=json "$1" | python3 -c '
import json, sys
parts = []
for e in json.load(sys.stdin):
    if parts and parts[-1][2] == e["depth"] and sum(parts[-1][:2]) == e["start"] and e["present"]:
        parts[-1][1] += e["length"]
    elif e["present"]:
        parts.append([e["start"], e["length"], e["depth"]])
for part in parts:
    print("%#x %#x depth %d" % tuple(part))'
}

# image NAME SIZE [BYTE OFFSET LENGTH]...: a qcow2 image that has these clusters only.
image()
{
    local name=$1 size=$2
    shift 2
    "$IMG" create -q -f raw "$name.raw" "$size"
    while [ $# -gt 0 ]; do
        fill "$name.raw" "$1" "$2" "$3"
        shift 3
    done
    "$IMG" convert -f raw -O qcow2 -m 1 "$name.raw" "$name" && rm "$name.raw"
}

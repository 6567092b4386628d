#!/bin/sh
# Prints each member of each struct of a header with its place and its size, as the compiler has them, and the bytes
# at the end of a struct that are no member's.
# usage: tests/abi/layouts.sh HEADER
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$1" "$work/sessionstore.h"
{
    printf '#include <stdio.h>\n#include "sessionstore.h"\nint main(void) {\n'
    # Each struct is written `typedef struct { MEMBER; MEMBER; } NAME;`. A member's name is its last word, or that of
    # a pointer to a function stands in the first parentheses.
    "${CC:-cc}" -E -P "$work/sessionstore.h" | tr '\n' ' ' | sed 's/typedef struct {/\n&/g' |
        sed -n 's/^typedef struct { *\([^}]*\)} *\(sessionstore_[a-z0-9_]*\);.*$/\2;\1/p' |
        awk -F ';' '{
            last = ""
            for (i = 2; i <= NF; i++) {
                member = $i
                if (member ~ /^ *$/) continue
                if (member ~ /\(\*/) { sub(/^[^(]*\(\*/, "", member); sub(/\).*$/, "", member) }
                else { gsub(/ +$/, "", member); sub(/^.*[ *]/, "", member) }
                printf "  printf(\"%%s.%%s at %%zu, %%zu bytes\\n\", \"%s\", \"%s\", ", $1, member
                printf "offsetof(%s, %s), sizeof(((%s *)0)->%s));\n", $1, member, $1, member
                last = member
            }
            printf "  if (sizeof(%s) != offsetof(%s, %s) + sizeof(((%s *)0)->%s))\n", $1, $1, last, $1, last
            printf "    printf(\"%s ends with bytes that are no member\\n\");\n", $1
        }'
    printf '  return 0;\n}\n'
} >"$work/layouts.c"
"${CC:-cc}" -std=c99 -o "$work/layouts" "$work/layouts.c"
"$work/layouts"

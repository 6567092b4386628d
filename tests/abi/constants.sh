#!/bin/sh
# Prints the constants of a header with their values: error codes, flags, kinds.
# usage: tests/abi/constants.sh HEADER
set -eu
# The version is another in each release, and the _INIT macros grow with their structs.
printf '#include "%s"\n' "$1" | "${CC:-cc}" -E -dM -x c - | grep '^#define SESSIONSTORE_' |
    grep -v -e '_INIT ' -e '^#define SESSIONSTORE_VERSION ' -e '^#define SESSIONSTORE_H' | sort

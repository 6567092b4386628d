#!/bin/sh
# Compiles the programs of docs/cpp.md and runs them; each prints what stands below it, if anything does. A line
# `<!-- build: FLAGS -->` before a program says how it is compiled where that is not plain C++17.
# usage: docs.sh DOCUMENT COMPILER LIBRARY_DIRECTORY DIRECTORY FLAGS...
set -eu
document=$1 compiler=$2 library=$3 directory=$4
shift 4
mkdir -p "$directory"
rm -f "$directory"/program* "$directory"/printed* "$directory"/flags*

awk -v into="$directory" '
    /^<!-- build: .* -->$/ { flags = substr($0, 13, length($0) - 16); next }
    /^```cpp$/ { nth++; name = into "/program" nth ".cpp"; print flags > (into "/flags" nth); flags = ""; next }
    /^```text$/ { name = into "/printed" nth; next }
    /^```/ { name = "" }
    name != "" { print > name }
' "$document"

programs=0 printed=0
for program in "$directory"/program*.cpp; do
    name=${program%.cpp} nth=${program#"$directory"/program}
    nth=${nth%.cpp}
    # The flags are several words.
    # shellcheck disable=SC2046
    "$compiler" -std=c++17 -Wall -Wextra -Werror $(cat "$directory/flags$nth") "$@" -o "$name" "$program" \
        "$library/libsessionstore.so" -Wl,-rpath,"$library" || { echo "program $nth of $document does not compile" >&2; exit 1; }
    "$name" >"$name.out" || { echo "program $nth of $document failed" >&2; exit 1; }
    programs=$((programs + 1))
    if [ -e "$directory/printed$nth" ]; then
        diff "$directory/printed$nth" "$name.out" || { echo "program $nth of $document prints something else" >&2; exit 1; }
        printed=$((printed + 1))
    fi
done
[ "$printed" -ge 1 ] || { echo "no program of $document says what it prints" >&2; exit 1; }
echo "$programs programs, of which $printed print what they should"

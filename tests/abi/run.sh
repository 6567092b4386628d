#!/bin/sh
# The guards of ABI.md: tests/abi/run.sh LIB_DIR
set -eu
[ $# -eq 1 ] || { echo "usage: tests/abi/run.sh LIB_DIR" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
library=$(cd "$1" && pwd)/libsessionstore.so
header=$top/include/sessionstore.h
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() {
    echo "test-abi: $*" >&2
    exit 1
}
[ -f "$library" ] || fail "there is no $library: run \`cargo build\` first."

# 1. The library has exactly the functions of its header.
sh "$top/tests/c/library.sh" "$(dirname "$library")" "$top/include"

# 2. The header breaks nothing that was promised with an older one of the same SONAME.
abi=$(sed -n 's/^const ABI: u32 = \([0-9]*\);$/\1/p' "$top/build.rs")
records=0
for record in "$here"/*/; do
    records=$((records + 1))
    grep -q "soname='libsessionstore\.so\.$abi'" "$record/sessionstore.abi" ||
        fail "$record is of another ABI than libsessionstore.so.$abi; ABI.md says what to do when it is broken on purpose."
    sh "$here/compare.sh" "$record" "$header" ||
        fail "the header breaks programs for $(basename "$record"), as told above; ABI.md says what to do."

    # 3. Programs for it run.
    mkdir -p "$work/lib"
    ln -sf "$library" "$work/lib/libsessionstore.so"
    ln -sf "$library" "$work/lib/libsessionstore.so.$abi"
    "${CC:-cc}" -std=c99 -Wall -Wextra -Wpedantic -Werror -I "$record" -o "$work/program" "$here/program.c" \
        -L "$work/lib" -lsessionstore -lpthread
    LD_LIBRARY_PATH=$work/lib timeout 300 "$work/program" ||
        fail "a program for $(basename "$record") does not run with today's library."
done
[ "$records" -gt 0 ] || fail "there is no record of an older ABI: run \`make abi-record\`."

# 4. What would break programs is found, and what would not is let through. The breaks are planted in the newest
# header, which is then compared with its own record.
sh "$here/compare.sh" "$record" "$record/sessionstore.h" >"$work/found" || fail "a header breaks itself: $(cat "$work/found")"
planted=0
# $1: found or allowed, $2: what must be told, $3: what is done, $4: how, as a sed script
plant() {
    sed "$4" "$record/sessionstore.h" >"$work/planted.h"
    ! cmp -s "$record/sessionstore.h" "$work/planted.h" || fail "nothing could be planted: $3."
    code=0
    sh "$here/compare.sh" "$record" "$work/planted.h" >"$work/found" 2>&1 || code=$?
    case $1:$code in
    found:1) grep -q "$2" "$work/found" || fail "it was not told rightly ($3): $(cat "$work/found")" ;;
    allowed:0) ;;
    *) fail "it should be $1: $3 (exit code $code) $(cat "$work/found")" ;;
    esac
    planted=$((planted + 1))
}
plant found 'sessionstore_version' 'a function goes' 's/^const char \*sessionstore_version(void);$//'
plant found 'sessionstore_server_port' 'a function returns another type' 's/^uint32_t sessionstore_server_port(/uint64_t sessionstore_server_port(/'
plant found 'sessionstore_code_name' 'a parameter has another type' 's/sessionstore_code_name(int32_t code)/sessionstore_code_name(int64_t code)/'
plant found 'on_snapshot_end' 'a callback has one more parameter' 's/(\*on_snapshot_end)(void \*ctx)/(*on_snapshot_end)(void *ctx, int32_t more)/'
plant found 'key_change_listener.on_snapshot_end' 'a member goes' '/(\*on_snapshot_end)(void \*ctx)/d'
plant found 'server_options.threads' 'a member comes in the middle' 's/^  uint32_t threads;$/  uint32_t more;\n&/'
plant found 'server_options.grace_ms' 'a member has another size' 's/^  uint32_t grace_ms;$/  uint64_t grace_ms;/'
plant found 'write_options.if_version' 'two members change places' 's/^  uint64_t if_version;$/  uint64_t ttl_ms_;/; s/^  uint64_t ttl_ms;$/  uint64_t if_version;/; s/ttl_ms_;/ttl_ms;/'
plant found 'no room for a later member' 'a struct ends with bytes of nobody' 's/^  const char \*client_key_file;$/&\n  uint32_t more;/'
plant found 'SESSIONSTORE_BUSY' 'an error code has another number' 's/^#define SESSIONSTORE_BUSY .*$/#define SESSIONSTORE_BUSY 99/'
plant found 'SESSIONSTORE_BUSY' 'an error code goes' '/^#define SESSIONSTORE_BUSY /d'
plant allowed '' 'a function comes' 's/^const char \*sessionstore_version(void);$/&\nint32_t sessionstore_version_more(void);/'
plant allowed '' 'an error code comes' 's/^#define SESSIONSTORE_BUSY .*$/&\n#define SESSIONSTORE_BUSIER 98/'
plant allowed '' 'a struct grows at its end' 's/^  const char \*client_key_file;$/&\n  uint64_t more;/'
plant allowed '' 'a listener grows at its end' 's/^  void (\*on_token_expiring)(void \*ctx, uint64_t expires_at);$/&\n  void (*on_more)(void *ctx);/'
echo "test-abi: $records record(s); of $planted planted changes those were told that break programs"

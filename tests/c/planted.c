/* Two faults of a program, which a sanitizer that works must find in the library's own code. */
#include <stdio.h>
#include <string.h>

#include "sessionstore.h"

static sessionstore_value *make(void) {
    sessionstore_value *value = NULL;
    if (sessionstore_value_from_string("planted", SESSIONSTORE_NUL_TERMINATED, &value, NULL) != SESSIONSTORE_OK) return NULL;
    return value;
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "fault") == 0) {
        sessionstore_value *value = make();
        sessionstore_value_free(value);
        printf("%d\n", (int)sessionstore_value_kind(value));
        return 0;
    }
    if (argc == 2 && strcmp(argv[1], "leak") == 0) return make() == NULL;
    return 2;
}

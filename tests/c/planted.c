/* Faults of a program, each of which a sanitizer that is for it must find in the library's own code. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "sessionstore.h"

static sessionstore_value *make(void) {
    sessionstore_value *value = NULL;
    if (sessionstore_value_from_string("planted", SESSIONSTORE_NUL_TERMINATED, &value, NULL) != SESSIONSTORE_OK) return NULL;
    return value;
}

static void *look(void *value) {
    printf("%d\n", (int)sessionstore_value_kind((const sessionstore_value *)value));
    return NULL;
}

/* Looks at a value while another thread frees it. In whichever order that happens, nothing makes it the order. */
static int race(void) {
    pthread_t other;
    sessionstore_value *value = make();
    if (pthread_create(&other, NULL, look, value) != 0) return 2;
    sessionstore_value_free(value);
    pthread_join(other, NULL);
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "fault") == 0) {
        sessionstore_value *value = make();
        sessionstore_value_free(value);
        printf("%d\n", (int)sessionstore_value_kind(value));
        return 0;
    }
    if (argc == 2 && strcmp(argv[1], "leak") == 0) return make() == NULL;
    if (argc == 2 && strcmp(argv[1], "race") == 0) return race();
    return 2;
}

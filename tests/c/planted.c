/*
 * Faults of a program, each of which must be found by what is for it: by a sanitizer in the library's own code, or,
 * where two threads do things in an order that is not kept, by delays.
 */
#include <pthread.h>
#include <sched.h>
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

static int said, done;

/* Says that it is done a moment before it is. */
static void *say_too_early(void *mutex) {
    __atomic_store_n(&said, 1, __ATOMIC_SEQ_CST);
    pthread_mutex_lock((pthread_mutex_t *)mutex);
    pthread_mutex_unlock((pthread_mutex_t *)mutex);
    __atomic_store_n(&done, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

/* Looks whether what was said to be done is done some microseconds later, as it is but for once in a long while. */
static int order(void) {
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    int round, turns, too_early = 0;
    for (round = 0; round < 1000; round++) {
        pthread_t other;
        said = done = 0;
        if (pthread_create(&other, NULL, say_too_early, &mutex) != 0) return 2;
        while (!__atomic_load_n(&said, __ATOMIC_SEQ_CST)) sched_yield();
        for (turns = 0; turns < 10000 && !__atomic_load_n(&done, __ATOMIC_SEQ_CST); turns++) continue;
        too_early += turns == 10000;
        pthread_join(other, NULL);
    }
    printf("%d of %d times too early\n", too_early, round);
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
    if (argc == 2 && strcmp(argv[1], "order") == 0) return order();
    return 2;
}

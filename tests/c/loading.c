/* The library is loaded, used and unloaded at run time, by a program that is not linked with it. */
#include <dlfcn.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sessionstore.h"

#define CHECK(condition, sentence)                                            \
    do {                                                                      \
        if (!(condition)) {                                                   \
            fprintf(stderr, "%s:%d: %s: FAILED: %s\n", __FILE__, __LINE__, #condition, sentence); \
            exit(1);                                                          \
        }                                                                     \
    } while (0)

/* Converts an object pointer to a function pointer in the way POSIX describes. */
#define FIND(library, function, variable)                                     \
    do {                                                                      \
        *(void **)(&variable) = dlsym(library, #function);                    \
        CHECK(variable != NULL, "the library has " #function);                \
    } while (0)

static void *allocate(void *argument) {
    char *text = (char *)malloc(1000);
    CHECK(text != NULL, "there is memory");
    memset(text, 'x', 1000);
    free(text);
    return argument;
}

static void use_threads(void) {
    pthread_t threads[8];
    int index;
    for (index = 0; index < 8; index++) CHECK(pthread_create(&threads[index], NULL, allocate, NULL) == 0, "threads can be made");
    for (index = 0; index < 8; index++) CHECK(pthread_join(threads[index], NULL) == 0, "threads can be joined");
}

/* One round: load, host, join, set, get, and let go; `leave_open` unloads with everything still in use. */
static void *round_of(void *argument) {
    const int leave_open = *(const int *)argument;
    int32_t (*start)(const sessionstore_server_options *, sessionstore_server **, sessionstore_error **);
    const char *(*url)(const sessionstore_server *);
    int32_t (*stop_wait)(const sessionstore_server *, uint32_t, sessionstore_error **);
    void (*server_free)(sessionstore_server *);
    int32_t (*open)(const sessionstore_client_options *, const sessionstore_update_listener *, sessionstore_client **,
                    sessionstore_error **);
    int32_t (*join_wait)(const sessionstore_client *, uint32_t, sessionstore_store **, sessionstore_error **);
    void (*client_free)(sessionstore_client *);
    int32_t (*set_wait)(const sessionstore_store *, const char *, size_t, const char *, size_t, uint32_t, sessionstore_event **,
                        sessionstore_error **);
    const char *(*json)(const sessionstore_event *, size_t *);
    void (*event_free)(sessionstore_event *);
    void (*store_free)(sessionstore_store *);
    sessionstore_client_options options = SESSIONSTORE_CLIENT_OPTIONS_INIT;
    /* Static, so that what is left open can still be found by whoever looks for lost memory. */
    static sessionstore_server *server;
    static sessionstore_client *client;
    static sessionstore_store *store;
    sessionstore_event *event = NULL;
    void *library = dlopen(SESSIONSTORE_LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) fprintf(stderr, "%s\n", dlerror());
    CHECK(library != NULL, "the library can be loaded");
    FIND(library, sessionstore_server_start, start);
    FIND(library, sessionstore_server_url, url);
    FIND(library, sessionstore_server_stop_wait, stop_wait);
    FIND(library, sessionstore_server_free, server_free);
    FIND(library, sessionstore_client_open, open);
    FIND(library, sessionstore_client_join_wait, join_wait);
    FIND(library, sessionstore_client_free, client_free);
    FIND(library, sessionstore_store_set_wait, set_wait);
    FIND(library, sessionstore_event_json, json);
    FIND(library, sessionstore_event_free, event_free);
    FIND(library, sessionstore_store_free, store_free);
    CHECK(start(NULL, &server, NULL) == SESSIONSTORE_OK, "a server can be started");
    options.url = url(server);
    options.room = "loaded";
    CHECK(open(&options, NULL, &client, NULL) == SESSIONSTORE_OK, "a client can be opened");
    CHECK(join_wait(client, 30000, &store, NULL) == SESSIONSTORE_OK, "a client can join");
    CHECK(set_wait(store, "key", SESSIONSTORE_NUL_TERMINATED, "[1]", 3, 30000, &event, NULL) == SESSIONSTORE_OK, "a key can be set");
    CHECK(strcmp(json(event, NULL), "[1]") == 0, "a key has its value");
    event_free(event);
    if (!leave_open) {
        client_free(client);
        store_free(store);
        CHECK(stop_wait(server, 30000, NULL) == SESSIONSTORE_OK, "a server can be stopped");
        server_free(server);
    }
    CHECK(dlclose(library) == 0, "the library can be unloaded");
    /* Its threads may be at their ends just now, and new ones come. */
    use_threads();
    return NULL;
}

int main(void) {
    const int closed = 0, open = 1;
    int round;
    for (round = 0; round < 5; round++) round_of((void *)&closed);
    /* On a thread that ends afterwards, with whatever the library keeps for it. */
    for (round = 0; round < 5; round++) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, round_of, (void *)&closed) == 0, "a thread can be made");
        CHECK(pthread_join(thread, NULL) == 0, "a thread can be joined");
    }
    round_of((void *)&open);
    use_threads();
    puts("1 passed");
    return 0;
}

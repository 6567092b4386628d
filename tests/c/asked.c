/*
 * A peer in a process of its own that does what it is told to: asked URL ROOM REQUEST_TIMEOUT_MS
 *
 * It reads lines `ID VERB KEY NUMBER VERSION` and writes what it hears, each line at once:
 *   joined
 *   heard KEY VERSION JSON                  a listener of all keys
 *   result ID CODE VERSION JSON             the state of the key, or on a conflict what it holds
 *   drop ID                                 after the result, which nothing may follow
 * Its standard input ends it. tests/linearizable compiles it and looks at what it says.
 */
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sessionstore.h"

#define TEXT SESSIONSTORE_NUL_TERMINATED
#define PATIENCE 30000

#define CHECK(condition)                                                            \
    do {                                                                            \
        if (!(condition)) {                                                         \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
            exit(1);                                                                \
        }                                                                           \
    } while (0)
#define OK(call) CHECK((call) == SESSIONSTORE_OK)

/*
 * Writes a line at once. Not by stdio: when main returns it writes again what another thread is writing, and a
 * callback seems to have come twice.
 */
static void say(const char *format, ...) {
    char line[2048];
    int length;
    va_list arguments;
    va_start(arguments, format);
    length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    CHECK(length > 0 && length < (int)sizeof line && write(1, line, (size_t)length) == length);
}

static const char *json_of(const sessionstore_event *event) {
    return event == NULL ? "null" : sessionstore_event_json(event, NULL);
}

static unsigned long long version_of(const sessionstore_event *event) {
    return event == NULL ? 0 : (unsigned long long)sessionstore_event_version(event);
}

static void heard(void *ctx, const sessionstore_event *event) {
    (void)ctx;
    say("heard %s %llu %s\n", sessionstore_event_key(event, NULL), version_of(event), json_of(event));
}

/* The context of a request is its number. */
static void ended(void *ctx, const sessionstore_error *error, const sessionstore_event *event) {
    const sessionstore_event *state = error == NULL ? event : sessionstore_error_current(error);
    const int code = error == NULL ? SESSIONSTORE_OK : (int)sessionstore_error_code(error);
    say("result %ld %d %llu %s\n", (long)(intptr_t)ctx, code, version_of(state), json_of(state));
}

static void dropped(void *ctx) { say("drop %ld\n", (long)(intptr_t)ctx); }

static void ask(const sessionstore_store *store, const char *line) {
    sessionstore_action_result result = SESSIONSTORE_ACTION_RESULT_INIT;
    char verb[8], key[64], json[32];
    long id;
    long long number;
    unsigned long long version;
    CHECK(sscanf(line, "%ld %7s %63s %lld %llu", &id, verb, key, &number, &version) == 5);
    result.ctx = (void *)(intptr_t)id;
    result.on_result = ended;
    result.on_drop = dropped;
    snprintf(json, sizeof json, "%lld", number);
    if (strcmp(verb, "set") == 0) OK(sessionstore_store_set_integer(store, key, TEXT, number, &result, NULL));
    else if (strcmp(verb, "set_if") == 0)
        OK(sessionstore_store_set_if_version(store, key, TEXT, json, TEXT, version, &result, NULL));
    else if (strcmp(verb, "remove") == 0) OK(sessionstore_store_remove(store, key, TEXT, &result, NULL));
    else if (strcmp(verb, "get") == 0) OK(sessionstore_store_get(store, key, TEXT, &result, NULL));
    else if (strcmp(verb, "add") == 0) OK(sessionstore_store_add(store, key, TEXT, number, &result, NULL));
    else CHECK(!"a verb that is known");
}

int main(int argc, char **argv) {
    sessionstore_client_options options = SESSIONSTORE_CLIENT_OPTIONS_INIT;
    sessionstore_key_change_listener listener = SESSIONSTORE_KEY_CHANGE_LISTENER_INIT;
    sessionstore_selector everything = SESSIONSTORE_SELECTOR_INIT;
    sessionstore_client *client = NULL;
    sessionstore_store *store = NULL;
    char line[256];
    CHECK(argc == 4);
    options.url = argv[1];
    options.room = argv[2];
    options.request_timeout_ms = (uint32_t)strtoul(argv[3], NULL, 10);
    /* Comes back at once, and notices soon that a connection is dead. */
    options.reconnect_min_ms = 1;
    options.reconnect_max_ms = 50;
    options.heartbeat_ms = 200;
    options.connect_timeout_ms = 500;
    OK(sessionstore_client_open(&options, NULL, &client, NULL));
    OK(sessionstore_client_join_wait(client, PATIENCE, &store, NULL));
    everything.flags = SESSIONSTORE_SELECT_ALL;
    listener.on_key_changed = heard;
    OK(sessionstore_store_listen_to(store, &everything, &listener, NULL, NULL));
    say("joined\n");
    while (fgets(line, sizeof line, stdin) != NULL) ask(store, line);
    sessionstore_store_free(store);
    sessionstore_client_free(client);
    return 0;
}

/*
 * One of many languages in a room: `everyone URL ROOM NAME COUNT`. tests/everyone.rs says what it does and starts it.
 */
#include <inttypes.h>
#include <signal.h>
#include <unistd.h>

#include "harness.h"

enum { MOST_PEERS = 64 };

/* Who has set a key with a prefix, each as it should. */
typedef struct hearing {
    const char *prefix;
    /* Called for each value; fails if it is wrong. */
    void (*look)(const char *name, const sessionstore_value *value);
    int count;
    char names[MOST_PEERS][64];
} hearing;

static long long peers;

static void hear(void *ctx, const sessionstore_event *event) {
    hearing *own = (hearing *)ctx;
    const char *name = sessionstore_event_key(event, NULL) + strlen(own->prefix);
    int index = 0;
    const char *const author = sessionstore_event_author_name(event, NULL);
    CHECK(strcmp(author, name) == 0, "%s was set by \"%s\"", sessionstore_event_key(event, NULL), author);
    own->look(name, sessionstore_event_value(event));
    harness_lock();
    while (index < own->count && strcmp(own->names[index], name) != 0) index++;
    if (index == own->count) {
        CHECK(own->count < MOST_PEERS && strlen(name) < sizeof own->names[0], "%s is one peer too many, or too long", name);
        strcpy(own->names[own->count++], name);
    }
    harness_unlock();
}

/* The members may stand in any order, and nothing else is there: as long as one text that has them. */
static void look_here(const char *name, const sessionstore_value *value) {
    char from[128], expected[256];
    size_t len = 0;
    const char *json = sessionstore_value_json(value, &len);
    CHECK(sessionstore_value_kind(value) == SESSIONSTORE_KIND_OBJECT, "%s shows %s", name, json);
    snprintf(from, sizeof from, "\"from\":\"%s\"", name);
    snprintf(expected, sizeof expected, "{%s,\"n\":9007199254740993,\"on\":true}", from);
    CHECK(strstr(json, from) != NULL && strstr(json, "\"n\":9007199254740993") != NULL &&
              strstr(json, "\"on\":true") != NULL && len == strlen(expected),
          "%s shows %s", name, json);
}

static void look_heard(const char *name, const sessionstore_value *value) {
    int64_t count = 0;
    OK(sessionstore_value_get_integer(value, &count, NULL));
    CHECK(count == peers, "%s heard %" PRId64 " of %lld", name, count, peers);
}

static void listen_prefix(const sessionstore_store *store, hearing *own) {
    sessionstore_selector selector = SESSIONSTORE_SELECTOR_INIT;
    sessionstore_key_change_listener listener = SESSIONSTORE_KEY_CHANGE_LISTENER_INIT;
    selector.prefixes = &own->prefix;
    selector.prefix_count = 1;
    listener.ctx = own;
    listener.on_key_changed = hear;
    OK(sessionstore_store_listen_to(store, &selector, &listener, NULL, NULL));
}

/* All of it together is to take no longer than a minute. */
static void late(int signal_number) {
    static const char text[] = "everyone: after 60 s not all were heard\n";
    /* It ends, whether or not this could be said. */
    const ssize_t said = write(STDERR_FILENO, text, sizeof text - 1);
    (void)signal_number;
    (void)said;
    _exit(1);
}

int main(int argc, char **argv) {
    static hearing here = {"here/", look_here, 0, {{0}}}, heard = {"heard/", look_heard, 0, {{0}}};
    sessionstore_client_options options = SESSIONSTORE_CLIENT_OPTIONS_INIT;
    sessionstore_client *client = NULL;
    sessionstore_store *store = NULL;
    char key[128], json[256];

    harness_program = argv[0];
    if (argc != 5 || strlen(argv[3]) > 60 || (peers = strtoll(argv[4], NULL, 10)) < 1) {
        fprintf(stderr, "usage: everyone URL ROOM NAME COUNT\n");
        return 1;
    }
    signal(SIGALRM, late);
    alarm(60);
    options.url = argv[1];
    options.room = argv[2];
    options.peer_id = options.name = argv[3];
    OK(sessionstore_client_open(&options, NULL, &client, NULL));
    OK(sessionstore_client_join_wait(client, PATIENCE, &store, NULL));
    listen_prefix(store, &here);
    listen_prefix(store, &heard);
    snprintf(key, sizeof key, "here/%s", argv[3]);
    snprintf(json, sizeof json, "{\"from\":\"%s\",\"n\":9007199254740993,\"on\":true}", argv[3]);
    OK(sessionstore_store_set_wait(store, key, TEXT, json, TEXT, PATIENCE, NULL, NULL));
    WAIT_FOR(here.count >= peers, "only %d of %lld peers are here", here.count, peers);
    snprintf(key, sizeof key, "heard/%s", argv[3]);
    OK(sessionstore_store_set_integer_wait(store, key, TEXT, peers, PATIENCE, NULL, NULL));
    WAIT_FOR(heard.count >= peers, "only %d of %lld peers have heard all", heard.count, peers);
    OK(sessionstore_client_leave_wait(client, PATIENCE, NULL));
    sessionstore_store_free(store);
    sessionstore_client_free(client);
    printf("%s heard %lld\n", argv[3], peers);
    return 0;
}

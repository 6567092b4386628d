/*
 * A peer beside others, told what to do: `companion URL ROOM NAME`. It listens to everything, says on stdout what it
 * hears, a line each, and does what its lines on stdin say:
 *
 *     set KEY JSON        -> set KEY
 *     remove KEY          -> removed KEY
 *     metadata TEXT       -> metadata
 *
 * On its own it says `change KEY JSON`, and `peer WHAT NAME METADATA` with joined, updated or left. It leaves when
 * stdin ends.
 */
#include "harness.h"

static void line(const char *first, const char *second, const char *third) {
    harness_lock();
    printf("%s %s %s\n", first, second, third);
    fflush(stdout);
    harness_unlock();
}

static void changed(void *ctx, const sessionstore_event *event) {
    (void)ctx;
    line("change", sessionstore_event_key(event, NULL), sessionstore_value_json(sessionstore_event_value(event), NULL));
}

static void peer_changed(void *ctx, int32_t change, const sessionstore_peer *peer) {
    const char *what = change == SESSIONSTORE_PEER_JOINED ? "peer joined"
                       : change == SESSIONSTORE_PEER_LEFT ? "peer left"
                                                          : "peer updated";
    (void)ctx;
    line(what, sessionstore_peer_name(peer, NULL), sessionstore_peer_metadata(peer, NULL));
}

int main(int argc, char **argv) {
    static const char *const everything = "";
    static char words[70000];
    sessionstore_client_options options = SESSIONSTORE_CLIENT_OPTIONS_INIT;
    sessionstore_update_listener updates = SESSIONSTORE_UPDATE_LISTENER_INIT;
    sessionstore_selector selector = SESSIONSTORE_SELECTOR_INIT;
    sessionstore_key_change_listener listener = SESSIONSTORE_KEY_CHANGE_LISTENER_INIT;
    sessionstore_client *client = NULL;
    sessionstore_store *store = NULL;

    harness_program = argv[0];
    if (argc < 4 || argc > 5) {
        fprintf(stderr, "usage: companion URL ROOM NAME [TOKEN]\n");
        return 1;
    }
    options.url = argv[1];
    options.room = argv[2];
    options.peer_id = options.name = argv[3];
    if (argc == 5) options.token = argv[4];
    updates.on_peer = peer_changed;
    OK(sessionstore_client_open(&options, &updates, &client, NULL));
    OK(sessionstore_client_join_wait(client, PATIENCE, &store, NULL));
    selector.prefixes = &everything;
    selector.prefix_count = 1;
    listener.on_key_changed = changed;
    OK(sessionstore_store_listen_to(store, &selector, &listener, NULL, NULL));
    line("joined", argv[3], "");
    while (fgets(words, sizeof words, stdin) != NULL) {
        char *const key = words + strcspn(words, " \n");
        char *rest;
        key[strcspn(key, "\n")] = 0;
        CHECK(*key == ' ', "this line says nothing: %s", words);
        *key = 0;
        rest = key + 1 + strcspn(key + 1, " ");
        if (*rest == ' ') *rest++ = 0;
        if (strcmp(words, "set") == 0) {
            OK(sessionstore_store_set_wait(store, key + 1, TEXT, rest, TEXT, PATIENCE, NULL, NULL));
            line("set", key + 1, "");
        } else if (strcmp(words, "remove") == 0) {
            OK(sessionstore_store_remove_wait(store, key + 1, TEXT, PATIENCE, NULL, NULL));
            line("removed", key + 1, "");
        } else {
            CHECK(strcmp(words, "metadata") == 0, "nobody knows how to %s", words);
            if (*rest != 0) rest[-1] = ' ';
            OK(sessionstore_client_update_peer_wait(client, NULL, 0, key + 1, TEXT, PATIENCE, NULL));
            line("metadata", "", "");
        }
    }
    OK(sessionstore_client_leave_wait(client, PATIENCE, NULL));
    sessionstore_store_free(store);
    sessionstore_client_free(client);
    return 0;
}

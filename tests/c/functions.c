/*
 * Every function inside a callback and in a forked child does what its row of docs/functions.md says.
 *
 * One small C function calls each function of the library in a way that succeeds; the table is read
 * from the documentation itself, and a row without its C function here fails, as does the reverse.
 */
#include "harness.h"

static sessionstore_server *server;
static const char *url;

/*
 * Objects made beforehand: a forked child can make none. What a call ends or frees has an object of
 * its own.
 */
typedef struct fixture {
    member *live;
    member polled;
    hook wake;
    sessionstore_server *server;
    sessionstore_subscription *subscription;
    sessionstore_event *event;
    sessionstore_value *json, *text, *integer, *number, *boolean;
    sessionstore_error *error;
    sessionstore_peer_list *list;
    const sessionstore_peer *peer;
    sessionstore_lock *lock;
    sessionstore_transaction *transaction;
    sessionstore_cancellation *cancellation, *kept_cancellation;
    sessionstore_event_list *states;
    sessionstore_key_list *names;

    member freed_client, leaving, leaving_wait;
    sessionstore_server *freed_server, *stopping, *stopping_wait;
    sessionstore_store *freed_store;
    sessionstore_subscription *freed_subscription, *cancelled, *cancelled_wait;
    sessionstore_event *freed_event;
    sessionstore_value *freed_value;
    sessionstore_error *freed_error;
    sessionstore_peer *freed_peer;
    sessionstore_peer_list *freed_list;
    sessionstore_lock *freed_lock, *released, *released_wait;
    sessionstore_transaction *freed_transaction;
    sessionstore_cancellation *freed_cancellation;
    sessionstore_event_list *freed_states;
    sessionstore_key_list *freed_names;
    locking took;
    listening heard_all;
    listening heard, heard_freed, heard_cancelled, heard_cancelled_wait, heard_new;
    /* Whether the calls of a child process are being made. */
    int in_child;
} fixture;

/* Calls that are made in a callback or a child, and say what came of it. */
#define ROW(function) static int32_t call_##function(fixture *f)
#define STORE (f->live->store)
#define CLIENT (f->live->client)

/* Frees what a call gave; a failed call must have given nothing. */
#define GIVEN(free, call)                                                   \
    do {                                                                    \
        const int32_t code = (call);                                        \
        CHECK((code == SESSIONSTORE_OK) == (given != NULL), #call " gives a handle if it succeeds, and only then"); \
        free(given);                                                        \
        return code;                                                        \
    } while (0)

ROW(sessionstore_cancellation_cancel) { return sessionstore_cancellation_cancel(f->cancellation, NULL); }
ROW(sessionstore_cancellation_free) {
    sessionstore_cancellation_free(f->freed_cancellation);
    sessionstore_cancellation_free(NULL);
    return SESSIONSTORE_OK;
}
ROW(sessionstore_cancellation_is_cancelled) {
    CHECK(sessionstore_cancellation_is_cancelled(f->kept_cancellation) == 0, "it was not cancelled");
    CHECK(sessionstore_cancellation_is_cancelled(NULL) == 0, "there is nothing to be cancelled");
    return SESSIONSTORE_OK;
}
ROW(sessionstore_cancellation_new) {
    sessionstore_cancellation *given = f->cancellation;
    GIVEN(sessionstore_cancellation_free, sessionstore_cancellation_new(&given, NULL));
}
ROW(sessionstore_client_free) {
    sessionstore_client_free(f->freed_client.client);
    sessionstore_client_free(NULL);
    return SESSIONSTORE_OK;
}
ROW(sessionstore_client_join_wait) {
    sessionstore_store *given = STORE;
    GIVEN(sessionstore_store_free, sessionstore_client_join_wait(CLIENT, PATIENCE, &given, NULL));
}
ROW(sessionstore_client_leave) { return sessionstore_client_leave(f->leaving.client, NULL, NULL); }
ROW(sessionstore_client_leave_wait) { return sessionstore_client_leave_wait(f->leaving_wait.client, PATIENCE, NULL); }
ROW(sessionstore_client_open) {
    const sessionstore_client_options options = options_for(url, "functions-new", "New");
    sessionstore_client *given = CLIENT;
    update_log told;
    sessionstore_update_listener listener = updates_listener(&told);
    memset(&told, 0, sizeof told);
    if (f->in_child) {
        EXPECT(SESSIONSTORE_FORKED, sessionstore_client_open(&options, &listener, &given, NULL));
        CHECK(told.drops == 1, "a listener is consumed in a child too");
    }
    GIVEN(sessionstore_client_free, sessionstore_client_open(&options, NULL, &given, NULL));
}
ROW(sessionstore_client_renew_token) {
    return sessionstore_client_renew_token(CLIENT, "a.b.c", SESSIONSTORE_NUL_TERMINATED, NULL, NULL);
}
ROW(sessionstore_client_renew_token_wait) {
    const int32_t code =
        sessionstore_client_renew_token_wait(CLIENT, "a.b.c", SESSIONSTORE_NUL_TERMINATED, PATIENCE, NULL);
    /* This server is open and takes no tokens: the answer of a call that was made. */
    return code == SESSIONSTORE_INVALID_ARGUMENT ? SESSIONSTORE_OK : code;
}
ROW(sessionstore_client_peer_id) {
    CHECK(strlen(sessionstore_client_peer_id(CLIENT)) == 36, "a client has its peer id");
    return SESSIONSTORE_OK;
}
ROW(sessionstore_client_peers) {
    sessionstore_peer_list *given = f->list;
    GIVEN(sessionstore_peer_list_free, sessionstore_client_peers(CLIENT, &given, NULL));
}
ROW(sessionstore_client_poll) { return sessionstore_client_poll(f->polled.client, 0, NULL, NULL); }
ROW(sessionstore_client_state) {
    const int32_t state = sessionstore_client_state(CLIENT);
    return state == SESSIONSTORE_STATE_CONNECTED ? SESSIONSTORE_OK : state;
}
ROW(sessionstore_client_update_peer) { return sessionstore_client_update_peer(CLIENT, "Other", TEXT, NULL, 0, NULL, NULL); }
ROW(sessionstore_client_update_peer_wait) {
    return sessionstore_client_update_peer_wait(CLIENT, "Other", TEXT, NULL, 0, PATIENCE, NULL);
}
ROW(sessionstore_code_advice) {
    (void)f;
    CHECK(strlen(sessionstore_code_advice(SESSIONSTORE_FORKED)) > 20, "a code has advice");
    return SESSIONSTORE_OK;
}
ROW(sessionstore_code_name) {
    (void)f;
    CHECK(strcmp(sessionstore_code_name(SESSIONSTORE_FORKED), "FORKED") == 0, "a code has a name");
    return SESSIONSTORE_OK;
}
ROW(sessionstore_error_code) {
    CHECK(sessionstore_error_code(f->error) == SESSIONSTORE_INVALID_JSON, "an error has its code");
    return SESSIONSTORE_OK;
}
ROW(sessionstore_error_current) {
    CHECK(sessionstore_error_current(f->error) == NULL, "only conflicts have a current state");
    return SESSIONSTORE_OK;
}
ROW(sessionstore_error_free) {
    sessionstore_error_free(f->freed_error);
    return SESSIONSTORE_OK;
}
ROW(sessionstore_error_is_retryable) {
    CHECK(sessionstore_error_is_retryable(f->error) == 0, "bad JSON stays bad");
    return SESSIONSTORE_OK;
}
ROW(sessionstore_error_message) {
    CHECK(strlen(sessionstore_error_message(f->error)) > 10, "an error has a sentence");
    return SESSIONSTORE_OK;
}
ROW(sessionstore_error_name) {
    CHECK(strcmp(sessionstore_error_name(f->error), "INVALID_JSON") == 0, "an error has its code's name");
    return SESSIONSTORE_OK;
}
ROW(sessionstore_event_author_name) {
    CHECK(strcmp(sessionstore_event_author_name(f->event, NULL), "Live") == 0, "an event has its author's name");
    return SESSIONSTORE_OK;
}
ROW(sessionstore_event_author_peer_id) {
    size_t length = 0;
    const char *id = sessionstore_event_author_peer_id(f->event, &length);
    CHECK(length == 36 && strcmp(id, sessionstore_client_peer_id(CLIENT)) == 0, "an event has its author's id");
    return SESSIONSTORE_OK;
}
ROW(sessionstore_event_author_user_id) {
    size_t length = 5;
    CHECK(*sessionstore_event_author_user_id(f->event, &length) == '\0' && length == 0, "the author has no user id");
    return SESSIONSTORE_OK;
}
ROW(sessionstore_event_free) {
    sessionstore_event_free(f->freed_event);
    return SESSIONSTORE_OK;
}
ROW(sessionstore_event_is_snapshot) {
    CHECK(sessionstore_event_is_snapshot(f->event) == 0, "the result of a set is no snapshot");
    return SESSIONSTORE_OK;
}
ROW(sessionstore_event_json) {
    CHECK(strcmp(sessionstore_event_json(f->event, NULL), "[1]") == 0, "an event has its value");
    return SESSIONSTORE_OK;
}
ROW(sessionstore_event_key) {
    CHECK(strcmp(sessionstore_event_key(f->event, NULL), "key") == 0, "an event has its key");
    return SESSIONSTORE_OK;
}
ROW(sessionstore_event_replaced) {
    CHECK(sessionstore_event_replaced(f->event) == 0, "nothing was replaced");
    return SESSIONSTORE_OK;
}
ROW(sessionstore_event_retain) {
    sessionstore_event *other = sessionstore_event_retain(f->event);
    CHECK(other == f->event, "retaining gives the same object");
    sessionstore_event_free(other);
    return SESSIONSTORE_OK;
}
ROW(sessionstore_event_updated_at) {
    CHECK(sessionstore_event_updated_at(f->event) > 1500000000000ull, "an event has its time");
    return SESSIONSTORE_OK;
}
ROW(sessionstore_event_value) {
    CHECK(sessionstore_value_kind(sessionstore_event_value(f->event)) == SESSIONSTORE_KIND_ARRAY, "an event has its value");
    return SESSIONSTORE_OK;
}
ROW(sessionstore_event_version) {
    CHECK(sessionstore_event_version(f->event) > 0, "an event has its version");
    return SESSIONSTORE_OK;
}
ROW(sessionstore_peer_free) {
    sessionstore_peer_free(f->freed_peer);
    return SESSIONSTORE_OK;
}
ROW(sessionstore_peer_id) {
    CHECK(strlen(sessionstore_peer_id(f->peer, NULL)) == 36, "a peer has its id");
    return SESSIONSTORE_OK;
}
ROW(sessionstore_peer_joined_at) {
    CHECK(sessionstore_peer_joined_at(f->peer) > 1500000000000ull, "a peer has the time it joined");
    return SESSIONSTORE_OK;
}
ROW(sessionstore_peer_list_count) {
    CHECK(sessionstore_peer_list_count(f->list) >= 1, "a list has its count");
    return SESSIONSTORE_OK;
}
ROW(sessionstore_peer_list_free) {
    sessionstore_peer_list_free(f->freed_list);
    return SESSIONSTORE_OK;
}
ROW(sessionstore_peer_list_get) {
    CHECK(sessionstore_peer_list_get(f->list, 0) == f->peer, "a list has its peers");
    return SESSIONSTORE_OK;
}
ROW(sessionstore_peer_metadata) {
    CHECK(strcmp(sessionstore_peer_metadata(f->peer, NULL), "") == 0, "the peer has no metadata");
    return SESSIONSTORE_OK;
}
ROW(sessionstore_peer_name) {
    CHECK(strlen(sessionstore_peer_name(f->peer, NULL)) > 0, "a peer has its name");
    return SESSIONSTORE_OK;
}
ROW(sessionstore_peer_retain) {
    sessionstore_peer *other = sessionstore_peer_retain(f->peer);
    CHECK(other == f->peer, "retaining gives the same object");
    sessionstore_peer_free(other);
    return SESSIONSTORE_OK;
}
ROW(sessionstore_peer_role) {
    CHECK(strcmp(sessionstore_peer_role(f->peer, NULL), "guest") == 0, "a peer has its role");
    return SESSIONSTORE_OK;
}
ROW(sessionstore_peer_user_id) {
    CHECK(strcmp(sessionstore_peer_user_id(f->peer, NULL), "") == 0, "the peer has no user id");
    return SESSIONSTORE_OK;
}
ROW(sessionstore_server_free) {
    sessionstore_server_free(f->freed_server);
    sessionstore_server_free(NULL);
    return SESSIONSTORE_OK;
}
ROW(sessionstore_server_port) {
    CHECK(sessionstore_server_port(f->server) > 0, "a server has its port");
    return SESSIONSTORE_OK;
}
ROW(sessionstore_server_reload_tls) {
    int32_t code = sessionstore_server_reload_tls(f->server, NULL);
    /* The server of these tests has no certificate to read again. */
    return code == SESSIONSTORE_WRONG_MODE ? SESSIONSTORE_OK : code;
}
ROW(sessionstore_server_set_rules) { return sessionstore_server_set_rules(f->server, NULL, 0, NULL); }
ROW(sessionstore_server_start) {
    sessionstore_server *given = f->server;
    GIVEN(sessionstore_server_free, sessionstore_server_start(NULL, &given, NULL));
}
ROW(sessionstore_server_stats) {
    uint64_t peers = 0;
    const int32_t code = sessionstore_server_stats(f->server, NULL, &peers, NULL, NULL);
    CHECK((code == SESSIONSTORE_OK) == (peers > 0), "the peers are counted if the call succeeds");
    return code;
}
ROW(sessionstore_server_stop) { return sessionstore_server_stop(f->stopping, NULL); }
ROW(sessionstore_server_stop_wait) { return sessionstore_server_stop_wait(f->stopping_wait, PATIENCE, NULL); }
ROW(sessionstore_server_url) {
    CHECK(strncmp(sessionstore_server_url(f->server), "ws://127.0.0.1:", 15) == 0, "a server has its URL");
    return SESSIONSTORE_OK;
}
ROW(sessionstore_store_cached) {
    sessionstore_event *given = f->event;
    GIVEN(sessionstore_event_free, sessionstore_store_cached(STORE, "key", TEXT, &given, NULL));
}
ROW(sessionstore_store_free) {
    sessionstore_store_free(f->freed_store);
    sessionstore_store_free(NULL);
    return SESSIONSTORE_OK;
}
ROW(sessionstore_store_get) { return sessionstore_store_get(STORE, "key", TEXT, NULL, NULL); }
ROW(sessionstore_store_get_wait) {
    sessionstore_event *given = f->event;
    GIVEN(sessionstore_event_free, sessionstore_store_get_wait(STORE, "key", TEXT, PATIENCE, &given, NULL));
}
ROW(sessionstore_store_listen) {
    const char *keys[] = {"key"};
    sessionstore_subscription *given = f->subscription;
    sessionstore_key_change_listener listener = listening_listener(&f->heard_new);
    GIVEN(sessionstore_subscription_free, sessionstore_store_listen(STORE, keys, NULL, 1, &listener, &given, NULL));
}
ROW(sessionstore_store_remove) { return sessionstore_store_remove(STORE, "gone", TEXT, NULL, NULL); }
ROW(sessionstore_store_remove_wait) {
    sessionstore_event *given = f->event;
    GIVEN(sessionstore_event_free, sessionstore_store_remove_wait(STORE, "gone", TEXT, PATIENCE, &given, NULL));
}
ROW(sessionstore_store_retain) {
    /* In a child the reference is never given back, which is no loss: the child owns nothing of it. */
    sessionstore_store *other = sessionstore_store_retain(STORE);
    CHECK(other == STORE, "retaining gives the same object");
    sessionstore_store_free(other);
    return SESSIONSTORE_OK;
}
#define SETTER(name, ...)                                                                                     \
    ROW(sessionstore_store_##name) { return sessionstore_store_##name(STORE, "set", TEXT, __VA_ARGS__, NULL, NULL); } \
    ROW(sessionstore_store_##name##_wait) {                                                                   \
        sessionstore_event *given = f->event;                                                                 \
        GIVEN(sessionstore_event_free,                                                                        \
              sessionstore_store_##name##_wait(STORE, "set", TEXT, __VA_ARGS__, PATIENCE, &given, NULL));     \
    }
SETTER(set, "1", TEXT)
SETTER(set_string, "1", TEXT)
SETTER(set_integer, 1)
SETTER(set_number, 1.5)
SETTER(set_boolean, 1)
SETTER(set_if_version, "1", TEXT, 0)
SETTER(add, 1)
SETTER(write, SESSIONSTORE_OPERATION_SET, "1", TEXT, NULL)
ROW(sessionstore_subscription_cancel) { return sessionstore_subscription_cancel(f->cancelled, NULL); }
ROW(sessionstore_subscription_cancel_wait) { return sessionstore_subscription_cancel_wait(f->cancelled_wait, PATIENCE, NULL); }
ROW(sessionstore_subscription_free) {
    sessionstore_subscription_free(f->freed_subscription);
    sessionstore_subscription_free(NULL);
    return SESSIONSTORE_OK;
}
ROW(sessionstore_value_free) {
    sessionstore_value_free(f->freed_value);
    return SESSIONSTORE_OK;
}
#define MAKER(name, ...)                                                                              \
    ROW(sessionstore_value_##name) {                                                                  \
        sessionstore_value *given = f->json;                                                          \
        GIVEN(sessionstore_value_free, sessionstore_value_##name(__VA_ARGS__, &given, NULL));         \
    }
MAKER(from_boolean, 1)
MAKER(from_integer, 1)
MAKER(from_json, "{}", TEXT)
MAKER(from_number, 1.5)
MAKER(from_string, "x", TEXT)
ROW(sessionstore_value_get_boolean) {
    int32_t boolean = 0;
    return sessionstore_value_get_boolean(f->boolean, &boolean, NULL);
}
ROW(sessionstore_value_get_integer) {
    int64_t integer = 0;
    return sessionstore_value_get_integer(f->integer, &integer, NULL);
}
ROW(sessionstore_value_get_number) {
    double number = 0;
    return sessionstore_value_get_number(f->number, &number, NULL);
}
ROW(sessionstore_value_get_string) {
    const char *text = NULL;
    return sessionstore_value_get_string(f->text, &text, NULL, NULL);
}
ROW(sessionstore_value_json) {
    CHECK(strcmp(sessionstore_value_json(f->json, NULL), "{}") == 0, "a value has its JSON");
    return SESSIONSTORE_OK;
}
ROW(sessionstore_value_kind) {
    CHECK(sessionstore_value_kind(f->text) == SESSIONSTORE_KIND_STRING, "a value has its kind");
    return SESSIONSTORE_OK;
}
ROW(sessionstore_value_retain) {
    sessionstore_value *other = sessionstore_value_retain(f->json);
    CHECK(other == f->json, "retaining gives the same object");
    sessionstore_value_free(other);
    return SESSIONSTORE_OK;
}
ROW(sessionstore_version) {
    (void)f;
    CHECK(strcmp(sessionstore_version(), SESSIONSTORE_VERSION) == 0, "the library has its version");
    return SESSIONSTORE_OK;
}

ROW(sessionstore_error_check) {
    CHECK(sessionstore_error_check(f->error) == -1, "the error is of no check");
    return SESSIONSTORE_OK;
}
ROW(sessionstore_error_retry_after_ms) {
    CHECK(sessionstore_error_retry_after_ms(f->error) == -1, "the error does not say when to try again");
    return SESSIONSTORE_OK;
}
ROW(sessionstore_error_write) {
    CHECK(sessionstore_error_write(f->error) == -1, "the error is of no write");
    return SESSIONSTORE_OK;
}
ROW(sessionstore_event_cause) {
    CHECK(sessionstore_event_cause(f->event) == SESSIONSTORE_CAUSE_WRITTEN, "the event was written");
    return SESSIONSTORE_OK;
}
ROW(sessionstore_event_expires_at) {
    CHECK(sessionstore_event_expires_at(f->event) == 0, "the key stays");
    return SESSIONSTORE_OK;
}
ROW(sessionstore_event_list_count) {
    CHECK(sessionstore_event_list_count(f->states) == 1, "a list has its count");
    return SESSIONSTORE_OK;
}
ROW(sessionstore_event_list_get) {
    CHECK(sessionstore_event_version(sessionstore_event_list_get(f->states, 0)) > 0, "a list has its events");
    return SESSIONSTORE_OK;
}
ROW(sessionstore_event_list_revision) {
    CHECK(sessionstore_event_list_revision(f->states) > 0, "a list has its revision");
    return SESSIONSTORE_OK;
}
ROW(sessionstore_event_list_free) {
    sessionstore_event_list_free(f->freed_states);
    return SESSIONSTORE_OK;
}
ROW(sessionstore_key_list_count) {
    CHECK(sessionstore_key_list_count(f->names) == 1, "a list has its count");
    return SESSIONSTORE_OK;
}
ROW(sessionstore_key_list_get) {
    CHECK(strcmp(sessionstore_key_list_get(f->names, 0, NULL), "key") == 0, "a list has its keys");
    return SESSIONSTORE_OK;
}
ROW(sessionstore_key_list_free) {
    sessionstore_key_list_free(f->freed_names);
    return SESSIONSTORE_OK;
}
ROW(sessionstore_lock_free) {
    sessionstore_lock_free(f->freed_lock);
    sessionstore_lock_free(NULL);
    return SESSIONSTORE_OK;
}
ROW(sessionstore_lock_is_held) {
    CHECK(sessionstore_lock_is_held(f->lock) == !f->in_child, "a lock is held, but not by a child");
    return SESSIONSTORE_OK;
}
ROW(sessionstore_lock_name) {
    CHECK(strcmp(sessionstore_lock_name(f->lock, NULL), "kept") == 0, "a lock has its name");
    return SESSIONSTORE_OK;
}
ROW(sessionstore_lock_token) {
    CHECK(sessionstore_lock_token(f->lock) > 0, "a lock has its token");
    return SESSIONSTORE_OK;
}
ROW(sessionstore_transaction_free) {
    sessionstore_transaction_free(f->freed_transaction);
    sessionstore_transaction_free(NULL);
    return SESSIONSTORE_OK;
}
ROW(sessionstore_event_list_retain) {
    sessionstore_event_list *other = sessionstore_event_list_retain(f->states);
    CHECK(other == f->states, "retaining gives the same object");
    sessionstore_event_list_free(other);
    return SESSIONSTORE_OK;
}
ROW(sessionstore_key_list_retain) {
    sessionstore_key_list *other = sessionstore_key_list_retain(f->names);
    CHECK(other == f->names, "retaining gives the same object");
    sessionstore_key_list_free(other);
    return SESSIONSTORE_OK;
}
ROW(sessionstore_lock_retain) {
    /* As with the store: in a child the reference is never given back. */
    sessionstore_lock *other = sessionstore_lock_retain(f->lock);
    CHECK(other == f->lock, "retaining gives the same object");
    sessionstore_lock_free(other);
    return SESSIONSTORE_OK;
}
ROW(sessionstore_lock_release) { return sessionstore_lock_release(f->released, NULL, NULL); }
ROW(sessionstore_lock_release_wait) { return sessionstore_lock_release_wait(f->released_wait, PATIENCE, NULL); }
ROW(sessionstore_store_lock) {
    sessionstore_lock_result result = locking_of(&f->took);
    sessionstore_lock_listener listener = locking_listener(&f->took);
    const int32_t code = sessionstore_store_lock(STORE, "new", TEXT, NULL, &listener, &result, NULL);
    CHECK((code == SESSIONSTORE_OK) != (f->took.drops == 1 && f->took.listener_drops == 1),
          "structs are consumed by a call that fails");
    return code;
}
ROW(sessionstore_store_lock_wait) {
    sessionstore_lock *given = f->lock;
    locking told;
    sessionstore_lock_listener listener = locking_listener(&told);
    memset(&told, 0, sizeof told);
    if (sessionstore_store_lock_wait(STORE, "other", TEXT, NULL, &listener, PATIENCE, &given, NULL) != SESSIONSTORE_OK)
        CHECK(told.listener_drops == 1 && told.lost == 0, "a listener is consumed by a call that fails");
    GIVEN(sessionstore_lock_free, sessionstore_store_lock_wait(STORE, "other", TEXT, NULL, NULL, PATIENCE, &given, NULL));
}
ROW(sessionstore_store_keys) { return sessionstore_store_keys(STORE, "", TEXT, NULL, NULL); }
ROW(sessionstore_store_keys_wait) {
    sessionstore_key_list *given = f->names;
    GIVEN(sessionstore_key_list_free, sessionstore_store_keys_wait(STORE, "", TEXT, PATIENCE, &given, NULL));
}
ROW(sessionstore_store_listen_to) {
    sessionstore_selector all = SESSIONSTORE_SELECTOR_INIT;
    sessionstore_subscription *given = f->subscription;
    sessionstore_key_change_listener listener = listening_listener(&f->heard_all);
    all.flags = SESSIONSTORE_SELECT_ALL;
    GIVEN(sessionstore_subscription_free, sessionstore_store_listen_to(STORE, &all, &listener, &given, NULL));
}
ROW(sessionstore_store_read) {
    sessionstore_selector all = SESSIONSTORE_SELECTOR_INIT;
    all.flags = SESSIONSTORE_SELECT_ALL;
    return sessionstore_store_read(STORE, &all, NULL, NULL);
}
ROW(sessionstore_store_read_wait) {
    sessionstore_selector all = SESSIONSTORE_SELECTOR_INIT;
    sessionstore_event_list *given = f->states;
    all.flags = SESSIONSTORE_SELECT_ALL;
    GIVEN(sessionstore_event_list_free, sessionstore_store_read_wait(STORE, &all, PATIENCE, &given, NULL));
}
ROW(sessionstore_store_transact) { return sessionstore_store_transact(STORE, f->transaction, NULL, NULL); }
ROW(sessionstore_store_transact_wait) {
    sessionstore_event_list *given = f->states;
    GIVEN(sessionstore_event_list_free, sessionstore_store_transact_wait(STORE, f->transaction, PATIENCE, &given, NULL));
}
static sessionstore_value *leave_as_it_is(void *ctx, const sessionstore_event *current) {
    (void)ctx;
    CHECK(current != NULL, "an updater has the current state");
    return NULL;
}
ROW(sessionstore_store_update) {
    sessionstore_updater updater = SESSIONSTORE_UPDATER_INIT;
    updater.on_update = leave_as_it_is;
    return sessionstore_store_update(STORE, "key", TEXT, &updater, NULL, NULL);
}
ROW(sessionstore_store_update_wait) {
    sessionstore_updater updater = SESSIONSTORE_UPDATER_INIT;
    sessionstore_event *given = f->event;
    updater.on_update = leave_as_it_is;
    GIVEN(sessionstore_event_free, sessionstore_store_update_wait(STORE, "key", TEXT, &updater, PATIENCE, &given, NULL));
}
ROW(sessionstore_store_usage) { return sessionstore_store_usage(STORE, NULL, NULL); }
ROW(sessionstore_store_usage_wait) {
    sessionstore_usage usage = SESSIONSTORE_USAGE_INIT;
    const int32_t code = sessionstore_store_usage_wait(STORE, PATIENCE, &usage, NULL);
    CHECK((code == SESSIONSTORE_OK) == (usage.max_keys > 0), "the usage is written on success only");
    return code;
}
ROW(sessionstore_transaction_new) {
    sessionstore_transaction *given = f->transaction;
    GIVEN(sessionstore_transaction_free, sessionstore_transaction_new(&given, NULL));
}
ROW(sessionstore_transaction_check_absent) {
    return sessionstore_transaction_check_absent(f->transaction, "absent", TEXT, NULL);
}
ROW(sessionstore_transaction_check_equals) {
    return sessionstore_transaction_check_equals(f->transaction, "key", TEXT, "[1]", TEXT, NULL);
}
ROW(sessionstore_transaction_check_exists) { return sessionstore_transaction_check_exists(f->transaction, "key", TEXT, NULL); }
ROW(sessionstore_transaction_check_lock) { return sessionstore_transaction_check_lock(f->transaction, f->lock, NULL); }
ROW(sessionstore_transaction_check_version) {
    return sessionstore_transaction_check_version(f->transaction, "absent", TEXT, 0, NULL);
}
ROW(sessionstore_transaction_write) {
    return sessionstore_transaction_write(f->transaction, "set", TEXT, SESSIONSTORE_OPERATION_SET, "1", TEXT, NULL, NULL);
}

typedef struct function {
    const char *name;
    int32_t (*call)(fixture *f);
} function;

#define HAS(name) {#name, call_##name}
static const function functions[] = {
    HAS(sessionstore_client_free), HAS(sessionstore_client_join_wait), HAS(sessionstore_client_leave),
    HAS(sessionstore_client_leave_wait), HAS(sessionstore_client_open), HAS(sessionstore_client_peer_id),
    HAS(sessionstore_cancellation_cancel), HAS(sessionstore_cancellation_free),
    HAS(sessionstore_cancellation_is_cancelled), HAS(sessionstore_cancellation_new),
    HAS(sessionstore_client_renew_token), HAS(sessionstore_client_renew_token_wait), HAS(sessionstore_client_peers), HAS(sessionstore_client_poll), HAS(sessionstore_client_state),
    HAS(sessionstore_client_update_peer), HAS(sessionstore_client_update_peer_wait), HAS(sessionstore_code_advice),
    HAS(sessionstore_code_name), HAS(sessionstore_error_code), HAS(sessionstore_error_current),
    HAS(sessionstore_error_free), HAS(sessionstore_error_is_retryable), HAS(sessionstore_error_message),
    HAS(sessionstore_error_name), HAS(sessionstore_event_author_name), HAS(sessionstore_event_author_peer_id),
    HAS(sessionstore_event_author_user_id), HAS(sessionstore_event_free), HAS(sessionstore_event_is_snapshot),
    HAS(sessionstore_event_json), HAS(sessionstore_event_key), HAS(sessionstore_event_replaced),
    HAS(sessionstore_event_retain), HAS(sessionstore_event_updated_at), HAS(sessionstore_event_value),
    HAS(sessionstore_event_version), HAS(sessionstore_peer_free), HAS(sessionstore_peer_id),
    HAS(sessionstore_peer_joined_at), HAS(sessionstore_peer_list_count), HAS(sessionstore_peer_list_free),
    HAS(sessionstore_peer_list_get), HAS(sessionstore_peer_metadata), HAS(sessionstore_peer_name),
    HAS(sessionstore_peer_retain), HAS(sessionstore_peer_role), HAS(sessionstore_peer_user_id),
    HAS(sessionstore_server_free), HAS(sessionstore_server_port), HAS(sessionstore_server_reload_tls), HAS(sessionstore_server_set_rules), HAS(sessionstore_server_start),
    HAS(sessionstore_server_stats), HAS(sessionstore_server_stop), HAS(sessionstore_server_stop_wait),
    HAS(sessionstore_server_url), HAS(sessionstore_store_cached), HAS(sessionstore_store_free),
    HAS(sessionstore_store_get), HAS(sessionstore_store_get_wait), HAS(sessionstore_store_listen),
    HAS(sessionstore_store_remove), HAS(sessionstore_store_remove_wait), HAS(sessionstore_store_retain),
    HAS(sessionstore_store_set), HAS(sessionstore_store_set_wait), HAS(sessionstore_store_set_string),
    HAS(sessionstore_store_set_string_wait), HAS(sessionstore_store_set_integer),
    HAS(sessionstore_store_set_integer_wait), HAS(sessionstore_store_set_number),
    HAS(sessionstore_store_set_number_wait), HAS(sessionstore_store_set_boolean),
    HAS(sessionstore_store_set_boolean_wait), HAS(sessionstore_subscription_cancel),
    HAS(sessionstore_subscription_cancel_wait), HAS(sessionstore_subscription_free), HAS(sessionstore_value_free),
    HAS(sessionstore_value_from_boolean), HAS(sessionstore_value_from_integer), HAS(sessionstore_value_from_json),
    HAS(sessionstore_value_from_number), HAS(sessionstore_value_from_string), HAS(sessionstore_value_get_boolean),
    HAS(sessionstore_value_get_integer), HAS(sessionstore_value_get_number), HAS(sessionstore_value_get_string),
    HAS(sessionstore_value_json), HAS(sessionstore_value_kind), HAS(sessionstore_value_retain), HAS(sessionstore_version),
        HAS(sessionstore_error_check), HAS(sessionstore_error_retry_after_ms), HAS(sessionstore_error_write), HAS(sessionstore_event_cause),
    HAS(sessionstore_event_expires_at), HAS(sessionstore_event_list_count), HAS(sessionstore_event_list_free),
    HAS(sessionstore_event_list_get), HAS(sessionstore_event_list_retain), HAS(sessionstore_event_list_revision),
    HAS(sessionstore_key_list_count), HAS(sessionstore_key_list_free), HAS(sessionstore_key_list_get),
    HAS(sessionstore_key_list_retain), HAS(sessionstore_lock_free), HAS(sessionstore_lock_is_held),
    HAS(sessionstore_lock_name), HAS(sessionstore_lock_release), HAS(sessionstore_lock_release_wait),
    HAS(sessionstore_lock_retain), HAS(sessionstore_lock_token), HAS(sessionstore_store_add),
    HAS(sessionstore_store_add_wait), HAS(sessionstore_store_keys), HAS(sessionstore_store_keys_wait),
    HAS(sessionstore_store_listen_to), HAS(sessionstore_store_lock), HAS(sessionstore_store_lock_wait),
    HAS(sessionstore_store_read), HAS(sessionstore_store_read_wait), HAS(sessionstore_store_set_if_version),
    HAS(sessionstore_store_set_if_version_wait), HAS(sessionstore_store_transact),
    HAS(sessionstore_store_transact_wait), HAS(sessionstore_store_update), HAS(sessionstore_store_update_wait),
    HAS(sessionstore_store_usage), HAS(sessionstore_store_usage_wait), HAS(sessionstore_store_write),
    HAS(sessionstore_store_write_wait), HAS(sessionstore_transaction_check_absent),
    HAS(sessionstore_transaction_check_equals), HAS(sessionstore_transaction_check_exists),
    HAS(sessionstore_transaction_check_lock), HAS(sessionstore_transaction_check_version),
    HAS(sessionstore_transaction_free), HAS(sessionstore_transaction_new), HAS(sessionstore_transaction_write),
};
enum { FUNCTIONS = sizeof functions / sizeof functions[0] };

/* --- The table of the documentation. --- */

typedef struct row {
    char name[64];
    char in_callback[64];
    char in_child[64];
} row;

static row rows[2 * FUNCTIONS];
static int row_count;

/* A cell without the spaces around it and its back quotes. */
static void cell(char *out, size_t size, const char *from, const char *to) {
    size_t length = 0;
    for (; from < to && length + 1 < size; from++)
        if (*from != '`' && !(length == 0 && *from == ' ')) out[length++] = *from;
    while (length > 0 && out[length - 1] == ' ') length--;
    out[length] = '\0';
}

static void read_table(void) {
    char line[512];
    FILE *file = fopen(FUNCTIONS_MD, "r");
    CHECK(file != NULL, "%s cannot be read", FUNCTIONS_MD);
    while (fgets(line, sizeof line, file) != NULL) {
        const char *bars[7];
        int count = 0;
        char *at;
        if (strncmp(line, "| `sessionstore_", 16) != 0) continue;
        for (at = line; *at != '\0'; at++)
            if (*at == '|' && count < 7) bars[count++] = at;
        CHECK(count == 6, "a row has 5 columns: %s", line);
        CHECK(row_count < 2 * FUNCTIONS, "there are far more rows than functions here");
        cell(rows[row_count].name, sizeof rows[0].name, bars[0] + 1, bars[1]);
        cell(rows[row_count].in_callback, sizeof rows[0].in_callback, bars[2] + 1, bars[3]);
        cell(rows[row_count].in_child, sizeof rows[0].in_child, bars[3] + 1, bars[4]);
        row_count++;
    }
    fclose(file);
}

static const function *function_named(const char *name) {
    int index;
    for (index = 0; index < FUNCTIONS; index++)
        if (strcmp(functions[index].name, name) == 0) return &functions[index];
    return NULL;
}

/* What a call that does as a cell says returns here. */
static int32_t expected(const char *name, const char *says) {
    static const char *const fine[] = {"yes", "works", "does nothing"};
    size_t index;
    int32_t code;
    char word[64];
    for (index = 0; index < 3; index++)
        if (strcmp(says, fine[index]) == 0) return SESSIONSTORE_OK;
    if (strcmp(says, "SESSIONSTORE_STATE_CLOSED") == 0) return SESSIONSTORE_STATE_CLOSED;
    snprintf(word, sizeof word, "%s", says);
    word[strcspn(word, ",")] = '\0';
    for (code = 1; code < 1000; code++)
        if (strcmp(sessionstore_code_name(code), word) == 0 && strcmp(word, "UNKNOWN") != 0) return code;
    harness_fail(__FILE__, __LINE__, "the row of %s says \"%s\", which this test does not know", name, says);
}

static void check_rows(fixture *f, int in_child) {
    int index;
    f->in_child = in_child;
    for (index = 0; index < row_count; index++) {
        const char *says = in_child ? rows[index].in_child : rows[index].in_callback;
        const int32_t code = function_named(rows[index].name)->call(f);
        CHECK(code == expected(rows[index].name, says), "%s %s returned %d; its row says \"%s\"", rows[index].name,
              in_child ? "in a forked child" : "inside a callback", (int)code, says);
    }
}

static void the_table_and_this_test_have_the_same_functions(void) {
    int index, other;
    for (index = 0; index < row_count; index++)
        CHECK(function_named(rows[index].name) != NULL, "%s is called nowhere in this test", rows[index].name);
    for (index = 0; index < FUNCTIONS; index++) {
        int found = 0;
        for (other = 0; other < row_count; other++) found += strcmp(functions[index].name, rows[other].name) == 0;
        CHECK(found == 1, "%s has %d rows in the table", functions[index].name, found);
    }
}

/* --- The fixture. --- */

static sessionstore_error *an_error(void) {
    sessionstore_error *error = NULL;
    sessionstore_value *value = NULL;
    EXPECT(SESSIONSTORE_INVALID_JSON, sessionstore_value_from_json("{", TEXT, &value, &error));
    return error;
}

static void fixture_make(fixture *f, member *live) {
    sessionstore_client_options options = options_for(url, "functions", "Polled");
    sessionstore_wake_hook wake = waking(&f->wake);
    sessionstore_selector key = SESSIONSTORE_SELECTOR_INIT;
    const char *keys[] = {"key"};
    memset(f, 0, sizeof *f);
    f->live = live;
    f->server = server;
    options.wake_hook = &wake;
    member_open(&f->polled, &options);
    OK(sessionstore_client_join_wait(f->polled.client, PATIENCE, &f->polled.store, NULL));
    member_join(&f->freed_client, url, "functions", "Freed");
    member_join(&f->leaving, url, "functions", "Leaving");
    member_join(&f->leaving_wait, url, "functions", "Leaving");
    f->freed_server = serve(NULL);
    f->stopping = serve(NULL);
    f->stopping_wait = serve(NULL);
    f->freed_store = sessionstore_store_retain(live->store);
    OK(sessionstore_store_set_wait(live->store, "key", TEXT, "[1]", TEXT, PATIENCE, &f->event, NULL));
    OK(sessionstore_store_get_wait(live->store, "key", TEXT, PATIENCE, &f->freed_event, NULL));
    f->subscription = listen_to(live->store, &f->heard, "key", NULL);
    f->freed_subscription = listen_to(live->store, &f->heard_freed, "key", NULL);
    f->cancelled = listen_to(live->store, &f->heard_cancelled, "key", NULL);
    f->cancelled_wait = listen_to(live->store, &f->heard_cancelled_wait, "key", NULL);
    WAIT_FOR(f->heard.ends && f->heard_freed.ends && f->heard_cancelled.ends && f->heard_cancelled_wait.ends,
             "the listeners get their snapshots");
    OK(sessionstore_value_from_json("{}", TEXT, &f->json, NULL));
    OK(sessionstore_value_from_json("{}", TEXT, &f->freed_value, NULL));
    OK(sessionstore_value_from_string("text", TEXT, &f->text, NULL));
    OK(sessionstore_value_from_integer(1, &f->integer, NULL));
    OK(sessionstore_value_from_number(1.5, &f->number, NULL));
    OK(sessionstore_value_from_boolean(1, &f->boolean, NULL));
    f->error = an_error();
    f->freed_error = an_error();
    OK(sessionstore_client_peers(live->client, &f->list, NULL));
    OK(sessionstore_client_peers(live->client, &f->freed_list, NULL));
    f->peer = sessionstore_peer_list_get(f->list, 0);
    f->freed_peer = sessionstore_peer_retain(f->peer);
    f->lock = take_lock(live->store, "kept", NULL);
    f->freed_lock = take_lock(live->store, "freed", NULL);
    f->released = take_lock(live->store, "released", NULL);
    f->released_wait = take_lock(live->store, "released-wait", NULL);
    OK(sessionstore_transaction_new(&f->transaction, NULL));
    OK(sessionstore_transaction_new(&f->freed_transaction, NULL));
    OK(sessionstore_cancellation_new(&f->cancellation, NULL));
    OK(sessionstore_cancellation_new(&f->kept_cancellation, NULL));
    OK(sessionstore_cancellation_new(&f->freed_cancellation, NULL));
    key.keys = keys;
    key.key_count = 1;
    OK(sessionstore_store_read_wait(live->store, &key, PATIENCE, &f->states, NULL));
    OK(sessionstore_store_read_wait(live->store, &key, PATIENCE, &f->freed_states, NULL));
    OK(sessionstore_store_keys_wait(live->store, "key", TEXT, PATIENCE, &f->names, NULL));
    OK(sessionstore_store_keys_wait(live->store, "key", TEXT, PATIENCE, &f->freed_names, NULL));
}

/* What the rows freed, if they were really called for (and not in a child, where it lives on here). */
static void fixture_free_rest(fixture *f) {
    sessionstore_store_free(f->freed_store);
    sessionstore_event_free(f->freed_event);
    sessionstore_value_free(f->freed_value);
    sessionstore_error_free(f->freed_error);
    sessionstore_peer_list_free(f->freed_list);
    sessionstore_peer_free(f->freed_peer);
    sessionstore_server_free(f->freed_server);
    sessionstore_subscription_free(f->freed_subscription);
    sessionstore_client_free(f->freed_client.client);
    sessionstore_lock_free(f->freed_lock);
    sessionstore_transaction_free(f->freed_transaction);
    sessionstore_cancellation_free(f->freed_cancellation);
    sessionstore_event_list_free(f->freed_states);
    sessionstore_key_list_free(f->freed_names);
}

static void fixture_free(fixture *f) {
    sessionstore_lock_free(f->lock);
    sessionstore_lock_free(f->released);
    sessionstore_lock_free(f->released_wait);
    sessionstore_transaction_free(f->transaction);
    sessionstore_cancellation_free(f->cancellation);
    sessionstore_cancellation_free(f->kept_cancellation);
    sessionstore_event_list_free(f->states);
    sessionstore_key_list_free(f->names);
    sessionstore_peer_list_free(f->list);
    sessionstore_error_free(f->error);
    sessionstore_value_free(f->json);
    sessionstore_value_free(f->text);
    sessionstore_value_free(f->integer);
    sessionstore_value_free(f->number);
    sessionstore_value_free(f->boolean);
    sessionstore_event_free(f->event);
    sessionstore_subscription_free(f->subscription);
    sessionstore_subscription_free(f->cancelled);
    sessionstore_subscription_free(f->cancelled_wait);
    listening_over(&f->heard);
    listening_over(&f->heard_freed);
    listening_over(&f->heard_cancelled);
    listening_over(&f->heard_cancelled_wait);
    sessionstore_store_free(f->freed_client.store);
    updates_over(&f->freed_client.updates);
    member_end(&f->leaving);
    member_end(&f->leaving_wait);
    serve_no_more(f->stopping);
    serve_no_more(f->stopping_wait);
    member_end(&f->polled);
    hook_over(&f->wake);
}

/* --- Inside a callback. --- */

typedef struct inside {
    fixture *f;
    int done;
} inside;

static void check_inside(outcome *own) {
    inside *more = (inside *)own->more;
    check_rows(more->f, 0);
    more->done = 1;
}

/* In a callback of the very client the calls are made on. */
static void every_function_inside_a_callback(void) {
    member live;
    fixture f;
    outcome get;
    inside more;
    sessionstore_event *set = NULL;
    sessionstore_action_result result = outcome_of(&get);
    memset(&get, 0, sizeof get);
    memset(&more, 0, sizeof more);
    member_join(&live, url, "functions", "Live");
    fixture_make(&f, &live);
    more.f = &f;
    get.scope = &live.scope;
    get.during = check_inside;
    get.more = &more;
    OK(sessionstore_store_get(live.store, "key", TEXT, &result, NULL));
    OK(outcome_over(&get));
    CHECK(more.done, "the functions were called");
    listening_over(&f.heard_new);
    listening_over(&f.heard_all);
    OK(locking_told(&f.took));
    locking_over(&f.took, 0);
    WAIT_FOR(f.heard_cancelled_wait.drops == 1, "cancel_wait inside a callback cancels nevertheless");
    WAIT_FOR(f.leaving.updates.state == SESSIONSTORE_STATE_CLOSED, "leaving inside a callback leaves");
    OK(sessionstore_store_get_wait(live.store, "set", TEXT, PATIENCE, &set, NULL));
    CHECK(sessionstore_value_kind(sessionstore_event_value(set)) != SESSIONSTORE_KIND_NULL, "what was set inside is set");
    sessionstore_event_free(set);
    fixture_free(&f);
    check_works(live.store);
    member_leave(&live);
    scope_check(&live.scope);
}

/* The same where callbacks run inside a poll. */
static void every_function_inside_a_callback_of_poll_mode(void) {
    member live;
    fixture f;
    outcome get;
    inside more;
    sessionstore_action_result result = outcome_of(&get);
    memset(&get, 0, sizeof get);
    memset(&more, 0, sizeof more);
    member_join(&live, url, "functions", "Live");
    fixture_make(&f, &live);
    more.f = &f;
    get.scope = &f.polled.scope;
    get.during = check_inside;
    get.more = &more;
    OK(sessionstore_store_get(f.polled.store, "key", TEXT, &result, NULL));
    while (!more.done) {
        WAIT_FOR(f.wake.wakes > 0, "the wake hook is called");
        harness_lock();
        f.wake.wakes = 0;
        harness_unlock();
        OK(sessionstore_client_poll(f.polled.client, 0, NULL, NULL));
    }
    OK(outcome_over(&get));
    listening_over(&f.heard_new);
    listening_over(&f.heard_all);
    OK(locking_told(&f.took));
    locking_over(&f.took, 0);
    fixture_free(&f);
    check_works(live.store);
    member_leave(&live);
}

/* --- In a forked child. --- */

static void every_function_in_a_forked_child(void) {
    member live;
    fixture f;
    pid_t child;
    member_join(&live, url, "functions", "Live");
    fixture_make(&f, &live);
    put(live.store, "set", "\"before\"");
    fflush(NULL);
    child = fork();
    CHECK(child >= 0, "the process can be forked");
    if (child == 0) {
        check_rows(&f, 1);
        end_child(0);
    }
    check_child_ended_well(child);
    /* Nothing of the parent's was touched. */
    check_holds(live.store, "set", "\"before\"");
    check_works(live.store);
    check_works(f.freed_client.store);
    check_works(f.leaving.store);
    check_works(f.leaving_wait.store);
    CHECK(PEEK(int, f.heard_freed.drops) == 0 && PEEK(int, f.heard_cancelled.drops) == 0, "a child cancels nothing here");
    CHECK(f.heard_new.drops == 0 && f.heard_all.drops == 0 && f.took.drops == 0, "a child's callbacks are its own");
    fixture_free_rest(&f);
    fixture_free(&f);
    member_leave(&live);
    scope_check(&live.scope);
}

int main(int argc, char **argv) {
    read_table();
    server = serve(NULL);
    url = sessionstore_server_url(server);
    RUN(the_table_and_this_test_have_the_same_functions);
    RUN(every_function_inside_a_callback);
    RUN(every_function_inside_a_callback_of_poll_mode);
    RUN(every_function_in_a_forked_child);
    serve_no_more(server);
    return harness_end();
}

/* Bad input gets its own code and a sentence, changes nothing, and everything goes on working. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "harness.h"

static sessionstore_server *server;
static const char *url;
static member ann;

/* A handle that must become NULL when a call fails. */
#define GARBAGE(type) ((type *)(void *)&ann)

static char long_text[70000];

/* So many times the letter `x`, until the next call. */
static const char *xs(size_t count) {
    CHECK(count < sizeof long_text, "the text fits");
    memset(long_text, 'x', count);
    long_text[count] = '\0';
    return long_text;
}

static void every_function_takes_null(void) {
    sessionstore_value *value = GARBAGE(sessionstore_value);
    sessionstore_event *event = GARBAGE(sessionstore_event);
    sessionstore_client *client = GARBAGE(sessionstore_client);
    sessionstore_store *store = GARBAGE(sessionstore_store);
    sessionstore_peer_list *list = GARBAGE(sessionstore_peer_list);
    sessionstore_subscription *subscription = GARBAGE(sessionstore_subscription);
    sessionstore_client_options options = options_for(url, "bad", "Ann");
    sessionstore_key_change_listener listener = SESSIONSTORE_KEY_CHANGE_LISTENER_INIT;
    const char *keys[] = {"key"};
    size_t length = 77;
    int32_t boolean = 77;
    int64_t integer = 77;
    double number = 77;
    const char *text = NULL;
    uint64_t count = 77;
    const int32_t refused = SESSIONSTORE_NULL_ARGUMENT;

    /* Frees. */
    sessionstore_error_free(NULL);
    sessionstore_value_free(NULL);
    sessionstore_event_free(NULL);
    sessionstore_peer_free(NULL);
    sessionstore_peer_list_free(NULL);
    sessionstore_server_free(NULL);
    sessionstore_client_free(NULL);
    sessionstore_store_free(NULL);
    sessionstore_subscription_free(NULL);

    /* Retains. */
    CHECK(sessionstore_value_retain(NULL) == NULL, "NULL for NULL");
    CHECK(sessionstore_event_retain(NULL) == NULL, "NULL for NULL");
    CHECK(sessionstore_peer_retain(NULL) == NULL, "NULL for NULL");
    CHECK(sessionstore_store_retain(NULL) == NULL, "NULL for NULL");

    /* Getters have a default. */
    CHECK(sessionstore_error_code(NULL) == SESSIONSTORE_OK, "no error is OK");
    CHECK(strcmp(sessionstore_error_name(NULL), "OK") == 0, "no error is OK");
    CHECK(strcmp(sessionstore_error_message(NULL), "") == 0, "no error has no sentence");
    CHECK(sessionstore_error_is_retryable(NULL) == 0, "no error need be retried");
    CHECK(sessionstore_error_current(NULL) == NULL, "no error has no state");
    CHECK(sessionstore_value_kind(NULL) == SESSIONSTORE_KIND_NULL, "NULL is null");
    CHECK(strcmp(sessionstore_value_json(NULL, &length), "null") == 0 && length == 4, "NULL is null");
    CHECK(strcmp(sessionstore_value_json(NULL, NULL), "null") == 0, "NULL is null");
    CHECK(strcmp(sessionstore_event_key(NULL, &length), "") == 0 && length == 0, "no event has no key");
    CHECK(strcmp(sessionstore_event_json(NULL, &length), "null") == 0 && length == 4, "no event is null");
    CHECK(sessionstore_event_value(NULL) == NULL, "no event has no value");
    CHECK(sessionstore_event_version(NULL) == 0, "no event has no version");
    CHECK(sessionstore_event_updated_at(NULL) == 0, "no event has no time");
    CHECK(strcmp(sessionstore_event_author_peer_id(NULL, NULL), "") == 0, "no event has no author");
    CHECK(strcmp(sessionstore_event_author_user_id(NULL, NULL), "") == 0, "no event has no author");
    CHECK(strcmp(sessionstore_event_author_name(NULL, NULL), "") == 0, "no event has no author");
    CHECK(sessionstore_event_replaced(NULL) == 0, "no event replaces nothing");
    CHECK(sessionstore_event_is_snapshot(NULL) == 0, "no event is no snapshot");
    CHECK(strcmp(sessionstore_peer_id(NULL, &length), "") == 0 && length == 0, "no peer has no id");
    CHECK(strcmp(sessionstore_peer_user_id(NULL, NULL), "") == 0, "no peer has no user id");
    CHECK(strcmp(sessionstore_peer_name(NULL, NULL), "") == 0, "no peer has no name");
    CHECK(strcmp(sessionstore_peer_role(NULL, NULL), "") == 0, "no peer has no role");
    CHECK(strcmp(sessionstore_peer_metadata(NULL, NULL), "") == 0, "no peer has no metadata");
    CHECK(sessionstore_peer_joined_at(NULL) == 0, "no peer never joined");
    CHECK(sessionstore_peer_list_count(NULL) == 0, "no list is empty");
    CHECK(sessionstore_peer_list_get(NULL, 0) == NULL, "no list is empty");
    CHECK(sessionstore_server_port(NULL) == 0, "no server has no port");
    CHECK(strcmp(sessionstore_server_url(NULL), "") == 0, "no server has no URL");
    CHECK(sessionstore_client_state(NULL) == SESSIONSTORE_STATE_CLOSED, "no client is closed");
    CHECK(strcmp(sessionstore_client_peer_id(NULL), "") == 0, "no client has no peer id");

    /* Without the object. */
    REFUSED(refused, sessionstore_value_get_boolean(NULL, &boolean, ERROR));
    REFUSED(refused, sessionstore_value_get_integer(NULL, &integer, ERROR));
    REFUSED(refused, sessionstore_value_get_number(NULL, &number, ERROR));
    REFUSED(refused, sessionstore_value_get_string(NULL, &text, &length, ERROR));
    CHECK(boolean == 77 && integer == 77 && number == 77 && text == NULL, "outputs are written on success only");
    REFUSED(refused, sessionstore_server_stats(NULL, &count, &count, &count, ERROR));
    CHECK(count == 77, "outputs are written on success only");
    REFUSED(refused, sessionstore_server_stop(NULL, ERROR));
    REFUSED(refused, sessionstore_server_stop_wait(NULL, PATIENCE, ERROR));
    REFUSED(refused, sessionstore_client_open(NULL, NULL, &client, ERROR));
    CHECK(client == NULL, "a failed call leaves its handle output NULL");
    REFUSED(refused, sessionstore_client_join_wait(NULL, PATIENCE, &store, ERROR));
    CHECK(store == NULL, "a failed call leaves its handle output NULL");
    REFUSED(refused, sessionstore_client_peers(NULL, &list, ERROR));
    CHECK(list == NULL, "a failed call leaves its handle output NULL");
    REFUSED(refused, sessionstore_client_update_peer(NULL, "n", TEXT, NULL, 0, NULL, ERROR));
    REFUSED(refused, sessionstore_client_update_peer_wait(NULL, "n", TEXT, NULL, 0, PATIENCE, ERROR));
    REFUSED(refused, sessionstore_client_leave(NULL, NULL, ERROR));
    REFUSED(refused, sessionstore_client_leave_wait(NULL, PATIENCE, ERROR));
    length = 77;
    REFUSED(refused, sessionstore_client_poll(NULL, 0, &length, ERROR));
    CHECK(length == 77, "outputs are written on success only");
    REFUSED(refused, sessionstore_store_set(NULL, "k", TEXT, "1", TEXT, NULL, ERROR));
    REFUSED(refused, sessionstore_store_set_string(NULL, "k", TEXT, "1", TEXT, NULL, ERROR));
    REFUSED(refused, sessionstore_store_set_integer(NULL, "k", TEXT, 1, NULL, ERROR));
    REFUSED(refused, sessionstore_store_set_number(NULL, "k", TEXT, 1, NULL, ERROR));
    REFUSED(refused, sessionstore_store_set_boolean(NULL, "k", TEXT, 1, NULL, ERROR));
    REFUSED(refused, sessionstore_store_remove(NULL, "k", TEXT, NULL, ERROR));
    REFUSED(refused, sessionstore_store_get(NULL, "k", TEXT, NULL, ERROR));
#define WITHOUT_STORE(call)                                                        \
    do {                                                                           \
        event = GARBAGE(sessionstore_event);                                       \
        REFUSED(refused, call);                                                    \
        CHECK(event == NULL, "a failed call leaves its handle output NULL: " #call); \
    } while (0)
    WITHOUT_STORE(sessionstore_store_set_wait(NULL, "k", TEXT, "1", TEXT, PATIENCE, &event, ERROR));
    WITHOUT_STORE(sessionstore_store_set_string_wait(NULL, "k", TEXT, "1", TEXT, PATIENCE, &event, ERROR));
    WITHOUT_STORE(sessionstore_store_set_integer_wait(NULL, "k", TEXT, 1, PATIENCE, &event, ERROR));
    WITHOUT_STORE(sessionstore_store_set_number_wait(NULL, "k", TEXT, 1, PATIENCE, &event, ERROR));
    WITHOUT_STORE(sessionstore_store_set_boolean_wait(NULL, "k", TEXT, 1, PATIENCE, &event, ERROR));
    WITHOUT_STORE(sessionstore_store_remove_wait(NULL, "k", TEXT, PATIENCE, &event, ERROR));
    WITHOUT_STORE(sessionstore_store_get_wait(NULL, "k", TEXT, PATIENCE, &event, ERROR));
    WITHOUT_STORE(sessionstore_store_cached(NULL, "k", TEXT, &event, ERROR));
    REFUSED(refused, sessionstore_store_listen(NULL, keys, NULL, 1, &listener, &subscription, ERROR));
    CHECK(subscription == NULL, "a failed call leaves its handle output NULL");
    subscription = GARBAGE(sessionstore_subscription);
    REFUSED(refused, sessionstore_store_listen(ann.store, keys, NULL, 1, NULL, &subscription, ERROR));
    CHECK(subscription == NULL, "a failed call leaves its handle output NULL");
    REFUSED(refused, sessionstore_subscription_cancel(NULL, ERROR));
    REFUSED(refused, sessionstore_subscription_cancel_wait(NULL, PATIENCE, ERROR));

    /* Without a place for what is given. */
    REFUSED(refused, sessionstore_value_from_json("1", TEXT, NULL, ERROR));
    REFUSED(refused, sessionstore_value_from_string("1", TEXT, NULL, ERROR));
    REFUSED(refused, sessionstore_value_from_integer(1, NULL, ERROR));
    REFUSED(refused, sessionstore_value_from_number(1, NULL, ERROR));
    REFUSED(refused, sessionstore_value_from_boolean(1, NULL, ERROR));
    OK(sessionstore_value_from_boolean(1, &value, NULL));
    REFUSED(refused, sessionstore_value_get_boolean(value, NULL, ERROR));
    REFUSED(refused, sessionstore_value_get_integer(value, NULL, ERROR));
    REFUSED(refused, sessionstore_value_get_number(value, NULL, ERROR));
    REFUSED(refused, sessionstore_value_get_string(value, NULL, NULL, ERROR));
    sessionstore_value_free(value);
    REFUSED(refused, sessionstore_server_start(NULL, NULL, ERROR));
    REFUSED(refused, sessionstore_client_open(&options, NULL, NULL, ERROR));
    REFUSED(refused, sessionstore_client_join_wait(ann.client, PATIENCE, NULL, ERROR));
    REFUSED(refused, sessionstore_client_peers(ann.client, NULL, ERROR));
    REFUSED(refused, sessionstore_store_cached(ann.store, "k", TEXT, NULL, ERROR));
    REFUSED(refused, sessionstore_store_get_wait(ann.store, "k", TEXT, PATIENCE, NULL, ERROR));

    /* Without a text, with and without a length. */
    REFUSED(refused, sessionstore_value_from_json(NULL, 3, &value, ERROR));
    CHECK(value == NULL, "a failed call leaves its handle output NULL");
    REFUSED(refused, sessionstore_value_from_string(NULL, TEXT, &value, ERROR));
    REFUSED(refused, sessionstore_store_set_wait(ann.store, NULL, 3, "1", TEXT, PATIENCE, NULL, ERROR));
    REFUSED(refused, sessionstore_store_set_wait(ann.store, "k", TEXT, NULL, 3, PATIENCE, NULL, ERROR));
    REFUSED(refused, sessionstore_store_set_string_wait(ann.store, "k", TEXT, NULL, 3, PATIENCE, NULL, ERROR));
    REFUSED(refused, sessionstore_store_get_wait(ann.store, NULL, TEXT, PATIENCE, &event, ERROR));
    REFUSED(refused, sessionstore_store_remove_wait(ann.store, NULL, 1, PATIENCE, NULL, ERROR));
    REFUSED(refused, sessionstore_store_cached(ann.store, NULL, 1, &event, ERROR));
    REFUSED(refused, sessionstore_client_update_peer_wait(ann.client, NULL, 2, NULL, 0, PATIENCE, ERROR));
    REFUSED(refused, sessionstore_client_update_peer_wait(ann.client, NULL, 0, NULL, 2, PATIENCE, ERROR));
    REFUSED(refused, sessionstore_store_listen(ann.store, NULL, NULL, SIZE_MAX, &listener, NULL, ERROR));
    REFUSED(SESSIONSTORE_INVALID_KEY, sessionstore_store_set_wait(ann.store, NULL, 0, "1", TEXT, PATIENCE, NULL, ERROR));
    REFUSED(SESSIONSTORE_INVALID_JSON, sessionstore_store_set_wait(ann.store, "k", TEXT, NULL, 0, PATIENCE, NULL, ERROR));
    OK(sessionstore_value_from_string(NULL, 0, &value, ERROR));
    CHECK(harness_error == NULL, "success leaves the error output NULL");
    CHECK(strcmp(sessionstore_value_json(value, NULL), "\"\"") == 0, "NULL with length 0 is the empty text");
    sessionstore_value_free(value);
    REFUSED(SESSIONSTORE_INVALID_ARGUMENT, sessionstore_value_from_json("1", SIZE_MAX - 1, &value, ERROR));
    check_holds(ann.store, "k", "null");
    check_works(ann.store);
}

static void values_that_are_no_json(void) {
    static const char *const bad[] = {"",      " ",    "hi",     "{",         "{\"a\":}",   "[1,]", "01",     "1 2",   "'a'",
                                      "NaN",   "+1",   "\"",     "\"\t\"",    "\"\\x\"",    "nul",  "{1:2}",  ".5",    "1.",
                                      "[1}",   "//",   "\"\\u12\"", "\"\\ud800\"", "Infinity", "-",    "tru",    "null,", "\xef\xbb\xbf" "1"};
    static const char *const broken[] = {"\"\xff\"", "\"\xc3\"", "\"\xed\xa0\x80\"", "\"\xc0\x80\"", "\"\xf5\x80\x80\x80\"", "\x80"};
    size_t index;
    char deep[260];
    put(ann.store, "kept", "1");
    for (index = 0; index < sizeof bad / sizeof bad[0]; index++) {
        sessionstore_value *value = GARBAGE(sessionstore_value);
        REFUSED(SESSIONSTORE_INVALID_JSON, sessionstore_value_from_json(bad[index], TEXT, &value, ERROR));
        CHECK(value == NULL, "a failed call leaves its handle output NULL");
        REFUSED(SESSIONSTORE_INVALID_JSON,
                sessionstore_store_set_wait(ann.store, "kept", TEXT, bad[index], TEXT, PATIENCE, NULL, ERROR));
    }
    for (index = 0; index < sizeof broken / sizeof broken[0]; index++) {
        sessionstore_value *value = GARBAGE(sessionstore_value);
        REFUSED(SESSIONSTORE_INVALID_UTF8, sessionstore_value_from_json(broken[index], TEXT, &value, ERROR));
        REFUSED(SESSIONSTORE_INVALID_UTF8, sessionstore_value_from_string(broken[index], TEXT, &value, ERROR));
        REFUSED(SESSIONSTORE_INVALID_UTF8,
                sessionstore_store_set_wait(ann.store, "kept", TEXT, broken[index], TEXT, PATIENCE, NULL, ERROR));
        REFUSED(SESSIONSTORE_INVALID_UTF8,
                sessionstore_store_set_string_wait(ann.store, "kept", TEXT, broken[index], TEXT, PATIENCE, NULL, ERROR));
    }
    /* A NUL inside a text with a length is no JSON. */
    REFUSED(SESSIONSTORE_INVALID_JSON, sessionstore_store_set_wait(ann.store, "kept", TEXT, "1\0", 2, PATIENCE, NULL, ERROR));
    memset(deep, '[', 130);
    memset(deep + 130, ']', 130);
    REFUSED(SESSIONSTORE_INVALID_JSON, sessionstore_store_set_wait(ann.store, "kept", TEXT, deep, 260, PATIENCE, NULL, ERROR));
    {
        const double zero = 0;
        REFUSED(SESSIONSTORE_INVALID_ARGUMENT,
                sessionstore_store_set_number_wait(ann.store, "kept", TEXT, zero / zero, PATIENCE, NULL, ERROR));
        REFUSED(SESSIONSTORE_INVALID_ARGUMENT, sessionstore_store_set_number(ann.store, "kept", TEXT, 1 / zero, NULL, ERROR));
        REFUSED(SESSIONSTORE_INVALID_ARGUMENT, sessionstore_store_set_number(ann.store, "kept", TEXT, -1 / zero, NULL, ERROR));
    }
    check_holds(ann.store, "kept", "1");
    OK(sessionstore_store_remove_wait(ann.store, "kept", TEXT, PATIENCE, NULL, NULL));
    check_works(ann.store);
}

static void keys_that_are_none(void) {
    static const char *const bad[] = {"", "tab\t", "\x01", "\x7f", "line\n"};
    listening heard;
    sessionstore_key_change_listener listener = listening_listener(&heard);
    size_t index;
    memset(&heard, 0, sizeof heard);
    for (index = 0; index <= sizeof bad / sizeof bad[0]; index++) {
        const char *key = index < sizeof bad / sizeof bad[0] ? bad[index] : xs(257);
        sessionstore_event *event = GARBAGE(sessionstore_event);
        REFUSED(SESSIONSTORE_INVALID_KEY, sessionstore_store_set_wait(ann.store, key, TEXT, "1", TEXT, PATIENCE, &event, ERROR));
        CHECK(event == NULL, "a failed call leaves its handle output NULL");
        REFUSED(SESSIONSTORE_INVALID_KEY, sessionstore_store_get_wait(ann.store, key, TEXT, PATIENCE, &event, ERROR));
        REFUSED(SESSIONSTORE_INVALID_KEY, sessionstore_store_remove_wait(ann.store, key, TEXT, PATIENCE, NULL, ERROR));
        REFUSED(SESSIONSTORE_INVALID_KEY, sessionstore_store_listen(ann.store, &key, NULL, 1, &listener, NULL, ERROR));
    }
    REFUSED(SESSIONSTORE_INVALID_KEY, sessionstore_store_set_wait(ann.store, "a\0b", 3, "1", TEXT, PATIENCE, NULL, ERROR));
    REFUSED(SESSIONSTORE_INVALID_UTF8, sessionstore_store_set_wait(ann.store, "\xff", TEXT, "1", TEXT, PATIENCE, NULL, ERROR));
    {
        sessionstore_event *event = GARBAGE(sessionstore_event);
        REFUSED(SESSIONSTORE_INVALID_UTF8, sessionstore_store_cached(ann.store, "\xff", TEXT, &event, ERROR));
        CHECK(event == NULL, "a failed call leaves its handle output NULL");
    }
    CHECK(heard.drops == 6 && heard.count == 0, "each refused listener was dropped once, uncalled");
    put(ann.store, xs(256), "1");
    check_holds(ann.store, xs(256), "1");
    OK(sessionstore_store_remove_wait(ann.store, xs(256), TEXT, PATIENCE, NULL, NULL));
    check_works(ann.store);
}

static void options_that_cannot_be_used(void) {
    static const char *const urls[] = {"",          "host",         "http://host",     "https://h",   "wss://",       "ws://",
                                       "ws://h:0",  "ws://h:65536", "ws://h:x",        "ws://u:p@h",  "ws://h/?a=b",  "ftp://h",
                                       "ws://h h",  "ws:/h",        "ws://:7350",      "//h:1",       "ws://[::1",    "ws://h:-1"};
    size_t index;
    sessionstore_client_options bad;
    sessionstore_client *client;
#define OPEN_REFUSED(code)                                                         \
    do {                                                                           \
        client = GARBAGE(sessionstore_client);                                     \
        REFUSED(code, sessionstore_client_open(&bad, NULL, &client, ERROR));       \
        CHECK(client == NULL, "a failed call leaves its handle output NULL");      \
        bad = options_for(url, "bad", "Ann");                                      \
    } while (0)
    for (index = 0; index < sizeof urls / sizeof urls[0]; index++) {
        bad = options_for(urls[index], "bad", "Ann");
        OPEN_REFUSED(SESSIONSTORE_INVALID_URL);
    }
    bad.url = "ws://\xff", bad.room = "bad";
    OPEN_REFUSED(SESSIONSTORE_INVALID_UTF8);
    bad.room = "";
    OPEN_REFUSED(SESSIONSTORE_INVALID_ROOM);
    bad.room = NULL;
    OPEN_REFUSED(SESSIONSTORE_INVALID_ROOM);
    bad.room = xs(129);
    OPEN_REFUSED(SESSIONSTORE_INVALID_ROOM);
    bad.room = "line\n";
    OPEN_REFUSED(SESSIONSTORE_INVALID_ROOM);
    bad.room = "\xc3";
    OPEN_REFUSED(SESSIONSTORE_INVALID_UTF8);
    bad.url = "wss://127.0.0.1", bad.ca_file = "/no/such/file.pem";
    OPEN_REFUSED(SESSIONSTORE_INVALID_ARGUMENT);
    bad.url = "wss://127.0.0.1", bad.ca_file = "/dev/null";
    OPEN_REFUSED(SESSIONSTORE_INVALID_ARGUMENT);
    bad.url = "wss://127.0.0.1", bad.ca_file = "\xff";
    OPEN_REFUSED(SESSIONSTORE_INVALID_UTF8);
    bad.url = "wss://127.0.0.1", bad.client_cert_file = "/dev/null";
    OPEN_REFUSED(SESSIONSTORE_INVALID_ARGUMENT);
    bad.ca_file = "/dev/null"; /* With a URL that asks for no TLS. */
    OPEN_REFUSED(SESSIONSTORE_INVALID_ARGUMENT);
    bad.name = xs(257);
    OPEN_REFUSED(SESSIONSTORE_INVALID_PEER);
    bad.name = "\x1b[31m";
    OPEN_REFUSED(SESSIONSTORE_INVALID_PEER);
    bad.role = xs(65);
    OPEN_REFUSED(SESSIONSTORE_INVALID_PEER);
    bad.user_id = xs(129);
    OPEN_REFUSED(SESSIONSTORE_INVALID_PEER);
    bad.metadata = xs(2049);
    OPEN_REFUSED(SESSIONSTORE_INVALID_PEER);
    bad.peer_id = xs(129);
    OPEN_REFUSED(SESSIONSTORE_INVALID_PEER);
    bad.token = "two words";
    OPEN_REFUSED(SESSIONSTORE_UNAUTHORIZED);
    bad.reconnect_min_ms = 100, bad.reconnect_max_ms = 99;
    OPEN_REFUSED(SESSIONSTORE_INVALID_ARGUMENT);
    bad.flags = ~(uint32_t)SESSIONSTORE_CLIENT_FAIL_FAST;
    OPEN_REFUSED(SESSIONSTORE_UNKNOWN_OPTION);
    bad.struct_size = 0;
    OPEN_REFUSED(SESSIONSTORE_INVALID_STRUCT_SIZE);
    bad.struct_size = (uint32_t)sizeof bad - 1;
    OPEN_REFUSED(SESSIONSTORE_INVALID_STRUCT_SIZE);
    bad.struct_size = UINT32_MAX;
    OPEN_REFUSED(SESSIONSTORE_INVALID_STRUCT_SIZE);
    REFUSED(SESSIONSTORE_INVALID_PEER, sessionstore_client_update_peer_wait(ann.client, xs(257), TEXT, NULL, 0, PATIENCE, ERROR));
    REFUSED(SESSIONSTORE_INVALID_PEER, sessionstore_client_update_peer_wait(ann.client, NULL, 0, xs(2049), TEXT, PATIENCE, ERROR));
    REFUSED(SESSIONSTORE_INVALID_UTF8, sessionstore_client_update_peer_wait(ann.client, "\xff", TEXT, NULL, 0, PATIENCE, ERROR));
    check_works(ann.store);
}

/* What is as long as it may be is fine; a struct of a later version is too, if it asks for nothing new. */
static void options_at_their_limits(void) {
    union {
        sessionstore_client_options options;
        char bytes[4096];
    } later;
    char room[129], name[257], role[65], id[129], metadata[2049];
    member most;
    memset(room, 'r', 128), room[128] = '\0';
    memset(name, 'n', 256), name[256] = '\0';
    memset(role, 'o', 64), role[64] = '\0';
    memset(id, 'i', 128), id[128] = '\0';
    memset(metadata, '\n', 2048), metadata[2048] = '\0';
    memset(&later, 0, sizeof later);
    later.options = options_for(url, room, name);
    later.options.struct_size = sizeof later;
    later.options.role = role;
    later.options.user_id = id;
    later.options.peer_id = id;
    later.options.metadata = metadata;
    member_join_with(&most, &later.options);
    check_works(most.store);
    member_leave(&most);
    /* A program compiled before there was TLS: what lies behind its struct is not read. */
    later.options.struct_size = offsetof(sessionstore_client_options, ca_file);
    later.options.ca_file = later.options.client_cert_file = later.options.client_key_file = GARBAGE(char);
    member_join_with(&most, &later.options);
    check_works(most.store);
    member_leave(&most);
}

static void stores_at_their_limits(void) {
    member own;
    char key[16], value[1100];
    int index;
    member_join(&own, url, "limits", "Ann");
    /* A value of 1,024 bytes, its quotes included. */
    OK(sessionstore_store_set_string_wait(own.store, "k", TEXT, xs(1022), TEXT, PATIENCE, NULL, NULL));
    REFUSED(SESSIONSTORE_VALUE_TOO_LARGE,
            sessionstore_store_set_string_wait(own.store, "k", TEXT, xs(1023), TEXT, PATIENCE, NULL, ERROR));
    /* White space does not count. */
    snprintf(value, sizeof value, "   \"%s\"   ", xs(1022));
    put(own.store, "k", value);
    REFUSED(SESSIONSTORE_VALUE_TOO_LARGE,
            sessionstore_store_set_string_wait(own.store, "k", TEXT, xs(60000), TEXT, PATIENCE, NULL, ERROR));
    OK(sessionstore_store_remove_wait(own.store, "k", TEXT, PATIENCE, NULL, NULL));

    for (index = 0; index < 100; index++) {
        snprintf(key, sizeof key, "k%d", index);
        put(own.store, key, "1");
    }
    REFUSED(SESSIONSTORE_TOO_MANY_KEYS, sessionstore_store_set_wait(own.store, "more", TEXT, "1", TEXT, PATIENCE, NULL, ERROR));
    check_holds(own.store, "more", "null");
    put(own.store, "k0", "2");
    OK(sessionstore_store_remove_wait(own.store, "k1", TEXT, PATIENCE, NULL, NULL));
    put(own.store, "more", "1");
    member_leave(&own);

    /* 64 entries of 1,024 bytes, keys included, are 65,536. */
    member_join(&own, url, "limits", "Ann");
    snprintf(value, sizeof value, "\"%s\"", xs(1018));
    for (index = 0; index < 64; index++) {
        snprintf(key, sizeof key, "k%03d", index);
        put(own.store, key, value);
    }
    REFUSED(SESSIONSTORE_STORE_FULL, sessionstore_store_set_wait(own.store, "x", TEXT, "1", TEXT, PATIENCE, NULL, ERROR));
    REFUSED(SESSIONSTORE_STORE_FULL,
            sessionstore_store_set_string_wait(own.store, "k000", TEXT, xs(1019), TEXT, PATIENCE, NULL, ERROR));
    check_holds(own.store, "x", "null");
    check_holds(own.store, "k000", value);
    put(own.store, "k000", value);
    OK(sessionstore_store_set_string_wait(own.store, "k000", TEXT, xs(1016), TEXT, PATIENCE, NULL, NULL));
    put(own.store, "x", "1");
    REFUSED(SESSIONSTORE_STORE_FULL, sessionstore_store_set_wait(own.store, "y", TEXT, "1", TEXT, PATIENCE, NULL, ERROR));
    member_leave(&own);
}

static void too_many_listened_keys_are_refused_to_the_listener(void) {
    sessionstore_server_options served = SESSIONSTORE_SERVER_OPTIONS_INIT;
    sessionstore_server *small;
    const char *four[] = {"a", "b", "c", "d"};
    listening within, beyond;
    sessionstore_key_change_listener listener;
    sessionstore_subscription *first, *second = NULL;
    member own;
    memset(&within, 0, sizeof within);
    memset(&beyond, 0, sizeof beyond);
    served.max_listened_keys = 3;
    small = serve(&served);
    member_join(&own, sessionstore_server_url(small), "listened", "Ann");
    within.scope = beyond.scope = &own.scope;
    first = listen_to(own.store, &within, "a", "b");
    WAIT_FOR(within.ends == 1, "two keys may be listened to");
    listener = listening_listener(&beyond);
    OK(sessionstore_store_listen(own.store, four, NULL, 4, &listener, &second, NULL));
    WAIT_FOR(beyond.drops == 1, "a listener that is refused is dropped");
    CHECK(beyond.refused == 1 && beyond.refused_code == SESSIONSTORE_TOO_MANY_LISTENED_KEYS, "a listener hears why it is refused");
    CHECK(beyond.count == 0 && beyond.ends == 0, "a refused listener hears nothing else");
    sessionstore_subscription_free(second);
    listening_over(&beyond);
    put(own.store, "a", "1");
    WAIT_FOR(within.count == 3, "the other listener goes on");
    sessionstore_subscription_free(first);
    listening_over(&within);
    member_leave(&own);
    serve_no_more(small);
}

static void requests_beyond_max_pending_are_refused(void) {
    sessionstore_server *gone = serve(NULL);
    sessionstore_client_options options = options_for(sessionstore_server_url(gone), "pending", "Ann");
    member own;
    outcome waiting[3];
    int index;
    memset(waiting, 0, sizeof waiting);
    options.max_pending = 3;
    /* Nothing is tried and nothing times out while the test runs. */
    options.reconnect_min_ms = options.reconnect_max_ms = 600000;
    options.request_timeout_ms = 600000;
    member_join_with(&own, &options);
    serve_no_more(gone);
    WAIT_FOR(own.updates.state == SESSIONSTORE_STATE_RECONNECTING, "without its server a client reconnects");
    for (index = 0; index < 3; index++) {
        sessionstore_action_result result = outcome_of(&waiting[index]);
        waiting[index].scope = &own.scope;
        OK(sessionstore_store_set_integer(own.store, "k", TEXT, index, &result, NULL));
    }
    REFUSED(SESSIONSTORE_QUEUE_FULL, sessionstore_store_set_integer(own.store, "k", TEXT, 3, NULL, ERROR));
    REFUSED(SESSIONSTORE_QUEUE_FULL, sessionstore_store_remove_wait(own.store, "k", TEXT, PATIENCE, NULL, ERROR));
    sessionstore_client_free(own.client);
    for (index = 0; index < 3; index++) EXPECT(SESSIONSTORE_CLOSED, outcome_over(&waiting[index]));
    updates_over(&own.updates);
    sessionstore_store_free(own.store);
}

static void requests_beyond_the_rate_say_when_to_try_again(void) {
    sessionstore_server_options served = SESSIONSTORE_SERVER_OPTIONS_INIT;
    sessionstore_server *strict;
    sessionstore_error *error = NULL;
    int32_t code = SESSIONSTORE_OK;
    int tries;
    member own;
    served.max_requests_per_second = 1;
    served.max_request_burst = 5;
    strict = serve(&served);
    member_join(&own, sessionstore_server_url(strict), "hasty", "Ann");
    for (tries = 0; code == SESSIONSTORE_OK && tries < 1000; tries++) {
        code = sessionstore_store_set_integer_wait(own.store, "k", TEXT, tries, PATIENCE, NULL, &error);
    }
    CHECK(code == SESSIONSTORE_RATE_LIMITED, "what comes too fast is refused");
    CHECK(sessionstore_error_is_retryable(error) == 1, "it may be tried again");
    CHECK(sessionstore_error_retry_after_ms(error) > 0 && sessionstore_error_retry_after_ms(error) <= 1000, "in a second at most");
    CHECK(sessionstore_error_retry_after_ms(NULL) == -1, "no error says nothing");
    sessionstore_error_free(error);
    member_leave(&own);
    serve_no_more(strict);
}

static void servers_that_cannot_start(void) {
    union {
        sessionstore_server_options options;
        char bytes[4096];
    } later;
    sessionstore_server_options bad = SESSIONSTORE_SERVER_OPTIONS_INIT;
    sessionstore_server *other;
#define START_REFUSED(code, options_given)                                         \
    do {                                                                           \
        const sessionstore_server_options fresh = SESSIONSTORE_SERVER_OPTIONS_INIT; \
        other = GARBAGE(sessionstore_server);                                      \
        REFUSED(code, sessionstore_server_start((options_given), &other, ERROR));  \
        CHECK(other == NULL, "a failed call leaves its handle output NULL");       \
        bad = fresh;                                                               \
    } while (0)
    bad.port = 65536;
    START_REFUSED(SESSIONSTORE_INVALID_ARGUMENT, &bad);
    bad.port = UINT32_MAX;
    START_REFUSED(SESSIONSTORE_INVALID_ARGUMENT, &bad);
    bad.port = sessionstore_server_port(server);
    START_REFUSED(SESSIONSTORE_ADDRESS_IN_USE, &bad);
    /* From the block reserved for documentation (RFC 5737): no machine has it. */
    bad.address = "192.0.2.1";
    START_REFUSED(SESSIONSTORE_ADDRESS_UNAVAILABLE, &bad);
    bad.address = "no-such-host.invalid";
    START_REFUSED(SESSIONSTORE_INVALID_CONFIG, &bad);
    bad.address = "\xff";
    START_REFUSED(SESSIONSTORE_INVALID_UTF8, &bad);
    bad.secret = "\xff";
    START_REFUSED(SESSIONSTORE_INVALID_UTF8, &bad);
    bad.secret = "";
    START_REFUSED(SESSIONSTORE_INVALID_CONFIG, &bad);
    bad.tls_cert_file = "/no/such/file.pem", bad.tls_key_file = "/dev/null";
    START_REFUSED(SESSIONSTORE_INVALID_CONFIG, &bad);
    bad.tls_cert_file = bad.tls_key_file = "/dev/null";
    START_REFUSED(SESSIONSTORE_INVALID_CONFIG, &bad);
    bad.tls_cert_file = "/dev/null";
    START_REFUSED(SESSIONSTORE_INVALID_CONFIG, &bad);
    bad.tls_client_ca_file = "/dev/null";
    START_REFUSED(SESSIONSTORE_INVALID_CONFIG, &bad);
    bad.tls_key_file = "\xff";
    START_REFUSED(SESSIONSTORE_INVALID_UTF8, &bad);
    bad.allowed_origins = "https://example.org, example.org";
    START_REFUSED(SESSIONSTORE_INVALID_CONFIG, &bad);
    bad.ping_interval_ms = 10, bad.idle_timeout_ms = 10;
    START_REFUSED(SESSIONSTORE_INVALID_CONFIG, &bad);
    bad.max_keys = SESSIONSTORE_ZERO;
    START_REFUSED(SESSIONSTORE_INVALID_CONFIG, &bad);
    bad.flags = SESSIONSTORE_SERVER_FSYNC;
    START_REFUSED(SESSIONSTORE_INVALID_CONFIG, &bad);
    bad.public_url = "rooms.example.org";
    START_REFUSED(SESSIONSTORE_INVALID_CONFIG, &bad);
    bad.webhook_secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    START_REFUSED(SESSIONSTORE_INVALID_CONFIG, &bad);
    bad.webhook_url = "https://hooks.example.org";
    START_REFUSED(SESSIONSTORE_INVALID_CONFIG, &bad);
    bad.webhook_url = "hooks.example.org", bad.webhook_secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    START_REFUSED(SESSIONSTORE_INVALID_CONFIG, &bad);
    bad.webhook_secret = "\xff";
    START_REFUSED(SESSIONSTORE_INVALID_UTF8, &bad);
    bad.api_secret = "";
    START_REFUSED(SESSIONSTORE_INVALID_CONFIG, &bad);
    bad.secret = bad.api_secret = "the same";
    START_REFUSED(SESSIONSTORE_INVALID_CONFIG, &bad);
    bad.api_secret = "\xff";
    START_REFUSED(SESSIONSTORE_INVALID_UTF8, &bad);
    bad.flags = SESSIONSTORE_SERVER_INSPECT;
    START_REFUSED(SESSIONSTORE_INVALID_CONFIG, &bad);
    bad.data_dir = "/dev/null";
    START_REFUSED(SESSIONSTORE_DATA_DIRECTORY_UNUSABLE, &bad);
    bad.data_dir = "\xff";
    START_REFUSED(SESSIONSTORE_INVALID_UTF8, &bad);
    bad.flags = 1u << 31;
    START_REFUSED(SESSIONSTORE_UNKNOWN_OPTION, &bad);
    bad.struct_size = 0;
    START_REFUSED(SESSIONSTORE_INVALID_STRUCT_SIZE, &bad);
    bad.struct_size = (uint32_t)sizeof bad - 1;
    START_REFUSED(SESSIONSTORE_INVALID_STRUCT_SIZE, &bad);
    bad.max_rooms = SESSIONSTORE_ZERO;
    START_REFUSED(SESSIONSTORE_INVALID_CONFIG, &bad);
    bad.max_request_burst = 9;
    START_REFUSED(SESSIONSTORE_INVALID_CONFIG, &bad);
    memset(&later, 0, sizeof later);
    later.options = bad;
    later.options.struct_size = sizeof later;
    later.bytes[4000] = 1;
    START_REFUSED(SESSIONSTORE_UNKNOWN_OPTION, &later.options);
    later.bytes[4000] = 0;
    OK(sessionstore_server_start(&later.options, &other, NULL));
    CHECK(sessionstore_server_port(other) > 0, "a later struct that asks for nothing new is fine");
    REFUSED(SESSIONSTORE_WRONG_MODE, sessionstore_server_reload_tls(other, ERROR));
    REFUSED(SESSIONSTORE_NULL_ARGUMENT, sessionstore_server_reload_tls(NULL, ERROR));
    serve_no_more(other);
    /* A program compiled before there was TLS: what lies behind its struct is not read. */
    later.options.struct_size = offsetof(sessionstore_server_options, tls_cert_file);
    later.options.tls_cert_file = later.options.tls_key_file = later.options.allowed_origins = GARBAGE(char);
    later.options.public_url = later.options.webhook_url = later.options.webhook_secret = GARBAGE(char);
    later.options.api_secret = GARBAGE(char);
    OK(sessionstore_server_start(&later.options, &other, NULL));
    serve_no_more(other);
    check_works(ann.store);
}

/* A client that cannot join: says why each time it tries, or at once with the flag. */
static void check_cannot_join(const sessionstore_client_options *options, int32_t code) {
    sessionstore_client_options fast = *options;
    sessionstore_store *store = GARBAGE(sessionstore_store);
    member own;
    member_open(&own, options);
    WAIT_FOR(own.updates.failed_attempts >= 1, "a client that cannot join says why");
    CHECK(PEEK(int, own.updates.stores) == 0, "a client that did not join has no store");
    REFUSED(code, sessionstore_client_join_wait(own.client, 1, &store, ERROR));
    CHECK(store == NULL, "a failed call leaves its handle output NULL");
    CHECK(own.updates.error_code == code, "the listener hears the same");
    member_end(&own);
    fast.flags = SESSIONSTORE_CLIENT_FAIL_FAST;
    member_open(&own, &fast);
    store = GARBAGE(sessionstore_store);
    REFUSED(code, sessionstore_client_join_wait(own.client, PATIENCE, &store, ERROR));
    CHECK(store == NULL, "a failed call leaves its handle output NULL");
    CHECK(sessionstore_client_state(own.client) == SESSIONSTORE_STATE_CLOSED, "a client that fails fast is closed");
    WAIT_FOR(own.updates.drops == 1, "a client that failed fast drops its listener");
    CHECK(own.updates.state == SESSIONSTORE_STATE_CLOSED && own.updates.error_code == code, "the listener hears why it ended");
    member_end(&own);
}

/* A socket of a port that nobody else gets. Until it is listened on, connections to it are refused. Writes its URL. */
static int port_taken(char *address, size_t size) {
    struct sockaddr_in own;
    socklen_t length = sizeof own;
    const int taken = socket(AF_INET, SOCK_STREAM, 0);
    memset(&own, 0, sizeof own);
    own.sin_family = AF_INET;
    own.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(taken >= 0 && bind(taken, (struct sockaddr *)&own, sizeof own) == 0, "a socket can be bound");
    CHECK(getsockname(taken, (struct sockaddr *)&own, &length) == 0, "a socket has its port");
    snprintf(address, size, "ws://127.0.0.1:%u", (unsigned)ntohs(own.sin_port));
    return taken;
}

/* Something that is no SessionStore server: a web server with one page, for two visitors. */
static void *web_server_run(void *argument) {
    static const char page[] = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    int visitors;
    for (visitors = 0; visitors < 2; visitors++) {
        char request[4096];
        const int visitor = accept(*(const int *)argument, NULL, NULL);
        CHECK(visitor >= 0, "a visitor comes");
        CHECK(recv(visitor, request, sizeof request, 0) > 0, "a visitor asks for something");
        CHECK(send(visitor, page, sizeof page - 1, MSG_NOSIGNAL) > 0, "a visitor is answered");
        close(visitor);
    }
    return NULL;
}

static void servers_that_cannot_be_reached(void) {
    char address[64];
    const int taken = port_taken(address, sizeof address);
    sessionstore_client_options options = options_for(address, "nowhere", "Ann");
    pthread_t thread;
    options.reconnect_min_ms = 60000;
    options.reconnect_max_ms = 60000;
    check_cannot_join(&options, SESSIONSTORE_CONNECTION_FAILED);
    options.url = "ws://no-such-host.invalid:7350";
    options.connect_timeout_ms = PATIENCE;
    check_cannot_join(&options, SESSIONSTORE_HOST_NOT_FOUND);
    options.url = address;
    CHECK(listen(taken, 8) == 0, "a socket can be listened on");
    CHECK(pthread_create(&thread, NULL, web_server_run, (void *)&taken) == 0, "a thread can be made");
    check_cannot_join(&options, SESSIONSTORE_HANDSHAKE_FAILED);
    pthread_join(thread, NULL);
    close(taken);
}

/* Made with the secret "test-secret"; for room "tokens", user "user-7", role "host"; until the year 2100. */
#define HEADER_PART "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9."
#define GOOD_CLAIMS                                                                                            \
    "eyJyb29tX2lkIjoidG9rZW5zIiwidXNlcl9pZCI6InVzZXItNyIsInJvbGUiOiJob3N0IiwiZXhwIjo0MTAyNDQ0ODAwfQ."
#define GOOD_TOKEN HEADER_PART GOOD_CLAIMS "A5MUHJPJWzzPs9Qxswgh0oAT0XBYUsaU8PVHSKsTRDI"
/* The same with the secret "other-secret". */
#define FOREIGN_TOKEN HEADER_PART GOOD_CLAIMS "ONZinfN_5iDlVFEYIx3dcZmZuEDH72iUmBcsk5ZacH4"
/* The same until September 2001. */
#define EXPIRED_TOKEN                                                                                                    \
    HEADER_PART "eyJyb29tX2lkIjoidG9rZW5zIiwidXNlcl9pZCI6InVzZXItNyIsInJvbGUiOiJob3N0IiwiZXhwIjoxMDAwMDAwMDAwfQ."          \
                "gvJY2FdTc91ngNWPV-VIKZCa_0hXfDcOBUKMfUQMkGY"

/* Refused for good: trying again cannot help, so the client closes without the flag too. */
static void check_token(const char *address, const char *room, const char *token, int32_t code) {
    sessionstore_client_options options = options_for(address, room, "Ann");
    sessionstore_store *store = GARBAGE(sessionstore_store);
    member own;
    options.token = token;
    member_open(&own, &options);
    REFUSED(code, sessionstore_client_join_wait(own.client, PATIENCE, &store, ERROR));
    CHECK(store == NULL, "a failed call leaves its handle output NULL");
    CHECK(sessionstore_client_state(own.client) == SESSIONSTORE_STATE_CLOSED, "a client that was refused is closed");
    REFUSED(SESSIONSTORE_CLOSED, sessionstore_client_leave_wait(own.client, PATIENCE, ERROR));
    member_end(&own);
}

static void tokens(void) {
    sessionstore_server_options served = SESSIONSTORE_SERVER_OPTIONS_INIT;
    sessionstore_client_options options;
    sessionstore_server *closed;
    sessionstore_peer_list *list = NULL;
    const sessionstore_peer *self;
    const char *address;
    member own;
    served.secret = "test-secret";
    closed = serve(&served);
    address = sessionstore_server_url(closed);
    check_token(address, "tokens", NULL, SESSIONSTORE_UNAUTHORIZED);
    check_token(address, "tokens", "", SESSIONSTORE_UNAUTHORIZED);
    check_token(address, "tokens", "not.a.token", SESSIONSTORE_UNAUTHORIZED);
    check_token(address, "tokens", FOREIGN_TOKEN, SESSIONSTORE_UNAUTHORIZED);
    check_token(address, NULL, FOREIGN_TOKEN, SESSIONSTORE_UNAUTHORIZED);
    check_token(address, "tokens", EXPIRED_TOKEN, SESSIONSTORE_TOKEN_EXPIRED);
    check_token(address, "another-room", GOOD_TOKEN, SESSIONSTORE_UNAUTHORIZED);
    options = options_for(address, NULL, "Ann");
    options.token = GOOD_TOKEN;
    member_join_with(&own, &options);
    OK(sessionstore_client_peers(own.client, &list, NULL));
    self = sessionstore_peer_list_get(list, 0);
    CHECK(strcmp(sessionstore_peer_user_id(self, NULL), "user-7") == 0, "the token says who the user is");
    CHECK(strcmp(sessionstore_peer_role(self, NULL), "host") == 0, "the token says which role");
    sessionstore_peer_list_free(list);
    check_works(own.store);
    member_leave(&own);
    serve_no_more(closed);
}

int main(int argc, char **argv) {
    server = serve(NULL);
    url = sessionstore_server_url(server);
    member_join(&ann, url, "bad-input", "Ann");
    RUN(every_function_takes_null);
    RUN(values_that_are_no_json);
    RUN(keys_that_are_none);
    RUN(options_that_cannot_be_used);
    RUN(options_at_their_limits);
    RUN(stores_at_their_limits);
    RUN(too_many_listened_keys_are_refused_to_the_listener);
    RUN(requests_beyond_max_pending_are_refused);
    RUN(requests_beyond_the_rate_say_when_to_try_again);
    RUN(servers_that_cannot_start);
    RUN(servers_that_cannot_be_reached);
    RUN(tokens);
    check_works(ann.store);
    member_leave(&ann);
    serve_no_more(server);
    return harness_end();
}

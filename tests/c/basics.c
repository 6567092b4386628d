/* What a room does, seen from C: stores, listeners, authors, peers, values, results. */
#include "harness.h"

static sessionstore_server *server;
static const char *url;

static void two_clients_share_a_store(void) {
    member ann, bob;
    sessionstore_event *event = NULL;
    uint64_t version;
    member_join(&ann, url, "share", "Ann");
    member_join(&bob, url, "share", "Bob");

    OK(sessionstore_store_set_wait(ann.store, "pinned", TEXT, " { \"text\" : \"Welcome!\" } ", TEXT, PATIENCE, &event, NULL));
    CHECK(strcmp(sessionstore_event_key(event, NULL), "pinned") == 0, "a set's event has its key");
    CHECK(strcmp(sessionstore_event_json(event, NULL), "{\"text\":\"Welcome!\"}") == 0, "a value is compacted");
    version = sessionstore_event_version(event);
    CHECK(version > 0, "a key that was set has a version");
    sessionstore_event_free(event);
    check_holds(bob.store, "pinned", "{\"text\":\"Welcome!\"}");

    OK(sessionstore_store_remove_wait(bob.store, "pinned", TEXT, PATIENCE, &event, NULL));
    CHECK(sessionstore_event_version(event) > version, "removing a key gives it a higher version");
    CHECK(sessionstore_value_kind(sessionstore_event_value(event)) == SESSIONSTORE_KIND_NULL, "a removed key is null");
    sessionstore_event_free(event);
    check_holds(ann.store, "pinned", "null");
    OK(sessionstore_store_remove_wait(bob.store, "pinned", TEXT, PATIENCE, NULL, NULL));

    put(ann.store, "spotlight", "\"p1\"");
    put(ann.store, "spotlight", "null");
    check_holds(bob.store, "spotlight", "null");
    check_holds(bob.store, "never-set", "null");
    /* A key given with its length need not end with NUL. */
    OK(sessionstore_store_set_wait(ann.store, "keyXYZ", 3, "17YYY", 2, PATIENCE, NULL, NULL));
    check_holds(bob.store, "key", "17");
    check_holds(bob.store, "keyXYZ", "null");
    member_leave(&ann);
    member_leave(&bob);
}

static void listeners_get_a_snapshot_then_every_change(void) {
    member ann, bob;
    listening first, second, own;
    sessionstore_subscription *a, *b, *c;
    sessionstore_event *event = NULL;
    uint64_t version = 0;
    int index;
    memset(&first, 0, sizeof first);
    memset(&second, 0, sizeof second);
    memset(&own, 0, sizeof own);
    member_join(&ann, url, "listen", "Ann");
    member_join(&bob, url, "listen", "Bob");
    first.scope = second.scope = &bob.scope;
    own.scope = &ann.scope;
    put(ann.store, "there", "1");

    OK(sessionstore_store_cached(bob.store, "there", TEXT, &event, NULL));
    CHECK(event == NULL, "a key that nobody here listens to is not cached");
    a = listen_to(bob.store, &first, "there", "absent");
    WAIT_FOR(first.ends == 1, "a listener hears the end of its snapshot");
    CHECK(first.count == 2, "a snapshot has one event for each key, not %d", first.count);
    for (index = 0; index < 2; index++) {
        const int is_there = strcmp(sessionstore_event_key(first.events[index], NULL), "there") == 0;
        CHECK(strcmp(told(&first, index), is_there ? "1" : "null") == 0, "a snapshot has the current values");
        CHECK(sessionstore_event_is_snapshot(first.events[index]) == 1, "events of a snapshot say so");
    }
    OK(sessionstore_store_cached(bob.store, "there", TEXT, &event, NULL));
    CHECK(event != NULL && strcmp(sessionstore_event_json(event, NULL), "1") == 0, "a key listened to is cached");
    sessionstore_event_free(event);
    OK(sessionstore_store_cached(bob.store, "absent", TEXT, &event, NULL));
    CHECK(event != NULL && strcmp(sessionstore_event_json(event, NULL), "null") == 0, "absence is cached too");
    sessionstore_event_free(event);

    b = listen_to(bob.store, &second, "there", NULL);
    c = listen_to(ann.store, &own, "there", NULL);
    WAIT_FOR(second.ends == 1 && own.ends == 1, "further listeners get a snapshot too");
    CHECK(second.count == 1 && strcmp(told(&second, 0), "1") == 0, "a second listener gets the current value");

    put(ann.store, "there", "2");
    CHECK(PEEK(int, own.count) == 2, "one's own write is heard before its result");
    put(bob.store, "there", "3");
    CHECK(PEEK(int, first.count) == 4 && PEEK(int, second.count) == 3, "all listeners of a key hear each change");
    put(bob.store, "absent", "\"now\"");
    CHECK(PEEK(int, first.count) == 5 && PEEK(int, second.count) == 3, "a listener hears of its keys only");
    WAIT_FOR(own.count == 3, "another's write is heard");
    CHECK(strcmp(told(&own, 1), "2") == 0 && strcmp(told(&own, 2), "3") == 0, "changes come in order");
    for (index = 0; index < own.count; index++) {
        CHECK(sessionstore_event_version(own.events[index]) > version, "versions go up");
        CHECK(sessionstore_event_is_snapshot(own.events[index]) == (index == 0), "changes are not marked as snapshot");
        CHECK(sessionstore_event_replaced(own.events[index]) == 0, "a listener that keeps up misses nothing");
        version = sessionstore_event_version(own.events[index]);
    }

    OK(sessionstore_subscription_cancel_wait(a, PATIENCE, NULL));
    CHECK(PEEK(int, first.drops) == 1, "cancel_wait returns after on_drop");
    put(ann.store, "there", "4");
    WAIT_FOR(second.count == 4, "another listener of the same key goes on");
    OK(sessionstore_store_cached(bob.store, "absent", TEXT, &event, NULL));
    CHECK(event == NULL, "a key is not cached any more once its last listener has gone");
    listening_over(&first);
    sessionstore_subscription_free(a);
    sessionstore_subscription_free(b);
    listening_over(&second);
    OK(sessionstore_subscription_cancel(c, NULL));
    OK(sessionstore_subscription_cancel(c, NULL));
    listening_over(&own);
    sessionstore_subscription_free(c);
    member_leave(&ann);
    member_leave(&bob);
    scope_check(&ann.scope);
    scope_check(&bob.scope);
}

static void a_late_joiner_learns_values_and_authors(void) {
    sessionstore_client_options options = options_for(url, "late", "Ann");
    member ann, holder, late;
    listening heard;
    sessionstore_subscription *subscription;
    const sessionstore_event *event;
    const uint64_t before = (uint64_t)time(NULL) * 1000;
    memset(&heard, 0, sizeof heard);
    options.peer_id = "ann-1";
    options.user_id = "user-7";
    member_join_with(&ann, &options);
    member_join(&holder, url, "late", "Holder");
    CHECK(strcmp(sessionstore_client_peer_id(ann.client), "ann-1") == 0, "a client has the peer id it was given");
    CHECK(strlen(sessionstore_client_peer_id(holder.client)) == 36, "a client without a peer id gets a UUID");
    put(ann.store, "spotlight", "\"p9\"");
    member_leave(&ann);

    member_join(&late, url, "late", "Late");
    subscription = listen_to(late.store, &heard, "spotlight", NULL);
    WAIT_FOR(heard.ends == 1, "a late joiner gets its snapshot");
    CHECK(strcmp(told(&heard, 0), "\"p9\"") == 0, "a late joiner gets the current value");
    event = heard.events[0];
    CHECK(strcmp(sessionstore_event_author_peer_id(event, NULL), "ann-1") == 0, "the author's peer id is kept");
    CHECK(strcmp(sessionstore_event_author_user_id(event, NULL), "user-7") == 0, "the author's user id is kept");
    CHECK(strcmp(sessionstore_event_author_name(event, NULL), "Ann") == 0, "the author's name is kept after it left");
    /* The same machine keeps both clocks; a day is for those who set theirs while the test runs. */
    CHECK(sessionstore_event_updated_at(event) + 86400000 > before, "the time of a change is in milliseconds");
    CHECK(sessionstore_event_updated_at(event) < before + 86400000, "the time of a change is in milliseconds");
    sessionstore_subscription_free(subscription);
    listening_over(&heard);
    member_leave(&holder);
    member_leave(&late);
}

static void peers_are_told_of(void) {
    sessionstore_client_options options = options_for(url, "peers", "Ann");
    member ann, bob, cid;
    sessionstore_peer_list *list = NULL;
    const sessionstore_peer *peer;
    sessionstore_peer *kept;
    size_t length = 0;
    options.peer_id = "a";
    options.role = "host";
    options.user_id = "user-a";
    options.metadata = "{\"hand\":false}";
    member_join_with(&ann, &options);
    options = options_for(url, "peers", "Bob");
    options.peer_id = "b";
    member_join_with(&bob, &options);
    WAIT_FOR(ann.updates.joined == 1, "who is in the room hears of a joiner");
    WAIT_FOR(bob.updates.joined == 1, "a joiner hears who is in the room");
    CHECK(strcmp(bob.updates.peer_name, "Ann") == 0, "a joiner hears the name of who is there");

    OK(sessionstore_client_peers(bob.client, &list, NULL));
    CHECK(sessionstore_peer_list_count(list) == 2, "the list has everybody");
    peer = sessionstore_peer_list_get(list, 0);
    kept = sessionstore_peer_retain(peer);
    CHECK(sessionstore_peer_list_get(list, 2) == NULL, "beyond the list's end is nothing");
    CHECK(strcmp(sessionstore_peer_id(sessionstore_peer_list_get(list, 1), NULL), "b") == 0, "oneself is in the list");
    sessionstore_peer_list_free(list);
    CHECK(strcmp(sessionstore_peer_id(kept, &length), "a") == 0 && length == 1, "the list is in the order of ids");
    CHECK(strcmp(sessionstore_peer_name(kept, NULL), "Ann") == 0, "a peer has its name");
    CHECK(strcmp(sessionstore_peer_role(kept, NULL), "host") == 0, "a peer has its role");
    CHECK(strcmp(sessionstore_peer_user_id(kept, NULL), "user-a") == 0, "a peer has its user id");
    CHECK(strcmp(sessionstore_peer_metadata(kept, NULL), "{\"hand\":false}") == 0, "a peer has its metadata");
    CHECK(sessionstore_peer_joined_at(kept) > 1500000000000ull, "a peer has the time it joined, in milliseconds");
    sessionstore_peer_free(kept);

    OK(sessionstore_client_update_peer_wait(ann.client, "Anna", TEXT, NULL, 0, PATIENCE, NULL));
    WAIT_FOR(bob.updates.updated == 1, "a new name is told");
    CHECK(strcmp(bob.updates.peer_name, "Anna") == 0, "a new name is told as it is");
    OK(sessionstore_client_update_peer_wait(ann.client, NULL, 0, "x\0y", 3, PATIENCE, NULL));
    WAIT_FOR(bob.updates.updated == 2, "new metadata are told");
    OK(sessionstore_client_peers(bob.client, &list, NULL));
    peer = sessionstore_peer_list_get(list, 0);
    CHECK(strcmp(sessionstore_peer_name(peer, NULL), "Anna") == 0, "what was not changed stays");
    CHECK(memcmp(sessionstore_peer_metadata(peer, &length), "x\0y", 4) == 0 && length == 3, "metadata can hold NUL");
    sessionstore_peer_list_free(list);
    OK(sessionstore_client_peers(ann.client, &list, NULL));
    CHECK(strcmp(sessionstore_peer_name(sessionstore_peer_list_get(list, 0), NULL), "Anna") == 0, "one's own entry changes");
    sessionstore_peer_list_free(list);

    member_join(&cid, url, "peers", "Cid");
    WAIT_FOR(bob.updates.joined == 2, "a third joiner is told");
    member_leave(&ann);
    WAIT_FOR(bob.updates.left == 1, "a peer that left is told");
    member_end(&cid);
    WAIT_FOR(bob.updates.left == 2, "freeing a client leaves the room too");
    CHECK(PEEK(int, bob.updates.updated) == 2 && PEEK(int, bob.updates.errors) == 0, "nothing else is told");
    member_leave(&bob);
}

static void a_client_that_left_is_closed(void) {
    member ann, watcher;
    outcome left;
    listening heard;
    sessionstore_action_result result = outcome_of(&left);
    sessionstore_subscription *subscription;
    memset(&left, 0, sizeof left);
    memset(&heard, 0, sizeof heard);
    member_join(&watcher, url, "leave", "Watcher");
    member_join(&ann, url, "leave", "Ann");
    left.scope = heard.scope = &ann.scope;
    subscription = listen_to(ann.store, &heard, "key", NULL);
    OK(sessionstore_client_leave(ann.client, &result, NULL));
    OK(outcome_over(&left));
    WAIT_FOR(watcher.updates.left == 1, "the others hear of a leave");
    listening_over(&heard);
    WAIT_FOR(ann.updates.state == SESSIONSTORE_STATE_CLOSED, "a client that left hears that it is closed");
    CHECK(sessionstore_client_state(ann.client) == SESSIONSTORE_STATE_CLOSED, "a client that left is closed");
    EXPECT(SESSIONSTORE_CLOSED, sessionstore_client_leave_wait(ann.client, PATIENCE, NULL));
    EXPECT(SESSIONSTORE_CLOSED, sessionstore_store_remove_wait(ann.store, "key", TEXT, PATIENCE, NULL, NULL));
    sessionstore_subscription_free(subscription);
    member_end(&ann);
    scope_check(&ann.scope);
    member_leave(&watcher);
}

static void the_store_is_cleared_with_its_last_peer(void) {
    member ann, bob;
    uint64_t rooms = 7, peers = 7, connections = 7;
    member_join(&ann, url, "cleared", "Ann");
    member_join(&bob, url, "cleared", "Bob");
    put(ann.store, "key", "1");
    OK(sessionstore_server_stats(server, &rooms, &peers, &connections, NULL));
    CHECK(rooms >= 1 && peers >= 2 && connections >= 2, "the server counts rooms, peers and connections");
    OK(sessionstore_server_stats(server, NULL, NULL, NULL, NULL));
    member_leave(&ann);
    check_holds(bob.store, "key", "1");
    member_leave(&bob);
    member_join(&ann, url, "cleared", "Ann");
    check_holds(ann.store, "key", "null");
    member_leave(&ann);
}

/* Reads a key back, here and at the other client, as JSON. */
static sessionstore_event *read_back(const sessionstore_store *store, const char *key, int32_t kind) {
    sessionstore_event *event = NULL;
    OK(sessionstore_store_get_wait(store, key, TEXT, PATIENCE, &event, NULL));
    CHECK(sessionstore_value_kind(sessionstore_event_value(event)) == kind, "%s is of kind %d, not %d", key,
          (int)sessionstore_value_kind(sessionstore_event_value(event)), (int)kind);
    return event;
}

static void check_integer(const member *ann, const member *bob, int64_t integer) {
    sessionstore_event *event;
    int64_t back = 0;
    double number = 0;
    OK(sessionstore_store_set_integer_wait(ann->store, "integer", TEXT, integer, PATIENCE, NULL, NULL));
    event = read_back(bob->store, "integer", SESSIONSTORE_KIND_INTEGER);
    OK(sessionstore_value_get_integer(sessionstore_event_value(event), &back, NULL));
    CHECK(back == integer, "%lld came back as %lld", (long long)integer, (long long)back);
    OK(sessionstore_value_get_number(sessionstore_event_value(event), &number, NULL));
    CHECK(number == (double)integer, "an integer reads as a number too");
    sessionstore_event_free(event);
}

static void check_number(const member *ann, const member *bob, double given) {
    sessionstore_event *event = NULL;
    double number = 0;
    OK(sessionstore_store_set_number_wait(ann->store, "number", TEXT, given, PATIENCE, NULL, NULL));
    OK(sessionstore_store_get_wait(bob->store, "number", TEXT, PATIENCE, &event, NULL));
    OK(sessionstore_value_get_number(sessionstore_event_value(event), &number, NULL));
    CHECK(memcmp(&number, &given, sizeof given) == 0, "%.17g came back as %.17g", given, number);
    sessionstore_event_free(event);
}

static void check_text(const member *ann, const member *bob, const char *text, size_t length) {
    sessionstore_event *event;
    const char *back = NULL;
    size_t back_length = 0;
    OK(sessionstore_store_set_string_wait(ann->store, "text", TEXT, text, length, PATIENCE, NULL, NULL));
    event = read_back(bob->store, "text", SESSIONSTORE_KIND_STRING);
    OK(sessionstore_value_get_string(sessionstore_event_value(event), &back, &back_length, NULL));
    CHECK(back_length == length && memcmp(back, text, length) == 0, "the text came back as %s", back);
    CHECK(back[back_length] == '\0', "a text has a NUL after it");
    OK(sessionstore_value_get_string(sessionstore_event_value(event), &back, NULL, NULL));
    sessionstore_event_free(event);
}

static void values_come_back_exactly(void) {
    static const char awkward[] = "quote \" backslash \\ slash / tab \t newline \n \x7f \x01";
    member ann, bob;
    sessionstore_event *event;
    const sessionstore_value *value;
    int64_t integer = 5;
    int32_t boolean = 5;
    double number = 5;
    const char *text = NULL;
    size_t length = 5;
    member_join(&ann, url, "values", "Ann");
    member_join(&bob, url, "values", "Bob");

    check_integer(&ann, &bob, 0);
    check_integer(&ann, &bob, -1);
    check_integer(&ann, &bob, INT64_C(9007199254740993));
    check_integer(&ann, &bob, INT64_MAX);
    check_integer(&ann, &bob, INT64_MIN);
    check_number(&ann, &bob, 0.1);
    check_number(&ann, &bob, -1.5e300);
    check_number(&ann, &bob, 5e-324);
    check_number(&ann, &bob, 1.7976931348623157e308);
    check_text(&ann, &bob, "", 0);
    check_text(&ann, &bob, "plain", 5);
    check_text(&ann, &bob, awkward, sizeof awkward - 1);
    check_text(&ann, &bob, "\xc3\xa4\xe6\x97\xa5\xf0\x9f\x91\x8b", 9);
    check_text(&ann, &bob, "a\0b", 3);
    check_text(&ann, &bob, "\0", 1);

    OK(sessionstore_store_set_boolean_wait(ann.store, "boolean", TEXT, 7, PATIENCE, NULL, NULL));
    event = read_back(bob.store, "boolean", SESSIONSTORE_KIND_BOOLEAN);
    value = sessionstore_event_value(event);
    OK(sessionstore_value_get_boolean(value, &boolean, NULL));
    CHECK(boolean == 1, "anything but 0 is true, and true reads as 1");
    EXPECT(SESSIONSTORE_WRONG_TYPE, sessionstore_value_get_integer(value, &integer, NULL));
    EXPECT(SESSIONSTORE_WRONG_TYPE, sessionstore_value_get_number(value, &number, NULL));
    EXPECT(SESSIONSTORE_WRONG_TYPE, sessionstore_value_get_string(value, &text, &length, NULL));
    CHECK(integer == 5 && number == 5 && text == NULL && length == 5, "outputs are written on success only");
    sessionstore_event_free(event);
    OK(sessionstore_store_set_boolean_wait(ann.store, "boolean", TEXT, 0, PATIENCE, NULL, NULL));
    event = read_back(bob.store, "boolean", SESSIONSTORE_KIND_BOOLEAN);
    OK(sessionstore_value_get_boolean(sessionstore_event_value(event), &boolean, NULL));
    CHECK(boolean == 0, "false reads as 0");
    sessionstore_event_free(event);

    put(ann.store, "one", "1");
    event = read_back(bob.store, "one", SESSIONSTORE_KIND_INTEGER);
    EXPECT(SESSIONSTORE_WRONG_TYPE, sessionstore_value_get_boolean(sessionstore_event_value(event), &boolean, NULL));
    sessionstore_event_free(event);
    put(ann.store, "one", "1.0");
    event = read_back(bob.store, "one", SESSIONSTORE_KIND_NUMBER);
    EXPECT(SESSIONSTORE_WRONG_TYPE, sessionstore_value_get_integer(sessionstore_event_value(event), &integer, NULL));
    sessionstore_event_free(event);
    put(ann.store, "one", "9223372036854775808");
    event = read_back(bob.store, "one", SESSIONSTORE_KIND_NUMBER);
    CHECK(strcmp(sessionstore_event_json(event, NULL), "9223372036854775808") == 0, "a number keeps every digit");
    sessionstore_event_free(event);

    /* A string with "null" in it, and what else is empty, is there; only null is absent. */
    OK(sessionstore_store_set_string_wait(ann.store, "text", TEXT, "null", TEXT, PATIENCE, NULL, NULL));
    sessionstore_event_free(read_back(bob.store, "text", SESSIONSTORE_KIND_STRING));
    put(ann.store, "text", "\"\"");
    sessionstore_event_free(read_back(bob.store, "text", SESSIONSTORE_KIND_STRING));
    put(ann.store, "text", "[null]");
    sessionstore_event_free(read_back(bob.store, "text", SESSIONSTORE_KIND_ARRAY));
    put(ann.store, "text", "{}");
    sessionstore_event_free(read_back(bob.store, "text", SESSIONSTORE_KIND_OBJECT));
    put(ann.store, "text", "\"\\u0000\\ud83d\\udc4b\"");
    event = read_back(bob.store, "text", SESSIONSTORE_KIND_STRING);
    OK(sessionstore_value_get_string(sessionstore_event_value(event), &text, &length, NULL));
    CHECK(length == 5 && memcmp(text, "\0\xf0\x9f\x91\x8b", 6) == 0, "escapes are undone");
    sessionstore_event_free(event);
    put(ann.store, "text", "null");
    sessionstore_event_free(read_back(bob.store, "text", SESSIONSTORE_KIND_NULL));
    put(ann.store, "\xc3\xa4 key/\xf0\x9f\x91\x8b", "1");
    check_holds(bob.store, "\xc3\xa4 key/\xf0\x9f\x91\x8b", "1");
    member_leave(&ann);
    member_leave(&bob);
}

static void values_are_made_and_kept_without_a_room(void) {
    sessionstore_value *value = NULL, *same;
    size_t length = 0;
    OK(sessionstore_value_from_json(" [1, 2] ", TEXT, &value, NULL));
    CHECK(strcmp(sessionstore_value_json(value, &length), "[1,2]") == 0 && length == 5, "JSON is compacted");
    same = sessionstore_value_retain(value);
    sessionstore_value_free(value);
    CHECK(sessionstore_value_kind(same) == SESSIONSTORE_KIND_ARRAY, "a retained value stays");
    sessionstore_value_free(same);
    OK(sessionstore_value_from_string("a\"b", TEXT, &value, NULL));
    CHECK(strcmp(sessionstore_value_json(value, NULL), "\"a\\\"b\"") == 0, "quotes and escapes are added");
    sessionstore_value_free(value);
    OK(sessionstore_value_from_integer(-5, &value, NULL));
    CHECK(strcmp(sessionstore_value_json(value, NULL), "-5") == 0, "an integer is its digits");
    sessionstore_value_free(value);
    OK(sessionstore_value_from_number(0.5, &value, NULL));
    CHECK(strcmp(sessionstore_value_json(value, NULL), "0.5") == 0, "a number is its shortest digits");
    sessionstore_value_free(value);
    OK(sessionstore_value_from_boolean(-1, &value, NULL));
    CHECK(strcmp(sessionstore_value_json(value, NULL), "true") == 0, "anything but 0 is true");
    sessionstore_value_free(value);
}

static void results_come_by_callback(void) {
    member ann;
    listening heard;
    outcome set, text, integer, number, boolean, get, removed, updated;
    outcome *all[8];
    sessionstore_action_result results[8];
    sessionstore_subscription *subscription;
    int index;
    memset(&heard, 0, sizeof heard);
    member_join(&ann, url, "results", "Ann");
    all[0] = &set, all[1] = &text, all[2] = &integer, all[3] = &number;
    all[4] = &boolean, all[5] = &get, all[6] = &removed, all[7] = &updated;
    heard.scope = &ann.scope;
    for (index = 0; index < 8; index++) {
        memset(all[index], 0, sizeof *all[index]);
        all[index]->scope = &ann.scope;
        results[index] = outcome_of(all[index]);
    }
    subscription = listen_to(ann.store, &heard, "key", NULL);
    OK(sessionstore_store_set(ann.store, "key", TEXT, "[1]", TEXT, &results[0], NULL));
    OK(sessionstore_store_set_string(ann.store, "key", TEXT, "two", TEXT, &results[1], NULL));
    OK(sessionstore_store_set_integer(ann.store, "key", TEXT, 3, &results[2], NULL));
    OK(sessionstore_store_set_number(ann.store, "key", TEXT, 4.5, &results[3], NULL));
    OK(sessionstore_store_set_boolean(ann.store, "key", TEXT, 1, &results[4], NULL));
    OK(sessionstore_store_get(ann.store, "key", TEXT, &results[5], NULL));
    OK(sessionstore_store_remove(ann.store, "key", TEXT, &results[6], NULL));
    OK(sessionstore_client_update_peer(ann.client, "Anna", TEXT, NULL, 0, &results[7], NULL));
    WAIT_FOR(updated.drops == 1, "the last of several actions ends");
    for (index = 0; index < 7; index++) {
        static const char *const states[] = {"[1]", "\"two\"", "3", "4.5", "true", "true", "null"};
        CHECK(all[index]->event != NULL, "the result of action %d has the key's state", index);
        CHECK(strcmp(sessionstore_event_json(all[index]->event, NULL), states[index]) == 0, "action %d ended with %s", index,
              sessionstore_event_json(all[index]->event, NULL));
    }
    CHECK(updated.event == NULL, "an update of the peer has no key");
    for (index = 0; index < 8; index++) OK(outcome_over(all[index]));
    /* All changes were told before the results of what made them. */
    harness_lock();
    CHECK(heard.ends == 1, "the snapshot was told before");
    CHECK(strcmp(told(&heard, heard.count - 1), "null") == 0, "the last change was told before its result");
    harness_unlock();
    /* Without a result nothing is told, and it is done nevertheless. */
    OK(sessionstore_store_set_integer(ann.store, "key", TEXT, 9, NULL, NULL));
    check_holds(ann.store, "key", "9");
    sessionstore_subscription_free(subscription);
    listening_over(&heard);
    member_leave(&ann);
    scope_check(&ann.scope);
}

static void a_store_outlives_its_client_and_says_closed(void) {
    member ann;
    sessionstore_store *store;
    sessionstore_event *event = (sessionstore_event *)&ann;
    member_join(&ann, url, "outlived", "Ann");
    store = sessionstore_store_retain(ann.store);
    member_end(&ann);
    REFUSED(SESSIONSTORE_CLOSED, sessionstore_store_set_wait(store, "k", TEXT, "1", TEXT, PATIENCE, &event, ERROR));
    CHECK(event == NULL, "a failed call leaves its handle output NULL");
    REFUSED(SESSIONSTORE_CLOSED, sessionstore_store_get_wait(store, "k", TEXT, PATIENCE, &event, ERROR));
    REFUSED(SESSIONSTORE_CLOSED, sessionstore_store_remove_wait(store, "k", TEXT, PATIENCE, NULL, ERROR));
    REFUSED(SESSIONSTORE_CLOSED, sessionstore_store_set(store, "k", TEXT, "1", TEXT, NULL, ERROR));
    REFUSED(SESSIONSTORE_CLOSED, sessionstore_store_set_integer_wait(store, "k", TEXT, 1, PATIENCE, NULL, ERROR));
    OK(sessionstore_store_cached(store, "k", TEXT, &event, NULL));
    CHECK(event == NULL, "nothing is cached of a room that was left");
    sessionstore_store_free(store);
}

static void codes_have_names_and_advice(void) {
    CHECK(strcmp(sessionstore_version(), SESSIONSTORE_VERSION) == 0, "library and header have the same version");
    CHECK(strcmp(sessionstore_code_name(SESSIONSTORE_OK), "OK") == 0, "success has a name");
    CHECK(strcmp(sessionstore_code_name(SESSIONSTORE_VALUE_TOO_LARGE), "VALUE_TOO_LARGE") == 0, "codes have names");
    CHECK(strcmp(sessionstore_code_name(-1), "UNKNOWN") == 0, "what is no code is unknown");
    CHECK(strcmp(sessionstore_code_name(INT32_MAX), "UNKNOWN") == 0, "what is no code is unknown");
    CHECK(strlen(sessionstore_code_advice(SESSIONSTORE_FORKED)) > 20, "codes have advice");
    CHECK(strlen(sessionstore_code_advice(12345)) > 20, "what is no code has advice too");
}

int main(int argc, char **argv) {
    server = serve(NULL);
    url = sessionstore_server_url(server);
    CHECK(sessionstore_server_port(server) > 0, "a server on port 0 says which it got");
    RUN(two_clients_share_a_store);
    RUN(listeners_get_a_snapshot_then_every_change);
    RUN(a_late_joiner_learns_values_and_authors);
    RUN(peers_are_told_of);
    RUN(a_client_that_left_is_closed);
    RUN(the_store_is_cleared_with_its_last_peer);
    RUN(values_come_back_exactly);
    RUN(values_are_made_and_kept_without_a_room);
    RUN(results_come_by_callback);
    RUN(a_store_outlives_its_client_and_says_closed);
    RUN(codes_have_names_and_advice);
    serve_no_more(server);
    return harness_end();
}

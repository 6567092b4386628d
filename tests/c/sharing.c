/* What peers do to the same keys at once: conditions, merges, updates, transactions, locks, selections. */
#include "harness.h"

static sessionstore_server *server;
static const char *url;

static const sessionstore_write_options no_options = SESSIONSTORE_WRITE_OPTIONS_INIT;

/* Does an operation, which must end with this code. */
static void operate(const sessionstore_store *store, const char *key, int32_t operation, const char *json,
                    const sessionstore_write_options *options, int32_t code) {
    sessionstore_event *event = NULL;
    const int32_t given = sessionstore_store_write_wait(store, key, TEXT, operation, json, json == NULL ? 0 : TEXT,
                                                        options, PATIENCE, &event, NULL);
    CHECK(given == code, "operation %d on %s with %s returned %s, not %s", (int)operation, key,
          json == NULL ? "nothing" : json, sessionstore_code_name(given), sessionstore_code_name(code));
    CHECK((given == SESSIONSTORE_OK) == (event != NULL), "a write gives the state if it succeeds, and only then");
    if (event != NULL) CHECK(strcmp(sessionstore_event_key(event, NULL), key) == 0, "the state is that of the key");
    sessionstore_event_free(event);
}

/* --- Conditions and merges. --- */

static void compare_and_set_tells_what_the_key_holds(void) {
    member ann, bob;
    outcome told;
    sessionstore_action_result result = outcome_of(&told);
    sessionstore_write_options options = no_options;
    sessionstore_event *first = NULL, *event = NULL;
    sessionstore_error *error = NULL;
    const sessionstore_event *current;
    uint64_t version;
    memset(&told, 0, sizeof told);
    member_join(&ann, url, "cas", "Ann");
    member_join(&bob, url, "cas", "Bob");
    OK(sessionstore_store_set_if_version_wait(ann.store, "turn", TEXT, "\"x\"", TEXT, 0, PATIENCE, &first, NULL));
    version = sessionstore_event_version(first);
    EXPECT(SESSIONSTORE_VERSION_CONFLICT,
           sessionstore_store_set_if_version_wait(bob.store, "turn", TEXT, "\"o\"", TEXT, 0, PATIENCE, &event, &error));
    CHECK(event == NULL, "a failed call leaves its handle output NULL");
    current = sessionstore_error_current(error);
    CHECK(current != NULL && sessionstore_event_version(current) == version, "a conflict has the current version");
    CHECK(strcmp(sessionstore_event_json(current, NULL), "\"x\"") == 0, "a conflict has the current value");
    CHECK(strcmp(sessionstore_event_author_name(current, NULL), "Ann") == 0, "a conflict says who was faster");
    CHECK(sessionstore_error_check(error) == -1 && sessionstore_error_write(error) == -1, "it is of no transaction");
    sessionstore_error_free(error);
    OK(sessionstore_store_set_if_version(bob.store, "turn", TEXT, "\"o\"", TEXT, version, &result, NULL));
    OK(outcome_over(&told));
    check_holds(ann.store, "turn", "\"o\"");
    memset(&told, 0, sizeof told);
    OK(sessionstore_store_set_if_version(ann.store, "turn", TEXT, "\"x\"", TEXT, version, &result, NULL));
    EXPECT(SESSIONSTORE_VERSION_CONFLICT, outcome_over(&told));
    sessionstore_event_free(first);

    /* The same as options of any operation. */
    options.flags = SESSIONSTORE_WRITE_IF_VERSION;
    operate(ann.store, "turn", SESSIONSTORE_OPERATION_SET, "1", &options, SESSIONSTORE_VERSION_CONFLICT);
    operate(ann.store, "votes", SESSIONSTORE_OPERATION_ADD, "1", &options, SESSIONSTORE_OK);
    operate(ann.store, "votes", SESSIONSTORE_OPERATION_ADD, "1", &options, SESSIONSTORE_VERSION_CONFLICT);
    OK(sessionstore_store_get_wait(bob.store, "votes", TEXT, PATIENCE, &event, NULL));
    options.if_version = sessionstore_event_version(event);
    sessionstore_event_free(event);
    operate(ann.store, "votes", SESSIONSTORE_OPERATION_ADD, "1", &options, SESSIONSTORE_OK);
    check_holds(bob.store, "votes", "2");
    member_leave(&ann);
    member_leave(&bob);
}

static void every_operation_changes_the_value_on_the_server(void) {
    sessionstore_write_options capped = no_options;
    outcome told;
    sessionstore_action_result result = outcome_of(&told);
    sessionstore_event *sum = NULL;
    int64_t integer = 0;
    member ann;
    memset(&told, 0, sizeof told);
    member_join(&ann, url, "operations", "Ann");
    operate(ann.store, "k", SESSIONSTORE_OPERATION_SET, "{\"a\":1}", NULL, SESSIONSTORE_OK);
    operate(ann.store, "k", SESSIONSTORE_OPERATION_PATCH, "{\"b\":{\"c\":2},\"a\":null}", NULL, SESSIONSTORE_OK);
    check_holds(ann.store, "k", "{\"b\":{\"c\":2}}");
    operate(ann.store, "k", SESSIONSTORE_OPERATION_SET, "null", NULL, SESSIONSTORE_OK);
    check_holds(ann.store, "k", "null");
    operate(ann.store, "list", SESSIONSTORE_OPERATION_SET_ADD, "[\"eve\",\"mallory\",\"eve\"]", NULL, SESSIONSTORE_OK);
    operate(ann.store, "list", SESSIONSTORE_OPERATION_SET_ADD, " [ \"mallory\" , { \"x\" : 1 } ] ", NULL, SESSIONSTORE_OK);
    check_holds(ann.store, "list", "[\"eve\",\"mallory\",{\"x\":1}]");
    operate(ann.store, "list", SESSIONSTORE_OPERATION_SET_REMOVE, "[\"eve\",\"nobody\"]", NULL, SESSIONSTORE_OK);
    check_holds(ann.store, "list", "[\"mallory\",{\"x\":1}]");
    capped.cap = 3;
    operate(ann.store, "pins", SESSIONSTORE_OPERATION_APPEND, "[1,2]", NULL, SESSIONSTORE_OK);
    operate(ann.store, "pins", SESSIONSTORE_OPERATION_APPEND, "[3,4]", &capped, SESSIONSTORE_OK);
    check_holds(ann.store, "pins", "[2,3,4]");
    operate(ann.store, "pins", SESSIONSTORE_OPERATION_APPEND, "[]", NULL, SESSIONSTORE_OK);
    capped.cap = UINT64_MAX;
    operate(ann.store, "pins", SESSIONSTORE_OPERATION_APPEND, "[5]", &capped, SESSIONSTORE_OK);
    check_holds(ann.store, "pins", "[2,3,4,5]");
    operate(ann.store, "sum", SESSIONSTORE_OPERATION_ADD, "9007199254740993", NULL, SESSIONSTORE_OK);
    OK(sessionstore_store_add_wait(ann.store, "sum", TEXT, -1, PATIENCE, &sum, NULL));
    OK(sessionstore_value_get_integer(sessionstore_event_value(sum), &integer, NULL));
    CHECK(integer == 9007199254740992, "integers are added exactly");
    sessionstore_event_free(sum);
    OK(sessionstore_store_add(ann.store, "sum", TEXT, INT64_MIN, &result, NULL));
    OK(outcome_over(&told));
    memset(&told, 0, sizeof told);
    OK(sessionstore_store_write(ann.store, "sum", TEXT, SESSIONSTORE_OPERATION_ADD, "0.5", TEXT, NULL, &result, NULL));
    OK(outcome_over(&told));

    /* What is of another type than the operation is for is refused, and stays. */
    put(ann.store, "text", "\"1\"");
    EXPECT(SESSIONSTORE_WRONG_TYPE, sessionstore_store_add_wait(ann.store, "text", TEXT, 1, PATIENCE, NULL, NULL));
    operate(ann.store, "text", SESSIONSTORE_OPERATION_ADD, "1", NULL, SESSIONSTORE_WRONG_TYPE);
    operate(ann.store, "sum", SESSIONSTORE_OPERATION_ADD, "\"1\"", NULL, SESSIONSTORE_WRONG_TYPE);
    operate(ann.store, "text", SESSIONSTORE_OPERATION_SET_ADD, "[1]", NULL, SESSIONSTORE_WRONG_TYPE);
    operate(ann.store, "text", SESSIONSTORE_OPERATION_SET_REMOVE, "[1]", NULL, SESSIONSTORE_WRONG_TYPE);
    operate(ann.store, "text", SESSIONSTORE_OPERATION_APPEND, "[1]", NULL, SESSIONSTORE_WRONG_TYPE);
    check_holds(ann.store, "text", "\"1\"");
    put(ann.store, "most", "9223372036854775807");
    EXPECT(SESSIONSTORE_NUMBER_OVERFLOW, sessionstore_store_add_wait(ann.store, "most", TEXT, 1, PATIENCE, NULL, NULL));
    operate(ann.store, "$lock/x", SESSIONSTORE_OPERATION_SET, "1", NULL, SESSIONSTORE_RESERVED_KEY);
    member_leave(&ann);
}

/* --- Keys that go by themselves. --- */

static void a_key_expires_and_says_why(void) {
    sessionstore_write_options soon = no_options, late = no_options, never = no_options, keep = no_options;
    sessionstore_event *event = NULL;
    member ann;
    listening heard;
    sessionstore_subscription *subscription;
    memset(&heard, 0, sizeof heard);
    member_join(&ann, url, "expiry", "Ann");
    soon.ttl_ms = 1;
    late.ttl_ms = 3600000;
    never.flags = SESSIONSTORE_WRITE_NEVER_EXPIRES;
    keep.flags = SESSIONSTORE_WRITE_KEEP_EXPIRY;
    OK(sessionstore_store_write_wait(ann.store, "timer", TEXT, SESSIONSTORE_OPERATION_SET, "1", TEXT, &late, PATIENCE,
                                     &event, NULL));
    CHECK(sessionstore_event_expires_at(event) == sessionstore_event_updated_at(event) + 3600000, "a key tells its end");
    sessionstore_event_free(event);
    subscription = listen_to(ann.store, &heard, "timer", NULL);
    operate(ann.store, "timer", SESSIONSTORE_OPERATION_ADD, "1", NULL, SESSIONSTORE_OK);
    operate(ann.store, "timer", SESSIONSTORE_OPERATION_SET, "3", &keep, SESSIONSTORE_OK);
    operate(ann.store, "timer", SESSIONSTORE_OPERATION_TOUCH, NULL, &never, SESSIONSTORE_OK);
    operate(ann.store, "timer", SESSIONSTORE_OPERATION_TOUCH, NULL, &soon, SESSIONSTORE_OK);
    WAIT_FOR(heard.count == 6, "a key that expires is told");
    CHECK(sessionstore_event_expires_at(heard.events[1]) > 0, "a merge leaves the expiry");
    CHECK(sessionstore_event_expires_at(heard.events[2]) == sessionstore_event_expires_at(heard.events[1]), "it is kept");
    CHECK(sessionstore_event_expires_at(heard.events[3]) == 0, "a touch ends the expiry");
    CHECK(sessionstore_event_expires_at(heard.events[4]) > 0 && strcmp(told(&heard, 4), "3") == 0, "a touch keeps the value");
    CHECK(sessionstore_event_cause(heard.events[4]) == SESSIONSTORE_CAUSE_WRITTEN, "a touch is a write");
    CHECK(strcmp(told(&heard, 5), "null") == 0, "an expired key is null");
    CHECK(sessionstore_event_cause(heard.events[5]) == SESSIONSTORE_CAUSE_EXPIRED, "an expired key says so");
    CHECK(strcmp(sessionstore_event_author_peer_id(heard.events[5], NULL), "") == 0, "nobody made a key expire");
    operate(ann.store, "timer", SESSIONSTORE_OPERATION_TOUCH, NULL, &soon, SESSIONSTORE_KEY_ABSENT);
    operate(ann.store, "timer", SESSIONSTORE_OPERATION_SET, "1", NULL, SESSIONSTORE_OK);
    OK(sessionstore_store_remove_wait(ann.store, "timer", TEXT, PATIENCE, &event, NULL));
    CHECK(sessionstore_event_cause(event) == SESSIONSTORE_CAUSE_WRITTEN, "removing is writing null");
    sessionstore_event_free(event);
    late.ttl_ms = 365ull * 86400000 + 1;
    operate(ann.store, "timer", SESSIONSTORE_OPERATION_SET, "1", &late, SESSIONSTORE_INVALID_ARGUMENT);
    sessionstore_subscription_free(subscription);
    listening_over(&heard);
    member_leave(&ann);
}

static void a_bound_key_goes_with_its_peer(void) {
    sessionstore_client_options options = options_for(url, "bound", "Ann");
    sessionstore_write_options bound = no_options, unbound = no_options;
    member ann, bob;
    listening heard;
    sessionstore_subscription *subscription;
    memset(&heard, 0, sizeof heard);
    options.peer_id = "ann";
    member_join_with(&ann, &options);
    member_join(&bob, url, "bound", "Bob");
    bound.flags = SESSIONSTORE_WRITE_BOUND;
    unbound.flags = SESSIONSTORE_WRITE_UNBOUND;
    operate(ann.store, "hand/ann", SESSIONSTORE_OPERATION_SET, "true", &bound, SESSIONSTORE_OK);
    operate(ann.store, "stays", SESSIONSTORE_OPERATION_ADD, "1", &bound, SESSIONSTORE_OK);
    operate(ann.store, "stays", SESSIONSTORE_OPERATION_ADD, "1", &unbound, SESSIONSTORE_OK);
    subscription = listen_to(bob.store, &heard, "hand/ann", "stays");
    WAIT_FOR(heard.ends == 1, "the listener gets its snapshot");
    member_leave(&ann);
    WAIT_FOR(heard.count == 3, "the bound key goes");
    CHECK(strcmp(sessionstore_event_key(heard.events[2], NULL), "hand/ann") == 0, "the bound key goes, and no other");
    CHECK(sessionstore_event_cause(heard.events[2]) == SESSIONSTORE_CAUSE_PEER_LEFT, "it says that its peer left");
    CHECK(strcmp(sessionstore_event_author_peer_id(heard.events[2], NULL), "ann") == 0, "it says which peer");
    check_holds(bob.store, "stays", "2");
    sessionstore_subscription_free(subscription);
    listening_over(&heard);
    member_leave(&bob);
}

static void keys_of_a_session_that_is_over_were_cleared(void) {
    sessionstore_server_options same = SESSIONSTORE_SERVER_OPTIONS_INIT;
    sessionstore_server *other = serve(NULL);
    sessionstore_client_options options = options_for(sessionstore_server_url(other), "over", "Ann");
    member ann;
    locking held;
    listening heard;
    sessionstore_lock *lock;
    sessionstore_subscription *subscription;
    memset(&held, 0, sizeof held);
    memset(&heard, 0, sizeof heard);
    options.reconnect_min_ms = 1;
    options.reconnect_max_ms = 20;
    member_join_with(&ann, &options);
    put(ann.store, "key", "1");
    lock = take_lock(ann.store, "lock", &held);
    subscription = listen_to(ann.store, &heard, "key", NULL);
    WAIT_FOR(heard.ends == 1, "the listener gets its snapshot");
    same.port = sessionstore_server_port(other);
    serve_no_more(other);
    other = serve(&same);
    WAIT_FOR(heard.count == 2, "the end of a session is told");
    CHECK(strcmp(told(&heard, 1), "null") == 0, "a cleared key is null");
    CHECK(sessionstore_event_cause(heard.events[1]) == SESSIONSTORE_CAUSE_CLEARED, "a cleared key says so");
    locking_over(&held, 1);
    CHECK(held.lost_code == SESSIONSTORE_SESSION_LOST, "a lock is lost with its session");
    CHECK(!sessionstore_lock_is_held(lock), "a lost lock is not held");
    EXPECT(SESSIONSTORE_LOCK_LOST, sessionstore_lock_release_wait(lock, PATIENCE, NULL));
    sessionstore_lock_free(lock);
    sessionstore_subscription_free(subscription);
    listening_over(&heard);
    member_leave(&ann);
    serve_no_more(other);
}

/* --- Updates. --- */

typedef struct updating {
    int calls;
    int drops;
    int after_drop;
    /* Called inside the callback, if set; returns what it returns. */
    sessionstore_value *(*during)(struct updating *own, const sessionstore_event *current);
    const member *other;
    pthread_t thread;
} updating;

static sessionstore_value *updating_call(void *ctx, const sessionstore_event *current) {
    updating *own = (updating *)ctx;
    sessionstore_value *next = NULL;
    int64_t integer = 0;
    harness_lock();
    own->after_drop += own->drops > 0;
    own->calls++;
    own->thread = pthread_self();
    harness_unlock();
    if (own->during != NULL) return own->during(own, current);
    if (sessionstore_value_kind(sessionstore_event_value(current)) != SESSIONSTORE_KIND_NULL)
        OK(sessionstore_value_get_integer(sessionstore_event_value(current), &integer, NULL));
    OK(sessionstore_value_from_integer(integer + 1, &next, NULL));
    return next;
}

static void updating_drop(void *ctx) {
    updating *own = (updating *)ctx;
    harness_lock();
    own->drops++;
    harness_unlock();
}

static sessionstore_updater updater_of(updating *own) {
    sessionstore_updater updater = SESSIONSTORE_UPDATER_INIT;
    updater.ctx = own;
    updater.on_drop = updating_drop;
    updater.on_update = updating_call;
    return updater;
}

static void updating_over(updating *own) {
    WAIT_FOR(own->drops > 0, "an updater gets its on_drop");
    CHECK(own->drops == 1 && own->after_drop == 0, "on_drop of an updater came %d times", own->drops);
}

enum { UPDATES = 40 };

static void *update_often(void *argument) {
    const member *own = (const member *)argument;
    int index;
    for (index = 0; index < UPDATES; index++) {
        updating one;
        sessionstore_updater updater = updater_of(&one);
        memset(&one, 0, sizeof one);
        OK(sessionstore_store_update_wait(own->store, "count", TEXT, &updater, PATIENCE, NULL, NULL));
        CHECK(one.calls >= 1 && one.drops == 1 && one.after_drop == 0, "an updater is dropped before the call returns");
        CHECK(pthread_equal(one.thread, pthread_self()), "the updater of a call that waits is called on its thread");
    }
    return NULL;
}

static void updates_of_two_clients_at_once_are_all_made(void) {
    member ann, bob;
    updating many[UPDATES];
    outcome told[UPDATES];
    pthread_t thread;
    char sum[16];
    int index;
    memset(many, 0, sizeof many);
    memset(told, 0, sizeof told);
    member_join(&ann, url, "update", "Ann");
    member_join(&bob, url, "update", "Bob");
    CHECK(pthread_create(&thread, NULL, update_often, &ann) == 0, "a thread can be made");
    for (index = 0; index < UPDATES; index++) {
        sessionstore_updater updater = updater_of(&many[index]);
        sessionstore_action_result result = outcome_of(&told[index]);
        OK(sessionstore_store_update(bob.store, "count", TEXT, &updater, &result, NULL));
    }
    for (index = 0; index < UPDATES; index++) {
        OK(outcome_over(&told[index]));
        updating_over(&many[index]);
        CHECK(!pthread_equal(many[index].thread, pthread_self()), "an updater is called on a dispatch thread");
    }
    pthread_join(thread, NULL);
    snprintf(sum, sizeof sum, "%d", 2 * UPDATES);
    check_holds(ann.store, "count", sum);
    member_leave(&ann);
    member_leave(&bob);
}

static sessionstore_value *leave_it(updating *own, const sessionstore_event *current) {
    sessionstore_event *event = NULL;
    /* It is a callback, wherever it runs: what waits is refused, what does not is not. */
    EXPECT(SESSIONSTORE_WOULD_DEADLOCK,
           sessionstore_store_get_wait(own->other->store, "key", TEXT, PATIENCE, &event, NULL));
    OK(sessionstore_store_set_integer(own->other->store, "other", TEXT, 1, NULL, NULL));
    CHECK(sessionstore_event_version(current) == 0, "the key was never set");
    return NULL;
}

static sessionstore_value *be_late(updating *own, const sessionstore_event *current) {
    sessionstore_value *next = NULL;
    /* Somebody else is faster, each time. */
    OK(sessionstore_store_add(own->other->store, "raced", TEXT, 1, NULL, NULL));
    (void)current;
    OK(sessionstore_value_from_integer(-1, &next, NULL));
    return next;
}

static sessionstore_value *keep_one(updating *own, const sessionstore_event *current) {
    /* One reference becomes the library's, the other stays the app's. */
    static sessionstore_value *kept;
    (void)own;
    (void)current;
    if (kept == NULL) {
        OK(sessionstore_value_from_string("kept", TEXT, &kept, NULL));
        return sessionstore_value_retain(kept);
    }
    CHECK(strcmp(sessionstore_value_json(kept, NULL), "\"kept\"") == 0, "the app's reference is still good");
    sessionstore_value_free(kept);
    return NULL;
}

static void an_updater_leaves_a_key_gives_up_and_may_not_wait(void) {
    sessionstore_client_options options = options_for(url, "updater", "Ann");
    member ann;
    updating one;
    outcome told;
    sessionstore_updater updater = updater_of(&one);
    sessionstore_action_result result = outcome_of(&told);
    sessionstore_event *event = NULL;
    sessionstore_error *error = NULL;
    int32_t code;
    options.request_timeout_ms = 200;
    member_join_with(&ann, &options);
    memset(&one, 0, sizeof one);
    memset(&told, 0, sizeof told);
    one.other = &ann;
    one.during = leave_it;
    OK(sessionstore_store_update_wait(ann.store, "key", TEXT, &updater, PATIENCE, &event, NULL));
    CHECK(event != NULL && sessionstore_event_version(event) == 0, "a key that is left has the state it had");
    sessionstore_event_free(event);
    CHECK(one.calls == 1 && one.drops == 1, "an updater that leaves a key is called once");
    one.drops = 0;
    OK(sessionstore_store_update(ann.store, "key", TEXT, &updater, &result, NULL));
    OK(outcome_over(&told));
    updating_over(&one);
    check_holds(ann.store, "key", "null");

    one.drops = 0;
    one.during = be_late;
    code = sessionstore_store_update_wait(ann.store, "raced", TEXT, &updater, 50, NULL, &error);
    CHECK(code == SESSIONSTORE_VERSION_CONFLICT || code == SESSIONSTORE_TIMEOUT || code == SESSIONSTORE_OUTCOME_UNKNOWN,
          "who is always late gives up");
    CHECK((sessionstore_error_current(error) != NULL) == (code == SESSIONSTORE_VERSION_CONFLICT) && one.drops == 1,
          "who is always late hears what the key holds");
    sessionstore_error_free(error);
    one.drops = 0;
    memset(&told, 0, sizeof told);
    OK(sessionstore_store_update(ann.store, "raced", TEXT, &updater, &result, NULL));
    code = outcome_over(&told);
    CHECK(code == SESSIONSTORE_VERSION_CONFLICT || code == SESSIONSTORE_TIMEOUT || code == SESSIONSTORE_OUTCOME_UNKNOWN,
          "who is always late gives up");
    updating_over(&one);

    one.drops = 0;
    one.during = keep_one;
    OK(sessionstore_store_update_wait(ann.store, "kept", TEXT, &updater, PATIENCE, NULL, NULL));
    check_holds(ann.store, "kept", "\"kept\"");
    OK(sessionstore_store_update_wait(ann.store, "kept", TEXT, &updater, PATIENCE, NULL, NULL));
    CHECK(one.drops == 2, "each call drops the updater once");
    member_leave(&ann);
}

/* --- Transactions. --- */

typedef struct listed {
    int results;
    int drops;
    int32_t code;
    int check;
    int write;
    sessionstore_event_list *list;
} listed;

static void listed_result(void *ctx, const sessionstore_error *error, const sessionstore_event_list *list) {
    listed *own = (listed *)ctx;
    harness_lock();
    own->results++;
    own->code = sessionstore_error_code(error);
    own->check = (int)sessionstore_error_check(error);
    own->write = (int)sessionstore_error_write(error);
    own->list = sessionstore_event_list_retain(list);
    harness_unlock();
}

static void listed_drop(void *ctx) {
    listed *own = (listed *)ctx;
    harness_lock();
    own->drops++;
    harness_unlock();
}

static sessionstore_event_list_result listed_of(listed *own) {
    sessionstore_event_list_result result = SESSIONSTORE_EVENT_LIST_RESULT_INIT;
    result.ctx = own;
    result.on_drop = listed_drop;
    result.on_result = listed_result;
    return result;
}

static int32_t listed_over(listed *own) {
    WAIT_FOR(own->drops > 0, "a request for a list ends");
    CHECK(own->results == 1 && own->drops == 1, "the result came %d times, on_drop %d times", own->results, own->drops);
    return own->code;
}

static sessionstore_transaction *transaction_new(void) {
    sessionstore_transaction *transaction = NULL;
    OK(sessionstore_transaction_new(&transaction, NULL));
    return transaction;
}

static void write_in(sessionstore_transaction *transaction, const char *key, int32_t operation, const char *json) {
    OK(sessionstore_transaction_write(transaction, key, TEXT, operation, json, TEXT, NULL, NULL));
}

static void a_transaction_is_made_whole_or_not_at_all(void) {
    member ann;
    listening heard;
    listed told;
    sessionstore_event_list_result result = listed_of(&told);
    sessionstore_transaction *pay = transaction_new(), *other;
    sessionstore_event_list *list = NULL;
    sessionstore_error *error = NULL;
    sessionstore_subscription *subscription;
    int round;
    memset(&heard, 0, sizeof heard);
    memset(&told, 0, sizeof told);
    member_join(&ann, url, "transaction", "Ann");
    subscription = listen_to(ann.store, &heard, "a", "b");
    WAIT_FOR(heard.ends == 1, "the listener gets its snapshot");
    OK(sessionstore_store_transact_wait(ann.store, pay, PATIENCE, &list, NULL));
    CHECK(list != NULL && sessionstore_event_list_count(list) == 0, "an empty transaction changes nothing");
    sessionstore_event_list_free(list);
    OK(sessionstore_transaction_check_absent(pay, "paid-out", TEXT, NULL));
    write_in(pay, "a", SESSIONSTORE_OPERATION_ADD, "-7");
    write_in(pay, "b", SESSIONSTORE_OPERATION_ADD, "7");
    write_in(pay, "a", SESSIONSTORE_OPERATION_ADD, "0");
    for (round = 1; round <= 2; round++) {
        /* It is not used up. */
        OK(sessionstore_store_transact_wait(ann.store, pay, PATIENCE, &list, NULL));
        CHECK(sessionstore_event_list_count(list) == 2, "the result has the state of each key");
        CHECK(strcmp(sessionstore_event_key(sessionstore_event_list_get(list, 0), NULL), "a") == 0, "in their order");
        CHECK(sessionstore_event_list_get(list, 2) == NULL, "beyond the list's end is nothing");
        CHECK(sessionstore_event_version(sessionstore_event_list_get(list, 0)) == sessionstore_event_list_revision(list) &&
                  sessionstore_event_version(sessionstore_event_list_get(list, 1)) == sessionstore_event_list_revision(list),
              "all of it has one revision");
        CHECK(PEEK(int, heard.count) == 2 + 2 * round, "listeners hear of each key once, before the result");
        sessionstore_event_list_free(list);
    }
    check_holds(ann.store, "a", "-14");
    check_holds(ann.store, "b", "14");

    /* A check that fails has its number and what the key holds. */
    put(ann.store, "c", "{\"x\":1,\"y\":\"\\u0041\"}");
    OK(sessionstore_transaction_check_exists(pay, "a", TEXT, NULL));
    OK(sessionstore_transaction_check_equals(pay, "c", TEXT, "{\"y\":\"A\",\"x\":1}", TEXT, NULL));
    OK(sessionstore_transaction_check_version(pay, "b", TEXT, 1, NULL));
    OK(sessionstore_transaction_check_exists(pay, "nothing", TEXT, NULL));
    list = (sessionstore_event_list *)(void *)&ann;
    EXPECT(SESSIONSTORE_CHECK_FAILED, sessionstore_store_transact_wait(ann.store, pay, PATIENCE, &list, &error));
    CHECK(list == NULL, "a failed call leaves its handle output NULL");
    CHECK(sessionstore_error_check(error) == 3 && sessionstore_error_write(error) == -1, "the fourth check failed");
    CHECK(strcmp(sessionstore_event_key(sessionstore_error_current(error), NULL), "b") == 0, "the error has the key");
    CHECK(strcmp(sessionstore_event_json(sessionstore_error_current(error), NULL), "14") == 0, "and what it holds");
    sessionstore_error_free(error);
    OK(sessionstore_store_transact(ann.store, pay, &result, NULL));
    sessionstore_transaction_free(pay);
    EXPECT(SESSIONSTORE_CHECK_FAILED, listed_over(&told));
    CHECK(told.check == 3 && told.write == -1 && told.list == NULL, "the same is told to a callback");

    /* A write that is refused has its number too. */
    other = transaction_new();
    write_in(other, "a", SESSIONSTORE_OPERATION_SET, "1");
    write_in(other, "c", SESSIONSTORE_OPERATION_ADD, "1");
    EXPECT(SESSIONSTORE_WRONG_TYPE, sessionstore_store_transact_wait(ann.store, other, PATIENCE, NULL, &error));
    CHECK(sessionstore_error_write(error) == 1 && sessionstore_error_check(error) == -1, "the second write is refused");
    sessionstore_error_free(error);
    sessionstore_transaction_free(other);
    other = transaction_new();
    write_in(other, "", SESSIONSTORE_OPERATION_SET, "1");
    EXPECT(SESSIONSTORE_INVALID_KEY, sessionstore_store_transact_wait(ann.store, other, PATIENCE, NULL, NULL));
    sessionstore_transaction_free(other);
    other = transaction_new();
    for (round = 0; round < 201; round++) OK(sessionstore_transaction_check_absent(other, "x", TEXT, NULL));
    EXPECT(SESSIONSTORE_INVALID_ARGUMENT, sessionstore_store_transact_wait(ann.store, other, PATIENCE, NULL, NULL));
    sessionstore_transaction_free(other);
    CHECK(PEEK(int, heard.count) == 6, "what was refused changed nothing");
    check_holds(ann.store, "a", "-14");

    /* Sent, then freed, then told. */
    memset(&told, 0, sizeof told);
    other = transaction_new();
    OK(sessionstore_transaction_check_equals(other, "nothing", TEXT, "null", TEXT, NULL));
    write_in(other, "a", SESSIONSTORE_OPERATION_SET, "0");
    OK(sessionstore_store_transact(ann.store, other, &result, NULL));
    sessionstore_transaction_free(other);
    OK(listed_over(&told));
    CHECK(sessionstore_event_list_count(told.list) == 1, "the list that was retained is still good");
    sessionstore_event_list_free(told.list);
    sessionstore_subscription_free(subscription);
    listening_over(&heard);
    member_leave(&ann);
}

/* --- Locks. --- */

static void a_lock_is_handed_over_and_guards_writes(void) {
    member ann, bob;
    locking first, refused, second;
    sessionstore_lock_options waits = SESSIONSTORE_LOCK_OPTIONS_INIT;
    sessionstore_lock_listener listener = locking_listener(&refused);
    sessionstore_lock_result result = locking_of(&second);
    sessionstore_write_options guarded = no_options;
    sessionstore_transaction *transaction = transaction_new();
    sessionstore_lock *lock, *none = NULL;
    sessionstore_error *error = NULL;
    sessionstore_usage usage = SESSIONSTORE_USAGE_INIT;
    uint64_t token;
    size_t length = 0;
    memset(&first, 0, sizeof first);
    memset(&refused, 0, sizeof refused);
    memset(&second, 0, sizeof second);
    member_join(&ann, url, "lock", "Ann");
    member_join(&bob, url, "lock", "Bob");
    first.scope = &ann.scope;
    lock = take_lock(ann.store, "presenter", &first);
    token = sessionstore_lock_token(lock);
    CHECK(strcmp(sessionstore_lock_name(lock, &length), "presenter") == 0 && length == 9, "a lock has its name");
    CHECK(token > 0, "a lock has its token");
    EXPECT(SESSIONSTORE_LOCK_HELD, sessionstore_store_lock_wait(bob.store, "presenter", TEXT, NULL, &listener, PATIENCE,
                                                                &none, &error));
    CHECK(none == NULL && refused.listener_drops == 1 && refused.lost == 0, "a refused lock drops its listener");
    CHECK(strcmp(sessionstore_event_author_name(sessionstore_error_current(error), NULL), "Ann") == 0,
          "a refused lock says who holds it");
    sessionstore_error_free(error);

    second.keeps = 1;
    second.scope = &bob.scope;
    listener = locking_listener(&second);
    waits.wait_ms = 300000;
    OK(sessionstore_store_lock(bob.store, "presenter", TEXT, &waits, &listener, &result, NULL));
    guarded.lock = lock;
    operate(ann.store, "slide", SESSIONSTORE_OPERATION_SET, "1", &guarded, SESSIONSTORE_OK);
    OK(sessionstore_transaction_check_lock(transaction, lock, NULL));
    write_in(transaction, "slide", SESSIONSTORE_OPERATION_ADD, "1");
    OK(sessionstore_store_transact_wait(ann.store, transaction, PATIENCE, NULL, NULL));
    /* Bob waits by the time his next request is answered. */
    OK(sessionstore_store_usage_wait(bob.store, PATIENCE, &usage, NULL));
    CHECK(PEEK(int, second.results) == 0, "who waits for a lock has it before it is free");
    OK(sessionstore_lock_release_wait(lock, PATIENCE, NULL));
    locking_over(&first, 0);
    CHECK(!sessionstore_lock_is_held(lock), "a lock that was released is not held");
    OK(locking_told(&second));
    CHECK(second.lock != NULL && sessionstore_lock_is_held(second.lock), "the next who waits has it");
    CHECK(sessionstore_lock_token(second.lock) > token, "tokens go up");
    operate(ann.store, "slide", SESSIONSTORE_OPERATION_SET, "9", &guarded, SESSIONSTORE_LOCK_LOST);
    EXPECT(SESSIONSTORE_LOCK_LOST, sessionstore_store_transact_wait(ann.store, transaction, PATIENCE, NULL, &error));
    CHECK(sessionstore_error_check(error) == 0, "the check of the lock failed");
    sessionstore_error_free(error);
    EXPECT(SESSIONSTORE_LOCK_LOST, sessionstore_lock_release_wait(lock, PATIENCE, NULL));
    check_holds(ann.store, "slide", "2");
    sessionstore_transaction_free(transaction);
    sessionstore_lock_free(lock);
    sessionstore_lock_free(second.lock);
    locking_over(&second, 0);
    /* Freed before this was asked, so it is free. */
    lock = take_lock(bob.store, "presenter", NULL);
    sessionstore_lock_free(lock);
    member_leave(&ann);
    member_leave(&bob);
}

/* What holds a lock shows that it is free, or not. */
static void wait_until_free(const sessionstore_store *store, const char *name) {
    sessionstore_lock_options waits = SESSIONSTORE_LOCK_OPTIONS_INIT;
    sessionstore_lock *lock = NULL;
    waits.wait_ms = PATIENCE;
    OK(sessionstore_store_lock_wait(store, name, TEXT, &waits, NULL, PATIENCE, &lock, NULL));
    /* Released and answered before it is freed: what `free` sends may arrive after another client's request. */
    OK(sessionstore_lock_release_wait(lock, PATIENCE, NULL));
    sessionstore_lock_free(lock);
}

static void free_lock_inside(locking *own, const sessionstore_lock *lock) {
    /* Kept, then given back before the result has returned. */
    sessionstore_lock *kept = sessionstore_lock_retain(lock);
    (void)own;
    CHECK(sessionstore_lock_is_held(kept), "a lock that is given is held");
    EXPECT(SESSIONSTORE_WOULD_DEADLOCK, sessionstore_lock_release_wait(kept, PATIENCE, NULL));
    CHECK(sessionstore_lock_is_held(kept), "a release that was not sent releases nothing");
    sessionstore_lock_free(kept);
}

static void release_lock_inside(locking *own, const sessionstore_lock *lock) {
    (void)own;
    OK(sessionstore_lock_release(lock, NULL, NULL));
    CHECK(!sessionstore_lock_is_held(lock), "a lock that was released is not held");
}

static void free_client_inside(locking *own, const sessionstore_lock *lock) {
    (void)lock;
    sessionstore_client_free(((member *)own->more)->client);
}

static void lock_handles_are_freed_in_every_order(void) {
    enum { FREED_FIRST, FREED_LAST, NOT_RETAINED, FREED_INSIDE, RELEASED_INSIDE, CLIENT_FREED_INSIDE, TWICE_RETAINED, ORDERS };
    member keeper;
    int order;
    member_join(&keeper, url, "lock-orders", "Keeper");
    for (order = 0; order < ORDERS; order++) {
        const int lost = order == FREED_LAST || order == CLIENT_FREED_INSIDE;
        member own;
        locking told;
        sessionstore_lock_result result = locking_of(&told);
        sessionstore_lock_listener listener = locking_listener(&told);
        memset(&told, 0, sizeof told);
        member_join(&own, url, "lock-orders", "Ann");
        told.scope = &own.scope;
        told.more = &own;
        told.keeps = order != NOT_RETAINED && order != FREED_INSIDE;
        if (order == FREED_INSIDE) told.during = free_lock_inside;
        if (order == RELEASED_INSIDE) told.during = release_lock_inside;
        if (order == CLIENT_FREED_INSIDE) told.during = free_client_inside;
        OK(sessionstore_store_lock(own.store, "name", TEXT, NULL, &listener, &result, NULL));
        OK(locking_told(&told));
        if (order == TWICE_RETAINED) {
            sessionstore_lock *other = sessionstore_lock_retain(told.lock);
            sessionstore_lock_free(told.lock);
            CHECK(sessionstore_lock_is_held(other) && PEEK(int, told.listener_drops) == 0, "one reference keeps a lock");
            told.lock = other;
        }
        if (order == FREED_LAST) sessionstore_client_free(own.client);
        if (!lost) {
            sessionstore_lock_free(told.lock);
            told.lock = NULL;
            locking_over(&told, 0);
            wait_until_free(keeper.store, "name");
            sessionstore_client_free(own.client);
        }
        updates_over(&own.updates);
        locking_over(&told, lost);
        if (lost) CHECK(told.lost_code == SESSIONSTORE_CLOSED, "a lock is lost with its client");
        CHECK(!sessionstore_lock_is_held(told.lock), "without its client a lock is not held");
        if (lost) EXPECT(SESSIONSTORE_CLOSED, sessionstore_lock_release(told.lock, NULL, NULL));
        sessionstore_lock_free(told.lock);
        sessionstore_store_free(own.store);
        wait_until_free(keeper.store, "name");
        scope_check(&own.scope);
    }
    member_leave(&keeper);
}

static void free_at_loss(void *ctx, const sessionstore_error *error) {
    locking *own = (locking *)ctx;
    locking_lost(ctx, error);
    sessionstore_lock_free(own->lock);
}

static void use_the_store(locking *own) {
    OK(sessionstore_store_set_integer(((member *)own->more)->store, "dropped", TEXT, 1, NULL, NULL));
}

static void a_lock_is_freed_at_its_loss_and_a_refusal_may_use_the_store(void) {
    member ann, bob;
    locking first, refused;
    sessionstore_lock_listener listener = locking_listener(&first);
    sessionstore_lock_result result = locking_of(&refused);
    memset(&first, 0, sizeof first);
    memset(&refused, 0, sizeof refused);
    member_join(&ann, url, "lock-loss", "Ann");
    member_join(&bob, url, "lock-loss", "Bob");
    listener.on_lost = free_at_loss;
    OK(sessionstore_store_lock_wait(ann.store, "name", TEXT, NULL, &listener, PATIENCE, &first.lock, NULL));
    refused.more = &bob;
    refused.during_listener_drop = use_the_store;
    listener = locking_listener(&refused);
    OK(sessionstore_store_lock(bob.store, "name", TEXT, NULL, &listener, &result, NULL));
    EXPECT(SESSIONSTORE_LOCK_HELD, locking_told(&refused));
    locking_over(&refused, 0);
    check_works(bob.store);
    check_holds(bob.store, "dropped", "1");
    member_end(&ann);
    locking_over(&first, 1);
    wait_until_free(bob.store, "name");
    member_leave(&bob);
}

static void locks_in_poll_mode(void) {
    sessionstore_client_options options = options_for(url, "lock-poll", "Ann");
    member ann, bob;
    hook wake;
    sessionstore_wake_hook wake_hook = waking(&wake);
    locking held, refused;
    sessionstore_lock_listener listener = locking_listener(&refused);
    sessionstore_lock *lock, *none = NULL;
    memset(&wake, 0, sizeof wake);
    memset(&held, 0, sizeof held);
    memset(&refused, 0, sizeof refused);
    options.wake_hook = &wake_hook;
    member_join_with(&ann, &options);
    member_join(&bob, url, "lock-poll", "Bob");
    lock = take_lock(ann.store, "name", &held);
    EXPECT(SESSIONSTORE_LOCK_HELD,
           sessionstore_store_lock_wait(ann.store, "name", TEXT, NULL, &listener, PATIENCE, &none, NULL));
    CHECK(refused.listener_drops == 1, "a call that fails drops its listener before it returns");
    OK(sessionstore_lock_release_wait(lock, PATIENCE, NULL));
    while (PEEK(int, held.listener_drops) == 0) OK(sessionstore_client_poll(ann.client, 0, NULL, NULL));
    locking_over(&held, 0);
    sessionstore_lock_free(lock);
    wait_until_free(bob.store, "name");
    memset(&held, 0, sizeof held);
    lock = take_lock(ann.store, "name", &held);
    member_end(&ann);
    locking_over(&held, 1);
    sessionstore_lock_free(lock);
    hook_over(&wake);
    member_leave(&bob);
}

/* --- Selections. --- */

typedef struct counted {
    int results;
    int drops;
    int32_t code;
    sessionstore_usage usage;
    sessionstore_key_list *list;
} counted;

static void counted_usage(void *ctx, const sessionstore_error *error, const sessionstore_usage *usage) {
    counted *own = (counted *)ctx;
    harness_lock();
    own->results++;
    own->code = sessionstore_error_code(error);
    if (usage != NULL) own->usage = *usage;
    harness_unlock();
}

static void counted_keys(void *ctx, const sessionstore_error *error, const sessionstore_key_list *list) {
    counted *own = (counted *)ctx;
    harness_lock();
    own->results++;
    own->code = sessionstore_error_code(error);
    own->list = sessionstore_key_list_retain(list);
    harness_unlock();
}

static void counted_drop(void *ctx) {
    counted *own = (counted *)ctx;
    harness_lock();
    own->drops++;
    harness_unlock();
}

static sessionstore_usage_result counted_usage_of(counted *own) {
    sessionstore_usage_result result = SESSIONSTORE_USAGE_RESULT_INIT;
    result.ctx = own;
    result.on_drop = counted_drop;
    result.on_result = counted_usage;
    return result;
}

static sessionstore_key_list_result counted_keys_of(counted *own) {
    sessionstore_key_list_result result = SESSIONSTORE_KEY_LIST_RESULT_INIT;
    result.ctx = own;
    result.on_drop = counted_drop;
    result.on_result = counted_keys;
    return result;
}

static sessionstore_selector selecting(const char *const *keys, size_t key_count, const char *const *prefixes,
                                       size_t prefix_count) {
    sessionstore_selector selector = SESSIONSTORE_SELECTOR_INIT;
    selector.keys = keys;
    selector.key_count = key_count;
    selector.prefixes = prefixes;
    selector.prefix_count = prefix_count;
    return selector;
}

static void a_prefix_is_listened_to_and_read(void) {
    static const char *const keys[] = {"pinned", "absentXX"};
    static const char *const prefixes[] = {"hand/XX", "$lock/"};
    static const size_t key_lens[] = {6, 6}, prefix_lens[] = {5, 6};
    sessionstore_selector selector = selecting(keys, 2, prefixes, 2), all = SESSIONSTORE_SELECTOR_INIT;
    sessionstore_key_change_listener listener, everything;
    sessionstore_subscription *subscription = NULL;
    sessionstore_event_list *list = NULL;
    sessionstore_event_list_result result;
    sessionstore_lock *lock;
    listening heard, heard_all;
    listed told_states;
    member ann;
    size_t index;
    static const char *const expected[] = {"pinned", "absent", "$lock/name", "hand/a", "hand/b"};
    memset(&heard, 0, sizeof heard);
    memset(&heard_all, 0, sizeof heard_all);
    memset(&told_states, 0, sizeof told_states);
    selector.key_lens = key_lens;
    selector.prefix_lens = prefix_lens;
    all.flags = SESSIONSTORE_SELECT_ALL;
    member_join(&ann, url, "select", "Ann");
    put(ann.store, "hand/b", "2");
    put(ann.store, "hand/a", "1");
    put(ann.store, "pinned", "\"p\"");
    put(ann.store, "other", "0");
    lock = take_lock(ann.store, "name", NULL);
    listener = listening_listener(&heard);
    everything = listening_listener(&heard_all);
    OK(sessionstore_store_listen_to(ann.store, &selector, &listener, &subscription, NULL));
    OK(sessionstore_store_listen_to(ann.store, &all, &everything, NULL, NULL));
    WAIT_FOR(heard.ends == 1 && heard_all.ends == 1, "a listener to prefixes gets its snapshot");
    CHECK(heard.count == 5, "the snapshot has the keys, and what begins with the prefixes; not %d", heard.count);
    CHECK(heard_all.count == 4, "all keys are all but those of locks; not %d", heard_all.count);
    OK(sessionstore_store_read_wait(ann.store, &selector, PATIENCE, &list, NULL));
    CHECK(sessionstore_event_list_count(list) == 5, "a read finds the same");
    for (index = 0; index < 5; index++) {
        const char *key = sessionstore_event_key(sessionstore_event_list_get(list, index), NULL);
        CHECK(strcmp(key, expected[index]) == 0, "%s comes where %s should be", key, expected[index]);
    }
    CHECK(sessionstore_event_list_revision(list) == 5, "a read has the revision");
    CHECK(sessionstore_event_version(sessionstore_event_list_get(list, 1)) == 0, "an absent key is read as absent");
    sessionstore_event_list_free(list);
    result = listed_of(&told_states);
    OK(sessionstore_store_read(ann.store, &all, &result, NULL));
    OK(listed_over(&told_states));
    CHECK(sessionstore_event_list_count(told_states.list) == 4, "all keys are read");
    sessionstore_event_list_free(told_states.list);

    put(ann.store, "hand/c", "3");
    put(ann.store, "other", "1");
    OK(sessionstore_store_remove_wait(ann.store, "hand/a", TEXT, PATIENCE, NULL, NULL));
    OK(sessionstore_lock_release_wait(lock, PATIENCE, NULL));
    WAIT_FOR(heard.count == 8 && heard_all.count == 7, "a key that comes, changes or goes is told");
    CHECK(strcmp(told(&heard, 5), "3") == 0 && strcmp(told(&heard, 6), "null") == 0, "changes come in order");
    CHECK(strcmp(sessionstore_event_key(heard.events[7], NULL), "$lock/name") == 0, "a lock that is free is told");
    sessionstore_lock_free(lock);
    sessionstore_subscription_free(subscription);
    listening_over(&heard);
    member_leave(&ann);
    /* It had no handle, and stayed as long as its client. */
    listening_over(&heard_all);
}

static void keys_and_usage_are_asked_for(void) {
    union {
        sessionstore_usage usage;
        char bytes[256];
    } later;
    sessionstore_usage usage = SESSIONSTORE_USAGE_INIT;
    sessionstore_usage_result usage_result;
    sessionstore_key_list_result keys_result;
    sessionstore_key_list *list = NULL;
    counted told;
    member ann;
    size_t length = 0;
    member_join(&ann, url, "usage", "Ann");
    OK(sessionstore_store_keys_wait(ann.store, NULL, 0, PATIENCE, &list, NULL));
    CHECK(list != NULL && sessionstore_key_list_count(list) == 0, "an empty store has no keys");
    sessionstore_key_list_free(list);
    put(ann.store, "k/2", "\"ab\"");
    put(ann.store, "k/1", "1");
    put(ann.store, "other", "1");
    OK(sessionstore_store_keys_wait(ann.store, "k/XX", 2, PATIENCE, &list, NULL));
    CHECK(sessionstore_key_list_count(list) == 2, "the keys with the prefix are listed");
    CHECK(strcmp(sessionstore_key_list_get(list, 0, &length), "k/1") == 0 && length == 3, "in alphabetical order");
    CHECK(strcmp(sessionstore_key_list_get(list, 1, NULL), "k/2") == 0, "in alphabetical order");
    CHECK(sessionstore_key_list_get(list, 2, &length) == NULL && length == 0, "beyond the list's end is nothing");
    sessionstore_key_list_free(list);
    memset(&told, 0, sizeof told);
    keys_result = counted_keys_of(&told);
    OK(sessionstore_store_keys(ann.store, "", TEXT, &keys_result, NULL));
    WAIT_FOR(told.drops == 1, "the keys are told");
    CHECK(told.results == 1 && sessionstore_key_list_count(told.list) == 3, "all keys are told");
    sessionstore_key_list_free(told.list);

    OK(sessionstore_store_usage_wait(ann.store, PATIENCE, &usage, NULL));
    CHECK(usage.struct_size == sizeof usage, "the whole struct is filled");
    CHECK(usage.revision == 3 && usage.keys == 3 && usage.bytes == 17, "the store is counted");
    CHECK(usage.max_keys == 100 && usage.max_bytes == 65536 && usage.max_value_bytes == 1024, "the limits are told");
    memset(&told, 0, sizeof told);
    usage_result = counted_usage_of(&told);
    OK(sessionstore_store_usage(ann.store, &usage_result, NULL));
    WAIT_FOR(told.drops == 1, "the usage is told");
    CHECK(told.results == 1 && memcmp(&told.usage, &usage, sizeof usage) == 0, "the same is told to a callback");
    /* A struct of a later version is filled as far as this one goes. */
    memset(&later, 0x55, sizeof later);
    later.usage.struct_size = sizeof later;
    OK(sessionstore_store_usage_wait(ann.store, PATIENCE, &later.usage, NULL));
    CHECK(later.usage.struct_size == sizeof usage && later.usage.keys == 3, "a later struct learns what is filled");
    CHECK(later.bytes[sizeof usage] == 0x55, "what is beyond stays");
    usage.struct_size = 4;
    REFUSED(SESSIONSTORE_INVALID_STRUCT_SIZE, sessionstore_store_usage_wait(ann.store, PATIENCE, &usage, ERROR));
    member_leave(&ann);
}

/* --- Bad input. --- */

static void every_new_function_takes_null(void) {
    const int32_t refused = SESSIONSTORE_NULL_ARGUMENT;
    sessionstore_selector all = SESSIONSTORE_SELECTOR_INIT;
    sessionstore_key_change_listener listener = SESSIONSTORE_KEY_CHANGE_LISTENER_INIT;
    sessionstore_updater updater = SESSIONSTORE_UPDATER_INIT;
    sessionstore_lock_result lock_result = SESSIONSTORE_LOCK_RESULT_INIT;
    sessionstore_transaction *transaction = transaction_new();
    sessionstore_usage usage = SESSIONSTORE_USAGE_INIT;
    sessionstore_lock *lock = NULL;
    sessionstore_key_list *keys = NULL;
    sessionstore_event_list *list = NULL;
    sessionstore_subscription *subscription = NULL;
    size_t length = 7;
    member ann;
    member_join(&ann, url, "nulls", "Ann");
    all.flags = SESSIONSTORE_SELECT_ALL;
    sessionstore_lock_free(NULL);
    sessionstore_transaction_free(NULL);
    sessionstore_event_list_free(NULL);
    sessionstore_key_list_free(NULL);
    CHECK(sessionstore_lock_retain(NULL) == NULL && sessionstore_event_list_retain(NULL) == NULL &&
              sessionstore_key_list_retain(NULL) == NULL, "NULL for NULL");
    CHECK(sessionstore_event_cause(NULL) == SESSIONSTORE_CAUSE_WRITTEN, "no event has no cause");
    CHECK(sessionstore_event_expires_at(NULL) == 0, "no event never expires");
    CHECK(sessionstore_error_check(NULL) == -1 && sessionstore_error_write(NULL) == -1, "no error is of no transaction");
    CHECK(strcmp(sessionstore_lock_name(NULL, &length), "") == 0 && length == 0, "no lock has no name");
    CHECK(sessionstore_lock_token(NULL) == 0 && sessionstore_lock_is_held(NULL) == 0, "no lock is not held");
    CHECK(sessionstore_event_list_count(NULL) == 0 && sessionstore_event_list_revision(NULL) == 0, "no list is empty");
    CHECK(sessionstore_event_list_get(NULL, 0) == NULL, "no list is empty");
    length = 7;
    CHECK(sessionstore_key_list_count(NULL) == 0 && sessionstore_key_list_get(NULL, 0, &length) == NULL && length == 0,
          "no list is empty");

    REFUSED(refused, sessionstore_store_write(NULL, "k", TEXT, 1, "1", TEXT, NULL, NULL, ERROR));
    REFUSED(refused, sessionstore_store_write_wait(NULL, "k", TEXT, 1, "1", TEXT, NULL, PATIENCE, NULL, ERROR));
    REFUSED(refused, sessionstore_store_write_wait(ann.store, NULL, 1, 1, "1", TEXT, NULL, PATIENCE, NULL, ERROR));
    REFUSED(refused, sessionstore_store_write_wait(ann.store, "k", TEXT, 1, NULL, 1, NULL, PATIENCE, NULL, ERROR));
    REFUSED(refused, sessionstore_store_add(NULL, "k", TEXT, 1, NULL, ERROR));
    REFUSED(refused, sessionstore_store_add_wait(NULL, "k", TEXT, 1, PATIENCE, NULL, ERROR));
    REFUSED(refused, sessionstore_store_set_if_version(NULL, "k", TEXT, "1", TEXT, 0, NULL, ERROR));
    REFUSED(refused, sessionstore_store_set_if_version_wait(NULL, "k", TEXT, "1", TEXT, 0, PATIENCE, NULL, ERROR));
    REFUSED(refused, sessionstore_store_update(NULL, "k", TEXT, &updater, NULL, ERROR));
    REFUSED(refused, sessionstore_store_update_wait(NULL, "k", TEXT, &updater, PATIENCE, NULL, ERROR));
    REFUSED(refused, sessionstore_store_update(ann.store, "k", TEXT, NULL, NULL, ERROR));
    REFUSED(refused, sessionstore_store_update_wait(ann.store, "k", TEXT, NULL, PATIENCE, NULL, ERROR));
    REFUSED(refused, sessionstore_store_update_wait(ann.store, "k", TEXT, &updater, PATIENCE, NULL, ERROR));
    REFUSED(refused, sessionstore_store_lock(NULL, "n", TEXT, NULL, NULL, &lock_result, ERROR));
    REFUSED(refused, sessionstore_store_lock(ann.store, "n", TEXT, NULL, NULL, NULL, ERROR));
    REFUSED(refused, sessionstore_store_lock(ann.store, NULL, TEXT, NULL, NULL, &lock_result, ERROR));
    REFUSED(refused, sessionstore_store_lock_wait(NULL, "n", TEXT, NULL, NULL, PATIENCE, &lock, ERROR));
    REFUSED(refused, sessionstore_store_lock_wait(ann.store, "n", TEXT, NULL, NULL, PATIENCE, NULL, ERROR));
    REFUSED(refused, sessionstore_lock_release(NULL, NULL, ERROR));
    REFUSED(refused, sessionstore_lock_release_wait(NULL, PATIENCE, ERROR));
    REFUSED(refused, sessionstore_transaction_new(NULL, ERROR));
    REFUSED(refused, sessionstore_transaction_check_version(NULL, "k", TEXT, 0, ERROR));
    REFUSED(refused, sessionstore_transaction_check_exists(NULL, "k", TEXT, ERROR));
    REFUSED(refused, sessionstore_transaction_check_absent(NULL, "k", TEXT, ERROR));
    REFUSED(refused, sessionstore_transaction_check_equals(NULL, "k", TEXT, "1", TEXT, ERROR));
    REFUSED(refused, sessionstore_transaction_check_equals(transaction, "k", TEXT, NULL, TEXT, ERROR));
    REFUSED(refused, sessionstore_transaction_check_exists(transaction, NULL, TEXT, ERROR));
    REFUSED(refused, sessionstore_transaction_check_lock(transaction, NULL, ERROR));
    REFUSED(refused, sessionstore_transaction_write(NULL, "k", TEXT, 1, "1", TEXT, NULL, ERROR));
    REFUSED(refused, sessionstore_transaction_write(transaction, NULL, 1, 1, "1", TEXT, NULL, ERROR));
    REFUSED(refused, sessionstore_store_transact(NULL, transaction, NULL, ERROR));
    REFUSED(refused, sessionstore_store_transact(ann.store, NULL, NULL, ERROR));
    REFUSED(refused, sessionstore_store_transact_wait(NULL, transaction, PATIENCE, &list, ERROR));
    REFUSED(refused, sessionstore_store_transact_wait(ann.store, NULL, PATIENCE, &list, ERROR));
    REFUSED(refused, sessionstore_store_listen_to(NULL, &all, &listener, &subscription, ERROR));
    REFUSED(refused, sessionstore_store_listen_to(ann.store, NULL, &listener, &subscription, ERROR));
    REFUSED(refused, sessionstore_store_listen_to(ann.store, &all, NULL, &subscription, ERROR));
    REFUSED(refused, sessionstore_store_read(NULL, &all, NULL, ERROR));
    REFUSED(refused, sessionstore_store_read(ann.store, NULL, NULL, ERROR));
    REFUSED(refused, sessionstore_store_read_wait(ann.store, NULL, PATIENCE, &list, ERROR));
    REFUSED(refused, sessionstore_store_read_wait(ann.store, &all, PATIENCE, NULL, ERROR));
    REFUSED(refused, sessionstore_store_keys(NULL, "", TEXT, NULL, ERROR));
    REFUSED(refused, sessionstore_store_keys_wait(NULL, "", TEXT, PATIENCE, &keys, ERROR));
    REFUSED(refused, sessionstore_store_keys_wait(ann.store, "", TEXT, PATIENCE, NULL, ERROR));
    REFUSED(refused, sessionstore_store_usage(NULL, NULL, ERROR));
    REFUSED(refused, sessionstore_store_usage_wait(NULL, PATIENCE, &usage, ERROR));
    REFUSED(refused, sessionstore_store_usage_wait(ann.store, PATIENCE, NULL, ERROR));
    all = selecting(NULL, 1, NULL, 0);
    REFUSED(refused, sessionstore_store_read_wait(ann.store, &all, PATIENCE, &list, ERROR));
    all = selecting(NULL, 0, NULL, SIZE_MAX);
    REFUSED(refused, sessionstore_store_read_wait(ann.store, &all, PATIENCE, &list, ERROR));
    OK(sessionstore_store_transact_wait(ann.store, transaction, PATIENCE, NULL, NULL));
    sessionstore_transaction_free(transaction);
    check_holds(ann.store, "k", "null");
    member_leave(&ann);
}

static void writes_that_are_none(void) {
    static const struct {
        int32_t operation;
        const char *json;
        int32_t code;
    } bad[] = {
        {SESSIONSTORE_OPERATION_SET, "NaN", SESSIONSTORE_INVALID_JSON},
        {SESSIONSTORE_OPERATION_SET, "", SESSIONSTORE_INVALID_JSON},
        {SESSIONSTORE_OPERATION_SET, "\"\xff\"", SESSIONSTORE_INVALID_UTF8},
        {SESSIONSTORE_OPERATION_ADD, "NaN", SESSIONSTORE_INVALID_JSON},
        {SESSIONSTORE_OPERATION_ADD, "1e999", SESSIONSTORE_INVALID_JSON},
        {SESSIONSTORE_OPERATION_ADD, "null", SESSIONSTORE_WRONG_TYPE},
        {SESSIONSTORE_OPERATION_ADD, "[1]", SESSIONSTORE_WRONG_TYPE},
        {SESSIONSTORE_OPERATION_PATCH, "{", SESSIONSTORE_INVALID_JSON},
        {SESSIONSTORE_OPERATION_SET_ADD, "1", SESSIONSTORE_WRONG_TYPE},
        {SESSIONSTORE_OPERATION_SET_ADD, "null", SESSIONSTORE_WRONG_TYPE},
        {SESSIONSTORE_OPERATION_SET_ADD, "[1", SESSIONSTORE_INVALID_JSON},
        {SESSIONSTORE_OPERATION_SET_REMOVE, "{}", SESSIONSTORE_WRONG_TYPE},
        {SESSIONSTORE_OPERATION_APPEND, "\"[]\"", SESSIONSTORE_WRONG_TYPE},
        {SESSIONSTORE_OPERATION_TOUCH, "1", SESSIONSTORE_INVALID_ARGUMENT},
        {SESSIONSTORE_OPERATION_TOUCH, "", SESSIONSTORE_INVALID_ARGUMENT},
        {0, "1", SESSIONSTORE_INVALID_ARGUMENT},
        {8, "1", SESSIONSTORE_INVALID_ARGUMENT},
        {INT32_MIN, "1", SESSIONSTORE_INVALID_ARGUMENT},
    };
    union {
        sessionstore_write_options options;
        char bytes[4096];
    } later;
    sessionstore_transaction *transaction = transaction_new();
    sessionstore_write_options options;
    sessionstore_event_list *list = NULL;
    sessionstore_lock *lock;
    member ann;
    size_t index;
    member_join(&ann, url, "no-writes", "Ann");
    for (index = 0; index < sizeof bad / sizeof bad[0]; index++) {
        operate(ann.store, "k", bad[index].operation, bad[index].json, NULL, bad[index].code);
        if (bad[index].operation == SESSIONSTORE_OPERATION_ADD && bad[index].code == SESSIONSTORE_WRONG_TYPE) continue;
        REFUSED(bad[index].code, sessionstore_transaction_write(transaction, "k", TEXT, bad[index].operation,
                                                                bad[index].json, TEXT, NULL, ERROR));
    }
    REFUSED(SESSIONSTORE_INVALID_UTF8, sessionstore_store_add_wait(ann.store, "\xc3", TEXT, 1, PATIENCE, NULL, ERROR));
    REFUSED(SESSIONSTORE_INVALID_KEY, sessionstore_store_add_wait(ann.store, "", TEXT, 1, PATIENCE, NULL, ERROR));
    REFUSED(SESSIONSTORE_INVALID_UTF8, sessionstore_transaction_check_exists(transaction, "\xff", TEXT, ERROR));
    REFUSED(SESSIONSTORE_INVALID_JSON, sessionstore_transaction_check_equals(transaction, "k", TEXT, "x", TEXT, ERROR));

    /* Options that contradict each other, do not fit, or are not known. */
#define REFUSED_OPTIONS(code, operation, json, change)                                                             \
    do {                                                                                                           \
        options = no_options;                                                                                      \
        change;                                                                                                    \
        operate(ann.store, "k", operation, json, &options, code);                                                  \
        REFUSED(code, sessionstore_transaction_write(transaction, "k", TEXT, operation, json, TEXT, &options, ERROR)); \
    } while (0)
    REFUSED_OPTIONS(SESSIONSTORE_INVALID_ARGUMENT, SESSIONSTORE_OPERATION_SET, "1", options.if_version = 1);
    REFUSED_OPTIONS(SESSIONSTORE_INVALID_ARGUMENT, SESSIONSTORE_OPERATION_SET, "1",
                    options.flags = SESSIONSTORE_WRITE_BOUND | SESSIONSTORE_WRITE_UNBOUND);
    REFUSED_OPTIONS(SESSIONSTORE_INVALID_ARGUMENT, SESSIONSTORE_OPERATION_SET, "1",
                    options.flags = SESSIONSTORE_WRITE_KEEP_EXPIRY | SESSIONSTORE_WRITE_NEVER_EXPIRES);
    REFUSED_OPTIONS(SESSIONSTORE_INVALID_ARGUMENT, SESSIONSTORE_OPERATION_SET, "1",
                    (options.flags = SESSIONSTORE_WRITE_KEEP_EXPIRY, options.ttl_ms = 1));
    REFUSED_OPTIONS(SESSIONSTORE_INVALID_ARGUMENT, SESSIONSTORE_OPERATION_SET, "1",
                    (options.flags = SESSIONSTORE_WRITE_NEVER_EXPIRES, options.ttl_ms = 1));
    REFUSED_OPTIONS(SESSIONSTORE_INVALID_ARGUMENT, SESSIONSTORE_OPERATION_SET, "1", options.cap = 1);
    REFUSED_OPTIONS(SESSIONSTORE_INVALID_ARGUMENT, SESSIONSTORE_OPERATION_SET_ADD, "[1]", options.cap = 1);
    REFUSED_OPTIONS(SESSIONSTORE_INVALID_ARGUMENT, SESSIONSTORE_OPERATION_TOUCH, "", options.flags = SESSIONSTORE_WRITE_BOUND);
    REFUSED_OPTIONS(SESSIONSTORE_UNKNOWN_OPTION, SESSIONSTORE_OPERATION_SET, "1", options.flags = 32);
    REFUSED_OPTIONS(SESSIONSTORE_UNKNOWN_OPTION, SESSIONSTORE_OPERATION_SET, "1", options.flags = 0x80000000u);
    REFUSED_OPTIONS(SESSIONSTORE_INVALID_STRUCT_SIZE, SESSIONSTORE_OPERATION_SET, "1", options.struct_size = 8);
    memset(&later, 0, sizeof later);
    later.options.struct_size = sizeof later;
    later.bytes[4000] = 1;
    operate(ann.store, "k", SESSIONSTORE_OPERATION_SET, "1", &later.options, SESSIONSTORE_UNKNOWN_OPTION);
    lock = take_lock(ann.store, "name", NULL);
    options = no_options;
    options.lock = lock;
    REFUSED(SESSIONSTORE_INVALID_ARGUMENT, sessionstore_transaction_write(transaction, "k", TEXT, SESSIONSTORE_OPERATION_SET,
                                                                          "1", TEXT, &options, ERROR));
    sessionstore_lock_free(lock);
    /* Nothing of all that was added, and nothing was changed. */
    OK(sessionstore_store_transact_wait(ann.store, transaction, PATIENCE, &list, NULL));
    CHECK(sessionstore_event_list_count(list) == 0, "what was refused is not part of a transaction");
    sessionstore_event_list_free(list);
    sessionstore_transaction_free(transaction);
    check_holds(ann.store, "k", "null");
    check_works(ann.store);
    member_leave(&ann);
}

static void locks_and_selectors_that_are_none(void) {
    static const char *const broken[] = {"\xff"}, *const control[] = {"\x01"}, *const null[] = {NULL};
    sessionstore_lock_options options = SESSIONSTORE_LOCK_OPTIONS_INIT;
    sessionstore_selector selector = SESSIONSTORE_SELECTOR_INIT;
    sessionstore_event_list *list = NULL;
    sessionstore_key_list *keys = NULL;
    sessionstore_lock *lock;
    char name[1025];
    member ann;
    memset(name, 'n', 1024), name[1024] = '\0';
    member_join(&ann, url, "no-locks", "Ann");
#define LOCK_REFUSED(code, text, given)                                                                         \
    do {                                                                                                        \
        locking told;                                                                                           \
        sessionstore_lock_listener listener = locking_listener(&told);                                          \
        memset(&told, 0, sizeof told);                                                                          \
        lock = (sessionstore_lock *)(void *)&ann;                                                               \
        REFUSED(code, sessionstore_store_lock_wait(ann.store, text, TEXT, given, &listener, PATIENCE, &lock, ERROR)); \
        CHECK(lock == NULL, "a failed call leaves its handle output NULL");                                     \
        CHECK(told.listener_drops == 1 && told.lost == 0, "a failed call drops its listener");                  \
    } while (0)
    LOCK_REFUSED(SESSIONSTORE_INVALID_LOCK, name, NULL);
    LOCK_REFUSED(SESSIONSTORE_INVALID_LOCK, "", NULL);
    LOCK_REFUSED(SESSIONSTORE_INVALID_LOCK, "tab\t", NULL);
    LOCK_REFUSED(SESSIONSTORE_INVALID_UTF8, "\xc0\x80", NULL);
    options.ttl_ms = 999;
    LOCK_REFUSED(SESSIONSTORE_INVALID_ARGUMENT, "n", &options);
    options.ttl_ms = 300001;
    LOCK_REFUSED(SESSIONSTORE_INVALID_ARGUMENT, "n", &options);
    options.ttl_ms = 0;
    options.wait_ms = 300001;
    LOCK_REFUSED(SESSIONSTORE_INVALID_ARGUMENT, "n", &options);
    options.wait_ms = 0;
    options.flags = 1;
    LOCK_REFUSED(SESSIONSTORE_UNKNOWN_OPTION, "n", &options);
    options.struct_size = 0;
    LOCK_REFUSED(SESSIONSTORE_INVALID_STRUCT_SIZE, "n", &options);
    name[200] = '\0';
    lock = take_lock(ann.store, name, NULL);
    CHECK(strcmp(sessionstore_lock_name(lock, NULL), name) == 0, "the longest name is a name");
    sessionstore_lock_free(lock);

#define READ_REFUSED(code)                                                                        \
    do {                                                                                          \
        list = (sessionstore_event_list *)(void *)&ann;                                           \
        REFUSED(code, sessionstore_store_read_wait(ann.store, &selector, PATIENCE, &list, ERROR)); \
        CHECK(list == NULL, "a failed call leaves its handle output NULL");                       \
    } while (0)
    READ_REFUSED(SESSIONSTORE_INVALID_ARGUMENT);
    selector.flags = 2;
    READ_REFUSED(SESSIONSTORE_UNKNOWN_OPTION);
    selector = selecting(broken, 1, NULL, 0);
    READ_REFUSED(SESSIONSTORE_INVALID_UTF8);
    selector = selecting(NULL, 0, broken, 1);
    READ_REFUSED(SESSIONSTORE_INVALID_UTF8);
    selector = selecting(control, 1, NULL, 0);
    READ_REFUSED(SESSIONSTORE_INVALID_KEY);
    selector = selecting(NULL, 0, control, 1);
    READ_REFUSED(SESSIONSTORE_INVALID_KEY);
    selector = selecting(null, 1, NULL, 0);
    READ_REFUSED(SESSIONSTORE_NULL_ARGUMENT);
    selector.struct_size = 3;
    READ_REFUSED(SESSIONSTORE_INVALID_STRUCT_SIZE);
    REFUSED(SESSIONSTORE_INVALID_KEY, sessionstore_store_keys_wait(ann.store, "\x7f", TEXT, PATIENCE, &keys, ERROR));
    REFUSED(SESSIONSTORE_INVALID_UTF8, sessionstore_store_keys_wait(ann.store, "\xff", TEXT, PATIENCE, &keys, ERROR));
    check_works(ann.store);
    member_leave(&ann);
}

/* One call of each kind that takes callback structs; what is bad comes in the last argument. */
static int32_t consume(int kind, const sessionstore_store *store, updating *updater, outcome *result, listed *states,
                       counted *count, locking *lock, const char *text, uint32_t flags) {
    static const char *keys[1];
    sessionstore_updater an_updater = updater_of(updater);
    sessionstore_action_result an_action = outcome_of(result);
    sessionstore_event_list_result a_list = listed_of(states);
    sessionstore_usage_result a_usage = counted_usage_of(count);
    sessionstore_key_list_result a_key_list = counted_keys_of(count);
    sessionstore_lock_result a_lock = locking_of(lock);
    sessionstore_lock_listener a_listener = locking_listener(lock);
    sessionstore_transaction *transaction;
    sessionstore_selector selector;
    int32_t code;
    an_updater.flags = an_action.flags = a_list.flags = a_usage.flags = a_key_list.flags = a_lock.flags = flags;
    keys[0] = text;
    selector = selecting(keys, 1, NULL, 0);
    switch (kind) {
    case 0: return sessionstore_store_update(store, text, TEXT, &an_updater, &an_action, ERROR);
    case 1: return sessionstore_store_update_wait(store, text, TEXT, &an_updater, PATIENCE, NULL, ERROR);
    case 2: return sessionstore_store_write(store, text, TEXT, SESSIONSTORE_OPERATION_SET, "1", TEXT, NULL, &an_action, ERROR);
    case 3: return sessionstore_store_add(store, text, TEXT, 1, &an_action, ERROR);
    case 4: return sessionstore_store_set_if_version(store, text, TEXT, "1", TEXT, 0, &an_action, ERROR);
    case 5: return sessionstore_store_lock(store, text, TEXT, NULL, &a_listener, &a_lock, ERROR);
    case 6: return sessionstore_store_read(store, &selector, &a_list, ERROR);
    case 7: return sessionstore_store_keys(store, text, TEXT, &a_key_list, ERROR);
    case 8: return sessionstore_store_usage(store, &a_usage, ERROR);
    default:
        transaction = transaction_new();
        code = sessionstore_store_transact(store, transaction, &a_list, ERROR);
        sessionstore_transaction_free(transaction);
        return code;
    }
}
enum { CONSUMED_USAGE = 8, CONSUMED = 10 };

static void what_is_taken_by_a_call_that_fails_is_dropped_once(void) {
    static const int taken[CONSUMED] = {2, 1, 1, 1, 1, 2, 1, 1, 1, 1};
    updating updater;
    outcome result;
    listed states;
    counted count;
    locking lock;
    member ann;
    int kind, round;
    member_join(&ann, url, "consumed", "Ann");
    for (round = 0; round < 5; round++) {
        if (round == 4) sessionstore_client_free(ann.client);
        for (kind = 0; kind < CONSUMED; kind++) {
            const sessionstore_store *store = round == 0 ? NULL : ann.store;
            int32_t code = SESSIONSTORE_NULL_ARGUMENT;
            const char *text = "key";
            uint32_t flags = 0;
            int drops;
            if (round == 1) text = "\xff", code = SESSIONSTORE_INVALID_UTF8;
            if (round == 2) text = "\x01", code = kind == 5 ? SESSIONSTORE_INVALID_LOCK : SESSIONSTORE_INVALID_KEY;
            if (round == 3) flags = 4, code = SESSIONSTORE_UNKNOWN_OPTION;
            if (round == 4) code = SESSIONSTORE_CLOSED;
            if ((round == 1 || round == 2) && kind >= CONSUMED_USAGE) continue;
            memset(&updater, 0, sizeof updater);
            memset(&result, 0, sizeof result);
            memset(&states, 0, sizeof states);
            memset(&count, 0, sizeof count);
            memset(&lock, 0, sizeof lock);
            REFUSED(code, consume(kind, store, &updater, &result, &states, &count, &lock, text, flags));
            drops = updater.drops + result.drops + states.drops + count.drops + lock.drops + lock.listener_drops;
            CHECK(drops == taken[kind], "call %d of round %d dropped %d structs, not %d", kind, round, drops, taken[kind]);
            CHECK(updater.drops <= 1 && lock.drops <= 1 && lock.listener_drops <= 1, "a struct was dropped twice");
            CHECK(updater.calls + result.results + states.results + count.results + lock.results + lock.lost == 0,
                  "a callback of a call that failed was called");
        }
    }
    updates_over(&ann.updates);
    sessionstore_store_free(ann.store);
}

/* --- Rules. --- */

#define RULE(role, rights) "[[rule]]\nname = \"of " role "\"\nroles = [\"" role "\"]\nkeys = [\"pinned\"]\nallow = [" rights "]\n"

static void rules_are_given_and_changed(void) {
    static const char first[] = RULE("host", "\"read\", \"write\", \"create\"") RULE("viewer", "\"read\"");
    static const char second[] = RULE("viewer", "\"read\", \"write\"");
    sessionstore_server_options options = SESSIONSTORE_SERVER_OPTIONS_INIT;
    sessionstore_client_options host, viewer;
    sessionstore_server *ruled, *none = NULL;
    sessionstore_error *error = NULL;
    member ann, bob;
    int32_t code = SESSIONSTORE_OK;
    options.rules = "rule = 1";
    REFUSED(SESSIONSTORE_INVALID_CONFIG, sessionstore_server_start(&options, &none, ERROR));
    options.rules = "\xff";
    REFUSED(SESSIONSTORE_INVALID_UTF8, sessionstore_server_start(&options, &none, ERROR));
    options.rules = first;
    ruled = serve(&options);
    host = options_for(sessionstore_server_url(ruled), "ruled", "Ann");
    viewer = options_for(sessionstore_server_url(ruled), "ruled", "Bob");
    host.role = "host";
    viewer.role = "viewer";
    member_join_with(&ann, &host);
    member_join_with(&bob, &viewer);
    OK(sessionstore_store_set_string_wait(ann.store, "pinned", TEXT, "hello", TEXT, PATIENCE, NULL, NULL));
    check_holds(bob.store, "pinned", "\"hello\"");
    EXPECT(SESSIONSTORE_FORBIDDEN,
           sessionstore_store_set_string_wait(bob.store, "pinned", TEXT, "mine", TEXT, PATIENCE, NULL, &error));
    CHECK(strstr(sessionstore_error_message(error), "no rule allows the role \"viewer\" to write") != NULL,
          "a refusal says what is not allowed: %s", sessionstore_error_message(error));
    sessionstore_error_free(error);
    REFUSED(SESSIONSTORE_INVALID_CONFIG, sessionstore_server_set_rules(ruled, "[[rule]]\nroles = 1", TEXT, ERROR));
    REFUSED(SESSIONSTORE_INVALID_UTF8, sessionstore_server_set_rules(ruled, "\xff", TEXT, ERROR));
    REFUSED(SESSIONSTORE_NULL_ARGUMENT, sessionstore_server_set_rules(ruled, NULL, 1, ERROR));
    check_holds(ann.store, "pinned", "\"hello\""); /* The old ones are in force. */
    OK(sessionstore_server_set_rules(ruled, second, TEXT, NULL));
    /* The call returns before all rooms have them, and all they do is answer differently. */
    while (code != SESSIONSTORE_FORBIDDEN) {
        sessionstore_event *event = NULL;
        code = sessionstore_store_get_wait(ann.store, "pinned", TEXT, PATIENCE, &event, NULL);
        CHECK(code == SESSIONSTORE_OK || code == SESSIONSTORE_FORBIDDEN, "rules gave %s", sessionstore_code_name(code));
        sessionstore_event_free(event);
    }
    OK(sessionstore_store_set_string_wait(bob.store, "pinned", TEXT, "mine", TEXT, PATIENCE, NULL, NULL));
    OK(sessionstore_server_set_rules(ruled, NULL, 0, NULL));
    member_end(&ann);
    member_end(&bob);
    serve_no_more(ruled);
}

/* What could be locked may no longer be: who holds the lock is told, and so is who waits for it. */
static void a_right_to_lock_that_is_taken_away_is_told(void) {
    static const char may[] = "[[rule]]\nroles = [\"*\"]\nkeys = [\"*\"]\nallow = [\"read\", \"lock\"]\n";
    static const char may_not[] = "[[rule]]\nroles = [\"*\"]\nkeys = [\"*\"]\nallow = [\"read\"]\n";
    sessionstore_server_options options = SESSIONSTORE_SERVER_OPTIONS_INIT;
    sessionstore_lock_options brief = SESSIONSTORE_LOCK_OPTIONS_INIT, waits = SESSIONSTORE_LOCK_OPTIONS_INIT;
    sessionstore_usage usage = SESSIONSTORE_USAGE_INIT;
    sessionstore_lock_listener listener;
    sessionstore_lock_result result;
    sessionstore_lock *lock = NULL;
    sessionstore_server *ruled;
    locking first, second;
    member ann, bob;
    memset(&first, 0, sizeof first);
    memset(&second, 0, sizeof second);
    options.rules = may;
    ruled = serve(&options);
    member_join(&ann, sessionstore_server_url(ruled), "turns", "Ann");
    member_join(&bob, sessionstore_server_url(ruled), "turns", "Bob");
    brief.ttl_ms = 3000;
    waits.wait_ms = 300000;
    listener = locking_listener(&first);
    OK(sessionstore_store_lock_wait(ann.store, "turn", TEXT, &brief, &listener, PATIENCE, &lock, NULL));
    listener = locking_listener(&second);
    result = locking_of(&second);
    OK(sessionstore_store_lock(bob.store, "turn", TEXT, &waits, &listener, &result, NULL));
    /* Bob waits by the time his next request is answered. */
    OK(sessionstore_store_usage_wait(bob.store, PATIENCE, &usage, NULL));
    OK(sessionstore_server_set_rules(ruled, may_not, TEXT, NULL));
    EXPECT(SESSIONSTORE_FORBIDDEN, locking_told(&second));
    locking_over(&second, 0);
    locking_over(&first, 1);
    CHECK(first.lost_code == SESSIONSTORE_FORBIDDEN, "the loss has %s", sessionstore_code_name(first.lost_code));
    CHECK(!sessionstore_lock_is_held(lock), "a lost lock is not held");
    sessionstore_lock_free(lock);
    member_end(&ann);
    member_end(&bob);
    serve_no_more(ruled);
}

int main(int argc, char **argv) {
    server = serve(NULL);
    url = sessionstore_server_url(server);
    RUN(compare_and_set_tells_what_the_key_holds);
    RUN(every_operation_changes_the_value_on_the_server);
    RUN(a_key_expires_and_says_why);
    RUN(a_bound_key_goes_with_its_peer);
    RUN(keys_of_a_session_that_is_over_were_cleared);
    RUN(updates_of_two_clients_at_once_are_all_made);
    RUN(an_updater_leaves_a_key_gives_up_and_may_not_wait);
    RUN(a_transaction_is_made_whole_or_not_at_all);
    RUN(a_lock_is_handed_over_and_guards_writes);
    RUN(lock_handles_are_freed_in_every_order);
    RUN(a_lock_is_freed_at_its_loss_and_a_refusal_may_use_the_store);
    RUN(locks_in_poll_mode);
    RUN(a_prefix_is_listened_to_and_read);
    RUN(keys_and_usage_are_asked_for);
    RUN(rules_are_given_and_changed);
    RUN(a_right_to_lock_that_is_taken_away_is_told);
    RUN(every_new_function_takes_null);
    RUN(writes_that_are_none);
    RUN(locks_and_selectors_that_are_none);
    RUN(what_is_taken_by_a_call_that_fails_is_dropped_once);
    serve_no_more(server);
    return harness_end();
}

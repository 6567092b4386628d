/* The contract of callbacks: who calls when, on which thread, and what is legal inside. */
#include "harness.h"

static sessionstore_server *server;
static const char *url;

/* What a callback needs to get rid of what is calling it. */
typedef struct handles {
    int known;
    int done;
    member *own;
    sessionstore_subscription *subscription;
} handles;

static void handles_wait(handles *more) { WAIT_FOR(more->known, "the test tells the callback its handles"); }

/* --- A subscription ends inside its own callback. --- */

static void cancel_in_callback(listening *own, const sessionstore_event *event) {
    handles *more = (handles *)own->more;
    (void)event;
    handles_wait(more);
    CHECK(!more->done, "a cancelled listener was called again");
    more->done = 1;
    OK(sessionstore_subscription_cancel(more->subscription, NULL));
    EXPECT(SESSIONSTORE_WOULD_DEADLOCK, sessionstore_subscription_cancel_wait(more->subscription, PATIENCE, NULL));
    CHECK(PEEK(int, own->drops) == 0, "on_drop came while a callback ran");
    sessionstore_subscription_free(more->subscription);
    CHECK(PEEK(int, own->drops) == 0, "on_drop came while a callback ran");
}

static void a_subscription_is_cancelled_and_freed_in_its_own_callback(void) {
    member ann;
    listening heard;
    handles more;
    memset(&heard, 0, sizeof heard);
    memset(&more, 0, sizeof more);
    member_join(&ann, url, "cancel-inside", "Ann");
    heard.scope = &ann.scope;
    heard.during = cancel_in_callback;
    heard.more = &more;
    more.subscription = listen_to(ann.store, &heard, "one", "two");
    raise_flag(&more.known);
    WAIT_FOR(heard.drops == 1, "a listener that cancelled itself is dropped");
    CHECK(heard.count == 1 && heard.ends == 0, "nothing is told after the cancel");
    put(ann.store, "one", "1");
    CHECK(PEEK(int, heard.count) == 1, "nothing is told after the cancel");
    listening_over(&heard);
    check_works(ann.store);
    member_leave(&ann);
    scope_check(&ann.scope);
}

/* --- A client is freed inside callbacks of its own. --- */

static void free_client_in(handles *more) {
    handles_wait(more);
    if (more->done) return;
    more->done = 1;
    sessionstore_client_free(more->own->client);
    CHECK(PEEK(int, more->own->updates.drops) == 0, "the update listener was dropped inside another callback");
    EXPECT(SESSIONSTORE_CLOSED, sessionstore_store_set(more->own->store, "k", TEXT, "1", TEXT, NULL, NULL));
}

static void free_client_in_update(update_log *own, int what) {
    if (what == TOLD_STORE) free_client_in((handles *)own->more);
}
static void free_client_in_change(listening *own, const sessionstore_event *event) {
    (void)event;
    free_client_in((handles *)own->more);
}
static void free_client_in_drop(listening *own) { free_client_in((handles *)own->more); }
static void free_client_in_result(outcome *own) { free_client_in((handles *)own->more); }

static void a_client_is_freed_in_a_callback_of_its_update_listener(void) {
    sessionstore_client_options options = options_for(url, "free-inside", "Ann");
    sessionstore_update_listener listener;
    member ann;
    handles more;
    memset(&more, 0, sizeof more);
    memset(&ann, 0, sizeof ann);
    more.own = &ann;
    ann.updates.scope = &ann.scope;
    ann.updates.during = free_client_in_update;
    ann.updates.more = &more;
    listener = updates_listener(&ann.updates);
    OK(sessionstore_client_open(&options, &listener, &ann.client, NULL));
    OK(sessionstore_client_join_wait(ann.client, PATIENCE, &ann.store, NULL));
    raise_flag(&more.known);
    updates_over(&ann.updates);
    CHECK(more.done, "the client was freed in the callback");
    scope_check(&ann.scope);
    EXPECT(SESSIONSTORE_CLOSED, sessionstore_store_set(ann.store, "k", TEXT, "1", TEXT, NULL, NULL));
    sessionstore_store_free(ann.store);
}

static void a_client_is_freed_in_a_callback_of_its_listener(int in_drop) {
    member ann;
    listening heard, other;
    outcome pending;
    handles more;
    sessionstore_subscription *second;
    sessionstore_action_result result = outcome_of(&pending);
    memset(&more, 0, sizeof more);
    memset(&heard, 0, sizeof heard);
    memset(&other, 0, sizeof other);
    memset(&pending, 0, sizeof pending);
    more.own = &ann;
    member_join(&ann, url, "free-inside", "Ann");
    heard.scope = other.scope = pending.scope = &ann.scope;
    heard.more = &more;
    if (in_drop)
        heard.during_drop = free_client_in_drop;
    else
        heard.during = free_client_in_change;
    second = listen_to(ann.store, &other, "key", NULL);
    more.subscription = listen_to(ann.store, &heard, "key", NULL);
    OK(sessionstore_store_set_integer(ann.store, "key", TEXT, 1, &result, NULL));
    if (in_drop) OK(sessionstore_subscription_cancel(more.subscription, NULL));
    raise_flag(&more.known);
    updates_over(&ann.updates);
    CHECK(more.done, "the client was freed in the callback");
    listening_over(&heard);
    listening_over(&other);
    outcome_over(&pending);
    scope_check(&ann.scope);
    sessionstore_subscription_free(second);
    sessionstore_subscription_free(more.subscription);
    sessionstore_store_free(ann.store);
}

static void a_client_is_freed_in_a_key_change(void) { a_client_is_freed_in_a_callback_of_its_listener(0); }
static void a_client_is_freed_in_an_on_drop(void) { a_client_is_freed_in_a_callback_of_its_listener(1); }

static void a_client_is_freed_in_an_action_result(void) {
    member ann;
    outcome first, second;
    handles more;
    sessionstore_action_result a = outcome_of(&first), b = outcome_of(&second);
    memset(&more, 0, sizeof more);
    memset(&first, 0, sizeof first);
    memset(&second, 0, sizeof second);
    more.own = &ann;
    member_join(&ann, url, "free-inside", "Ann");
    first.scope = second.scope = &ann.scope;
    first.during = free_client_in_result;
    first.more = &more;
    OK(sessionstore_store_set_integer(ann.store, "key", TEXT, 1, &a, NULL));
    OK(sessionstore_store_set_integer(ann.store, "key", TEXT, 2, &b, NULL));
    raise_flag(&more.known);
    updates_over(&ann.updates);
    OK(outcome_over(&first));
    outcome_over(&second);
    scope_check(&ann.scope);
    sessionstore_store_free(ann.store);
}

/* --- A callback blocks while others cancel. --- */

typedef struct gate {
    int entered;
    int open;
} gate;

static void block_once(listening *own, const sessionstore_event *event) {
    gate *at = (gate *)own->more;
    (void)event;
    if (PEEK(int, at->entered)) return;
    raise_flag(&at->entered);
    WAIT_FOR(at->open, "the test lets the blocked callback go on");
}

typedef struct canceller {
    sessionstore_subscription *subscription;
    listening *heard;
    int started;
    int returned;
    int drops_then;
} canceller;

static void *cancel_and_wait(void *argument) {
    canceller *own = (canceller *)argument;
    raise_flag(&own->started);
    OK(sessionstore_subscription_cancel_wait(own->subscription, PATIENCE, NULL));
    harness_lock();
    own->drops_then = own->heard->drops;
    own->returned = 1;
    harness_unlock();
    return NULL;
}

static void cancel_waits_for_a_callback_that_blocks(void) {
    member ann, bob;
    listening heard;
    gate at;
    canceller other;
    pthread_t thread;
    memset(&heard, 0, sizeof heard);
    memset(&at, 0, sizeof at);
    memset(&other, 0, sizeof other);
    member_join(&ann, url, "blocked", "Ann");
    member_join(&bob, url, "blocked", "Bob");
    heard.scope = &ann.scope;
    heard.during = block_once;
    heard.more = &at;
    other.heard = &heard;
    other.subscription = listen_to(ann.store, &heard, "key", NULL);
    WAIT_FOR(at.entered, "the callback is called");

    /* No lock is held and the network goes on meanwhile, for this client as for others. */
    put(bob.store, "key", "1");
    check_holds(bob.store, "key", "1");
    OK(sessionstore_store_set_integer(ann.store, "other", TEXT, 2, NULL, NULL));

    EXPECT(SESSIONSTORE_TIMEOUT, sessionstore_subscription_cancel_wait(other.subscription, 1, NULL));
    EXPECT(SESSIONSTORE_TIMEOUT, sessionstore_subscription_cancel_wait(other.subscription, 0, NULL));
    CHECK(pthread_create(&thread, NULL, cancel_and_wait, &other) == 0, "a thread can be made");
    WAIT_FOR(other.started, "the cancelling thread runs");
    CHECK(!PEEK(int, other.returned) && !PEEK(int, heard.drops), "cancel_wait returned while a callback ran");
    raise_flag(&at.open);
    pthread_join(thread, NULL);
    CHECK(other.returned && other.drops_then == 1, "cancel_wait returned before on_drop");
    CHECK(heard.count == 1 && heard.ends == 0, "a cancelled listener was told more");
    OK(sessionstore_subscription_cancel_wait(other.subscription, PATIENCE, NULL));
    sessionstore_subscription_free(other.subscription);
    listening_over(&heard);
    member_leave(&ann);
    member_leave(&bob);
    scope_check(&ann.scope);
}

/* --- What is taken by a call that fails is dropped once. --- */

/* After a failed call: dropped so many times, never called. */
static void check_dropped(listening *heard, int times) {
    CHECK(heard->drops == times, "a failed registration dropped its context %d times, not %d", heard->drops, times);
    CHECK(heard->count == 0 && heard->ends == 0 && heard->refused == 0, "a failed registration was called");
    heard->drops = 0;
}

static void a_failed_registration_drops_its_context_once(void) {
    /* Room for a struct from the future. */
    union {
        sessionstore_key_change_listener listener;
        char bytes[4096];
    } later;
    const char *keys[] = {"key"}, *empty[] = {""}, *none[] = {NULL}, *broken[] = {"\xff"};
    member ann;
    listening heard;
    sessionstore_subscription *subscription = (sessionstore_subscription *)&heard;
    sessionstore_key_change_listener good, bad;
    memset(&heard, 0, sizeof heard);
    member_join(&ann, url, "failed", "Ann");
    good = bad = listening_listener(&heard);

    REFUSED(SESSIONSTORE_NULL_ARGUMENT, sessionstore_store_listen(NULL, keys, NULL, 1, &good, &subscription, ERROR));
    CHECK(subscription == NULL, "a failed call leaves its handle output NULL");
    check_dropped(&heard, 1);
    REFUSED(SESSIONSTORE_INVALID_KEY, sessionstore_store_listen(ann.store, empty, NULL, 1, &good, &subscription, ERROR));
    check_dropped(&heard, 1);
    REFUSED(SESSIONSTORE_INVALID_UTF8, sessionstore_store_listen(ann.store, broken, NULL, 1, &good, NULL, ERROR));
    check_dropped(&heard, 1);
    REFUSED(SESSIONSTORE_NULL_ARGUMENT, sessionstore_store_listen(ann.store, none, NULL, 1, &good, NULL, ERROR));
    check_dropped(&heard, 1);
    REFUSED(SESSIONSTORE_NULL_ARGUMENT, sessionstore_store_listen(ann.store, NULL, NULL, 1, &good, NULL, ERROR));
    check_dropped(&heard, 1);
    REFUSED(SESSIONSTORE_INVALID_ARGUMENT, sessionstore_store_listen(ann.store, keys, NULL, 0, &good, NULL, ERROR));
    check_dropped(&heard, 1);
    bad.flags = 1;
    REFUSED(SESSIONSTORE_UNKNOWN_OPTION, sessionstore_store_listen(ann.store, keys, NULL, 1, &bad, NULL, ERROR));
    check_dropped(&heard, 1);

    /* Only a struct whose size is impossible is not touched. */
    bad = good;
    bad.struct_size = 0;
    REFUSED(SESSIONSTORE_INVALID_STRUCT_SIZE, sessionstore_store_listen(ann.store, keys, NULL, 1, &bad, NULL, ERROR));
    check_dropped(&heard, 0);
    bad.struct_size = good.struct_size - 1;
    REFUSED(SESSIONSTORE_INVALID_STRUCT_SIZE, sessionstore_store_listen(ann.store, keys, NULL, 1, &bad, NULL, ERROR));
    check_dropped(&heard, 0);
    bad.struct_size = 4097;
    REFUSED(SESSIONSTORE_INVALID_STRUCT_SIZE, sessionstore_store_listen(ann.store, keys, NULL, 1, &bad, NULL, ERROR));
    check_dropped(&heard, 0);
    memset(&later, 0, sizeof later);
    later.listener = good;
    later.listener.struct_size = sizeof later;
    later.bytes[sizeof later - 1] = 1;
    REFUSED(SESSIONSTORE_UNKNOWN_OPTION,
            sessionstore_store_listen(ann.store, keys, NULL, 1, &later.listener, NULL, ERROR));
    check_dropped(&heard, 1);
    later.bytes[sizeof later - 1] = 0;
    OK(sessionstore_store_listen(ann.store, keys, NULL, 1, &later.listener, &subscription, NULL));
    OK(sessionstore_subscription_cancel_wait(subscription, PATIENCE, NULL));
    sessionstore_subscription_free(subscription);
    listening_over(&heard);

    memset(&heard, 0, sizeof heard);
    sessionstore_client_free(ann.client);
    REFUSED(SESSIONSTORE_CLOSED, sessionstore_store_listen(ann.store, keys, NULL, 1, &good, &subscription, ERROR));
    CHECK(subscription == NULL, "a failed call leaves its handle output NULL");
    check_dropped(&heard, 1);
    updates_over(&ann.updates);
    sessionstore_store_free(ann.store);
}

/* One call of each kind that takes an action result. */
static int32_t act(int kind, const member *own, const char *key, const sessionstore_action_result *result) {
    switch (kind) {
    case 0: return sessionstore_store_set(own->store, key, TEXT, "1", TEXT, result, ERROR);
    case 1: return sessionstore_store_set_string(own->store, key, TEXT, "1", TEXT, result, ERROR);
    case 2: return sessionstore_store_set_integer(own->store, key, TEXT, 1, result, ERROR);
    case 3: return sessionstore_store_set_number(own->store, key, TEXT, 1, result, ERROR);
    case 4: return sessionstore_store_set_boolean(own->store, key, TEXT, 1, result, ERROR);
    case 5: return sessionstore_store_get(own->store, key, TEXT, result, ERROR);
    case 6: return sessionstore_store_remove(own->store, key, TEXT, result, ERROR);
    case 7: return sessionstore_client_update_peer(own->client, key, TEXT, NULL, 0, result, ERROR);
    default: return sessionstore_client_leave(own->client, result, ERROR);
    }
}
enum { ACT_UPDATE_PEER = 7, ACT_LEAVE = 8, ACTS = 9 };

static void a_failed_action_drops_its_result_once(void) {
    union {
        sessionstore_action_result result;
        char bytes[4096];
    } later;
    member ann, nobody;
    outcome told;
    sessionstore_action_result good = outcome_of(&told), bad;
    int kind;
    memset(&nobody, 0, sizeof nobody);
    memset(&told, 0, sizeof told);
    member_join(&ann, url, "failed-action", "Ann");
    for (kind = 0; kind < ACTS; kind++) {
        const int32_t bad_text = kind == ACT_UPDATE_PEER ? SESSIONSTORE_INVALID_PEER : SESSIONSTORE_INVALID_KEY;
        REFUSED(SESSIONSTORE_NULL_ARGUMENT, act(kind, &nobody, "key", &good));
        CHECK(told.drops == 1, "action %d on NULL dropped its result %d times", kind, told.drops);
        if (kind != ACT_LEAVE) {
            REFUSED(bad_text, act(kind, &ann, "control \x01", &good));
            CHECK(told.drops == 2, "action %d with a bad text dropped its result %d times", kind, told.drops - 1);
            REFUSED(SESSIONSTORE_INVALID_UTF8, act(kind, &ann, "\xc3", &good));
            told.drops -= 2;
            CHECK(told.drops == 1, "action %d with broken UTF-8 dropped its result %d times", kind, told.drops);
        }
        bad = good;
        bad.flags = 0x80000000u;
        REFUSED(SESSIONSTORE_UNKNOWN_OPTION, act(kind, &ann, "key", &bad));
        CHECK(told.drops == 2, "action %d with an unknown flag dropped its result %d times", kind, told.drops - 1);
        bad = good;
        bad.struct_size = 8;
        REFUSED(SESSIONSTORE_INVALID_STRUCT_SIZE, act(kind, &ann, "key", &bad));
        CHECK(told.drops == 2, "a struct of an impossible size was touched");
        memset(&later, 0, sizeof later);
        later.result = good;
        later.result.struct_size = sizeof later;
        later.bytes[sizeof good] = 1;
        REFUSED(SESSIONSTORE_UNKNOWN_OPTION, act(kind, &ann, "key", &later.result));
        CHECK(told.drops == 3, "action %d with an unknown field dropped its result %d times", kind, told.drops - 2);
        told.drops = 0;
    }
    check_holds(ann.store, "key", "null");
    check_works(ann.store);
    sessionstore_client_free(ann.client);
    for (kind = 0; kind < ACT_UPDATE_PEER; kind++) {
        REFUSED(SESSIONSTORE_CLOSED, act(kind, &ann, "key", &good));
        CHECK(told.drops == 1 && told.results == 0, "action %d after the end dropped its result %d times", kind, told.drops);
        told.drops = 0;
    }
    CHECK(told.results == 0, "the result of an action that failed to begin was called");
    updates_over(&ann.updates);
    sessionstore_store_free(ann.store);
}

static void a_client_that_cannot_be_opened_drops_listener_and_hooks_once(void) {
    union {
        sessionstore_client_options options;
        char bytes[4096];
    } later;
    update_log heard;
    hook wake, threads;
    sessionstore_update_listener listener, bad_listener;
    sessionstore_wake_hook wake_hook = waking(&wake);
    sessionstore_thread_hooks hooks = thread_hooks_of(&threads);
    sessionstore_client_options good, bad;
    sessionstore_client *client = (sessionstore_client *)&heard;
    int round;
    memset(&heard, 0, sizeof heard);
    memset(&wake, 0, sizeof wake);
    memset(&threads, 0, sizeof threads);
    listener = bad_listener = updates_listener(&heard);
    good = options_for(url, "never", "Ann");
    good.wake_hook = &wake_hook;
    good.thread_hooks = &hooks;
    bad_listener.flags = 2;
    for (round = 0; round < 10; round++) {
        const int known = round != 8;
        int32_t expected = SESSIONSTORE_OK;
        sessionstore_client **out = &client;
        const sessionstore_update_listener *given = &listener;
        const sessionstore_client_options *options = &bad;
        bad = good;
        client = (sessionstore_client *)&heard;
        switch (round) {
        case 0: bad.url = "http://127.0.0.1"; expected = SESSIONSTORE_INVALID_URL; break;
        case 1: bad.url = NULL; expected = SESSIONSTORE_NULL_ARGUMENT; break;
        case 2: bad.room = NULL; expected = SESSIONSTORE_INVALID_ROOM; break;
        case 3: bad.flags = 0x100; expected = SESSIONSTORE_UNKNOWN_OPTION; break;
        case 4: bad.name = "\xff"; expected = SESSIONSTORE_INVALID_UTF8; break;
        case 5: given = &bad_listener; expected = SESSIONSTORE_UNKNOWN_OPTION; break;
        case 6: out = NULL; expected = SESSIONSTORE_NULL_ARGUMENT; break;
        case 7: bad.peer_id = "\n"; expected = SESSIONSTORE_INVALID_PEER; break;
        case 8: bad.struct_size = 4; expected = SESSIONSTORE_INVALID_STRUCT_SIZE; break;
        default:
            memset(&later, 0, sizeof later);
            later.options = good;
            later.options.struct_size = sizeof later;
            later.bytes[sizeof good] = 1;
            options = &later.options;
            expected = SESSIONSTORE_UNKNOWN_OPTION;
        }
        REFUSED(expected, sessionstore_client_open(options, given, out, ERROR));
        CHECK(out == NULL || client == NULL, "a failed call leaves its handle output NULL (case %d)", round);
        CHECK(heard.drops == 1, "case %d dropped the update listener %d times", round, heard.drops);
        CHECK(wake.drops == known && threads.drops == known, "case %d dropped the hooks %d and %d times, not %d", round,
              wake.drops, threads.drops, known);
        heard.drops = wake.drops = threads.drops = 0;
    }
    REFUSED(SESSIONSTORE_NULL_ARGUMENT, sessionstore_client_open(NULL, &listener, &client, ERROR));
    CHECK(heard.drops == 1, "without options the update listener was dropped %d times", heard.drops);
    CHECK(heard.stores + heard.state_count + wake.wakes + threads.starts == 0, "a client that never was called back");
}

/* --- Every action ends once. --- */

enum { PENDING = 200 };

/* What was sent may have been applied; the rest was not. */
static int ended_with_its_client(int32_t code) {
    return code == SESSIONSTORE_CLOSED || code == SESSIONSTORE_OUTCOME_UNKNOWN;
}

static void every_pending_result_comes_once_when_the_client_is_freed(void) {
    static outcome pending[PENDING];
    int round, index, closed = 0;
    for (round = 0; round < 20; round++) {
        member ann;
        listening heard;
        sessionstore_subscription *subscription;
        memset(pending, 0, sizeof pending);
        memset(&heard, 0, sizeof heard);
        member_join(&ann, url, "pending", "Ann");
        heard.scope = &ann.scope;
        subscription = listen_to(ann.store, &heard, "key-1", "key-2");
        for (index = 0; index < PENDING; index++) {
            char key[16];
            sessionstore_action_result result = outcome_of(&pending[index]);
            pending[index].scope = &ann.scope;
            snprintf(key, sizeof key, "key-%d", index % 50);
            OK(act(index % ACT_UPDATE_PEER, &ann, key, &result));
        }
        /* Some have their answers by now in later rounds, others never get one. */
        if (round % 2 == 1) WAIT_FOR(pending[round * 5].drops, "answers arrive");
        member_end(&ann);
        for (index = 0; index < PENDING; index++) {
            const int32_t code = outcome_over(&pending[index]);
            CHECK(code == SESSIONSTORE_OK || ended_with_its_client(code), "a pending action ended with %d", (int)code);
            closed += code != SESSIONSTORE_OK;
        }
        listening_over(&heard);
        sessionstore_subscription_free(subscription);
        scope_check(&ann.scope);
    }
    CHECK(closed > 0, "no action was pending when its client was freed: this tested nothing");
}

typedef struct writer {
    const sessionstore_store *store;
    int writes;
    int32_t last;
} writer;

static void *write_until_closed(void *argument) {
    writer *own = (writer *)argument;
    int32_t code;
    do {
        code = sessionstore_store_set_integer_wait(own->store, "key", TEXT, 1, PATIENCE, NULL, NULL);
        harness_lock();
        own->writes++;
        own->last = code;
        harness_unlock();
    } while (code == SESSIONSTORE_OK);
    return NULL;
}

static void waiting_threads_return_when_the_client_is_freed(void) {
    int round;
    for (round = 0; round < 30; round++) {
        member ann;
        writer writers[3];
        pthread_t threads[3];
        int index;
        memset(writers, 0, sizeof writers);
        member_join(&ann, url, "waiting", "Ann");
        for (index = 0; index < 3; index++) {
            writers[index].store = ann.store;
            CHECK(pthread_create(&threads[index], NULL, write_until_closed, &writers[index]) == 0, "a thread can be made");
        }
        for (index = 0; index < 3; index++) WAIT_FOR(writers[index].writes > round, "the threads write");
        sessionstore_client_free(ann.client);
        for (index = 0; index < 3; index++) {
            pthread_join(threads[index], NULL);
            CHECK(ended_with_its_client(writers[index].last), "a thread that waited was told %s",
                  sessionstore_code_name(writers[index].last));
        }
        updates_over(&ann.updates);
        sessionstore_store_free(ann.store);
    }
}

/* --- Handles are freed in every order. --- */

static void handles_are_freed_in_every_order(void) {
    int order;
    for (order = 0; order < 24; order++) {
        member ann;
        listening heard;
        sessionstore_subscription *subscription;
        sessionstore_server *own = serve(NULL);
        int left[4] = {0, 1, 2, 3}, rest = order, step;
        memset(&heard, 0, sizeof heard);
        member_join(&ann, sessionstore_server_url(own), "order", "Ann");
        heard.scope = &ann.scope;
        subscription = listen_to(ann.store, &heard, "key", NULL);
        OK(sessionstore_store_set_integer(ann.store, "key", TEXT, order, NULL, NULL));
        for (step = 4; step > 0; step--) {
            const int pick = rest % step, chosen = left[pick];
            rest /= step;
            left[pick] = left[step - 1];
            if (chosen == 0) sessionstore_client_free(ann.client);
            if (chosen == 1) sessionstore_store_free(ann.store);
            if (chosen == 2) sessionstore_subscription_free(subscription);
            if (chosen == 3) sessionstore_server_free(own);
        }
        listening_over(&heard);
        updates_over(&ann.updates);
        scope_check(&ann.scope);
    }
}

/* --- Many clients. --- */

/* Fewer where everything is fifty times slower. */
static int many(void) { return getenv("SESSIONSTORE_SLOW_MACHINE") != NULL ? 10 : 100; }

static void many_clients_come_and_go(void) {
    const int count = many();
    member watcher;
    int round;
    member_join(&watcher, url, "many", "Watcher");
    for (round = 0; round < count; round++) {
        member one;
        member_join(&one, url, "many", "One");
        check_holds(one.store, "key", "null");
        member_end(&one);
    }
    WAIT_FOR(watcher.updates.joined == count && watcher.updates.left == count, "everybody came and went");
    /* Also without having joined. */
    for (round = 0; round < count; round++) {
        sessionstore_client_options options = options_for(url, "many-others", "One");
        member one;
        member_open(&one, &options);
        member_end(&one);
    }
    check_works(watcher.store);
    member_leave(&watcher);
}

static void many_clients_at_once(void) {
    const int count = many();
    member *all = (member *)calloc((size_t)count, sizeof *all);
    listening *heard = (listening *)calloc((size_t)count, sizeof *heard);
    sessionstore_subscription **subscriptions = (sessionstore_subscription **)calloc((size_t)count, sizeof *subscriptions);
    int index;
    CHECK(all != NULL && heard != NULL && subscriptions != NULL, "there is memory");
    for (index = 0; index < count; index++) {
        sessionstore_client_options options = options_for(url, "at-once", "One");
        member_open(&all[index], &options);
    }
    for (index = 0; index < count; index++) {
        OK(sessionstore_client_join_wait(all[index].client, PATIENCE, &all[index].store, NULL));
        heard[index].scope = &all[index].scope;
        subscriptions[index] = listen_to(all[index].store, &heard[index], "key", NULL);
    }
    for (index = 0; index < count; index++) WAIT_FOR(heard[index].ends == 1, "every client gets its snapshot");
    put(all[0].store, "key", "1");
    for (index = 0; index < count; index++) WAIT_FOR(heard[index].count == 2, "every client hears the change");
    for (index = 0; index < count; index++) WAIT_FOR(all[index].updates.joined == count - 1, "everybody knows everybody");
    for (index = 0; index < count; index++) sessionstore_client_free(all[index].client);
    for (index = 0; index < count; index++) {
        listening_over(&heard[index]);
        updates_over(&all[index].updates);
        scope_check(&all[index].scope);
        sessionstore_subscription_free(subscriptions[index]);
        sessionstore_store_free(all[index].store);
    }
    free(subscriptions);
    free(heard);
    free(all);
}

/* --- Thread hooks. --- */

static void thread_hooks_are_called_once_each_on_the_dispatch_thread(void) {
    sessionstore_client_options options = options_for(url, "hooks", "Ann");
    hook threads;
    sessionstore_thread_hooks hooks = thread_hooks_of(&threads);
    member ann;
    memset(&threads, 0, sizeof threads);
    options.thread_hooks = &hooks;
    member_join_with(&ann, &options);
    check_works(ann.store);
    WAIT_FOR(ann.updates.stores == 1, "the client is called back");
    CHECK(PEEK(int, threads.starts) == 1, "on_start comes before the first callback");
    CHECK(PEEK(int, threads.stops) == 0, "on_stop comes at the end only");
    member_end(&ann);
    hook_over(&threads);
    CHECK(threads.starts == 1 && threads.stops == 1, "on_start and on_stop come once each");
    CHECK(ann.scope.other_threads == 0, "a client with thread hooks has one thread for all its callbacks");
    CHECK(pthread_equal(threads.start_thread, ann.scope.thread), "on_start is called on the dispatch thread");
    CHECK(pthread_equal(threads.stop_thread, ann.scope.thread), "on_stop is called on the dispatch thread");
    scope_check(&ann.scope);
}

/* A member, and what its store says to somebody who waits for it in the last call of another client's hook. */
typedef struct last_words {
    member other;
    int drops;
    int on_caller;
    int32_t code;
} last_words;

static void wait_in_last_words(void *ctx) {
    last_words *own = (last_words *)ctx;
    sessionstore_event *event = NULL;
    const int32_t code = sessionstore_store_get_wait(own->other.store, "key", TEXT, PATIENCE, &event, NULL);
    sessionstore_event_free(event);
    harness_lock();
    own->code = code;
    own->on_caller = pthread_equal(pthread_self(), harness_caller) != 0;
    own->drops++;
    harness_unlock();
}

/* Whichever thread lets go of a hook last: if it is the library's own, nobody else may be held up on it. */
static void nothing_waits_in_the_on_drop_of_hooks(void) {
    int polled;
    for (polled = 0; polled < 2; polled++) {
        sessionstore_client_options options = options_for(url, "last-words", "Ann");
        sessionstore_wake_hook wake = SESSIONSTORE_WAKE_HOOK_INIT;
        sessionstore_thread_hooks threads = SESSIONSTORE_THREAD_HOOKS_INIT;
        last_words last;
        member ann;
        memset(&last, 0, sizeof last);
        member_join(&last.other, url, "last-words", "Bob");
        wake.ctx = threads.ctx = &last;
        wake.on_drop = threads.on_drop = wait_in_last_words;
        if (polled) options.wake_hook = &wake;
        else options.thread_hooks = &threads;
        member_join_with(&ann, &options);
        member_end(&ann);
        WAIT_FOR(last.drops > 0, "hooks that nobody uses any more get their on_drop");
        EXPECT(last.on_caller ? SESSIONSTORE_OK : SESSIONSTORE_WOULD_DEADLOCK, last.code);
        check_works(last.other.store);
        member_leave(&last.other);
    }
}

/* --- A listener that does not keep up. --- */

/* No callback tells of the cache, so this looks again and again, each time after another's round trip. */
static void wait_until_cached(const sessionstore_store *store, const char *key, const char *json,
                              const sessionstore_store *other) {
    const struct timespec deadline = harness_deadline();
    for (;;) {
        struct timespec now;
        sessionstore_event *event = NULL;
        int same;
        check_holds(other, key, json);
        OK(sessionstore_store_cached(store, key, TEXT, &event, NULL));
        same = event != NULL && strcmp(sessionstore_event_json(event, NULL), json) == 0;
        sessionstore_event_free(event);
        if (same) return;
        clock_gettime(CLOCK_REALTIME, &now);
        CHECK(now.tv_sec < deadline.tv_sec, "the cache of %s never became %s", key, json);
    }
}

static void a_slow_listener_gets_the_newest_and_is_told_what_it_missed(void) {
    /* More than may wait before older states give way. */
    enum { CHANGES = 6000 };
    sessionstore_client_options options = options_for(url, "slow", "Bob");
    member ann, bob;
    listening slow;
    gate at;
    outcome last;
    sessionstore_action_result result = outcome_of(&last);
    sessionstore_subscription *subscription;
    char newest[16];
    int index;
    memset(&slow, 0, sizeof slow);
    memset(&at, 0, sizeof at);
    memset(&last, 0, sizeof last);
    member_join(&ann, url, "slow", "Ann");
    options.max_pending = CHANGES + 1;
    /* They are not all sent at once, and on a slow machine the last ones wait for long. */
    options.request_timeout_ms = 10 * PATIENCE;
    member_join_with(&bob, &options);
    slow.scope = &ann.scope;
    slow.during = block_once;
    slow.more = &at;
    subscription = listen_to(ann.store, &slow, "key", NULL);
    WAIT_FOR(at.entered, "the slow listener is called");
    for (index = 1; index <= CHANGES; index++)
        OK(sessionstore_store_set_integer(bob.store, "key", TEXT, index, NULL, NULL));
    /* The slow client is served although its callback blocks: what it caches becomes the newest. */
    snprintf(newest, sizeof newest, "%d", CHANGES);
    wait_until_cached(ann.store, "key", newest, bob.store);
    OK(sessionstore_store_get(ann.store, "key", TEXT, &result, NULL));
    raise_flag(&at.open);
    OK(outcome_over(&last));
    harness_lock();
    CHECK(strcmp(slow.last, newest) == 0, "the newest is %s, but the listener was told %s", newest, slow.last);
    CHECK(slow.ends == 1, "the end mark is told");
    CHECK((uint64_t)slow.count + slow.replaced == CHANGES + 1, "%d told and %llu replaced do not add up to %d", slow.count,
          (unsigned long long)slow.replaced, CHANGES + 1);
    CHECK(slow.replaced > 0, "nothing was replaced: this tested nothing");
    harness_unlock();
    put(bob.store, "key", "0");
    WAIT_FOR((uint64_t)slow.count + slow.replaced == CHANGES + 2, "the listener goes on");
    sessionstore_subscription_free(subscription);
    listening_over(&slow);
    member_leave(&ann);
    member_leave(&bob);
    scope_check(&ann.scope);
}

int main(int argc, char **argv) {
    server = serve(NULL);
    url = sessionstore_server_url(server);
    RUN(a_subscription_is_cancelled_and_freed_in_its_own_callback);
    RUN(a_client_is_freed_in_a_callback_of_its_update_listener);
    RUN(a_client_is_freed_in_a_key_change);
    RUN(a_client_is_freed_in_an_on_drop);
    RUN(a_client_is_freed_in_an_action_result);
    RUN(cancel_waits_for_a_callback_that_blocks);
    RUN(a_failed_registration_drops_its_context_once);
    RUN(a_failed_action_drops_its_result_once);
    RUN(a_client_that_cannot_be_opened_drops_listener_and_hooks_once);
    RUN(every_pending_result_comes_once_when_the_client_is_freed);
    RUN(waiting_threads_return_when_the_client_is_freed);
    RUN(handles_are_freed_in_every_order);
    RUN(many_clients_come_and_go);
    RUN(many_clients_at_once);
    RUN(thread_hooks_are_called_once_each_on_the_dispatch_thread);
    RUN(nothing_waits_in_the_on_drop_of_hooks);
    RUN(a_slow_listener_gets_the_newest_and_is_told_what_it_missed);
    serve_no_more(server);
    return harness_end();
}

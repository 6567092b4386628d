/*
 * What all C tests share: checks that say what failed, waiting for events, a server, and members of
 * a room that write down what they are told.
 *
 * Everything that callbacks and the test share is guarded by one mutex; whoever changes it wakes all
 * who wait. Nothing sleeps.
 */
#ifndef HARNESS_H
#define HARNESS_H

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "sessionstore.h"

/* Far above what anything here takes, on a busy machine; under valgrind everything takes much longer. */
static inline int harness_seconds(void) { return getenv("SESSIONSTORE_SLOW_MACHINE") != NULL ? 300 : 30; }
/* The same for calls that end with `_wait`. */
#define PATIENCE ((uint32_t)harness_seconds() * 1000)
#define TEXT SESSIONSTORE_NUL_TERMINATED

static pthread_mutex_t harness_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t harness_changed = PTHREAD_COND_INITIALIZER;

static inline void harness_lock(void) { pthread_mutex_lock(&harness_mutex); }

/* Also wakes everybody who waits for something to change. */
static inline void harness_unlock(void) {
    pthread_cond_broadcast(&harness_changed);
    pthread_mutex_unlock(&harness_mutex);
}

/* Ends the process at once: with threads and callbacks under way nothing could be tidied up. */
#if defined(__GNUC__)
__attribute__((noreturn, format(printf, 3, 4)))
#endif
static inline void
harness_fail(const char *file, int line, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s:%d: FAILED: ", file, line);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    fflush(NULL);
    va_end(arguments);
    _exit(1);
}

/* Fails with a sentence, which may be a printf format with arguments. */
#define CHECK(condition, ...)                                         \
    do {                                                              \
        if (!(condition)) {                                           \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            harness_fail(__FILE__, __LINE__, __VA_ARGS__);            \
        }                                                             \
    } while (0)

static inline void harness_expect(const char *file, int line, const char *call, int32_t expected, int32_t given) {
    if (expected != given) {
        harness_fail(file, line, "%s\n    returned %s (%d); expected %s (%d)", call, sessionstore_code_name(given),
                     (int)given, sessionstore_code_name(expected), (int)expected);
    }
}

/* A call must return this code. */
#define EXPECT(expected, call) harness_expect(__FILE__, __LINE__, #call, (expected), (call))
#define OK(call) EXPECT(SESSIONSTORE_OK, call)

static inline struct timespec harness_deadline(void) {
    struct timespec deadline;
    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += harness_seconds();
    return deadline;
}

/* Waits until something guarded by the mutex holds; fails with the sentence if it never does. */
#define WAIT_FOR(condition, ...)                                                                           \
    do {                                                                                                   \
        struct timespec harness_until = harness_deadline();                                                \
        int harness_late = 0;                                                                              \
        pthread_mutex_lock(&harness_mutex);                                                                \
        while (!(condition) && !harness_late)                                                              \
            harness_late = pthread_cond_timedwait(&harness_changed, &harness_mutex, &harness_until) == ETIMEDOUT; \
        harness_late = !(condition);                                                                       \
        pthread_mutex_unlock(&harness_mutex);                                                              \
        if (harness_late) {                                                                                \
            fprintf(stderr, "%s:%d: waited for: %s\n", __FILE__, __LINE__, #condition);                    \
            harness_fail(__FILE__, __LINE__, __VA_ARGS__);                                                 \
        }                                                                                                  \
    } while (0)

/* Reads something guarded by the mutex. */
#define PEEK(type, place) harness_peek_##type(&(place))
static inline int harness_peek_int(const int *place) {
    int value;
    pthread_mutex_lock(&harness_mutex);
    value = *place;
    pthread_mutex_unlock(&harness_mutex);
    return value;
}

/* Sets something guarded by the mutex. */
static inline void raise_flag(int *flag) {
    harness_lock();
    *flag = 1;
    harness_unlock();
}

/* Runs one test, if its name has the first argument of the program in it. */
#define RUN(test)                                                           \
    do {                                                                    \
        harness_program = argv[0];                                          \
        if (argc < 2 || strstr(#test, argv[1]) != NULL) {                   \
            printf("%s\n", #test);                                          \
            fflush(stdout);                                                 \
            harness_lock();                                                 \
            harness_caller = pthread_self();                                \
            harness_unlock();                                               \
            test();                                                         \
            harness_tests_run++;                                            \
        }                                                                   \
    } while (0)

static int harness_tests_run;
/* The thread of the tests, which makes the calls; guarded by the mutex, as callbacks of an earlier test may look. */
static pthread_t harness_caller;
/* How the program was called, which is how it calls itself. */
static const char *harness_program = "";

/* The end of main: nothing having run is a failure. */
static inline int harness_end(void) {
    if (harness_tests_run == 0) {
        fprintf(stderr, "no test has that name\n");
        return 1;
    }
    printf("%d passed\n", harness_tests_run);
    return 0;
}

/* Errors. `ERROR` is where calls put their error object; REFUSED looks at it. For one thread. */

static sessionstore_error *harness_error;
#define ERROR (&harness_error)

static inline void harness_refused(const char *file, int line, const char *call, int32_t expected, int32_t given) {
    harness_expect(file, line, call, expected, given);
    if (harness_error == NULL) harness_fail(file, line, "%s\n    gave no error object", call);
    harness_expect(file, line, call, expected, sessionstore_error_code(harness_error));
    if (strlen(sessionstore_error_message(harness_error)) < 10)
        harness_fail(file, line, "%s\n    gave no sentence", call);
    if (strcmp(sessionstore_error_name(harness_error), sessionstore_code_name(expected)) != 0)
        harness_fail(file, line, "%s\n    gave a name that is not its code's", call);
    sessionstore_error_free(harness_error);
    harness_error = NULL;
}

/* A call, whose `error_out` is ERROR, must return this code and an error object with a sentence. */
#define REFUSED(expected, call) (harness_error = NULL, harness_refused(__FILE__, __LINE__, #call, (expected), (call)))

/*
 * Callbacks of one client: whether they overlap, and which thread they are on. The `on_drop` of a call that fails
 * is part of that call, not one of these.
 */

typedef struct callback_scope {
    int inside;
    int overlaps;
    int calls;
    int other_threads;
    int on_network;
    int on_caller;
    pthread_t thread;
} callback_scope;

static inline void scope_enter(callback_scope *own) {
    char name[32] = "";
    if (own == NULL) return;
    pthread_getname_np(pthread_self(), name, sizeof name);
    harness_lock();
    own->overlaps += own->inside > 0;
    own->inside++;
    if (own->calls == 0) own->thread = pthread_self();
    own->other_threads += !pthread_equal(own->thread, pthread_self());
    /* The system keeps the first 15 bytes of a name. */
    own->on_network += strncmp(name, "sessionstore-net", 15) == 0;
    own->on_caller += pthread_equal(pthread_self(), harness_caller) != 0;
    own->calls++;
    harness_unlock();
}

static inline void scope_leave(callback_scope *own) {
    if (own == NULL) return;
    harness_lock();
    own->inside--;
    harness_unlock();
}

/* Callbacks never overlap, and come neither on the tests' thread nor on the network's. */
static inline void scope_check(const callback_scope *own) {
    CHECK(own->calls > 0, "there was no callback at all");
    CHECK(own->overlaps == 0, "%d callbacks of one client overlapped", own->overlaps);
    CHECK(own->on_network == 0, "a callback came on the network thread");
    CHECK(own->on_caller == 0, "a callback came on the thread that makes the calls");
}

/* A key change listener that writes down what it is told. */

enum { MOST_EVENTS = 512 };

typedef struct listening {
    callback_scope *scope;
    int drops;
    int after_drop;
    int ends;
    int refused;
    int32_t refused_code;
    int count;
    uint64_t replaced;
    sessionstore_event *events[MOST_EVENTS];
    /* The beginning of the newest event's JSON, also beyond those. */
    char last[64];
    /* Called inside the callback, if set. `event` is NULL for the end mark. */
    void (*during)(struct listening *own, const sessionstore_event *event);
    void (*during_drop)(struct listening *own);
    void *more;
} listening;

static inline void listening_changed(void *ctx, const sessionstore_event *event) {
    listening *own = (listening *)ctx;
    scope_enter(own->scope);
    harness_lock();
    own->after_drop += own->drops > 0;
    if (own->count < MOST_EVENTS) own->events[own->count] = sessionstore_event_retain(event);
    snprintf(own->last, sizeof own->last, "%s", sessionstore_event_json(event, NULL));
    own->count++;
    own->replaced += sessionstore_event_replaced(event);
    harness_unlock();
    if (own->during != NULL) own->during(own, event);
    scope_leave(own->scope);
}

static inline void listening_end(void *ctx) {
    listening *own = (listening *)ctx;
    scope_enter(own->scope);
    harness_lock();
    own->after_drop += own->drops > 0;
    own->ends++;
    harness_unlock();
    if (own->during != NULL) own->during(own, NULL);
    scope_leave(own->scope);
}

static inline void listening_refused(void *ctx, const sessionstore_error *error) {
    listening *own = (listening *)ctx;
    scope_enter(own->scope);
    harness_lock();
    own->after_drop += own->drops > 0;
    own->refused++;
    own->refused_code = sessionstore_error_code(error);
    harness_unlock();
    scope_leave(own->scope);
}

static inline void listening_drop(void *ctx) {
    listening *own = (listening *)ctx;
    callback_scope *within = own->scope;
    scope_enter(within);
    if (own->during_drop != NULL) own->during_drop(own);
    harness_lock();
    own->drops++;
    harness_unlock();
    scope_leave(within);
}

static inline sessionstore_key_change_listener listening_listener(listening *own) {
    sessionstore_key_change_listener listener = SESSIONSTORE_KEY_CHANGE_LISTENER_INIT;
    listener.ctx = own;
    listener.on_drop = listening_drop;
    listener.on_key_changed = listening_changed;
    listener.on_snapshot_end = listening_end;
    listener.on_refused = listening_refused;
    return listener;
}

/* Listens to one or two keys; `second` may be NULL. */
static inline sessionstore_subscription *listen_to(const sessionstore_store *store, listening *own, const char *first,
                                                   const char *second) {
    const char *keys[2];
    sessionstore_subscription *subscription = NULL;
    sessionstore_key_change_listener listener = listening_listener(own);
    keys[0] = first;
    keys[1] = second;
    OK(sessionstore_store_listen(store, keys, NULL, second == NULL ? 1 : 2, &listener, &subscription, NULL));
    return subscription;
}

/* The JSON text of the n-th event. */
static inline const char *told(const listening *own, int index) {
    CHECK(index < own->count && index < MOST_EVENTS, "event %d was not told", index);
    return sessionstore_event_json(own->events[index], NULL);
}

/* Frees the events, after `on_drop`; checks that it came once and nothing after it. */
static inline void listening_over(listening *own) {
    int index;
    WAIT_FOR(own->drops > 0, "a listener that ends gets its on_drop");
    harness_lock();
    CHECK(own->drops == 1, "on_drop of a listener came %d times", own->drops);
    CHECK(own->after_drop == 0, "a listener was called after its on_drop");
    harness_unlock();
    for (index = 0; index < own->count && index < MOST_EVENTS; index++) sessionstore_event_free(own->events[index]);
    own->count = 0;
}

/* The result of an action, written down. */

typedef struct outcome {
    callback_scope *scope;
    int results;
    int drops;
    int after_drop;
    int32_t code;
    sessionstore_event *event;
    void (*during)(struct outcome *own);
    void *more;
} outcome;

static inline void outcome_result(void *ctx, const sessionstore_error *error, const sessionstore_event *event) {
    outcome *own = (outcome *)ctx;
    scope_enter(own->scope);
    if (own->during != NULL) own->during(own);
    harness_lock();
    own->after_drop += own->drops > 0;
    own->results++;
    own->code = sessionstore_error_code(error);
    if (own->event == NULL) own->event = sessionstore_event_retain(event);
    harness_unlock();
    scope_leave(own->scope);
}

static inline void outcome_drop(void *ctx) {
    outcome *own = (outcome *)ctx;
    callback_scope *within = own->scope;
    scope_enter(within);
    harness_lock();
    own->drops++;
    harness_unlock();
    scope_leave(within);
}

static inline sessionstore_action_result outcome_of(outcome *own) {
    sessionstore_action_result result = SESSIONSTORE_ACTION_RESULT_INIT;
    result.ctx = own;
    result.on_drop = outcome_drop;
    result.on_result = outcome_result;
    return result;
}

/* Waits for the end of an action and checks that it was told once. */
static inline int32_t outcome_over(outcome *own) {
    WAIT_FOR(own->drops > 0, "an action that was begun ends");
    harness_lock();
    CHECK(own->results == 1, "an action's result came %d times", own->results);
    CHECK(own->drops == 1, "on_drop of an action's result came %d times", own->drops);
    CHECK(own->after_drop == 0, "an action's result came after its on_drop");
    harness_unlock();
    sessionstore_event_free(own->event);
    own->event = NULL;
    return own->code;
}

/* A lock that is asked for: its result and its loss, written down. */

typedef struct locking {
    callback_scope *scope;
    int results;
    int drops;
    int lost;
    int listener_drops;
    int after_drop;
    int32_t code;
    int32_t lost_code;
    /* Whether the lock is kept, and the lock. */
    int keeps;
    sessionstore_lock *lock;
    void (*during)(struct locking *own, const sessionstore_lock *lock);
    void (*during_listener_drop)(struct locking *own);
    void *more;
} locking;

static inline void locking_result(void *ctx, const sessionstore_error *error, const sessionstore_lock *lock) {
    locking *own = (locking *)ctx;
    scope_enter(own->scope);
    if (own->during != NULL) own->during(own, lock);
    harness_lock();
    own->after_drop += own->drops > 0;
    own->results++;
    own->code = sessionstore_error_code(error);
    if (own->keeps) own->lock = sessionstore_lock_retain(lock);
    harness_unlock();
    scope_leave(own->scope);
}

static inline void locking_drop(void *ctx) {
    locking *own = (locking *)ctx;
    harness_lock();
    own->drops++;
    harness_unlock();
}

static inline void locking_lost(void *ctx, const sessionstore_error *error) {
    locking *own = (locking *)ctx;
    scope_enter(own->scope);
    harness_lock();
    own->after_drop += own->listener_drops > 0;
    own->lost++;
    own->lost_code = sessionstore_error_code(error);
    harness_unlock();
    scope_leave(own->scope);
}

static inline void locking_listener_drop(void *ctx) {
    locking *own = (locking *)ctx;
    if (own->during_listener_drop != NULL) own->during_listener_drop(own);
    harness_lock();
    own->listener_drops++;
    harness_unlock();
}

static inline sessionstore_lock_result locking_of(locking *own) {
    sessionstore_lock_result result = SESSIONSTORE_LOCK_RESULT_INIT;
    result.ctx = own;
    result.on_drop = locking_drop;
    result.on_result = locking_result;
    return result;
}

static inline sessionstore_lock_listener locking_listener(locking *own) {
    sessionstore_lock_listener listener = SESSIONSTORE_LOCK_LISTENER_INIT;
    listener.ctx = own;
    listener.on_drop = locking_listener_drop;
    listener.on_lost = locking_lost;
    return listener;
}

/* Waits for the end of a request for a lock and checks that it was told once. */
static inline int32_t locking_told(locking *own) {
    WAIT_FOR(own->drops > 0, "a request for a lock ends");
    harness_lock();
    CHECK(own->results == 1 && own->drops == 1, "a lock's result came %d times, its on_drop %d times", own->results,
          own->drops);
    CHECK(own->after_drop == 0, "a callback came after its on_drop");
    harness_unlock();
    return own->code;
}

/* Waits for the end of a lock's listener, which was told so many times of a loss. */
static inline void locking_over(locking *own, int lost) {
    WAIT_FOR(own->listener_drops > 0, "the listener of a lock that ends gets its on_drop");
    harness_lock();
    CHECK(own->listener_drops == 1, "on_drop of a lock's listener came %d times", own->listener_drops);
    CHECK(own->lost == lost, "on_lost came %d times, not %d", own->lost, lost);
    CHECK(own->after_drop == 0, "a callback came after its on_drop");
    harness_unlock();
}

/* Takes a lock that is free. */
static inline sessionstore_lock *take_lock(const sessionstore_store *store, const char *name, locking *own) {
    sessionstore_lock_listener listener = locking_listener(own);
    sessionstore_lock *lock = NULL;
    OK(sessionstore_store_lock_wait(store, name, TEXT, NULL, own == NULL ? NULL : &listener, PATIENCE, &lock, NULL));
    CHECK(lock != NULL && sessionstore_lock_is_held(lock), "a lock that was taken is held");
    return lock;
}

/* An update listener that writes down what it is told. */

enum { TOLD_STORE = 1, TOLD_STATE, TOLD_PEER, TOLD_ERROR };
enum { MOST_STATES = 64 };

typedef struct update_log {
    callback_scope *scope;
    int drops;
    int after_drop;
    int stores;
    int state;
    int states[MOST_STATES];
    int state_codes[MOST_STATES];
    int state_count;
    int failed_attempts;
    int joined;
    int updated;
    int left;
    int errors;
    int32_t error_code;
    char peer_name[256];
    void (*during)(struct update_log *own, int what);
    void *more;
} update_log;

static inline update_log *updates_enter(void *ctx) {
    update_log *own = (update_log *)ctx;
    scope_enter(own->scope);
    harness_lock();
    own->after_drop += own->drops > 0;
    return own;
}

static inline void updates_leave(update_log *own, int what) {
    harness_unlock();
    if (own->during != NULL) own->during(own, what);
    scope_leave(own->scope);
}

static inline void updates_store(void *ctx, const sessionstore_store *store) {
    update_log *own = updates_enter(ctx);
    CHECK(store != NULL, "on_store_available has a store");
    own->stores++;
    updates_leave(own, TOLD_STORE);
}

static inline void updates_state(void *ctx, int32_t state, const sessionstore_error *error) {
    update_log *own = updates_enter(ctx);
    own->state = (int)state;
    if (own->state_count < MOST_STATES) {
        own->states[own->state_count] = (int)state;
        own->state_codes[own->state_count] = (int)sessionstore_error_code(error);
    }
    own->state_count++;
    own->failed_attempts += error != NULL;
    if (error != NULL) own->error_code = sessionstore_error_code(error);
    updates_leave(own, TOLD_STATE);
}

static inline void updates_peer(void *ctx, int32_t change, const sessionstore_peer *peer) {
    update_log *own = updates_enter(ctx);
    own->joined += change == SESSIONSTORE_PEER_JOINED;
    own->updated += change == SESSIONSTORE_PEER_UPDATED;
    own->left += change == SESSIONSTORE_PEER_LEFT;
    snprintf(own->peer_name, sizeof own->peer_name, "%s", sessionstore_peer_name(peer, NULL));
    updates_leave(own, TOLD_PEER);
}

static inline void updates_error(void *ctx, const sessionstore_error *error) {
    update_log *own = updates_enter(ctx);
    own->errors++;
    own->error_code = sessionstore_error_code(error);
    updates_leave(own, TOLD_ERROR);
}

static inline void updates_drop(void *ctx) {
    update_log *own = (update_log *)ctx;
    callback_scope *within = own->scope;
    scope_enter(within);
    harness_lock();
    own->drops++;
    harness_unlock();
    scope_leave(within);
}

static inline sessionstore_update_listener updates_listener(update_log *own) {
    sessionstore_update_listener listener = SESSIONSTORE_UPDATE_LISTENER_INIT;
    listener.ctx = own;
    listener.on_drop = updates_drop;
    listener.on_store_available = updates_store;
    listener.on_connection_state = updates_state;
    listener.on_peer = updates_peer;
    listener.on_error = updates_error;
    return listener;
}

/* Waits for the end of a client whose handle was freed. */
static inline void updates_over(update_log *own) {
    WAIT_FOR(own->drops > 0 && (own->scope == NULL || own->scope->inside == 0), "a client that ends drops its update listener");
    harness_lock();
    CHECK(own->drops == 1, "on_drop of an update listener came %d times", own->drops);
    CHECK(own->after_drop == 0, "an update listener was called after its on_drop");
    CHECK(own->stores <= 1, "on_store_available came %d times", own->stores);
    harness_unlock();
}

/* A hook of a client that counts: a wake hook or thread hooks. */

typedef struct hook {
    int starts;
    int stops;
    int wakes;
    int drops;
    int after_drop;
    pthread_t start_thread;
    pthread_t stop_thread;
} hook;

static inline void hook_call(void *ctx, int wake, int start, int stop) {
    hook *own = (hook *)ctx;
    harness_lock();
    own->after_drop += own->drops > 0;
    own->wakes += wake;
    own->starts += start;
    own->stops += stop;
    if (start) own->start_thread = pthread_self();
    if (stop) own->stop_thread = pthread_self();
    harness_unlock();
}
static inline void hook_wake(void *ctx) { hook_call(ctx, 1, 0, 0); }
static inline void hook_start(void *ctx) { hook_call(ctx, 0, 1, 0); }
static inline void hook_stop(void *ctx) { hook_call(ctx, 0, 0, 1); }
static inline void hook_drop(void *ctx) {
    hook *own = (hook *)ctx;
    harness_lock();
    own->drops++;
    harness_unlock();
}

static inline sessionstore_wake_hook waking(hook *own) {
    sessionstore_wake_hook wake = SESSIONSTORE_WAKE_HOOK_INIT;
    wake.ctx = own;
    wake.on_drop = hook_drop;
    wake.on_wake = hook_wake;
    return wake;
}

static inline sessionstore_thread_hooks thread_hooks_of(hook *own) {
    sessionstore_thread_hooks hooks = SESSIONSTORE_THREAD_HOOKS_INIT;
    hooks.ctx = own;
    hooks.on_drop = hook_drop;
    hooks.on_start = hook_start;
    hooks.on_stop = hook_stop;
    return hooks;
}

static inline void hook_over(hook *own) {
    WAIT_FOR(own->drops > 0, "a hook that nobody uses any more gets its on_drop");
    harness_lock();
    CHECK(own->drops == 1, "on_drop of a hook came %d times", own->drops);
    CHECK(own->after_drop == 0, "a hook was called after its on_drop");
    harness_unlock();
}

/* Servers and members. */

/* With io_uring where the system allows it, unless the options say otherwise. */
static inline sessionstore_server *serve(const sessionstore_server_options *options) {
    sessionstore_server_options usual = SESSIONSTORE_SERVER_OPTIONS_INIT;
    usual.flags = SESSIONSTORE_SERVER_IO_URING;
    sessionstore_server *server = NULL;
    OK(sessionstore_server_start(options != NULL ? options : &usual, &server, NULL));
    CHECK(server != NULL, "a server that started has a handle");
    return server;
}

static inline void serve_no_more(sessionstore_server *server) {
    OK(sessionstore_server_stop_wait(server, PATIENCE, NULL));
    sessionstore_server_free(server);
}

typedef struct member {
    sessionstore_client *client;
    sessionstore_store *store;
    update_log updates;
    callback_scope scope;
} member;

static inline sessionstore_client_options options_for(const char *url, const char *room, const char *name) {
    sessionstore_client_options options = SESSIONSTORE_CLIENT_OPTIONS_INIT;
    options.url = url;
    options.room = room;
    options.name = name;
    /* Some wait for a server that is started meanwhile. */
    options.request_timeout_ms = PATIENCE;
    return options;
}

static inline void member_open(member *own, const sessionstore_client_options *options) {
    sessionstore_update_listener listener;
    memset(own, 0, sizeof *own);
    own->updates.scope = &own->scope;
    listener = updates_listener(&own->updates);
    OK(sessionstore_client_open(options, &listener, &own->client, NULL));
    CHECK(own->client != NULL, "a client that opened has a handle");
}

static inline void member_join_with(member *own, const sessionstore_client_options *options) {
    member_open(own, options);
    OK(sessionstore_client_join_wait(own->client, PATIENCE, &own->store, NULL));
    CHECK(own->store != NULL, "a client that joined has a store");
}

static inline void member_join(member *own, const char *url, const char *room, const char *name) {
    sessionstore_client_options options = options_for(url, room, name);
    member_join_with(own, &options);
}

/* Frees the handles and waits for the last callback. */
static inline void member_end(member *own) {
    sessionstore_client_free(own->client);
    sessionstore_store_free(own->store);
    updates_over(&own->updates);
}

/* Leaves, so that everybody knows when this returns. */
static inline void member_leave(member *own) {
    OK(sessionstore_client_leave_wait(own->client, PATIENCE, NULL));
    member_end(own);
}

/* What a key holds, asked of the server. */
static inline void check_holds(const sessionstore_store *store, const char *key, const char *json) {
    sessionstore_event *event = NULL;
    OK(sessionstore_store_get_wait(store, key, TEXT, PATIENCE, &event, NULL));
    CHECK(strcmp(sessionstore_event_json(event, NULL), json) == 0, "%s holds %s, not %s", key,
          sessionstore_event_json(event, NULL), json);
    sessionstore_event_free(event);
}

static inline void put(const sessionstore_store *store, const char *key, const char *json) {
    OK(sessionstore_store_set_wait(store, key, TEXT, json, TEXT, PATIENCE, NULL, NULL));
}

/* The test still has a room that works. */
static inline void check_works(const sessionstore_store *store) {
    put(store, "still-works", "true");
    check_holds(store, "still-works", "true");
    OK(sessionstore_store_remove_wait(store, "still-works", TEXT, PATIENCE, NULL, NULL));
}

/* Child processes. */

/*
 * Ends a forked child. Where leaks are looked for, another program takes its place first: a child
 * has none of its parent's threads, so what those own would count as lost.
 */
static inline void end_child(int code) {
    fflush(NULL);
    if (getenv("SESSIONSTORE_LEAKS_CHECKED") != NULL) {
        execl("/bin/sh", "sh", "-c", code == 0 ? "exit 0" : "exit 1", (char *)NULL);
        _exit(1);
    }
    exit(code);
}

static inline void check_child_ended_well(pid_t child) {
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child, "the child can be waited for");
    CHECK(!WIFSIGNALED(status), "the child was ended by signal %d", WTERMSIG(status));
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child ended with code %d", WEXITSTATUS(status));
}

#endif

/* A program of the time of an older header, run with the library of today. It gives and is given every struct that
 * header has, in two ways: as its _INIT macros make them, and as small as the library ever took them, with nothing
 * but 0xA5 behind what they say is there. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sessionstore.h"

#define PATIENCE_MS 30000
#define NUL SESSIONSTORE_NUL_TERMINATED

static int failed(const char *what, int line) {
  fprintf(stderr, "line %d: %s\n", line, what);
  return 1;
}
#define CHECK(condition) do { if (!(condition)) return failed(#condition, __LINE__); } while (0)
#define OK(call) do { \
    sessionstore_error *error_ = NULL; \
    int32_t code_ = (call); \
    if (code_ != SESSIONSTORE_OK) fprintf(stderr, "%s\n", sessionstore_error_message(error_)); \
    sessionstore_error_free(error_); \
    CHECK(code_ == SESSIONSTORE_OK); \
  } while (0)
#define ERROR (&error_)

/* How often each function of each callback was called. */
enum { STORES, JOINED, PEERS, CHANGES, SNAPSHOTS, RESULTS, UPDATES, STARTS, WAKES, DROPS, KINDS };
typedef struct {
  int count[KINDS];
} told;

static pthread_mutex_t lock_of_told = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t more_told = PTHREAD_COND_INITIALIZER;

static void tell(void *ctx, int kind) {
  pthread_mutex_lock(&lock_of_told);
  ((told *)ctx)->count[kind] += 1;
  pthread_cond_broadcast(&more_told);
  pthread_mutex_unlock(&lock_of_told);
}

/* Returns when it was told so often; who runs this gives it a time. */
static void wait_for(const told *what, int kind, int times) {
  pthread_mutex_lock(&lock_of_told);
  while (what->count[kind] < times) pthread_cond_wait(&more_told, &lock_of_told);
  pthread_mutex_unlock(&lock_of_told);
}

static void drop(void *ctx) { tell(ctx, DROPS); }
static void start(void *ctx) { tell(ctx, STARTS); }
static void wakes(void *ctx) { tell(ctx, WAKES); }
static void store_available(void *ctx, const sessionstore_store *store) {
  if (store != NULL) tell(ctx, STORES);
}
static void state(void *ctx, int32_t now, const sessionstore_error *error) {
  if (now == SESSIONSTORE_STATE_CONNECTED && error == NULL) tell(ctx, JOINED);
}
static void peer(void *ctx, int32_t change, const sessionstore_peer *who) {
  if (change == SESSIONSTORE_PEER_JOINED && who != NULL) tell(ctx, PEERS);
}
static void changed(void *ctx, const sessionstore_event *event) {
  if (strcmp(sessionstore_event_key(event, NULL), "a") == 0) tell(ctx, CHANGES);
}
static void snapshot_end(void *ctx) { tell(ctx, SNAPSHOTS); }
static void result(void *ctx, const sessionstore_error *error, const sessionstore_event *event) {
  if (error == NULL && event != NULL) tell(ctx, RESULTS);
}
static void list_result(void *ctx, const sessionstore_error *error, const sessionstore_event_list *list) {
  if (error == NULL && sessionstore_event_list_count(list) == 1) tell(ctx, RESULTS);
}
static void key_result(void *ctx, const sessionstore_error *error, const sessionstore_key_list *list) {
  if (error == NULL && sessionstore_key_list_count(list) == 1) tell(ctx, RESULTS);
}
static void usage_result(void *ctx, const sessionstore_error *error, const sessionstore_usage *usage) {
  if (error == NULL && usage->keys == 1 && usage->max_keys == 7) tell(ctx, RESULTS);
}
static void lock_result(void *ctx, const sessionstore_error *error, const sessionstore_lock *lock) {
  if (error == NULL && sessionstore_lock_token(lock) != 0) tell(ctx, RESULTS);
}
static sessionstore_value *update(void *ctx, const sessionstore_event *current) {
  sessionstore_value *value = NULL;
  (void)current;
  tell(ctx, UPDATES);
  sessionstore_value_from_json("3", NUL, &value, NULL);
  return value;
}

/* Says that a struct has so many bytes, and spoils what is behind them. */
#define AS_SMALL(object, size) do { \
    (object).struct_size = (uint32_t)(size); \
    memset((char *)&(object) + (size), 0xA5, sizeof(object) - (size)); \
  } while (0)

static int run(int small) {
  told told_listener, told_client, told_results, told_ben;
  sessionstore_server_options hosts = SESSIONSTORE_SERVER_OPTIONS_INIT;
  sessionstore_client_options joins = SESSIONSTORE_CLIENT_OPTIONS_INIT;
  sessionstore_thread_hooks hooks = SESSIONSTORE_THREAD_HOOKS_INIT;
  sessionstore_update_listener updates = SESSIONSTORE_UPDATE_LISTENER_INIT;
  sessionstore_key_change_listener listener = SESSIONSTORE_KEY_CHANGE_LISTENER_INIT;
  sessionstore_action_result action = SESSIONSTORE_ACTION_RESULT_INIT;
  sessionstore_event_list_result events = SESSIONSTORE_EVENT_LIST_RESULT_INIT;
  sessionstore_key_list_result names = SESSIONSTORE_KEY_LIST_RESULT_INIT;
  sessionstore_usage_result uses = SESSIONSTORE_USAGE_RESULT_INIT;
  sessionstore_usage usage = SESSIONSTORE_USAGE_INIT;
  sessionstore_write_options writes = SESSIONSTORE_WRITE_OPTIONS_INIT;
  sessionstore_updater updater = SESSIONSTORE_UPDATER_INIT;
  sessionstore_lock_options locks = SESSIONSTORE_LOCK_OPTIONS_INIT;
  sessionstore_lock_listener losses = SESSIONSTORE_LOCK_LISTENER_INIT;
  sessionstore_lock_result grants = SESSIONSTORE_LOCK_RESULT_INIT;
  sessionstore_selector selector = SESSIONSTORE_SELECTOR_INIT;
  sessionstore_wake_hook wake = SESSIONSTORE_WAKE_HOOK_INIT;
  sessionstore_server *server = NULL;
  sessionstore_client *client = NULL, *ben = NULL;
  sessionstore_store *store = NULL, *bens = NULL;
  sessionstore_subscription *subscription = NULL;
  sessionstore_event *event = NULL;
  sessionstore_lock *lock = NULL;
  const char *keys[] = {"a"};

  memset(&told_listener, 0, sizeof told_listener);
  memset(&told_client, 0, sizeof told_client);
  memset(&told_results, 0, sizeof told_results);
  memset(&told_ben, 0, sizeof told_ben);
  if (small) {
    /* What came after these was added later: the library took structs without it. */
    AS_SMALL(hosts, offsetof(sessionstore_server_options, tls_cert_file));
    AS_SMALL(joins, offsetof(sessionstore_client_options, ca_file));
  }

  hosts.max_keys = 7;
  OK(sessionstore_server_start(&hosts, &server, ERROR));
  hooks.ctx = updates.ctx = &told_client;
  hooks.on_start = start;
  hooks.on_drop = updates.on_drop = drop;
  updates.on_store_available = store_available;
  updates.on_connection_state = state;
  updates.on_peer = peer;
  joins.url = sessionstore_server_url(server);
  joins.room = "lobby";
  joins.name = "Ana";
  joins.heartbeat_ms = 20000;
  joins.thread_hooks = &hooks;
  OK(sessionstore_client_open(&joins, &updates, &client, ERROR));
  OK(sessionstore_client_join_wait(client, PATIENCE_MS, &store, ERROR));

  listener.ctx = &told_listener;
  listener.on_key_changed = changed;
  listener.on_snapshot_end = snapshot_end;
  listener.on_drop = drop;
  OK(sessionstore_store_listen(store, keys, NULL, 1, &listener, &subscription, ERROR));

  writes.flags = SESSIONSTORE_WRITE_IF_VERSION;
  OK(sessionstore_store_write_wait(store, "a", NUL, SESSIONSTORE_OPERATION_SET, "1", NUL, &writes, PATIENCE_MS, &event, ERROR));
  CHECK(strcmp(sessionstore_event_json(event, NULL), "1") == 0);
  CHECK(strcmp(sessionstore_event_author_name(event, NULL), "Ana") == 0);
  sessionstore_event_free(event);
  OK(sessionstore_store_lock_wait(store, "turn", NUL, &locks, &losses, PATIENCE_MS, &lock, ERROR));
  writes.flags = 0;
  writes.lock = lock;
  OK(sessionstore_store_write_wait(store, "a", NUL, SESSIONSTORE_OPERATION_SET, "2", NUL, &writes, PATIENCE_MS, NULL, ERROR));
  OK(sessionstore_lock_release_wait(lock, PATIENCE_MS, ERROR));
  sessionstore_lock_free(lock);
  updater.ctx = &told_results;
  updater.on_update = update;
  OK(sessionstore_store_update_wait(store, "a", NUL, &updater, PATIENCE_MS, NULL, ERROR));

  action.ctx = events.ctx = names.ctx = uses.ctx = grants.ctx = &told_results;
  action.on_drop = events.on_drop = names.on_drop = uses.on_drop = grants.on_drop = drop;
  action.on_result = result;
  events.on_result = list_result;
  names.on_result = key_result;
  uses.on_result = usage_result;
  grants.on_result = lock_result;
  selector.keys = keys;
  selector.key_count = 1;
  OK(sessionstore_store_get(store, "a", NUL, &action, ERROR));
  OK(sessionstore_store_read(store, &selector, &events, ERROR));
  OK(sessionstore_store_keys(store, "", 0, &names, ERROR));
  OK(sessionstore_store_usage(store, &uses, ERROR));
  OK(sessionstore_store_lock(store, "turn", NUL, &locks, &losses, &grants, ERROR));
  OK(sessionstore_store_usage_wait(store, PATIENCE_MS, &usage, ERROR));
  CHECK(usage.struct_size == sizeof usage && usage.keys == 1 && usage.max_keys == 7);

  /* Another peer, in poll mode. */
  wake.ctx = &told_ben;
  wake.on_wake = wakes;
  wake.on_drop = drop;
  joins.name = "Ben";
  joins.thread_hooks = NULL;
  joins.wake_hook = &wake;
  OK(sessionstore_client_open(&joins, NULL, &ben, ERROR));
  OK(sessionstore_client_join_wait(ben, PATIENCE_MS, &bens, ERROR));
  OK(sessionstore_client_leave_wait(ben, PATIENCE_MS, ERROR));
  OK(sessionstore_client_poll(ben, 100, NULL, ERROR));
  sessionstore_store_free(bens);
  sessionstore_client_free(ben);
  wait_for(&told_client, PEERS, 1);

  OK(sessionstore_subscription_cancel_wait(subscription, PATIENCE_MS, ERROR));
  sessionstore_subscription_free(subscription);
  OK(sessionstore_client_leave_wait(client, PATIENCE_MS, ERROR));
  sessionstore_store_free(store);
  sessionstore_client_free(client);
  /* The hooks and the update listener: nothing comes after them. */
  wait_for(&told_client, DROPS, 2);
  wait_for(&told_ben, DROPS, 1);
  OK(sessionstore_server_stop_wait(server, PATIENCE_MS, ERROR));
  sessionstore_server_free(server);

  CHECK(told_listener.count[CHANGES] == 4 && told_listener.count[SNAPSHOTS] == 1 && told_listener.count[DROPS] == 1);
  CHECK(told_client.count[STARTS] == 1 && told_client.count[STORES] == 1 && told_client.count[JOINED] == 1);
  CHECK(told_client.count[PEERS] == 1 && told_client.count[DROPS] == 2);
  CHECK(told_results.count[UPDATES] == 1 && told_results.count[RESULTS] == 5 && told_results.count[DROPS] == 5);
  CHECK(told_ben.count[DROPS] == 1);
  return 0;
}

int main(void) {
  if (run(0) != 0 || run(1) != 0) return 1;
  printf("a program for %s runs with %s\n", SESSIONSTORE_VERSION, sessionstore_version());
  return 0;
}

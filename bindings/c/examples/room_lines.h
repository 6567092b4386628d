/* What host.c and peer.c have in common: a client that writes what it sees as lines, and does what it
 * reads as lines.
 *
 * It writes:  joined | + NAME | - NAME | KEY is VALUE | KEY -> VALUE | KEY = VALUE |
 *             refused ERROR (NUMBER) | left
 * It reads:   set KEY JSON | get KEY | leave
 *
 * "is" is a current value, "->" a change, "=" the answer to "get". Behind the value stands who set it.
 */
#ifndef ROOM_LINES_H
#define ROOM_LINES_H

#include <stdio.h>
#include <string.h>

#include "sessionstore.h"

#define ROOM_WAIT_MS 10000

/* One line at once: the dispatch thread and the main thread both write. */
static void room_write(const char *line) {
  printf("%s\n", line);
  fflush(stdout);
}

static void room_write_event(const sessionstore_event *event, const char *verb) {
  const char *author = sessionstore_event_author_name(event, NULL);
  char line[2048];
  snprintf(line, sizeof line, "%s %s %s%s%s%s", sessionstore_event_key(event, NULL), verb,
           sessionstore_event_json(event, NULL), author[0] == '\0' ? "" : " (", author, author[0] == '\0' ? "" : ")");
  room_write(line);
}

static void room_on_key_changed(void *ctx, const sessionstore_event *event) {
  (void)ctx;
  room_write_event(event, sessionstore_event_is_snapshot(event) ? "is" : "->");
}

static void room_on_store_available(void *ctx, const sessionstore_store *store) {
  static const char *const keys[] = {"pinned", "spotlight"};
  sessionstore_key_change_listener listener = SESSIONSTORE_KEY_CHANGE_LISTENER_INIT;
  (void)ctx;
  room_write("joined");
  listener.on_key_changed = room_on_key_changed;
  sessionstore_store_listen(store, keys, NULL, 2, &listener, NULL, NULL);
}

static void room_on_peer(void *ctx, int32_t change, const sessionstore_peer *peer) {
  char line[512];
  (void)ctx;
  if (change == SESSIONSTORE_PEER_UPDATED) return;
  snprintf(line, sizeof line, "%c %s", change == SESSIONSTORE_PEER_JOINED ? '+' : '-',
           sessionstore_peer_name(peer, NULL));
  room_write(line);
}

static void room_refused(sessionstore_error *error) {
  char line[256];
  snprintf(line, sizeof line, "refused %s (%d)", sessionstore_error_name(error), (int)sessionstore_error_code(error));
  room_write(line);
  sessionstore_error_free(error);
}

/* Joins a room; the name is the peer's id too. NULL after a failure, which is written. */
static sessionstore_client *room_join(const char *url, const char *name, sessionstore_store **store) {
  sessionstore_client_options options = SESSIONSTORE_CLIENT_OPTIONS_INIT;
  sessionstore_update_listener listener = SESSIONSTORE_UPDATE_LISTENER_INIT;
  sessionstore_client *client = NULL;
  sessionstore_error *error = NULL;
  options.url = url;
  options.room = "demo";
  options.name = name;
  options.peer_id = name;
  options.flags = SESSIONSTORE_CLIENT_FAIL_FAST;
  listener.on_store_available = room_on_store_available;
  listener.on_peer = room_on_peer;
  if (sessionstore_client_open(&options, &listener, &client, &error) == SESSIONSTORE_OK &&
      sessionstore_client_join_wait(client, ROOM_WAIT_MS, store, &error) == SESSIONSTORE_OK) {
    return client;
  }
  room_refused(error);
  sessionstore_client_free(client);
  return NULL;
}

/* Obeys one line. Returns 0 after "leave", otherwise 1. */
static int room_obey(char *line, const sessionstore_client *client, const sessionstore_store *store) {
  sessionstore_error *error = NULL;
  sessionstore_event *event = NULL;
  char *verb = strtok(line, " \r\n"), *key = strtok(NULL, " \r\n"), *json = strtok(NULL, "\r\n");
  int32_t code = SESSIONSTORE_OK;
  if (verb == NULL) return 1;
  if (strcmp(verb, "leave") == 0) {
    code = sessionstore_client_leave_wait(client, ROOM_WAIT_MS, &error);
    if (code == SESSIONSTORE_OK) room_write("left");
  } else if (strcmp(verb, "set") == 0 && key != NULL && json != NULL) {
    code = sessionstore_store_set_wait(store, key, SESSIONSTORE_NUL_TERMINATED, json, SESSIONSTORE_NUL_TERMINATED,
                                       ROOM_WAIT_MS, NULL, &error);
  } else if (strcmp(verb, "get") == 0 && key != NULL) {
    code = sessionstore_store_get_wait(store, key, SESSIONSTORE_NUL_TERMINATED, ROOM_WAIT_MS, &event, &error);
    if (code == SESSIONSTORE_OK) room_write_event(event, "=");
    sessionstore_event_free(event);
  } else {
    room_write("what?");
  }
  if (code != SESSIONSTORE_OK) room_refused(error);
  return strcmp(verb, "leave") != 0;
}

#endif

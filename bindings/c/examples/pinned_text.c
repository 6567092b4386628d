/* Pinned text: one message that everybody in the room sees, and who pinned it.
 *
 *     pinned_text URL ROOM NAME
 *
 * Type a text to pin it, an empty line to unpin, end of input (Ctrl-D) to leave. Start it twice.
 *
 * Where spotlight.c waits for each result, this is told by callbacks: of the store, of the connection,
 * and of how each set ended. That is how a program with an event loop uses the library.
 */
#include <stdio.h>
#include <string.h>

#include "sessionstore.h"

#define KEY "pinned"

static void on_key_changed(void *ctx, const sessionstore_event *event) {
  const char *text = NULL;
  (void)ctx;
  if (sessionstore_value_get_string(sessionstore_event_value(event), &text, NULL, NULL) == SESSIONSTORE_OK) {
    printf("pinned by %s: %s\n", sessionstore_event_author_name(event, NULL), text);
  } else {
    printf("nothing is pinned\n");
  }
  fflush(stdout);
}

/* The room was joined. Listen at once: the current value comes first, so nothing is missed. */
static void on_store_available(void *ctx, const sessionstore_store *store) {
  const char *keys[] = {KEY};
  sessionstore_key_change_listener listener = SESSIONSTORE_KEY_CHANGE_LISTENER_INIT;
  (void)ctx;
  listener.on_key_changed = on_key_changed;
  /* No handle is asked for: the listener stays for as long as the client does. */
  sessionstore_store_listen(store, keys, NULL, 1, &listener, NULL, NULL);
}

static void on_connection_state(void *ctx, int32_t state, const sessionstore_error *error) {
  (void)ctx;
  if (state == SESSIONSTORE_STATE_RECONNECTING) printf("connection lost, trying again\n");
  if (state == SESSIONSTORE_STATE_CLOSED && error != NULL) printf("closed: %s\n", sessionstore_error_message(error));
  fflush(stdout);
}

/* A set ended. Success needs no word here: the listener was told already. */
static void on_result(void *ctx, const sessionstore_error *error, const sessionstore_event *event) {
  (void)ctx;
  (void)event;
  if (error != NULL) {
    printf("not pinned, %s: %s\n", sessionstore_error_name(error), sessionstore_error_message(error));
    fflush(stdout);
  }
}

int main(int argc, char **argv) {
  sessionstore_client_options options = SESSIONSTORE_CLIENT_OPTIONS_INIT;
  sessionstore_update_listener listener = SESSIONSTORE_UPDATE_LISTENER_INIT;
  sessionstore_client *client = NULL;
  sessionstore_store *store = NULL;
  sessionstore_error *error = NULL;
  char line[4096];

  if (argc != 4) {
    fprintf(stderr, "usage: pinned_text URL ROOM NAME\n");
    return 2;
  }
  options.url = argv[1];
  options.room = argv[2];
  options.name = argv[3];
  listener.on_store_available = on_store_available;
  listener.on_connection_state = on_connection_state;
  if (sessionstore_client_open(&options, &listener, &client, &error) != SESSIONSTORE_OK) {
    fprintf(stderr, "%s\n", sessionstore_error_message(error));
    sessionstore_error_free(error);
    return 1;
  }
  /* A program with an event loop would go on with it here, and keep the store that on_store_available is
     given (sessionstore_store_retain). This one has only its input to read, and may as well wait. */
  if (sessionstore_client_join_wait(client, 10000, &store, &error) != SESSIONSTORE_OK) {
    fprintf(stderr, "%s\n", sessionstore_error_message(error));
    sessionstore_error_free(error);
    sessionstore_client_free(client);
    return 1;
  }

  while (fgets(line, sizeof line, stdin) != NULL) {
    sessionstore_action_result result = SESSIONSTORE_ACTION_RESULT_INIT;
    result.on_result = on_result;
    line[strcspn(line, "\r\n")] = '\0';
    if (line[0] == '\0') {
      sessionstore_store_remove(store, KEY, SESSIONSTORE_NUL_TERMINATED, &result, NULL);
    } else {
      sessionstore_store_set_string(store, KEY, SESSIONSTORE_NUL_TERMINATED, line, SESSIONSTORE_NUL_TERMINATED,
                                    &result, NULL);
    }
  }

  /* Leaving is answered after everything that was asked before, so no result is lost. */
  sessionstore_client_leave_wait(client, 10000, NULL);
  sessionstore_store_free(store);
  sessionstore_client_free(client);
  return 0;
}

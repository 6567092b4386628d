/* Spotlight: brings one peer to the centre of everyone's screen.
 *
 *     spotlight URL ROOM NAME
 *
 * Prints who is in the spotlight, now and whenever that changes. Type a peer's name to put it there,
 * an empty line to clear the spotlight, end of input (Ctrl-D) to leave. Start it twice.
 */
#include <stdio.h>
#include <string.h>

#include "sessionstore.h"

#define WAIT_MS 10000

/* Called with the current value first, then with every change, on the client's own thread. */
static void on_key_changed(void *ctx, const sessionstore_event *event) {
  const char *name = NULL;
  (void)ctx;
  /* WRONG_TYPE when the key is absent or somebody set something that is not a string. */
  if (sessionstore_value_get_string(sessionstore_event_value(event), &name, NULL, NULL) == SESSIONSTORE_OK) {
    printf("%s is in the spotlight (set by %s)\n", name, sessionstore_event_author_name(event, NULL));
  } else {
    printf("nobody is in the spotlight\n");
  }
  fflush(stdout);
}

/* Prints what went wrong, frees the error, and gives the exit code of a program that failed. */
static int failed(const char *what, sessionstore_error *error) {
  fprintf(stderr, "%s: %s (%d): %s\n", what, sessionstore_error_name(error), (int)sessionstore_error_code(error),
          sessionstore_error_message(error));
  sessionstore_error_free(error);
  return 1;
}

int main(int argc, char **argv) {
  sessionstore_client_options options = SESSIONSTORE_CLIENT_OPTIONS_INIT;
  sessionstore_key_change_listener listener = SESSIONSTORE_KEY_CHANGE_LISTENER_INIT;
  sessionstore_client *client = NULL;
  sessionstore_store *store = NULL;
  sessionstore_subscription *subscription = NULL;
  sessionstore_error *error = NULL;
  const char *keys[] = {"spotlight"};
  char line[512];

  if (argc != 4) {
    fprintf(stderr, "usage: spotlight URL ROOM NAME\n");
    return 2;
  }
  options.url = argv[1];
  options.room = argv[2];
  options.name = argv[3];
  options.flags = SESSIONSTORE_CLIENT_FAIL_FAST; /* rather end than wait for a server that is not there */
  if (sessionstore_client_open(&options, NULL, &client, &error) != SESSIONSTORE_OK) return failed("open", error);
  if (sessionstore_client_join_wait(client, WAIT_MS, &store, &error) != SESSIONSTORE_OK) {
    sessionstore_client_free(client);
    return failed("join", error);
  }

  listener.on_key_changed = on_key_changed;
  if (sessionstore_store_listen(store, keys, NULL, 1, &listener, &subscription, &error) != SESSIONSTORE_OK) {
    failed("listen", error);
  }

  while (fgets(line, sizeof line, stdin) != NULL) {
    int32_t code;
    line[strcspn(line, "\r\n")] = '\0';
    if (line[0] == '\0') {
      code = sessionstore_store_remove_wait(store, "spotlight", SESSIONSTORE_NUL_TERMINATED, WAIT_MS, NULL, &error);
    } else {
      code = sessionstore_store_set_string_wait(store, "spotlight", SESSIONSTORE_NUL_TERMINATED, line,
                                                SESSIONSTORE_NUL_TERMINATED, WAIT_MS, NULL, &error);
    }
    if (code != SESSIONSTORE_OK) failed("set", error);
  }

  /* Stop listening, and say goodbye: otherwise this peer stays for the grace period. */
  sessionstore_subscription_cancel_wait(subscription, WAIT_MS, NULL);
  sessionstore_client_leave_wait(client, WAIT_MS, NULL);
  sessionstore_subscription_free(subscription);
  sessionstore_store_free(store);
  sessionstore_client_free(client);
  return 0;
}

/* Presenter: one at a time, and the next when that one is gone.
 *
 *     presenter URL ROOM NAME
 *
 * Waits for its turn, says so, and presents: each line typed is shown to everybody as the slide. End of
 * input (Ctrl-D) hands over to who waits next, and so does killing it: then when the room has noticed.
 *
 * The lock is renewed by the library. What is shown is written with the lock's token, so that one who has
 * lost the lock and does not know it yet cannot show anything any more.
 */
#include <stdio.h>
#include <string.h>

#include "sessionstore.h"

#define WAIT_MS 310000
#define NUL SESSIONSTORE_NUL_TERMINATED

static void on_lost(void *ctx, const sessionstore_error *error) {
  printf("%s presents no more: %s\n", (const char *)ctx, sessionstore_error_name(error));
  fflush(stdout);
}

static int failed(const char *what, sessionstore_error *error) {
  fprintf(stderr, "%s: %s (%d): %s\n", what, sessionstore_error_name(error), (int)sessionstore_error_code(error),
          sessionstore_error_message(error));
  sessionstore_error_free(error);
  return 1;
}

int main(int argc, char **argv) {
  sessionstore_client_options options = SESSIONSTORE_CLIENT_OPTIONS_INIT;
  sessionstore_lock_options turn = SESSIONSTORE_LOCK_OPTIONS_INIT;
  sessionstore_lock_listener listener = SESSIONSTORE_LOCK_LISTENER_INIT;
  sessionstore_write_options held = SESSIONSTORE_WRITE_OPTIONS_INIT;
  sessionstore_client *client = NULL;
  sessionstore_store *store = NULL;
  sessionstore_value *slide = NULL;
  sessionstore_lock *lock = NULL;
  sessionstore_error *error = NULL;
  char line[512];

  if (argc != 4) {
    fprintf(stderr, "usage: presenter URL ROOM NAME\n");
    return 2;
  }
  options.url = argv[1];
  options.room = argv[2];
  options.name = argv[3];
  options.peer_id = argv[3];
  options.flags = SESSIONSTORE_CLIENT_FAIL_FAST;
  if (sessionstore_client_open(&options, NULL, &client, &error) != SESSIONSTORE_OK) return failed("open", error);
  if (sessionstore_client_join_wait(client, 10000, &store, &error) != SESSIONSTORE_OK) {
    sessionstore_client_free(client);
    return failed("join", error);
  }
  printf("%s waits\n", argv[3]);
  fflush(stdout);

  turn.wait_ms = 300000; /* behind those who came before */
  listener.ctx = argv[3];
  listener.on_lost = on_lost;
  if (sessionstore_store_lock_wait(store, "presenter", NUL, &turn, &listener, WAIT_MS, &lock, &error) !=
      SESSIONSTORE_OK) {
    failed("lock", error);
  } else {
    printf("%s presents\n", argv[3]);
    fflush(stdout);
  }

  held.lock = lock;
  while (lock != NULL && fgets(line, sizeof line, stdin) != NULL) {
    int32_t code;
    line[strcspn(line, "\r\n")] = '\0';
    sessionstore_value_from_string(line, NUL, &slide, NULL);
    code = sessionstore_store_write_wait(store, "slide", NUL, SESSIONSTORE_OPERATION_SET,
                                         sessionstore_value_json(slide, NULL), NUL, &held, 10000, NULL, &error);
    if (code != SESSIONSTORE_OK) failed("show", error);
    sessionstore_value_free(slide);
  }

  sessionstore_lock_free(lock); /* releases it */
  sessionstore_client_leave_wait(client, 10000, NULL);
  sessionstore_store_free(store);
  sessionstore_client_free(client);
  return 0;
}

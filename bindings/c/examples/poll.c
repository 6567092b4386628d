/* Poll: many vote at once, and every vote counts.
 *
 *     poll URL ROOM VOTERS
 *
 * Joins the room as so many voters, lets all of them vote at the same moment, the first for "yes", the
 * second for "no", the third for "maybe", and so on, and prints what the room has counted.
 *
 * A vote is sessionstore_store_add: the server adds. Were each to read the number, add 1 and set it, two
 * who read 41 would both write 42.
 */
#include <stdio.h>
#include <stdlib.h>

#include "sessionstore.h"

#define WAIT_MS 30000
#define NUL SESSIONSTORE_NUL_TERMINATED

static const char *const choices[] = {"votes/yes", "votes/no", "votes/maybe"};

static int failed(const char *what, sessionstore_error *error) {
  fprintf(stderr, "%s: %s (%d): %s\n", what, sessionstore_error_name(error), (int)sessionstore_error_code(error),
          sessionstore_error_message(error));
  sessionstore_error_free(error);
  return 1;
}

/* What became of one vote; told on the voter's own thread. */
static void on_voted(void *ctx, const sessionstore_error *error, const sessionstore_event *event) {
  (void)event;
  if (error != NULL) fprintf(stderr, "voter %d: %s\n", *(const int *)ctx, sessionstore_error_message(error));
}

int main(int argc, char **argv) {
  sessionstore_client_options options = SESSIONSTORE_CLIENT_OPTIONS_INIT;
  sessionstore_client **clients;
  sessionstore_store **stores;
  sessionstore_error *error = NULL;
  const int voters = argc == 4 ? atoi(argv[3]) : 0;
  int *numbers, n, status = 0;

  if (voters < 1 || voters > 1000) {
    fprintf(stderr, "usage: poll URL ROOM VOTERS (1 to 1000)\n");
    return 2;
  }
  clients = calloc((size_t)voters, sizeof *clients);
  stores = calloc((size_t)voters, sizeof *stores);
  numbers = calloc((size_t)voters, sizeof *numbers);
  if (clients == NULL || stores == NULL || numbers == NULL) return 1;

  options.url = argv[1];
  options.room = argv[2];
  options.name = "a voter";
  options.flags = SESSIONSTORE_CLIENT_FAIL_FAST;
  for (n = 0; n < voters && status == 0; n++) {
    numbers[n] = n;
    if (sessionstore_client_open(&options, NULL, &clients[n], &error) != SESSIONSTORE_OK) status = failed("open", error);
  }
  for (n = 0; n < voters && status == 0; n++) {
    if (sessionstore_client_join_wait(clients[n], WAIT_MS, &stores[n], &error) != SESSIONSTORE_OK)
      status = failed("join", error);
  }

  /* Nobody waits for anybody else's vote. */
  for (n = 0; n < voters && status == 0; n++) {
    sessionstore_action_result result = SESSIONSTORE_ACTION_RESULT_INIT;
    result.ctx = &numbers[n];
    result.on_result = on_voted;
    if (sessionstore_store_add(stores[n], choices[n % 3], NUL, 1, &result, &error) != SESSIONSTORE_OK)
      status = failed("vote", error);
  }

  /* What a client asks first is answered first: when it has left, its vote is counted. The first voter
   * stays to see the others out, and to read the result. */
  for (n = voters - 1; n > 0 && status == 0; n--) {
    if (sessionstore_client_leave_wait(clients[n], WAIT_MS, &error) != SESSIONSTORE_OK) status = failed("leave", error);
  }
  for (n = 0; n < 3 && status == 0; n++) {
    sessionstore_event *event = NULL;
    if (sessionstore_store_get_wait(stores[0], choices[n], NUL, WAIT_MS, &event, &error) != SESSIONSTORE_OK) {
      status = failed("get", error);
    } else {
      printf("%s: %s\n", choices[n], sessionstore_event_version(event) ? sessionstore_event_json(event, NULL) : "0");
    }
    sessionstore_event_free(event);
  }

  for (n = 0; n < voters; n++) {
    sessionstore_store_free(stores[n]);
    sessionstore_client_free(clients[n]);
  }
  free(clients);
  free(stores);
  free(numbers);
  return status;
}

/* A program with a server inside that is a peer too: everybody else joins the room it hosts.
 *
 *     host NAME GRACE_MS
 *
 * Writes "url URL", then what it sees and does as a peer; see room_lines.h. After "leave" the server
 * goes on. It also reads "stats", answered with "rooms N, peers N", and "stop".
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "room_lines.h"
#include "sessionstore.h"

static void write_stats(const sessionstore_server *server) {
  uint64_t rooms = 0, peers = 0;
  char line[80];
  sessionstore_server_stats(server, &rooms, &peers, NULL, NULL);
  snprintf(line, sizeof line, "rooms %llu, peers %llu", (unsigned long long)rooms, (unsigned long long)peers);
  room_write(line);
}

int main(int argc, char **argv) {
  sessionstore_server_options options = SESSIONSTORE_SERVER_OPTIONS_INIT;
  sessionstore_server *server = NULL;
  sessionstore_client *client = NULL;
  sessionstore_store *store = NULL;
  sessionstore_error *error = NULL;
  char line[2048];
  int failed;

  if (argc != 3) {
    fprintf(stderr, "usage: host NAME GRACE_MS\n");
    return 2;
  }
  /* On this machine only, on any free port: the defaults. */
  options.grace_ms = (uint32_t)strtoul(argv[2], NULL, 10);
  if (sessionstore_server_start(&options, &server, &error) != SESSIONSTORE_OK) {
    room_refused(error);
    return 1;
  }
  snprintf(line, sizeof line, "url %s", sessionstore_server_url(server));
  room_write(line);

  client = room_join(sessionstore_server_url(server), argv[1], &store);
  failed = client == NULL;
  while (!failed && fgets(line, sizeof line, stdin) != NULL) {
    line[strcspn(line, "\r\n")] = '\0';
    if (strcmp(line, "stop") == 0) break;
    if (strcmp(line, "stats") == 0) {
      write_stats(server);
    } else {
      room_obey(line, client, store);
    }
  }
  sessionstore_store_free(store);
  sessionstore_client_free(client);
  if (sessionstore_server_stop_wait(server, ROOM_WAIT_MS, &error) == SESSIONSTORE_OK) {
    room_write("stopped");
  } else {
    room_refused(error);
    failed = 1;
  }
  sessionstore_server_free(server);
  return failed;
}

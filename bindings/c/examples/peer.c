/* A peer of a room that writes what it sees and does what it reads; see room_lines.h.
 *
 *     peer URL NAME
 */
#include <stdio.h>

#include "room_lines.h"
#include "sessionstore.h"

int main(int argc, char **argv) {
  sessionstore_store *store = NULL;
  sessionstore_client *client;
  char line[2048];

  if (argc != 3) {
    fprintf(stderr, "usage: peer URL NAME\n");
    return 2;
  }
  client = room_join(argv[1], argv[2], &store);
  if (client == NULL) return 1;
  while (fgets(line, sizeof line, stdin) != NULL && room_obey(line, client, store)) {
  }
  sessionstore_store_free(store);
  sessionstore_client_free(client);
  return 0;
}

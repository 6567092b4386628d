/* Tic-tac-toe: a board in one key, which two players cannot overwrite.
 *
 *     tic_tac_toe URL ROOM x|o
 *
 * Prints the board whenever it changes: nine letters, row by row. Type a field, 1 to 9, to put your mark
 * there; end of input (Ctrl-D) ends. Start it twice, once as x and once as o. x begins.
 *
 * A move is sessionstore_store_update: the function is given the board as it is now and returns the board
 * after the move. If the other was faster, it is called again with the board after the other's move. Were
 * each to read the board, change it and set it, one of two moves made at once would vanish.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sessionstore.h"

#define WAIT_MS 10000
#define NUL SESSIONSTORE_NUL_TERMINATED
#define EMPTY "........."

typedef struct {
  char mark;
  int field;
  const char *refusal;
} move;

/* The board of a state; an empty one when there is none, or somebody set something else. */
static void read_board(const sessionstore_event *event, char *board) {
  const char *text = NULL;
  size_t length = 0;
  memcpy(board, EMPTY, sizeof EMPTY);
  if (sessionstore_value_get_string(sessionstore_event_value(event), &text, &length, NULL) == SESSIONSTORE_OK &&
      length == sizeof EMPTY - 1) {
    memcpy(board, text, length);
  }
}

static int count(const char *board, char mark) {
  int n = 0;
  for (; *board != '\0'; board++) n += *board == mark;
  return n;
}

/* The rules of the game. It may be called several times for one move, so it only computes. */
static sessionstore_value *on_update(void *ctx, const sessionstore_event *current) {
  move *wanted = ctx;
  char board[sizeof EMPTY];
  sessionstore_value *next = NULL;
  char turn;
  read_board(current, board);
  turn = count(board, 'x') > count(board, 'o') ? 'o' : 'x';
  wanted->refusal = NULL;
  if (turn != wanted->mark) {
    wanted->refusal = "it is not your turn";
  } else if (board[wanted->field] != '.') {
    wanted->refusal = "that field is taken";
  } else {
    board[wanted->field] = wanted->mark;
    sessionstore_value_from_string(board, NUL, &next, NULL);
  }
  return next; /* NULL leaves the board as it is. */
}

static void on_key_changed(void *ctx, const sessionstore_event *event) {
  char board[sizeof EMPTY];
  (void)ctx;
  read_board(event, board);
  printf("board %s\n", board);
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
  sessionstore_key_change_listener listener = SESSIONSTORE_KEY_CHANGE_LISTENER_INIT;
  sessionstore_updater updater = SESSIONSTORE_UPDATER_INIT;
  sessionstore_client *client = NULL;
  sessionstore_store *store = NULL;
  sessionstore_error *error = NULL;
  const char *keys[] = {"board"};
  char line[64];
  move wanted;

  if (argc != 4 || (strcmp(argv[3], "x") != 0 && strcmp(argv[3], "o") != 0)) {
    fprintf(stderr, "usage: tic_tac_toe URL ROOM x|o\n");
    return 2;
  }
  options.url = argv[1];
  options.room = argv[2];
  options.name = argv[3];
  options.flags = SESSIONSTORE_CLIENT_FAIL_FAST;
  if (sessionstore_client_open(&options, NULL, &client, &error) != SESSIONSTORE_OK) return failed("open", error);
  if (sessionstore_client_join_wait(client, WAIT_MS, &store, &error) != SESSIONSTORE_OK) {
    sessionstore_client_free(client);
    return failed("join", error);
  }
  listener.on_key_changed = on_key_changed;
  if (sessionstore_store_listen(store, keys, NULL, 1, &listener, NULL, &error) != SESSIONSTORE_OK) failed("listen", error);

  wanted.mark = argv[3][0];
  updater.ctx = &wanted;
  updater.on_update = on_update;
  while (fgets(line, sizeof line, stdin) != NULL) {
    wanted.field = atoi(line) - 1;
    if (wanted.field < 0 || wanted.field > 8) {
      printf("type a field, 1 to 9\n");
    } else if (sessionstore_store_update_wait(store, "board", NUL, &updater, WAIT_MS, NULL, &error) != SESSIONSTORE_OK) {
      failed("move", error);
    } else if (wanted.refusal != NULL) {
      printf("%s\n", wanted.refusal);
    }
    fflush(stdout);
  }

  sessionstore_client_leave_wait(client, WAIT_MS, NULL);
  sessionstore_store_free(store);
  sessionstore_client_free(client);
  return 0;
}

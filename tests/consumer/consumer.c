/* What a program of somebody else does with an installed SessionStore: it hosts a room, joins it, listens, and hears
 * what it sets. The header and the library must be of the same version. */
#include <stdio.h>
#include <string.h>

#include <sessionstore.h>

#define PATIENCE_MS 30000

static void on_key_changed(void *ctx, const sessionstore_event *event) {
  if (strcmp(sessionstore_event_json(event, NULL), "\"peer-1\"") == 0) *(int *)ctx += 1;
}

static int wrong(const char *what, sessionstore_error *error) {
  fprintf(stderr, "%s: %s\n", what, error == NULL ? "not as it should be" : sessionstore_error_message(error));
  sessionstore_error_free(error);
  return 1;
}

int main(void) {
  sessionstore_server_options hosts = SESSIONSTORE_SERVER_OPTIONS_INIT;
  sessionstore_client_options joins = SESSIONSTORE_CLIENT_OPTIONS_INIT;
  sessionstore_key_change_listener listener = SESSIONSTORE_KEY_CHANGE_LISTENER_INIT;
  sessionstore_server *server = NULL;
  sessionstore_client *client = NULL;
  sessionstore_store *store = NULL;
  sessionstore_subscription *subscription = NULL;
  sessionstore_error *error = NULL;
  const size_t nul = SESSIONSTORE_NUL_TERMINATED;
  const char *keys[] = {"spotlight"};
  int heard = 0;

  if (strcmp(sessionstore_version(), SESSIONSTORE_VERSION) != 0) return wrong("the version", NULL);
  if (sessionstore_server_start(&hosts, &server, &error) != SESSIONSTORE_OK) return wrong("the server", error);
  joins.url = sessionstore_server_url(server);
  joins.room = "lobby";
  if (sessionstore_client_open(&joins, NULL, &client, &error) != SESSIONSTORE_OK) return wrong("the client", error);
  if (sessionstore_client_join_wait(client, PATIENCE_MS, &store, &error) != SESSIONSTORE_OK) return wrong("joining", error);
  listener.ctx = &heard;
  listener.on_key_changed = on_key_changed;
  if (sessionstore_store_listen(store, keys, NULL, 1, &listener, &subscription, &error) != SESSIONSTORE_OK)
    return wrong("listening", error);
  if (sessionstore_store_set_string_wait(store, "spotlight", nul, "peer-1", nul, PATIENCE_MS, NULL, &error) != SESSIONSTORE_OK)
    return wrong("setting", error);
  /* After this nothing writes `heard`; and a set that succeeded was told to the listener before. */
  if (sessionstore_subscription_cancel_wait(subscription, PATIENCE_MS, &error) != SESSIONSTORE_OK)
    return wrong("cancelling", error);
  sessionstore_subscription_free(subscription);
  sessionstore_store_free(store);
  sessionstore_client_free(client);
  if (sessionstore_server_stop_wait(server, PATIENCE_MS, &error) != SESSIONSTORE_OK) return wrong("stopping", error);
  sessionstore_server_free(server);
  if (heard != 1) return wrong("what the listener heard", NULL);
  printf("SessionStore %s is at home here\n", sessionstore_version());
  return 0;
}

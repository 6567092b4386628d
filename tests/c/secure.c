/*
 * A program of one process that hosts a room over TLS and joins it: secure CA CERTIFICATE KEY OTHER_CA
 *
 * tests/cli_tls.rs makes the files and runs it.
 */
#include <stdio.h>
#include <string.h>

#include "sessionstore.h"

#define TEXT SESSIONSTORE_NUL_TERMINATED
#define PATIENCE 30000

#define CHECK(condition)                                                                   \
    do {                                                                                   \
        if (!(condition)) {                                                                \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);        \
            return 1;                                                                      \
        }                                                                                  \
    } while (0)
#define OK(call) CHECK((call) == SESSIONSTORE_OK)

int main(int argc, char **argv) {
    sessionstore_server_options hosting = SESSIONSTORE_SERVER_OPTIONS_INIT;
    sessionstore_client_options joining = SESSIONSTORE_CLIENT_OPTIONS_INIT;
    sessionstore_server *server = NULL;
    sessionstore_client *client = NULL;
    sessionstore_store *store = NULL;
    sessionstore_event *event = NULL;
    sessionstore_error *error = NULL;
    CHECK(argc == 5);

    hosting.tls_cert_file = argv[2];
    hosting.tls_key_file = argv[3];
    hosting.allowed_origins = "https://example.org, https://app.example.org:8443";
    OK(sessionstore_server_start(&hosting, &server, NULL));
    CHECK(strncmp(sessionstore_server_url(server), "wss://127.0.0.1:", 16) == 0);

    joining.url = sessionstore_server_url(server);
    joining.room = "lobby";
    joining.ca_file = argv[1];
    OK(sessionstore_client_open(&joining, NULL, &client, NULL));
    OK(sessionstore_client_join_wait(client, PATIENCE, &store, NULL));
    OK(sessionstore_server_reload_tls(server, NULL));
    OK(sessionstore_store_set_string_wait(store, "spotlight", TEXT, "peer-1", TEXT, PATIENCE, NULL, NULL));
    OK(sessionstore_store_get_wait(store, "spotlight", TEXT, PATIENCE, &event, NULL));
    printf("%s\n", sessionstore_event_json(event, NULL));
    sessionstore_event_free(event);
    sessionstore_store_free(store);
    OK(sessionstore_client_leave_wait(client, PATIENCE, NULL));
    sessionstore_client_free(client);

    /* Somebody who trusts somebody else. */
    joining.flags = SESSIONSTORE_CLIENT_FAIL_FAST;
    joining.ca_file = argv[4];
    OK(sessionstore_client_open(&joining, NULL, &client, NULL));
    CHECK(sessionstore_client_join_wait(client, PATIENCE, &store, &error) == SESSIONSTORE_TLS_FAILED);
    CHECK(sessionstore_error_is_retryable(error) == 1);
    printf("%s: %s\n", sessionstore_error_name(error), sessionstore_error_message(error));
    sessionstore_error_free(error);
    sessionstore_client_free(client);

    OK(sessionstore_server_stop_wait(server, PATIENCE, NULL));
    sessionstore_server_free(server);
    return 0;
}

/*
 * A program of one process that hosts a room over TLS and joins it: secure CA CERTIFICATE KEY OTHER_CA
 *
 * tests/cli_tls.rs makes the files and runs it.
 */
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L /* For sockets. */
#endif
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

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

/* How often who hangs up is tried: whether the hang-up comes before the last word to it is a matter of luck. */
enum { HANG_UPS = 20 };

/* A port at which something else than TLS is spoken; writes its address. Returns -1 if there is none. */
static int plain_listen(const char *scheme, char *url, size_t size) {
    struct sockaddr_in at;
    socklen_t length = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    memset(&at, 0, sizeof at);
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) != 0 || listen(listener, 8) != 0) return -1;
    if (getsockname(listener, (struct sockaddr *)&at, &length) != 0) return -1;
    snprintf(url, size, "%s://127.0.0.1:%d", scheme, (int)ntohs(at.sin_port));
    return listener;
}

/* Does to the next who comes what web servers do: reads the beginning, answers that it is nonsense, and hangs up. */
static int plain_answer(int listener) {
    static const char answer[] = "HTTP/1.1 400 Bad Request\r\n\r\n";
    char first;
    int peer = accept(listener, NULL, NULL);
    if (peer < 0 || recv(peer, &first, 1, 0) != 1) return -1;
    if (send(peer, answer, sizeof answer - 1, 0) < 0) return -1;
    shutdown(peer, SHUT_WR);
    return close(peer);
}

/* What does not speak TLS, and hangs up, is an error: never a signal that ends this program. */
static int who_hangs_up_is_an_error(const char *ca_file) {
    sessionstore_client_options joining = SESSIONSTORE_CLIENT_OPTIONS_INIT;
    sessionstore_server_options hosting = SESSIONSTORE_SERVER_OPTIONS_INIT;
    sessionstore_server *server = NULL;
    sessionstore_client *client = NULL;
    sessionstore_store *store = NULL;
    char url[64];
    int nth, listener = plain_listen("wss", url, sizeof url);
    CHECK(listener >= 0);
    joining.url = url;
    joining.room = "lobby";
    joining.ca_file = ca_file;
    joining.flags = SESSIONSTORE_CLIENT_FAIL_FAST;
    for (nth = 0; nth < HANG_UPS; nth++) {
        int32_t code;
        OK(sessionstore_client_open(&joining, NULL, &client, NULL));
        CHECK(plain_answer(listener) == 0);
        code = sessionstore_client_join_wait(client, PATIENCE, &store, NULL);
        CHECK(code == SESSIONSTORE_TLS_FAILED || code == SESSIONSTORE_CONNECTION_FAILED);
        sessionstore_client_free(client);
    }
    close(listener);

    /* The same of a receiver of webhooks, which is asked again each time. */
    listener = plain_listen("https", url, sizeof url);
    CHECK(listener >= 0);
    hosting.webhook_url = url;
    hosting.webhook_secret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    hosting.webhook_ca_file = ca_file;
    hosting.webhook_retry_ms = 1;
    OK(sessionstore_server_start(&hosting, &server, NULL));
    memset(&joining, 0, sizeof joining);
    joining.struct_size = sizeof joining;
    joining.url = sessionstore_server_url(server);
    joining.room = "lobby";
    OK(sessionstore_client_open(&joining, NULL, &client, NULL));
    OK(sessionstore_client_join_wait(client, PATIENCE, &store, NULL));
    for (nth = 0; nth < 5; nth++) CHECK(plain_answer(listener) == 0);
    sessionstore_store_free(store);
    sessionstore_client_free(client);
    close(listener);
    OK(sessionstore_server_stop_wait(server, PATIENCE, NULL));
    sessionstore_server_free(server);
    return 0;
}

int main(int argc, char **argv) {
    sessionstore_server_options hosting = SESSIONSTORE_SERVER_OPTIONS_INIT;
    sessionstore_client_options joining = SESSIONSTORE_CLIENT_OPTIONS_INIT;
    sessionstore_server *server = NULL;
    sessionstore_client *client = NULL;
    sessionstore_store *store = NULL;
    sessionstore_event *event = NULL;
    sessionstore_error *error = NULL;
    CHECK(argc == 5);
    /* As it is for programs that do nothing about it. */
    CHECK(signal(SIGPIPE, SIG_DFL) != SIG_ERR);
    if (who_hangs_up_is_an_error(argv[1]) != 0) return 1;

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

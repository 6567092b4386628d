/* The connection breaks, and comes back: servers and peers that are killed, stopped and started. */
#include "helper.h"

/* A server's URL, and options of a client that comes back soon. */
static char address[64];

static sessionstore_client_options soon(unsigned port, const char *room, const char *name) {
    sessionstore_client_options options;
    snprintf(address, sizeof address, "ws://127.0.0.1:%u", port);
    options = options_for(address, room, name);
    options.reconnect_min_ms = 5;
    options.reconnect_max_ms = 50;
    return options;
}

static int heard_state(const update_log *own, int state) {
    int index;
    for (index = 0; index < own->state_count && index < MOST_STATES; index++)
        if (own->states[index] == state) return 1;
    return 0;
}

enum { WRITES = 20 };

/* Whether a wait of a millisecond was long enough to send anything is up to the machine. */
static void check_given_up(int code) {
    CHECK(code == SESSIONSTORE_OUTCOME_UNKNOWN || code == SESSIONSTORE_TIMEOUT, "a wait ends with its time");
}

static void a_killed_server_ends_what_is_pending_and_is_come_back_to(void) {
    sessionstore_client_options options;
    helper remote;
    member ann, elsewhere;
    sessionstore_server *server = serve(NULL);
    listening heard;
    outcome writes[WRITES], read;
    sessionstore_action_result result;
    sessionstore_subscription *subscription;
    char port[16];
    int index;
    const unsigned number = helper_start(&remote, "--serve", "0", NULL);
    memset(&heard, 0, sizeof heard);
    memset(writes, 0, sizeof writes);
    memset(&read, 0, sizeof read);
    snprintf(port, sizeof port, "%u", number);
    options = soon(number, "killed", "Ann");
    member_join_with(&ann, &options);
    member_join(&elsewhere, sessionstore_server_url(server), "elsewhere", "Bob");
    heard.scope = &ann.scope;
    subscription = listen_to(ann.store, &heard, "key", NULL);
    put(ann.store, "key", "\"kept\"");

    /* A server that is halted answers nothing, so these are pending when it is killed. */
    helper_halt(&remote);
    for (index = 0; index < WRITES; index++) {
        result = outcome_of(&writes[index]);
        writes[index].scope = &ann.scope;
        OK(sessionstore_store_set_integer(ann.store, "other", TEXT, index, &result, NULL));
    }
    read.scope = &ann.scope;
    result = outcome_of(&read);
    OK(sessionstore_store_get(ann.store, "key", TEXT, &result, NULL));
    CHECK(sessionstore_client_state(ann.client) == SESSIONSTORE_STATE_CONNECTED, "a halted server is not noticed yet");
    check_given_up(sessionstore_store_remove_wait(ann.store, "never", TEXT, 1, NULL, NULL));
    /* All clients share one network thread: when this is answered, what was asked before is sent. */
    check_works(elsewhere.store);
    helper_kill(&remote);
    WAIT_FOR(heard_state(&ann.updates, SESSIONSTORE_STATE_RECONNECTING), "the client hears that it reconnects");
    CHECK(sessionstore_client_state(ann.client) == SESSIONSTORE_STATE_RECONNECTING, "the client reconnects");
    WAIT_FOR(ann.updates.failed_attempts >= 2, "the client hears why it cannot connect");

    CHECK(helper_start(&remote, "--serve", port, NULL) == number, "a new server has the same port");
    WAIT_FOR(ann.updates.state == SESSIONSTORE_STATE_CONNECTED, "the client comes back");
    WAIT_FOR(ann.updates.errors == 1, "the client hears that its session is lost");
    CHECK(ann.updates.error_code == SESSIONSTORE_SESSION_LOST, "the session was lost with its server");
    /* The server that could have known whether they were applied is gone. */
    for (index = 0; index < WRITES; index++)
        EXPECT(SESSIONSTORE_OUTCOME_UNKNOWN, outcome_over(&writes[index]));
    /* A read is asked again; a listener hears the difference. */
    OK(outcome_over(&read));
    WAIT_FOR(heard.count == 3 && strcmp(heard.last, "null") == 0, "the listener hears that the key is absent");
    check_works(ann.store);
    put(ann.store, "key", "1");
    CHECK(PEEK(int, heard.count) == 4 && PEEK(int, heard.ends) == 1, "the listener goes on where it was");
    sessionstore_subscription_free(subscription);
    listening_over(&heard);
    member_leave(&ann);
    scope_check(&ann.scope);
    helper_kill(&remote);
    member_leave(&elsewhere);
    serve_no_more(server);
}

/* Removes what a server leaves in its data directory, and the directory. */
static void remove_directory(const char *path) {
    static const char *const files[] = {"format", "lock.db", "rooms.db", "rooms.db-wal", "rooms.db-shm"};
    char file[128];
    size_t index;
    for (index = 0; index < sizeof files / sizeof *files; index++) {
        snprintf(file, sizeof file, "%s/%s", path, files[index]);
        unlink(file);
    }
    CHECK(rmdir(path) == 0, "nothing else is in the data directory");
}

static void a_killed_server_that_keeps_its_rooms_is_gone_for_a_moment_only(void) {
    char directory[] = "/tmp/sessionstore-XXXXXX", port[16];
    sessionstore_server_options served = SESSIONSTORE_SERVER_OPTIONS_INIT;
    sessionstore_client_options options;
    sessionstore_server *server;
    helper remote;
    member ann;
    outcome set;
    sessionstore_action_result result;
    unsigned number;
    CHECK(mkdtemp(directory) != NULL, "a directory can be made");
    number = helper_start(&remote, "--serve", "0", directory);
    memset(&set, 0, sizeof set);
    result = outcome_of(&set);
    snprintf(port, sizeof port, "%u", number);
    options = soon(number, "kept", "Ann");
    member_join_with(&ann, &options);
    put(ann.store, "key", "\"kept\"");
    helper_kill(&remote);
    WAIT_FOR(heard_state(&ann.updates, SESSIONSTORE_STATE_RECONNECTING), "the client hears that it reconnects");
    /* Waits for the next server. */
    set.scope = &ann.scope;
    OK(sessionstore_store_set_integer(ann.store, "other", TEXT, 1, &result, NULL));
    CHECK(helper_start(&remote, "--serve", port, directory) == number, "the next server has the same port");
    EXPECT(SESSIONSTORE_OK, outcome_over(&set));
    check_holds(ann.store, "key", "\"kept\"");
    check_holds(ann.store, "other", "1");
    served.data_dir = directory;
    REFUSED(SESSIONSTORE_DATA_DIRECTORY_UNUSABLE, sessionstore_server_start(&served, &server, ERROR));
    helper_kill(&remote);
    served.port = number;
    served.flags = SESSIONSTORE_SERVER_FSYNC;
    server = serve(&served);
    check_holds(ann.store, "key", "\"kept\"");
    OK(sessionstore_server_stats(server, NULL, NULL, NULL, NULL));
    CHECK(PEEK(int, ann.updates.errors) == 0, "the session was never lost");
    CHECK(PEEK(int, ann.updates.stores) == 1, "the store is made available once");
    member_leave(&ann);
    scope_check(&ann.scope);
    serve_no_more(server);
    remove_directory(directory);
}

static void a_server_that_stops_says_so_and_is_come_back_to(void) {
    sessionstore_server_options served = SESSIONSTORE_SERVER_OPTIONS_INIT;
    sessionstore_server *server = serve(NULL);
    sessionstore_client_options options;
    member ann;
    served.port = sessionstore_server_port(server);
    options = soon(served.port, "stopped", "Ann");
    member_join_with(&ann, &options);
    WAIT_FOR(ann.updates.state == SESSIONSTORE_STATE_CONNECTED, "the client hears that it is connected");
    OK(sessionstore_server_stop(server, NULL));
    WAIT_FOR(heard_state(&ann.updates, SESSIONSTORE_STATE_RECONNECTING), "the client hears that it reconnects");
    serve_no_more(server);
    server = serve(&served);
    WAIT_FOR(ann.updates.state == SESSIONSTORE_STATE_CONNECTED, "the client comes back");
    check_works(ann.store);
    CHECK(PEEK(int, ann.updates.stores) == 1, "the store is made available once");
    member_leave(&ann);
    scope_check(&ann.scope);
    serve_no_more(server);
}

static void without_a_server_requests_time_out_and_leaving_works(void) {
    sessionstore_server *server = serve(NULL);
    const unsigned port = sessionstore_server_port(server);
    sessionstore_client_options options = soon(port, "away", "Ann");
    member ann, bob, early;
    outcome set;
    sessionstore_action_result result = outcome_of(&set);
    sessionstore_store *none = (sessionstore_store *)&ann;
    memset(&set, 0, sizeof set);
    options.request_timeout_ms = 20;
    member_join_with(&ann, &options);
    member_join_with(&bob, &options);
    serve_no_more(server);
    WAIT_FOR(heard_state(&ann.updates, SESSIONSTORE_STATE_RECONNECTING), "the client hears that it reconnects");
    set.scope = &ann.scope;
    OK(sessionstore_store_set_integer(ann.store, "key", TEXT, 1, &result, NULL));
    EXPECT(SESSIONSTORE_TIMEOUT, outcome_over(&set));
    EXPECT(SESSIONSTORE_TIMEOUT, sessionstore_store_set_integer_wait(ann.store, "key", TEXT, 1, 20, NULL, NULL));
    /* Without a connection there is nobody to tell. */
    OK(sessionstore_client_leave_wait(ann.client, PATIENCE, NULL));
    WAIT_FOR(ann.updates.state == SESSIONSTORE_STATE_CLOSED, "a client that left is closed");
    member_end(&ann);
    member_end(&bob);
    /* Nor does it matter whether it ever joined. */
    member_open(&early, &options);
    WAIT_FOR(early.updates.failed_attempts >= 2, "a client that cannot connect says so and goes on");
    REFUSED(SESSIONSTORE_CONNECTION_FAILED, sessionstore_client_join_wait(early.client, 1, &none, ERROR));
    CHECK(none == NULL, "a failed call leaves its handle output NULL");
    CHECK(sessionstore_client_state(early.client) == SESSIONSTORE_STATE_CONNECTING, "it has never been connected");
    member_end(&early);
    scope_check(&early.scope);
}

/* Cancels from within the callback that is told of it: both are legal. */
static void cancel_again(outcome *own) {
    OK(sessionstore_cancellation_cancel((sessionstore_cancellation *)own->more, NULL));
}

static void requests_are_taken_back_while_there_is_no_connection(void) {
    sessionstore_server_options served = SESSIONSTORE_SERVER_OPTIONS_INIT;
    sessionstore_server *server = serve(NULL);
    sessionstore_client_options options;
    sessionstore_cancellation *screen = NULL;
    member ann;
    outcome set, kept, refused;
    sessionstore_action_result result;
    served.port = sessionstore_server_port(server);
    options = soon(served.port, "taken-back", "Ann");
    memset(&set, 0, sizeof set);
    memset(&kept, 0, sizeof kept);
    memset(&refused, 0, sizeof refused);
    member_join_with(&ann, &options);
    set.scope = kept.scope = &ann.scope;
    REFUSED(SESSIONSTORE_NULL_ARGUMENT, sessionstore_cancellation_new(NULL, ERROR));
    REFUSED(SESSIONSTORE_NULL_ARGUMENT, sessionstore_cancellation_cancel(NULL, ERROR));
    OK(sessionstore_cancellation_new(&screen, NULL));
    serve_no_more(server);
    WAIT_FOR(heard_state(&ann.updates, SESSIONSTORE_STATE_RECONNECTING), "the client hears that it reconnects");

    result = outcome_of(&set);
    result.cancellation = screen;
    set.more = screen;
    set.during = cancel_again;
    OK(sessionstore_store_set_integer(ann.store, "taken", TEXT, 1, &result, NULL));
    result = outcome_of(&kept);
    OK(sessionstore_store_set_integer(ann.store, "kept", TEXT, 1, &result, NULL));
    CHECK(!sessionstore_cancellation_is_cancelled(screen), "nothing was cancelled yet");
    OK(sessionstore_cancellation_cancel(screen, NULL));
    CHECK(sessionstore_cancellation_is_cancelled(screen), "it was");
    EXPECT(SESSIONSTORE_CANCELLED, outcome_over(&set));

    /* The struct is consumed all the same. */
    result = outcome_of(&refused);
    result.cancellation = screen;
    REFUSED(SESSIONSTORE_CANCELLED, sessionstore_store_get(ann.store, "taken", TEXT, &result, ERROR));
    CHECK(refused.results == 0 && refused.drops == 1, "it is dropped untold");
    sessionstore_cancellation_free(screen);

    server = serve(&served);
    EXPECT(SESSIONSTORE_OK, outcome_over(&kept));
    check_holds(ann.store, "kept", "1");
    check_holds(ann.store, "taken", "null");
    /* A cancellation may go before its requests, which go on. */
    OK(sessionstore_cancellation_new(&screen, NULL));
    memset(&set, 0, sizeof set);
    set.scope = &ann.scope;
    result = outcome_of(&set);
    result.cancellation = screen;
    OK(sessionstore_store_set_integer(ann.store, "taken", TEXT, 2, &result, NULL));
    sessionstore_cancellation_free(screen);
    EXPECT(SESSIONSTORE_OK, outcome_over(&set));
    member_leave(&ann);
    scope_check(&ann.scope);
    serve_no_more(server);
}

static void a_killed_peer_goes_after_the_grace_period(void) {
    sessionstore_server_options served = SESSIONSTORE_SERVER_OPTIONS_INIT;
    sessionstore_server *server;
    helper remote;
    member ann;
    served.grace_ms = 100;
    server = serve(&served);
    member_join(&ann, sessionstore_server_url(server), "grace", "Ann");
    helper_start(&remote, "--join", sessionstore_server_url(server), "grace");
    WAIT_FOR(ann.updates.joined == 1, "the other peer joins");
    put(ann.store, "key", "1");
    helper_kill(&remote);
    WAIT_FOR(ann.updates.left == 1, "a peer that was killed goes after the grace period");
    check_works(ann.store);
    member_leave(&ann);
    serve_no_more(server);
}

/* The host process must survive writing to peers that are gone, without changing its signals. */
static void peers_are_killed_while_the_server_writes_to_them(void) {
    sessionstore_server_options served = SESSIONSTORE_SERVER_OPTIONS_INIT;
    sessionstore_server *server;
    sessionstore_client_options options;
    struct sigaction action;
    member ann;
    /* Fewer where everything is fifty times slower. */
    const int rounds = getenv("SESSIONSTORE_SLOW_MACHINE") != NULL ? 2 : 10;
    int round, index;
    served.grace_ms = SESSIONSTORE_ZERO;
    server = serve(&served);
    CHECK(sigaction(SIGPIPE, NULL, &action) == 0 && action.sa_handler == SIG_DFL, "nobody changed what SIGPIPE does");
    options = options_for(sessionstore_server_url(server), "gone", "Ann");
    options.max_pending = 100000;
    member_join_with(&ann, &options);
    for (round = 0; round < rounds; round++) {
        helper remote[2];
        for (index = 0; index < 2; index++) helper_start(&remote[index], "--join", options.url, "gone");
        for (index = 0; index < 500; index++)
            OK(sessionstore_store_set_integer(ann.store, "key", TEXT, index, NULL, NULL));
        for (index = 0; index < 2; index++) helper_kill(&remote[index]);
        for (index = 0; index < 500; index++)
            OK(sessionstore_store_set_integer(ann.store, "key", TEXT, index, NULL, NULL));
        WAIT_FOR(ann.updates.left == 2 * (round + 1), "peers that were killed go");
    }
    check_works(ann.store);
    CHECK(sigaction(SIGPIPE, NULL, &action) == 0 && action.sa_handler == SIG_DFL, "nobody changed what SIGPIPE does");
    member_leave(&ann);
    serve_no_more(server);
}

int main(int argc, char **argv) {
    if (argc >= 3 && strcmp(argv[1], "--serve") == 0) return helper_serve(argv[2], argc > 3 ? argv[3] : NULL);
    if (argc == 4 && strcmp(argv[1], "--join") == 0) return helper_join(argv[2], argv[3]);
    RUN(a_killed_server_ends_what_is_pending_and_is_come_back_to);
    RUN(a_killed_server_that_keeps_its_rooms_is_gone_for_a_moment_only);
    RUN(a_server_that_stops_says_so_and_is_come_back_to);
    RUN(without_a_server_requests_time_out_and_leaving_works);
    RUN(requests_are_taken_back_while_there_is_no_connection);
    RUN(a_killed_peer_goes_after_the_grace_period);
    RUN(peers_are_killed_while_the_server_writes_to_them);
    return harness_end();
}

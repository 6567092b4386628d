/* The process around the library: it exits, forks, and keeps its signals. */
#include "helper.h"

/* What a process that exits leaves behind, still in use. */
static sessionstore_server *live_server;
static member live_member;
static listening live_heard;
static sessionstore_subscription *live_subscription;

/* Opens everything and leaves it open. */
static void live(void) {
    live_server = serve(NULL);
    member_join(&live_member, sessionstore_server_url(live_server), "exit", "Ann");
    live_subscription = listen_to(live_member.store, &live_heard, "key", NULL);
    OK(sessionstore_store_set_integer(live_member.store, "key", TEXT, 1, NULL, NULL));
    WAIT_FOR(live_heard.ends == 1, "the listener gets its snapshot");
    OK(sessionstore_store_set_integer(live_member.store, "key", TEXT, 2, NULL, NULL));
}

static void check_exits_well(const char *how, int times) {
    while (times-- > 0) {
        pid_t child;
        fflush(NULL);
        child = fork();
        CHECK(child >= 0, "the process can be forked");
        if (child == 0) {
            execl(harness_program, harness_program, how, (char *)NULL);
            _exit(127);
        }
        check_child_ended_well(child);
    }
}

static int rounds(void) { return getenv("SESSIONSTORE_SLOW_MACHINE") != NULL ? 3 : 20; }

static void main_returns_with_a_live_client(void) { check_exits_well("--return", rounds()); }
static void exit_is_called_with_a_live_client(void) { check_exits_well("--exit", rounds()); }
static void exit_is_called_in_a_callback(void) { check_exits_well("--exit-in-callback", rounds()); }

static void exit_now(listening *own, const sessionstore_event *event) {
    (void)own;
    (void)event;
    exit(0);
}

/* Runs first: nothing of the library was used before, so the child may use all of it. */
static void a_process_forked_before_first_use_may_use_it(void) {
    pid_t child;
    sessionstore_server *server;
    member ann;
    fflush(NULL);
    child = fork();
    CHECK(child >= 0, "the process can be forked");
    server = serve(NULL);
    member_join(&ann, sessionstore_server_url(server), "forked", "Ann");
    check_works(ann.store);
    member_leave(&ann);
    serve_no_more(server);
    if (child == 0) end_child(0);
    check_child_ended_well(child);
}

/* The child uses nothing; the parent goes on. A second child is forked while requests are under way. */
static void a_fork_disturbs_nothing(void) {
    sessionstore_server *server = serve(NULL);
    member ann;
    int round, index;
    member_join(&ann, sessionstore_server_url(server), "fork", "Ann");
    for (round = 0; round < 10; round++) {
        pid_t child;
        for (index = 0; index < 20; index++)
            OK(sessionstore_store_set_integer(ann.store, "key", TEXT, index, NULL, NULL));
        fflush(NULL);
        child = fork();
        CHECK(child >= 0, "the process can be forked");
        if (child == 0) {
            /* In any order, as if everything were being torn down. */
            EXPECT(SESSIONSTORE_FORKED, sessionstore_store_set_integer(ann.store, "key", TEXT, -1, NULL, NULL));
            EXPECT(SESSIONSTORE_FORKED, sessionstore_store_set_integer(NULL, "key", TEXT, -1, NULL, NULL));
            CHECK(sessionstore_client_state(ann.client) == SESSIONSTORE_STATE_CLOSED, "a child's client is closed");
            sessionstore_server_free(server);
            sessionstore_client_free(ann.client);
            sessionstore_store_free(ann.store);
            end_child(0);
        }
        check_holds(ann.store, "key", "19");
        check_child_ended_well(child);
    }
    check_works(ann.store);
    CHECK(sessionstore_client_state(ann.client) == SESSIONSTORE_STATE_CONNECTED, "the parent's connection stands");
    member_leave(&ann);
    serve_no_more(server);
}

static void signals_stay_as_they_were(void) {
    struct sigaction before[32], after;
    sessionstore_server *server;
    member ann;
    int number;
    for (number = 1; number < 32; number++) CHECK(sigaction(number, NULL, &before[number]) == 0, "signals can be asked");
    server = serve(NULL);
    member_join(&ann, sessionstore_server_url(server), "signals", "Ann");
    check_works(ann.store);
    for (number = 1; number < 32; number++) {
        CHECK(sigaction(number, NULL, &after) == 0, "signals can be asked");
        CHECK(after.sa_handler == before[number].sa_handler, "signal %d has another handler now", number);
    }
    member_leave(&ann);
    serve_no_more(server);
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "--return") == 0) {
        live();
        return 0;
    }
    if (argc == 2 && strcmp(argv[1], "--exit") == 0) {
        live();
        exit(0);
    }
    if (argc == 2 && strcmp(argv[1], "--exit-in-callback") == 0) {
        live_heard.during = exit_now;
        live();
        WAIT_FOR(0, "exit in a callback ends the process");
    }
    RUN(a_process_forked_before_first_use_may_use_it);
    RUN(main_returns_with_a_live_client);
    RUN(exit_is_called_with_a_live_client);
    RUN(exit_is_called_in_a_callback);
    RUN(a_fork_disturbs_nothing);
    RUN(signals_stay_as_they_were);
    return harness_end();
}

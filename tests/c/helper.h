/*
 * The test program itself, run again as another process that does one thing. It says on its standard
 * output when it is ready, and ends when its standard input does, so that it never outlives the test.
 */
#ifndef HELPER_H
#define HELPER_H

#include <fcntl.h>
#include <signal.h>

#include "harness.h"

typedef struct helper {
    pid_t process;
    FILE *says;
    int lives;
} helper;

/* Starts this program with these arguments and reads the number it says first. */
static inline unsigned helper_start(helper *own, const char *role, const char *first, const char *second) {
    int to[2], from[2];
    unsigned number = 0;
    CHECK(pipe(to) == 0 && pipe(from) == 0, "pipes can be made");
    CHECK(fcntl(to[1], F_SETFD, FD_CLOEXEC) == 0 && fcntl(from[0], F_SETFD, FD_CLOEXEC) == 0, "a pipe can be marked");
    fflush(NULL);
    own->process = fork();
    CHECK(own->process >= 0, "the process can be forked");
    if (own->process == 0) {
        dup2(to[0], 0);
        dup2(from[1], 1);
        close(to[0]);
        close(from[1]);
        execl(harness_program, harness_program, role, first, second, (char *)NULL);
        _exit(127);
    }
    close(to[0]);
    close(from[1]);
    own->lives = to[1];
    own->says = fdopen(from[0], "r");
    CHECK(own->says != NULL && fscanf(own->says, "%u", &number) == 1, "the helper process says that it is ready");
    return number;
}

/* Ends the process by a signal. */
static inline void helper_kill(helper *own) {
    int status = 0;
    CHECK(kill(own->process, SIGKILL) == 0, "the helper process can be killed");
    CHECK(waitpid(own->process, &status, 0) == own->process, "the helper process can be waited for");
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "the helper process ended before it was killed");
    fclose(own->says);
    close(own->lives);
}

/* Halts the process; when this returns it does nothing more. */
static inline void helper_halt(helper *own) {
    int status = 0;
    CHECK(kill(own->process, SIGSTOP) == 0, "the helper process can be halted");
    CHECK(waitpid(own->process, &status, WUNTRACED) == own->process && WIFSTOPPED(status), "the helper process halts");
}

/* In the helper process: says a number, and waits until the test lets go. */
static inline void helper_ready(unsigned number) {
    char byte;
    printf("%u\n", number);
    fflush(stdout);
    while (read(0, &byte, 1) > 0) continue;
}

/* A server in a process of its own, on a port, 0 for any; with a data directory unless that is NULL. */
static inline int helper_serve(const char *port, const char *data_dir) {
    sessionstore_server_options options = SESSIONSTORE_SERVER_OPTIONS_INIT;
    sessionstore_server *server;
    options.port = (uint32_t)strtoul(port, NULL, 10);
    options.data_dir = data_dir;
    server = serve(&options);
    helper_ready(sessionstore_server_port(server));
    serve_no_more(server);
    return 0;
}

/* A peer in a process of its own. */
static inline int helper_join(const char *url, const char *room) {
    member own;
    listening heard;
    memset(&heard, 0, sizeof heard);
    member_join(&own, url, room, "Helper");
    listen_to(own.store, &heard, "key", NULL);
    WAIT_FOR(heard.ends == 1, "the helper's listener gets its snapshot");
    helper_ready(1);
    member_leave(&own);
    return 0;
}

#endif

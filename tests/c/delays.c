/*
 * Preloaded into tests, it holds up threads at random where they meet: after they let go of a mutex, woke somebody,
 * or used a socket. So an order of events that is rare, and otherwise seen on a busy machine only, comes often:
 *
 *     LD_PRELOAD=build/c-delays/libdelays.so build/c-delays/reconnect_shared_c
 */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* One call in so many is held up, for less than so long: a test of a thousand calls takes a tenth of a second more. */
enum { ONE_IN = 10, MOST_MICROSECONDS = 2000 };

static void hold_up_at_times(void) {
    static __thread uint64_t random;
    const int error = errno;
    if (random == 0) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        random = ((uint64_t)now.tv_nsec * 2654435761u ^ (uint64_t)(uintptr_t)&random) | 1;
    }
    /* Marsaglia's xorshift64. */
    random ^= random << 13;
    random ^= random >> 7;
    random ^= random << 17;
    if ((random >> 20) % ONE_IN == 0) {
        const struct timespec pause = {0, (long)((random >> 32) % MOST_MICROSECONDS) * 1000};
        nanosleep(&pause, NULL);
    }
    errno = error;
}

/* `next` is the system's function of this name, which is looked up when it is first called. */
#define REAL(name)                                \
    static __typeof__(name) *next;                \
    if (next == NULL) *(void **)&next = dlsym(RTLD_NEXT, #name)

int pthread_mutex_unlock(pthread_mutex_t *mutex) {
    int result;
    REAL(pthread_mutex_unlock);
    result = next(mutex);
    hold_up_at_times();
    return result;
}

/* By this Rust's mutexes and condition variables wait and wake. */
long syscall(long number, ...) {
    long given[6], result;
    int index;
    va_list arguments;
    REAL(syscall);
    va_start(arguments, number);
    for (index = 0; index < 6; index++) given[index] = va_arg(arguments, long);
    va_end(arguments);
    result = next(number, given[0], given[1], given[2], given[3], given[4], given[5]);
    if (number == SYS_futex) hold_up_at_times();
    return result;
}

int epoll_wait(int epoll, struct epoll_event *events, int most, int timeout) {
    int result;
    REAL(epoll_wait);
    result = next(epoll, events, most, timeout);
    hold_up_at_times();
    return result;
}

ssize_t recv(int socket, void *bytes, size_t size, int flags) {
    ssize_t result;
    REAL(recv);
    result = next(socket, bytes, size, flags);
    hold_up_at_times();
    return result;
}

ssize_t send(int socket, const void *bytes, size_t size, int flags) {
    ssize_t result;
    REAL(send);
    hold_up_at_times();
    result = next(socket, bytes, size, flags);
    hold_up_at_times();
    return result;
}

ssize_t write(int file, const void *bytes, size_t size) {
    ssize_t result;
    REAL(write);
    result = next(file, bytes, size);
    hold_up_at_times();
    return result;
}

int close(int file) {
    REAL(close);
    hold_up_at_times();
    return next(file);
}

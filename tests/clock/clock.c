/* A clock of the system that is set while a program runs: preloaded, it adds the seconds that the file CLOCK_OFFSET
 * has to what the clock says, and those of CLOCK_SLEPT, as if the machine had slept so long, to the one that goes on
 * then. Other clocks that only measure what has passed stay as they are. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *time) {
  const char *name = clock == CLOCK_REALTIME ? "CLOCK_OFFSET" : clock == CLOCK_BOOTTIME ? "CLOCK_SLEPT" : NULL;
  const char *path = name ? getenv(name) : NULL;
  int result = (int)syscall(SYS_clock_gettime, clock, time);
  long offset = 0;
  FILE *file;
  if (path && (file = fopen(path, "r"))) {
    if (fscanf(file, "%ld", &offset) == 1) time->tv_sec += offset;
    fclose(file);
  }
  return result;
}

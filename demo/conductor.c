/* The demo: starts a host and its peers as processes of their own, tells them what to do, and checks
 * what each of them sees, which it shows side by side.
 *
 *     conductor DIRECTORY_OF_THE_EXAMPLES
 *
 * It does not use the library: all it knows, it reads from the pipes of those who do. Nothing sleeps:
 * a step is over when every peer has written the lines that it must write, and no others. Exit code 0
 * if every step ended so, 1 otherwise.
 */
#define _POSIX_C_SOURCE 200809L
#define _DEFAULT_SOURCE /* TIOCGWINSZ */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* How long a step may take. Far more than a busy machine needs; only a failure gets there. */
#define STEP_MS 20000
/* How long a lost peer stays in this demo. The default is 30 s, which nobody wants to watch. */
#define GRACE_MS 1000
/* The clocks of this program and of the server may round the same time differently by this much. */
#define CLOCK_MS 50

#define MAX_LINES 16
#define LINE_BYTES 256

enum { ANA, BEN, CLEO, DAN, PEERS };

/* One column: a peer, and the process that is it at the moment. */
struct peer {
  const char *name;
  const char *colour;
  pid_t process; /* 0: none */
  int to, from;  /* pipes */
  char partial[LINE_BYTES];
  size_t partial_len;
  char seen[MAX_LINES][LINE_BYTES]; /* in this step */
  int seen_count;
  const char *expected[MAX_LINES]; /* in this step */
  int expected_count;
  int ended; /* its output came to an end */
};

static struct peer peers[PEERS] = {
    {.name = "Ana", .colour = "\033[36m"},
    {.name = "Ben", .colour = "\033[33m"},
    {.name = "Cleo", .colour = "\033[35m"},
    {.name = "Dan", .colour = "\033[32m"},
};

static const char *directory;
static char url[LINE_BYTES];
static int width = 24; /* of a column */
static int colours;
static int steps;
static const char *title = "starting";

static const char *paint(const char *code) { return colours ? code : ""; }

static long long now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Ends what this program started, by process id. */
static void end_all(void) {
  for (int i = 0; i < PEERS; i++) {
    if (peers[i].process > 0) {
      kill(peers[i].process, SIGKILL);
      waitpid(peers[i].process, NULL, 0);
      peers[i].process = 0;
    }
  }
}

static void print_rows(void);

static void fail(const char *format, ...) {
  va_list arguments;
  print_rows();
  fflush(stdout);
  fprintf(stderr, "\n%sdemo: FAILED in \"%s\": ", paint("\033[31m"), title);
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  fprintf(stderr, "%s\n", paint("\033[0m"));
  end_all();
  exit(1);
}

/* ---- What is shown ---- */

/* How much of a text fits a column: up to the last space, or hard where there is none. */
static int fitting(const char *text) {
  int length = (int)strlen(text), cut;
  if (length <= width) return length;
  for (cut = width; cut > 0 && text[cut] != ' '; cut--) {
  }
  return cut > 0 ? cut : width;
}

/* One line across the columns, without blanks at its end. */
static void print_cells(char cells[PEERS][LINE_BYTES]) {
  int last = PEERS - 1;
  while (last > 0 && cells[last][0] == '\0') last--;
  for (int i = 0; i < last; i++) {
    printf("%s%-*s%s ", paint(peers[i].colour), width, cells[i], paint("\033[0m"));
  }
  printf("%s%s%s\n", paint(peers[last].colour), cells[last], paint("\033[0m"));
}

static void print_heads(void) {
  char heads[PEERS][LINE_BYTES];
  for (int i = 0; i < PEERS; i++) snprintf(heads[i], LINE_BYTES, "%s%s", peers[i].name, i == ANA ? " (host)" : "");
  print_cells(heads);
}

/* What everybody saw in this step, side by side. */
static void print_rows(void) {
  const char *rest[PEERS];
  int next[PEERS], more = 1;
  for (int i = 0; i < PEERS; i++) {
    next[i] = 0;
    rest[i] = "";
  }
  for (;;) {
    char row[PEERS][LINE_BYTES];
    more = 0;
    for (int i = 0; i < PEERS; i++) {
      int length;
      const char *indent = "";
      row[i][0] = '\0';
      if (*rest[i] != '\0') {
        indent = "  ";
      } else if (next[i] < peers[i].seen_count) {
        rest[i] = peers[i].seen[next[i]++];
      } else {
        continue;
      }
      more = 1;
      width -= (int)strlen(indent);
      length = fitting(rest[i]);
      width += (int)strlen(indent);
      snprintf(row[i], sizeof row[i], "%s%.*s", indent, length, rest[i]);
      rest[i] += length;
      while (*rest[i] == ' ') rest[i]++;
    }
    if (!more) break;
    print_cells(row);
  }
  for (int i = 0; i < PEERS; i++) peers[i].seen_count = peers[i].expected_count = 0;
}

/* ---- Processes ---- */

static void start(int who, const char *program, const char *first, const char *second) {
  struct peer *peer = &peers[who];
  char path[4096];
  int in[2], out[2];
  snprintf(path, sizeof path, "%s/%s", directory, program);
  if (pipe(in) != 0 || pipe(out) != 0) fail("no pipe: %s", strerror(errno));
  /* The ends that stay here are not for the next one that is started. */
  fcntl(in[1], F_SETFD, FD_CLOEXEC);
  fcntl(out[0], F_SETFD, FD_CLOEXEC);
  peer->process = fork();
  if (peer->process < 0) fail("no process: %s", strerror(errno));
  if (peer->process == 0) {
    dup2(in[0], STDIN_FILENO);
    dup2(out[1], STDOUT_FILENO);
    close(in[0]);
    close(out[1]);
    signal(SIGPIPE, SIG_DFL);
    execl(path, program, first, second, (char *)NULL);
    fprintf(stderr, "demo: %s cannot be started: %s\n", path, strerror(errno));
    _exit(127);
  }
  close(in[0]);
  close(out[1]);
  peer->to = in[1];
  peer->from = out[0];
  peer->partial_len = 0;
  peer->ended = 0;
}

static void tell(int who, const char *line) {
  char text[LINE_BYTES];
  int length = snprintf(text, sizeof text, "%s\n", line);
  if (write(peers[who].to, text, (size_t)length) != length) fail("%s cannot be told anything", peers[who].name);
}

/* Waits for the end of a process whose output has ended. */
static int reap(int who) {
  struct peer *peer = &peers[who];
  int status = 0;
  close(peer->to);
  close(peer->from);
  if (waitpid(peer->process, &status, 0) != peer->process) fail("%s cannot be waited for", peer->name);
  peer->process = 0;
  return status;
}

/* ---- Steps ---- */

static void step(const char *what) {
  title = what;
  printf("\n%s%d. %s%s\n", paint("\033[1m"), ++steps, what, paint("\033[0m"));
  fflush(stdout);
}

/* In this step, this peer must write this line, after those expected of it before. */
static void expect(int who, const char *line) { peers[who].expected[peers[who].expected_count++] = line; }

static void expect_all(const char *line, int count) {
  for (int i = 0; i < count; i++) expect(i, line);
}

static void saw(struct peer *peer, const char *line) {
  if (strncmp(line, "url ", 4) == 0) {
    snprintf(url, sizeof url, "%s", line + 4);
    return;
  }
  if (peer->seen_count == MAX_LINES) fail("%s saw far more than was to be seen", peer->name);
  snprintf(peer->seen[peer->seen_count++], LINE_BYTES, "%s", line);
  if (peer->seen_count > peer->expected_count) {
    fail("%s saw \"%s\", and nothing more was to be seen", peer->name, line);
  }
  if (strcmp(line, peer->expected[peer->seen_count - 1]) != 0) {
    fail("%s saw \"%s\" where \"%s\" was to be seen", peer->name, line, peer->expected[peer->seen_count - 1]);
  }
}

static void read_lines(struct peer *peer) {
  char chunk[1024];
  ssize_t count = read(peer->from, chunk, sizeof chunk);
  if (count < 0 && errno == EINTR) return;
  if (count <= 0) {
    peer->ended = 1;
    return;
  }
  for (ssize_t i = 0; i < count; i++) {
    if (chunk[i] != '\n' && peer->partial_len + 1 < LINE_BYTES) {
      peer->partial[peer->partial_len++] = chunk[i];
    } else if (chunk[i] == '\n') {
      peer->partial[peer->partial_len] = '\0';
      peer->partial_len = 0;
      saw(peer, peer->partial);
    }
  }
}

/* The first peer that has not seen all it must see; -1 if everybody has. */
static int still_waiting(void) {
  for (int i = 0; i < PEERS; i++) {
    if (peers[i].seen_count < peers[i].expected_count) return i;
  }
  return -1;
}

/* Waits until everybody has seen what it must see and, if `ending` is a peer, until its output ended. */
static void see_until(int ending) {
  long long deadline = now_ms() + STEP_MS;
  int waiting;
  while ((waiting = still_waiting()) >= 0 || (ending >= 0 && !peers[ending].ended)) {
    struct pollfd files[PEERS];
    int who[PEERS], count = 0, ready;
    long long left = deadline - now_ms();
    if (waiting < 0) waiting = ending;
    if (left <= 0) {
      if (peers[waiting].seen_count == peers[waiting].expected_count) fail("%s did not end in time", peers[waiting].name);
      fail("%s did not see \"%s\" within %d s", peers[waiting].name,
           peers[waiting].expected[peers[waiting].seen_count], STEP_MS / 1000);
    }
    for (int i = 0; i < PEERS; i++) {
      if (peers[i].process == 0 || peers[i].ended) continue;
      files[count] = (struct pollfd){.fd = peers[i].from, .events = POLLIN};
      who[count++] = i;
    }
    ready = poll(files, (nfds_t)count, (int)left);
    if (ready < 0 && errno != EINTR) fail("waiting failed: %s", strerror(errno));
    for (int i = 0; i < count && ready > 0; i++) {
      if (files[i].revents != 0) read_lines(&peers[who[i]]);
      if (peers[who[i]].ended && who[i] != ending) fail("%s's program ended before its time", peers[who[i]].name);
    }
  }
}

static void see(void) { see_until(-1); }

static void show(void) {
  print_rows();
  fflush(stdout);
}

/* A peer that was told to leave ends by itself, with exit code 0. */
static void see_end(int who) {
  int status;
  see_until(who);
  status = reap(who);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) fail("%s's program did not end well", peers[who].name);
}

static void join(int who) {
  expect(who, "joined");
  start(who, "peer", url, peers[who].name);
}

static void expect_nothing_set(int who) {
  expect(who, "pinned is null");
  expect(who, "spotlight is null");
}

static void play(void) {
  char grace[32];
  long long killed, gone;
  int status;

  step("Ana's program starts a server and joins the room");
  snprintf(grace, sizeof grace, "%d", GRACE_MS);
  expect(ANA, "joined");
  expect_nothing_set(ANA);
  start(ANA, "host", "Ana", grace);
  see();
  show();

  step("Ben and Cleo join, each a process of its own");
  expect(ANA, "+ Ben");
  join(BEN);
  expect(BEN, "+ Ana");
  expect_nothing_set(BEN);
  see();
  expect(ANA, "+ Cleo");
  expect(BEN, "+ Cleo");
  join(CLEO);
  expect(CLEO, "+ Ana");
  expect(CLEO, "+ Ben");
  expect_nothing_set(CLEO);
  see();
  show();

  step("Ana pins a text");
  expect_all("pinned -> \"Welcome!\" (Ana)", 3);
  tell(ANA, "set pinned \"Welcome!\"");
  see();
  show();

  step("Ben puts Cleo into the spotlight");
  expect_all("spotlight -> \"Cleo\" (Ben)", 3);
  tell(BEN, "set spotlight \"Cleo\"");
  see();
  show();

  step("Cleo moves the spotlight to Ana");
  expect_all("spotlight -> \"Ana\" (Cleo)", 3);
  tell(CLEO, "set spotlight \"Ana\"");
  see();
  show();

  step("Ana clears the spotlight with null");
  expect_all("spotlight -> null (Ana)", 3);
  tell(ANA, "set spotlight null");
  see();
  show();

  step("Ana spotlights Ben; Dan joins late and is given what holds now");
  expect_all("spotlight -> \"Ben\" (Ana)", 3);
  tell(ANA, "set spotlight \"Ben\"");
  see();
  expect_all("+ Dan", 3);
  join(DAN);
  expect(DAN, "+ Ana");
  expect(DAN, "+ Ben");
  expect(DAN, "+ Cleo");
  expect(DAN, "pinned is \"Welcome!\" (Ana)");
  expect(DAN, "spotlight is \"Ben\" (Ana)");
  see();
  show();

  step("Cleo is killed (SIGKILL), and goes when the grace period is over");
  expect(ANA, "- Cleo");
  expect(BEN, "- Cleo");
  expect(DAN, "- Cleo");
  killed = now_ms();
  kill(peers[CLEO].process, SIGKILL);
  see_until(CLEO);
  gone = now_ms();
  status = reap(CLEO);
  if (!WIFSIGNALED(status)) fail("Cleo was not killed");
  if (gone - killed < GRACE_MS - CLOCK_MS) fail("Cleo was gone before the grace period was over");
  show();
  printf("%s(gone %.1f s after the kill; the grace period here is %.1f s)%s\n", paint("\033[2m"),
         (double)(gone - killed) / 1000, GRACE_MS / 1000.0, paint("\033[0m"));

  step("Dan leaves, then Ben, then Ana, and the server has no room any more");
  expect(DAN, "left");
  expect(ANA, "- Dan");
  expect(BEN, "- Dan");
  tell(DAN, "leave");
  see_end(DAN);
  expect(BEN, "left");
  expect(ANA, "- Ben");
  tell(BEN, "leave");
  see_end(BEN);
  expect(ANA, "rooms 1, peers 1");
  tell(ANA, "stats");
  see();
  expect(ANA, "left");
  tell(ANA, "leave");
  see();
  expect(ANA, "rooms 0, peers 0");
  tell(ANA, "stats");
  see();
  show();

  step("Ben comes back to a new session: nothing is set");
  join(BEN);
  expect_nothing_set(BEN);
  see();
  expect(BEN, "pinned = null");
  tell(BEN, "get pinned");
  see();
  expect(BEN, "left");
  tell(BEN, "leave");
  see_end(BEN);
  show();

  step("Ana's program stops the server");
  expect(ANA, "stopped");
  tell(ANA, "stop");
  see_end(ANA);
  show();
}

int main(int argc, char **argv) {
  const char *no_colour = getenv("NO_COLOR");
  struct winsize size;

  if (argc != 2) {
    fprintf(stderr, "usage: conductor DIRECTORY_OF_THE_EXAMPLES\n");
    return 2;
  }
  directory = argv[1];
  /* A peer that is gone is a failed write here, not the end of this program. */
  signal(SIGPIPE, SIG_IGN);
  if (isatty(STDOUT_FILENO)) {
    colours = no_colour == NULL || *no_colour == '\0';
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) width = size.ws_col / PEERS - 1;
    if (width < 12) width = 12;
    if (width > 40) width = 40;
  }
  print_heads();
  play();
  printf("\n%sAll %d steps happened as they should.%s\n", paint("\033[1;32m"), steps, paint("\033[0m"));
  return 0;
}

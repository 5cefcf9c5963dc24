/* Preloaded into a rank by tests/hang_test.py, to hang its main thread and only that, between two collectives: after SIGUSR2
   the next getrusage, which a rank calls once a step, is busy for ever; after SIGWINCH it reads what nobody writes. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static volatile sig_atomic_t asked_for;

static void remember(int signal_number) { asked_for = signal_number; }

static void be_busy(void) {
  for (volatile int forever = 1; forever;) {
  }
}

static void read_nothing(void) {
  int pipe_of_nobody[2];
  char byte;
  if (pipe(pipe_of_nobody) != 0) return;
  while (read(pipe_of_nobody[0], &byte, 1) != 1) {
  }
}

int getrusage(__rusage_who_t who, struct rusage* usage) {
  int (*original)(__rusage_who_t, struct rusage*);
  *(void**)&original = dlsym(RTLD_NEXT, "getrusage");
  if (asked_for == SIGUSR2) be_busy();
  if (asked_for == SIGWINCH) read_nothing();
  return original(who, usage);
}

__attribute__((constructor)) static void prepare(void) {
  struct sigaction action;
  memset(&action, 0, sizeof(action));
  action.sa_handler = remember;
  sigaction(SIGUSR2, &action, 0);
  sigaction(SIGWINCH, &action, 0);
}

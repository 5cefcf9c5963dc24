// A signal handler may only set a flag, and only a global one: the one mutable global of the program.
#include "launch/stop_signal.h"

#include <csignal>
#include <initializer_list>

#include "core/base/error.h"

namespace takt {
namespace {

volatile std::sig_atomic_t g_stop_requested = 0;

void remember(int) {
  g_stop_requested = 1;
}

}  // namespace

void catch_stop_signals() {
  struct sigaction action {};
  action.sa_handler = remember;
  action.sa_flags = SA_RESTART;
  for (const int signal : {SIGTERM, SIGINT, SIGUSR1}) sigaction(signal, &action, nullptr);
}

bool stop_requested() {
  return g_stop_requested != 0;
}

void stop_if_requested() {
  if (stop_requested())
    fail(Fault::kStopped, "stopped on request before the first step; nothing was lost (exit ",
         static_cast<int>(Fault::kStopped), ")");
}

}  // namespace takt

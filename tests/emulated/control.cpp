// The test's side of the emulated device: see control.h.
#include "tests/emulated/control.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "tests/emulated/counters.h"
#include "tests/emulated/device.h"
#include "tests/emulated/diagnosis.h"
#include "tests/emulated/fault_injection.h"
#include "tests/emulated/sync.h"

namespace takt::emulated {
namespace {

struct Fault {
  int code = 0;
  uint64_t after = 0;
};

// Never destroyed: workers outlive main.
struct Control {
  Settings settings;
  Mutex mutex;
  std::vector<std::string> diagnoses;
  std::multimap<std::string, Fault, std::less<>> faults;
  std::atomic<std::size_t> num_faults{0};
  std::array<std::atomic<uint64_t>, kMaxDevices + 1> num_waits = {};  // by device; the last: of all
  std::set<std::pair<int, uint64_t>> skipped_waits;                   // device, or -1; number
  std::atomic<bool> skips_waits{false};
};

template <class T>
T choice(const char* variable, const std::map<std::string, T>& choices, T otherwise) {
  const char* text = std::getenv(variable);
  if (text == nullptr || *text == '\0') return otherwise;
  const auto found = choices.find(text);
  if (found != choices.end()) return found->second;
  std::string wanted;
  for (const auto& [name, value] : choices) wanted += (wanted.empty() ? "" : ", ") + name;
  forbidden(std::string(variable) + " is " + text + ", wanted one of " + wanted);
}

uint64_t number(const char* variable, uint64_t otherwise) {
  const char* text = std::getenv(variable);
  if (text == nullptr || *text == '\0') return otherwise;
  char* end = nullptr;
  const uint64_t value = std::strtoull(text, &end, 10);
  if (*end != '\0') forbidden(std::string(variable) + " is " + text + ", wanted a number");
  return value;
}

Settings from_environment() {
  Settings settings;
  settings.schedule = choice<Schedule>(
      "TAKT_EMULATED_SCHEDULE",
      {{"eager", Schedule::kEager}, {"lazy", Schedule::kLazy}, {"priority", Schedule::kPriority}},
      settings.schedule);
  settings.thread_order = choice<ThreadOrder>("TAKT_EMULATED_THREAD_ORDER",
                                              {{"forward", ThreadOrder::kForward},
                                               {"reverse", ThreadOrder::kReverse},
                                               {"random", ThreadOrder::kRandom}},
                                              settings.thread_order);
  settings.model = choice<Model>(
      "TAKT_EMULATED_MODEL", {{"h100", Model::kH100}, {"b200", Model::kB200}, {"rtxpro", Model::kRtxPro6000}},
      settings.model);
  settings.seed = number("TAKT_EMULATED_SEED", settings.seed);
  settings.num_devices = int(number("TAKT_EMULATED_DEVICES", uint64_t(settings.num_devices)));
  settings.memory_bytes = number("TAKT_EMULATED_MEMORY_MIB", settings.memory_bytes >> 20) << 20;
  return settings;
}

Control& control() {
  static Control& the_control = []() -> Control& {
    auto* made = new Control;
    made->settings = from_environment();
    return *made;
  }();
  return the_control;
}

std::atomic<uint64_t>& num_waits_of(int device) {
  return control().num_waits[std::size_t(device < 0 ? kMaxDevices : device)];
}

}  // namespace

LiveCounters& live_counters() {
  static LiveCounters& the_counters = *new LiveCounters;
  return the_counters;
}

Settings settings() {
  return control().settings;
}

void configure(const Settings& settings) {
  if (settings.num_devices < 0 || settings.num_devices > kMaxDevices)
    forbidden("configure: num_devices is " + std::to_string(settings.num_devices) + ", wanted 0 to " +
              std::to_string(kMaxDevices));
  control().settings = settings;
}

void reset() {
  check_quarantine();
  {
    const Lock lock(control().mutex);
    control().diagnoses.clear();
    control().faults.clear();
    control().num_faults = 0;
  }
  for (Device* device : used_devices()) device->error = cudaSuccess;
  forget_last_error();
  for (std::atomic<uint64_t>& num : control().num_waits) num = 0;
  skip_no_wait();
  control().settings = from_environment();
}

void diagnose(std::string_view message) {
  const Lock lock(control().mutex);
  control().diagnoses.emplace_back(message);
}

void forbidden(std::string_view message) {
  std::fprintf(stderr, "emulated device: %.*s\n", int(message.size()), message.data());
  std::fflush(stderr);
  std::abort();
}

std::vector<std::string> diagnoses() {
  check_quarantine();
  const Lock lock(control().mutex);
  return control().diagnoses;
}

std::string all_diagnoses() {
  std::string all;
  for (const std::string& message : diagnoses()) all += (all.empty() ? "" : "\n") + message;
  return all;
}

Counters counters() {
  const LiveCounters& live = live_counters();
  const LiveMemory memory = live_memory();
  return {.num_live_allocations = std::size_t(memory.num_allocations),
          .live_bytes = std::size_t(memory.num_bytes),
          .num_live_streams = std::size_t(live.num_streams.load()),
          .num_live_events = std::size_t(live.num_events.load()),
          .num_live_graphs = std::size_t(live.num_graphs.load()),
          .num_operations = live.num_operations,
          .num_launches = live.num_launches,
          .num_copies = live.num_copies,
          .num_host_waits = live.num_host_waits,
          .num_graph_launches = live.num_graph_launches};
}

void inject(std::string_view call, int code, uint64_t after) {
  const Lock lock(control().mutex);
  control().faults.emplace(std::string(call), Fault{code, after});
  control().num_faults = control().faults.size();
}

std::optional<int> injected_fault(std::string_view call) {
  if (control().num_faults == 0) return std::nullopt;  // nearly always
  const Lock lock(control().mutex);
  std::optional<int> code;
  const auto [begin, end] = control().faults.equal_range(call);
  for (auto fault = begin; fault != end;) {
    if (!code && fault->second.after == 0) {
      code = fault->second.code;
      fault = control().faults.erase(fault);
    } else {
      if (fault->second.after > 0) --fault->second.after;
      ++fault;
    }
  }
  control().num_faults = control().faults.size();
  return code;
}

void skip_wait(uint64_t n, int device) {
  const Lock lock(control().mutex);
  control().skipped_waits.emplace(device, num_waits_of(device) + n);
  control().skips_waits = true;
}
void skip_no_wait() {
  const Lock lock(control().mutex);
  control().skipped_waits.clear();
  control().skips_waits = false;
}
uint64_t num_waits(int device) {
  return num_waits_of(device);
}
bool some_wait_is_skipped() {
  return control().skips_waits;
}
bool next_wait_is_skipped(int device) {
  const uint64_t of_device = num_waits_of(device)++, of_all = num_waits_of(-1)++;
  const Lock lock(control().mutex);
  const auto& skipped = control().skipped_waits;
  return skipped.contains({device, of_device}) || skipped.contains({-1, of_all});
}

}  // namespace takt::emulated

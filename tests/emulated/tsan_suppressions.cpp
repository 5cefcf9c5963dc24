// What ThreadSanitizer must not report of the emulated device: calls of malloc, memcpy, ... by its orchestration, whose locks
// it does not see. Accesses that count are announced one by one (sync.h).
extern "C" __attribute__((visibility("default"))) const char* __tsan_default_suppressions();

const char* __tsan_default_suppressions() {
  return "called_from_lib:libtakt_emulated_device.so\n";
}

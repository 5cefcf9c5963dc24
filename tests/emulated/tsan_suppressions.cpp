// What ThreadSanitizer must not report of the emulated device: calls of malloc, memcpy, ... by its orchestration, whose locks
// it does not see (accesses that count are announced one by one, sync.h); and NVTX's, whose first callers all look for a
// profiler without a lock and come to the same result.
extern "C" __attribute__((visibility("default"))) const char* __tsan_default_suppressions();

const char* __tsan_default_suppressions() {
  return "called_from_lib:libtakt_emulated_device.so\n"
         "race:nvtxRangePushA\n"
         "race:nvtxRangePop\n";
}

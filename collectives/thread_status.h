// What the kernel says of a thread of this host, read without allocating.
#pragma once

#include <cstdint>

namespace takt {

// Bytes it has read and written so far, those of mapped files included where they came from a disk. Zero
// where the kernel does not count, and for threads of others.
std::uint64_t io_bytes_of(std::int32_t pid, std::int32_t thread);

// As in /proc/PID/stat: R running, S asleep, D blocked in the kernel, T stopped; zero: not known.
char state_of(std::int32_t pid, std::int32_t thread);

}  // namespace takt

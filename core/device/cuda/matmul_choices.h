// The file of measured matmul algorithms: which of the library's candidates was the fastest, a line a product.
//
//   <key> <number of the candidate> <seconds>
//
// The key says product, device and version of the library, without spaces; the first line of a key counts. Whoever measures
// holds a lock on the file meanwhile, so that the ranks of a host measure each product once and all take the same: values
// that several ranks compute alike must stay alike.
#pragma once

#include <functional>
#include <string>

namespace takt {

struct MeasuredChoice {
  int candidate = 0;
  double time_s = 0;
};

// The choice for `key` in the file, which is made if it is missing. Without such a line `measure` is called and its answer
// appended. Throws kIo if the file cannot be read or written, kData if it holds something else.
MeasuredChoice find_or_measure(const std::string& path, const std::string& key,
                               const std::function<MeasuredChoice()>& measure);

}  // namespace takt

// Which Takt this is and what is compiled in.
#pragma once

#include <string>

namespace takt {

std::string version();        // "0.1.0"
std::string build_summary();  // "cpu+cuda, git 1a2b3c4"

}  // namespace takt

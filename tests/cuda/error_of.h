// The error that an action ends with.
#pragma once

#include "core/base/error.h"

namespace takt {

template <class Action>
Error error_of(const Action& action) {
  try {
    action();
  } catch (const Error& error) {
    return error;
  }
  return {Fault::kUsage, "no error"};
}

}  // namespace takt

// Learning-rate schedules, as functions of the step alone, so that resuming needs no state.
//
//   constant      1
//   linear        1 -> final
//   cosine        1 -> final along half a cosine                  Loshchilov and Hutter 2016, arXiv:1608.03983
//   inverse_sqrt  sqrt(warmup / step)                             Vaswani et al. 2017, arXiv:1706.03762
//   wsd           1, then linear to final over the last `decay`   Hu et al. 2024, arXiv:2404.06395
#include "optimizers/schedule.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "core/base/error.h"

namespace takt {

namespace {

double constant(const ScheduleConfig&, double, std::int64_t, std::int64_t) {
  return 1.0;
}

double linear(const ScheduleConfig& s, double progress, std::int64_t, std::int64_t) {
  return 1.0 + (s.final - 1.0) * progress;
}

double cosine(const ScheduleConfig& s, double progress, std::int64_t, std::int64_t) {
  return s.final + (1.0 - s.final) * 0.5 * (1.0 + std::cos(std::numbers::pi * progress));
}

double inverse_sqrt(const ScheduleConfig& s, double, std::int64_t step, std::int64_t) {
  return std::sqrt(static_cast<double>(std::max<std::int64_t>(1, s.warmup)) /
                   static_cast<double>(std::max<std::int64_t>(1, step)));
}

double wsd(const ScheduleConfig& s, double, std::int64_t step, std::int64_t num_steps) {
  const std::int64_t decay = s.decay > 0 ? s.decay : std::max<std::int64_t>(1, num_steps / 5);
  const std::int64_t start = std::max(s.warmup, num_steps - decay);  // the decay never begins during warm-up
  const std::int64_t length = std::max<std::int64_t>(1, num_steps - start);
  const std::int64_t into = std::clamp<std::int64_t>(step - start, 0, length);
  return 1.0 + (s.final - 1.0) * static_cast<double>(into) / static_cast<double>(length);
}

}  // namespace

std::span<const ScheduleDef> schedule_registry() {
  static const std::array<ScheduleDef, 5> schedules = {{
      {"constant", {}, constant},
      {"cosine", {"final"}, cosine},
      {"inverse_sqrt", {}, inverse_sqrt},
      {"linear", {"final"}, linear},
      {"wsd", {"final", "decay"}, wsd},
  }};
  return schedules;
}

double schedule_factor(const ScheduleConfig& s, std::int64_t step, std::int64_t num_steps) {
  if (step < s.warmup) return static_cast<double>(step) / static_cast<double>(s.warmup);
  const auto span = static_cast<double>(std::max<std::int64_t>(1, num_steps - s.warmup));
  const double progress = std::clamp(static_cast<double>(step - s.warmup) / span, 0.0, 1.0);
  std::string known;
  for (const ScheduleDef& schedule : schedule_registry()) {
    if (schedule.name == s.kind) return schedule.factor(s, progress, step, num_steps);
    known += (known.empty() ? "" : ", ") + schedule.name;
  }
  fail(Fault::kConfig, "optimizer: schedule kind is '", s.kind, "'; known are ", known);
}

}  // namespace takt

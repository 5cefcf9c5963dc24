// A GPT and how a step trains it, as many tests compile it.
#pragma once

#include "core/train/compile_step.h"
#include "core/train/language_task.h"

namespace takt {

struct GptStep {
  GptConfig model;
  StepConfig step;

  LanguageTask task() const { return LanguageTask(model); }
};

inline StepPlan compile_step(const GptStep& gpt, const Mesh& mesh, int num_threads) {
  return compile_step(gpt.task(), gpt.step, mesh, num_threads);
}

inline BatchPlan plan_batch(const GptStep& gpt, const Mesh& mesh) {
  return plan_batch(gpt.step, gpt.task().unit(), mesh);
}

}  // namespace takt

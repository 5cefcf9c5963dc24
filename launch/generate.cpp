// takt generate: text from a trained run, token by token. One process; the whole window is computed for each token.
#include <CLI/App.hpp>
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <iostream>

#include "core/base/rng.h"
#include "core/exec/cpu_executor.h"
#include "core/state/checkpoint.h"
#include "core/state/pretrained.h"
#include "launch/compile_step.h"
#include "launch/complete_job.h"
#include "launch/cpu_threads.h"
#include "launch/job_file.h"
#include "launch/registry.h"

namespace takt {
namespace {

struct GenerateOptions {
  std::string run_directory;
  std::string prompt = "\n";
  int num_tokens = 120;
  double temperature = 0.8;
  int top_k = 40;
  std::uint64_t seed = 1;
};

void add_options(CLI::App& app, GenerateOptions& options) {
  app.add_option("RUN", options.run_directory, "A run directory with a finished run's final/")->required();
  app.add_option("--prompt", options.prompt, "Text to go on from");
  app.add_option("--tokens", options.num_tokens, "How many tokens to add")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--temperature", options.temperature, "0: always the likeliest token")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 10.0));
  app.add_option("--top-k", options.top_k, "Choose among the K likeliest tokens; 0: all")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  app.add_option("--seed", options.seed, "The same seed gives the same text")->capture_default_str();
}

// The parameters as whole tensors of this one rank.
std::vector<TensorShard> whole_parameters(const Graph& graph, CpuExecutor& executor) {
  std::vector<TensorShard> shards;
  for (const Value& value : graph.values()) {
    if (value.role != Role::kParameter) continue;
    TensorShard shard{.name = value.name,
                      .memory = host_memory(host_span<float>(executor, value.name).data(), DType::kF32)};
    for (const Dim& dim : value.desc.dims) shard.global_shape.push_back(dim.extent);
    shard.buffer_shape = shard.extent = shard.global_shape;
    shard.offset.assign(shard.extent.size(), 0);
    shards.push_back(std::move(shard));
  }
  return shards;
}

// Draws from softmax(logits / temperature) over the top_k largest.
std::int32_t sample(std::span<const float> logits, const GenerateOptions& options, double uniform) {
  std::vector<std::int32_t> order(logits.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::int32_t>(i);
  const auto larger = [&](std::int32_t a, std::int32_t b) {
    return logits[static_cast<std::size_t>(a)] > logits[static_cast<std::size_t>(b)];
  };
  std::sort(order.begin(), order.end(), larger);
  if (options.temperature <= 0) return order.front();
  if (options.top_k > 0) order.resize(std::min(order.size(), static_cast<std::size_t>(options.top_k)));
  const auto weight = [&](std::int32_t token) {
    return std::exp((static_cast<double>(logits[static_cast<std::size_t>(token)]) -
                     static_cast<double>(logits[static_cast<std::size_t>(order.front())])) /
                    options.temperature);
  };
  double total = 0;
  for (const std::int32_t token : order) total += weight(token);
  double rest = uniform * total;
  for (const std::int32_t token : order)
    if ((rest -= weight(token)) < 0) return token;
  return order.back();
}

int run(const GenerateOptions& options, const CommandContext&) {
  const std::filesystem::path run_directory = options.run_directory;
  if (!std::filesystem::is_directory(run_directory / "final"))
    fail(Fault::kData, run_directory.string(),
         ": no final/ in this run directory\n  `takt train` writes it when a run is finished");
  Job job = load_saved_job(run_directory / "final" / "effective.toml").job;
  job.data.tokenizer = (run_directory / "final" / "tokenizer.json").string();
  const auto tokenizer = complete_job(job);
  const StepPlan plan = compile_logits(job, cpu_threads(job.threads, 1));
  CpuExecutor executor(plan);
  require_same_model(run_directory / "final", job.model);
  const Graph& graph = plan.programs[0].graph;
  import_model(run_directory / "final", whole_parameters(graph, executor), exported_tensors(graph));

  const RandomStream random(options.seed, "generate");
  std::vector<std::int32_t> text = tokenizer->encode(options.prompt);
  if (text.empty()) fail(Fault::kUsage, "--prompt: is empty; give at least one character");
  const std::span<std::int32_t> window = host_span<std::int32_t>(executor, kTokens);
  const std::size_t seq = window.size(), vocab = static_cast<std::size_t>(job.model.vocab);
  for (int i = 0; i < options.num_tokens; ++i) {
    const std::size_t start = text.size() > seq ? text.size() - seq : 0, length = text.size() - start;
    std::fill(window.begin(), window.end(), 0);  // what follows the text is not seen: attention is causal
    std::copy(text.begin() + static_cast<std::ptrdiff_t>(start), text.end(), window.begin());
    executor.run(Action{.program = 0});
    const std::span<const float> logits = executor.output(0, 0).subspan(
        (length - 1) * vocab, static_cast<std::size_t>(tokenizer->vocab_size()));
    text.push_back(sample(logits, options, random.uniform(static_cast<std::uint64_t>(i))));
    if (tokenizer->end_of_text() == text.back()) break;
  }
  std::cout << tokenizer->decode(text) << std::endl;
  return 0;
}

}  // namespace

Command generate_command() {
  return {.name = "generate",
          .summary = "Write text with a trained model",
          .prepare = with_options<GenerateOptions>(add_options, run)};
}

}  // namespace takt

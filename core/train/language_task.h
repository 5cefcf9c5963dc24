// LanguageTask: a GPT predicts the next token.
#pragma once

#include <memory>

#include "core/models/gpt.h"
#include "core/state/tokenizer.h"
#include "core/train/job_task.h"

namespace takt {

// Inputs as TokenSamples fills them: "tokens" and "targets", i32 [batch, seq]. Losses in nats, [batch, seq]. With experts,
// the loss of the routers is a penalty and a metric, "router_loss".
class LanguageTask final : public JobTask {
 public:
  // Extents of 0 are derived, see GptConfig. The tokenizer may be null: then text cannot be counted in bytes.
  // `files` are those that open_data opens. Throws kConfig.
  explicit LanguageTask(GptConfig config, std::unique_ptr<Tokenizer> tokenizer = nullptr,
                        DataFiles files = {});

  const GptConfig& config() const { return config_; }
  const Tokenizer* tokenizer() const { return tokenizer_.get(); }

  Unit unit() const override { return {"tokens", config_.seq}; }
  TaskOutputs build(Graph& graph, std::int64_t num_samples) const override;
  ValueId build_prediction(Graph& graph,
                           std::int64_t num_samples) const override;  // logits [batch, seq, vocab]
  // ppl, and bits_per_byte where there is a tokenizer. `data` are TokenSamples.
  std::vector<Figure> figures(const Dataset& data) const override;

  std::string describe() const override { return "gpt (" + config_.family + ")"; }
  Datasets open_data(Communicator& comm) override;
  void require_same_model(const nlohmann::json& config, const std::string& source) const override;
  void write_model_files(const std::filesystem::path& folder) const override;

 private:
  GptConfig config_;
  std::unique_ptr<Tokenizer> tokenizer_;
  DataFiles files_;
};

TaskKind language_task_kind();

}  // namespace takt

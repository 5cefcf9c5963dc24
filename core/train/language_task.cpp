// The vocabulary of a model may be larger than its tokenizer's: then only the tokenizer's tokens occur in data.
#include "core/train/language_task.h"

#include <fmt/format.h>

#include <cmath>
#include <numbers>

#include "collectives/agree.h"
#include "core/base/error.h"
#include "core/models/gpt_pretrained.h"
#include "core/ops/builders.h"
#include "core/state/durable_file.h"
#include "core/state/token_samples.h"

namespace takt {
namespace {

ValueId ids(Graph& graph, const std::string& name, std::int64_t num_samples, std::int64_t seq) {
  return graph.input(name, {{{"batch", num_samples}, {"seq", seq}}, DType::kI32});
}

std::unique_ptr<Tokenizer> load_tokenizer(const std::string& path) {
  return path.empty() ? nullptr : std::make_unique<Tokenizer>(Tokenizer::load(path));
}

// The vocabulary follows from the tokenizer, unless the job says it.
GptConfig with_vocab(GptConfig config, const Tokenizer* tokenizer, const std::string& path) {
  TAKT_REQUIRE(config.vocab > 0 || tokenizer,
               "model.vocab is 0, which takes it from the tokenizer, but data.tokenizer is empty\n"
               "  set one of the two");
  if (!tokenizer) return config;
  if (config.vocab == 0) config.vocab = tokenizer->vocab_size();
  TAKT_REQUIRE(config.vocab >= tokenizer->vocab_size(), "model.vocab: ", config.vocab, " is less than the ",
               tokenizer->vocab_size(), " tokens of ", path,
               "\n  leave model.vocab out: it follows from the tokenizer");
  return config;
}

std::unique_ptr<JobTask> make(const Settings& settings, const DataFiles& files) {
  const std::string& path = settings.text("data.tokenizer");
  auto tokenizer = load_tokenizer(path);
  const GptConfig config = with_vocab(gpt_config(settings), tokenizer.get(), path);
  return std::make_unique<LanguageTask>(config, std::move(tokenizer), files);
}

std::unique_ptr<JobTask> load(Settings settings, const std::filesystem::path& folder) {
  settings.set("data.tokenizer", (folder / "tokenizer.json").string());
  return make(settings, {});
}

std::map<std::string, std::string> facts(const Settings& settings) {
  std::map<std::string, std::string> facts = {
      {"model.family", settings.text("model.family")},
      {"model.seq", fmt::format("{}", settings.whole("model.seq"))},
      {"model.heads", fmt::format("{}", settings.whole("model.heads"))},
      {"model.tied", fmt::format("{}", settings.flag("model.tied"))},
      {"model.rope_theta", fmt::format("{}", settings.number("model.rope_theta"))},
      {"model.norm_eps", fmt::format("{}", settings.number("model.norm_eps"))}};
  if (settings.whole("model.experts") == 0) return facts;
  facts["model.experts_per_token"] = fmt::format("{}", settings.whole("model.experts_per_token"));
  facts["model.capacity_factor"] = fmt::format("{}", settings.number("model.capacity_factor"));
  return facts;
}

const std::vector<Setting>& settings() {
  static const std::vector<Setting> all = [] {
    std::vector<Setting> list = {{.name = "data.tokenizer",
                                  .fallback = std::string(),
                                  .help = "tokenizer.json: decides model.vocab, and turns tokens into text.",
                                  .aliases = {"tokenizer_path", "vocab_file"}}};
    list.insert(list.end(), gpt_settings().begin(), gpt_settings().end());
    return list;
  }();
  return all;
}

double perplexity(double nats_per_token) {
  return std::exp(nats_per_token);
}

double bits_per_byte(double nats_per_byte) {
  return nats_per_byte / std::numbers::ln2;
}

}  // namespace

LanguageTask::LanguageTask(GptConfig config, std::unique_ptr<Tokenizer> tokenizer, DataFiles files)
    : config_(complete_gpt(std::move(config))), tokenizer_(std::move(tokenizer)), files_(std::move(files)) {}

TaskOutputs LanguageTask::build(Graph& graph, std::int64_t num_samples) const {
  const ValueId tokens = ids(graph, "tokens", num_samples, config_.seq),
                targets = ids(graph, "targets", num_samples, config_.seq);
  const GptOutputs model = build_gpt(graph, config_, tokens);
  TaskOutputs outputs{.losses = cross_entropy(graph, model.logits, targets, "loss")};
  if (model.router_loss) outputs.metrics = outputs.penalties = {*model.router_loss};
  return outputs;
}

ValueId LanguageTask::build_prediction(Graph& graph, std::int64_t num_samples) const {
  return build_gpt(graph, config_, ids(graph, "tokens", num_samples, config_.seq)).logits;
}

std::vector<Figure> LanguageTask::figures(const Dataset& data) const {
  const auto num_tokens = [seq = static_cast<double>(config_.seq)](std::int64_t) { return seq; };
  std::vector<Figure> figures = {{.name = "ppl", .weight = num_tokens, .transform = perplexity}};
  const auto* samples = dynamic_cast<const TokenSamples*>(&data);
  if (!tokenizer_ || !samples) return figures;
  // The bytes of the text that a sample's targets stand for.
  const auto num_bytes = [this, samples,
                          targets = std::vector<std::int32_t>(static_cast<std::size_t>(config_.seq))](
                             std::int64_t sample) mutable {
    samples->data().read(sample, config_.seq, 1, targets);
    double sum = 0;
    for (const std::int32_t target : targets) sum += static_cast<double>(tokenizer_->num_bytes(target));
    return sum;
  };
  figures.push_back({.name = "bits_per_byte", .weight = num_bytes, .transform = bits_per_byte});
  return figures;
}

Datasets LanguageTask::open_data(Communicator& comm) {
  const std::int64_t vocab = tokenizer_ ? tokenizer_->vocab_size() : config_.vocab;
  const auto open = [&](const std::vector<std::string>& paths) -> std::unique_ptr<Dataset> {
    if (paths.empty()) return nullptr;
    TokenDataset data = TokenDataset::open(paths, vocab, comm);
    return agree(comm, [&] { return std::make_unique<TokenSamples>(std::move(data), config_.seq); });
  };
  return {.train = open(files_.train), .valid = open(files_.valid)};
}

void LanguageTask::require_same_model(const nlohmann::json& config, const std::string& source) const {
  require_same_gpt(config_, config, source);
}

void LanguageTask::write_model_files(const std::filesystem::path& folder) const {
  const int end_of_text = tokenizer_ ? tokenizer_->end_of_text().value_or(0) : 0;
  write_file_atomically(folder / "config.json", hugging_face_config(config_, end_of_text));
  if (tokenizer_) tokenizer_->save(folder / "tokenizer.json");
}

TaskKind language_task_kind() {
  return {.name = "gpt", .settings = settings, .make = make, .load = load, .facts = facts};
}

}  // namespace takt

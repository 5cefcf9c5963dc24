// What the schema cannot see: keys that must fit each other. A message names both keys and the values that fit.
#include "launch/job_check.h"

#include "core/base/error.h"

namespace takt {
namespace {

constexpr std::int64_t kMostBatchTokens = std::int64_t{1} << 40;

void check_data(const Job& job) {
  TAKT_REQUIRE(!job.data.train.empty(),
               "data.train is missing, wanted at least one file\n"
               "  set it in [data], such as train = [\"data/kjv.train.bin\"]");
  for (const std::vector<std::string>* files : {&job.data.train, &job.data.valid})
    for (const std::string& file : *files)
      TAKT_REQUIRE(!file.empty(), "data.", files == &job.data.train ? "train" : "valid",
                   ": a file name is empty");
  TAKT_REQUIRE(job.eval.every == 0 || !job.data.valid.empty(), "eval.every is \"", job.eval.every,
               " steps\" but data.valid names no file\n  set data.valid, or eval.every = \"off\"");
  TAKT_REQUIRE(job.model.vocab > 0 || !job.data.tokenizer.empty(),
               "model.vocab is 0, which takes it from the tokenizer, but data.tokenizer is empty\n"
               "  set one of the two");
}

void check_model(const ModelConfig& model) {
  TAKT_REQUIRE(model.embed % model.heads == 0, "model.embed ", model.embed,
               " is not a multiple of model.heads ", model.heads,
               "\n  nearest that fits: embed = ", (model.embed / model.heads + 1) * model.heads);
  if (model.kv_heads > 0)
    TAKT_REQUIRE(model.heads % model.kv_heads == 0, "model.heads ", model.heads,
                 " is not a multiple of model.kv_heads ", model.kv_heads,
                 "\n  each key and value head serves the same number of heads");
  const std::int64_t head_dim = model.embed / model.heads;
  if (model.family == "llama")
    TAKT_REQUIRE(head_dim % 2 == 0, "model.embed / model.heads is ", head_dim,
                 ", wanted an even number: rotary positions turn pairs of elements");
  if (model.family == "gpt2")
    TAKT_REQUIRE(model.kv_heads == 0 || model.kv_heads == model.heads, "model.kv_heads is ", model.kv_heads,
                 ", wanted as many as model.heads (", model.heads, "): gpt2 has no grouped queries");
}

void check_batch(const Job& job) {
  const TrainConfig& train = job.train;
  const std::int64_t seq = job.model.seq;
  const std::int64_t batch = train.global_batch_tokens;
  TAKT_REQUIRE(batch <= (train.global_batch_in_samples ? kMostBatchTokens / seq : kMostBatchTokens),
               "train.global_batch ", batch, " is more than 2^40 tokens");
  TAKT_REQUIRE(train.global_batch_in_samples || batch % seq == 0, "train.global_batch ", batch,
               " tokens is not a multiple of model.seq ", seq, "\n  nearest that fits: \"",
               (batch / seq + 1) * seq, " tokens\"");
  const std::int64_t samples = train.global_batch_in_samples ? batch : batch / seq;
  TAKT_REQUIRE(train.micro_batch == 0 || samples % train.micro_batch == 0, "train.global_batch is ", samples,
               " samples, not a multiple of train.micro_batch ", train.micro_batch);
}

void check_schedule(const Job& job) {
  const ScheduleConfig& schedule = job.optimizer.schedule;
  TAKT_REQUIRE(schedule.kind == "wsd" || schedule.decay == 0, "optimizer.schedule.decay is ", schedule.decay,
               " but the kind is \"", schedule.kind, "\", which has no decay phase\n  set kind = \"wsd\"");
}

}  // namespace

void check_job(const Job& job) {
  check_data(job);
  check_model(job.model);
  check_batch(job);
  check_schedule(job);
}

}  // namespace takt

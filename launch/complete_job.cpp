// What the job file may leave to Takt: the vocabulary and the model's derived extents.
#include "launch/complete_job.h"

#include "core/base/error.h"
#include "core/models/registry.h"
#include "launch/job_check.h"

namespace takt {

std::unique_ptr<Tokenizer> complete_job(Job& job) {
  check_job(job);
  std::unique_ptr<Tokenizer> tokenizer;
  if (!job.data.tokenizer.empty()) {
    tokenizer = std::make_unique<Tokenizer>(Tokenizer::load(job.data.tokenizer));
    if (job.model.vocab == 0) job.model.vocab = tokenizer->vocab_size();
    TAKT_REQUIRE(job.model.vocab >= tokenizer->vocab_size(), "model.vocab: ", job.model.vocab,
                 " is less than the ", tokenizer->vocab_size(), " tokens of ", job.data.tokenizer,
                 "\n  leave model.vocab out: it follows from the tokenizer");
  }
  job.model = find_model(job.model.kind).complete(job.model);
  return tokenizer;
}

}  // namespace takt

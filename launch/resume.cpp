// A checkpoint holds tensors, a cursor and the job it was made with. Tensors of other shapes are refused by
// the loader; what shapes do not show is compared here.
#include "launch/resume.h"

#include <fmt/format.h>

#include <sstream>

#include "collectives/agree.h"
#include "collectives/share.h"
#include "launch/ask_root.h"
#include "launch/job_file.h"

namespace takt {
namespace {

template <class T>
void require_equal(std::string_view key, const T& saved, const T& now) {
  if (saved == now) return;
  fail(
      Fault::kConfig, key, ": the checkpoint was made with ", saved, ", this run has ", now,
      "\n  to go on, use the same value; to start anew from these weights, use model.init and another --out");
}

std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

}  // namespace

void require_same_experiment(const std::string& saved_job, const Job& job) {
  const Job saved = parse_job(saved_job, "the checkpoint's job", {}).job;
  require_equal("seed", saved.seed, job.seed);
  require_equal("model.kind", saved.model.kind, job.model.kind);
  require_equal("model.family", saved.model.family, job.model.family);
  require_equal("model.seq", saved.model.seq, job.model.seq);
  require_equal("model.heads", saved.model.heads, job.model.heads);
  require_equal("model.tied", saved.model.tied, job.model.tied);
  require_equal("model.rope_theta", saved.model.rope_theta, job.model.rope_theta);
  require_equal("model.norm_eps", saved.model.norm_eps, job.model.norm_eps);
  require_equal("data.train", joined(saved.data.train), joined(job.data.train));
  require_equal("optimizer.kind", saved.optimizer.kind, job.optimizer.kind);
}

void resume_from(const std::filesystem::path& checkpoint, Trainer& trainer, const Job& job,
                 Communicator& comm, const Notice& notice) {
  const TrainingCursor cursor = load_checkpoint(checkpoint, trainer.shards(), comm);
  trainer.start();
  require_same(comm, fmt::format("{} {} {}", cursor.step, cursor.samples, cursor.effective_job),
               "checkpoint " + checkpoint.string());
  agree(comm, [&] { require_same_experiment(cursor.effective_job, job); });
  trainer.cursor() = cursor;
  notice(fmt::format("resumed from {} at step {}", checkpoint.string(), cursor.step));
}

bool resume_newest(const std::filesystem::path& checkpoints, Trainer& trainer, const Job& job,
                   Communicator& comm, const Notice& notice) {
  std::vector<std::string> found = lines_of(ask_root(comm, [&] {
    std::vector<std::string> names;
    for (const std::filesystem::path& path : list_checkpoints(checkpoints))
      names.push_back(path.filename().string());
    return joined(names);
  }));
  for (; !found.empty(); found.pop_back()) {
    try {
      resume_from(checkpoints / found.back(), trainer, job, comm, notice);
      return true;
    } catch (const Error& error) {  // agreed: all ranks go the same way
      if (error.fault() != Fault::kData || found.size() == 1) throw;
      notice(fmt::format("warning: {}\n  falling back to the checkpoint before it", error.what()));
    }
  }
  return false;
}

}  // namespace takt

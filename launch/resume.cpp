// A checkpoint holds tensors, a cursor and the job it was made with. Tensors of other shapes are refused by
// the loader; what shapes do not show is compared here.
#include "launch/resume.h"

#include <fmt/format.h>

#include <sstream>

#include "collectives/agree.h"
#include "collectives/share.h"
#include "launch/ask_root.h"
#include "launch/job_file.h"
#include "launch/job_task.h"

namespace takt {
namespace {

// Later versions add, rename or drop facts; then tables of older versions are brought up to date here.
constexpr std::int64_t kFactsVersion = 1;
constexpr const char* kDataFact = "data.train";
constexpr const char* kAbsent = "no such fact";

[[noreturn]] void refuse(const std::string& name, const std::string& saved, const std::string& now) {
  const bool is_data = name == kDataFact;
  fail(Fault::kConfig, name, ": the checkpoint was made with ",
       is_data && saved != kAbsent ? "data of hash " : "", saved, ", this run has ", now,
       "\n  to go on, use the same ", is_data ? "data, wherever it lies" : "value",
       "; to start anew from these weights, use model.init and another --out");
}

// Before there was a table, the job was compared, by its paths: of the data itself nothing is known.
ComparedFacts facts_of_saved_job(const std::string& saved_job) {
  ComparedFacts compared = compared_facts(parse_saved_job(saved_job, "the checkpoint's job").job, 0);
  compared.facts.erase(kDataFact);
  return compared;
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

ComparedFacts compared_facts(const Job& job, std::uint64_t data_hash) {
  ComparedFacts compared{.version = kFactsVersion,
                         .facts = {{"seed", fmt::format("{}", job.seed)},
                                   {"model.kind", job.model.kind},
                                   {kDataFact, fmt::format("{:016x}", data_hash)},
                                   {"optimizer.kind", job.optimizer.kind}}};
  compared.facts.merge(find_task(job.model.kind).facts(settings_of(job)));
  return compared;
}

void require_same_experiment(const TrainingCursor& saved, const ComparedFacts& now) {
  if (saved.compared.version > now.version)
    fail(Fault::kConfig, "the checkpoint's table of compared facts has version ", saved.compared.version,
         ", this Takt knows ", now.version, "\n  resume it with the Takt that wrote it");
  const bool has_table = saved.compared.version > 0;
  const auto& facts = has_table ? saved.compared.facts : facts_of_saved_job(saved.effective_job).facts;
  for (const auto& [name, text] : now.facts) {
    const auto found = facts.find(name);
    if (found == facts.end() && !has_table && name == kDataFact) continue;
    if (found == facts.end() || found->second != text)
      refuse(name, found == facts.end() ? kAbsent : found->second, text);
  }
  for (const auto& [name, text] : facts)
    if (!now.facts.contains(name)) refuse(name, text, kAbsent);
}

void resume_from(const std::filesystem::path& checkpoint, Trainer& trainer, Communicator& comm,
                 const Notice& notice) {
  TrainingCursor cursor = load_checkpoint(checkpoint, trainer.shards(), comm);
  trainer.start();
  require_same(comm, fmt::format("{} {} {}", cursor.step, cursor.samples, cursor.effective_job),
               "checkpoint " + checkpoint.string());
  const ComparedFacts now = trainer.cursor().compared;
  agree(comm, [&] { require_same_experiment(cursor, now); });
  if (cursor.compared.version == 0)
    notice(fmt::format(
        "warning: {} does not say which data it was trained on\n  it is of an older format; whether "
        "data.train is still the same was not checked",
        checkpoint.string()));
  cursor.compared = now;
  trainer.cursor() = cursor;
  notice(fmt::format("resumed from {} at step {}", checkpoint.string(), cursor.step));
}

bool resume_newest(const std::filesystem::path& checkpoints, Trainer& trainer, Communicator& comm,
                   const Notice& notice) {
  std::vector<std::string> found = lines_of(ask_root(comm, [&] {
    std::vector<std::string> names;
    for (const std::filesystem::path& path : list_checkpoints(checkpoints))
      names.push_back(path.filename().string());
    return joined(names);
  }));
  for (; !found.empty(); found.pop_back()) {
    try {
      resume_from(checkpoints / found.back(), trainer, comm, notice);
      return true;
    } catch (const Error& error) {  // agreed: all ranks go the same way
      if (error.fault() != Fault::kData || found.size() == 1) throw;
      notice(fmt::format("warning: {}\n  falling back to the checkpoint before it", error.what()));
    }
  }
  return false;
}

}  // namespace takt

// A run directory holds one run. What lies in it is never overruled without a word: to go back to an older
// checkpoint is to begin another run from it.
#include "launch/start_weights.h"

#include "collectives/agree.h"
#include "launch/ask_root.h"

namespace takt {
namespace {

using std::filesystem::path;

constexpr std::uint64_t kMostPathBytes = std::uint64_t{1} << 16;

bool names_a_path(const std::string& resume) {
  return resume != "auto" && resume != "never";
}

path origin_file(const RunDirectory& directory) {
  return directory.path / "resumed_from.txt";
}

// The same place has the same text, however it is written.
std::string text_of_place(const path& place) {
  std::error_code error;
  std::string text = std::filesystem::weakly_canonical(std::filesystem::absolute(place), error).string();
  if (error) return place.string();
  while (text.size() > 1 && text.back() == '/') text.pop_back();
  return text;
}

bool began_from(const RunDirectory& directory, const std::string& resume) {
  std::error_code error;
  const path file = origin_file(directory);
  return std::filesystem::exists(file, error) &&
         read_text_file(file, kMostPathBytes) == text_of_place(resume) + "\n";
}

void resume_from_path(const path& from, Trainer& trainer, Communicator& comm, const Notice& notice) {
  if (!ask_root_whether(comm, [&] { return std::filesystem::is_directory(from / "checkpoint"); }))
    return resume_from(from, trainer, comm, notice);
  if (!resume_newest(from / "checkpoint", trainer, comm, notice))
    agree(comm, [&] { fail(Fault::kData, "--resume: ", from.string(), " has no checkpoint"); });
}

}  // namespace

void require_resumable(const RunDirectory& directory, const std::string& resume) {
  const std::vector<path> own = list_checkpoints(directory.checkpoints());
  if (own.empty() || resume == "auto") return;
  const std::string name = directory.path.string();
  if (resume == "never")
    fail(Fault::kUsage, "--resume never: ", name, " holds a run already",
         "\n  choose another --out, or --resume auto to go on with it");
  const std::string from = text_of_place(resume);
  if (from == text_of_place(own.back()) || from == text_of_place(directory.path) ||
      began_from(directory, resume))
    return;
  fail(Fault::kUsage, "--resume ", resume, ": ", name, " holds a run that did not begin there and is at ",
       own.back().filename().string(), "\n  to start from ", resume,
       " choose another --out; to go on with the run in ", name, " leave --resume out");
}

path start_weights(const RunDirectory& directory, const std::string& resume, const PreparedRun& prepared,
                   Trainer& trainer, Communicator& comm, const Notice& notice) {
  const Job& job = prepared.job;
  if (resume != "never" && resume_newest(directory.checkpoints(), trainer, comm, notice))
    return directory.checkpoints() / checkpoint_name(trainer.cursor().step);
  if (names_a_path(resume)) {
    resume_from_path(resume, trainer, comm, notice);
    agree(comm, [&] {
      if (comm.rank() == 0) write_file_atomically(origin_file(directory), text_of_place(resume) + "\n");
    });
    return {};
  }
  trainer.initialize_weights();
  if (!job.model.init.empty())
    agree(comm, [&] { import_model(job.model.init, trainer.shards(), trainer.exported()); });
  trainer.start();
  return {};
}

}  // namespace takt

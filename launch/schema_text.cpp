// The table of keys as people read it: a list for terminals, and docs/job.md.
#include <fmt/ranges.h>

#include "core/train/job_task.h"
#include "launch/schema.h"

namespace takt {
namespace {

std::string escaped_for_markdown(std::string_view text) {
  std::string escaped;
  for (const char c : text) escaped += c == '|' ? std::string("\\|") : std::string(1, c);
  return escaped;
}

// "gpt: Attention heads." where not all models read the key.
std::string help_of(const JobKey& key) {
  if (key.models.empty() || key.models.size() == task_registry().size()) return key.help;
  return fmt::format("{}: {}", fmt::join(key.models, ", "), key.help);
}

constexpr std::string_view kIntroduction =
    "# Keys of the job file\n"
    "\n"
    "Written by `takt keys --markdown`; change launch/schema.cpp, not this page.\n"
    "\n"
    "The job file is strict TOML: an unknown key, a wrong type or a value out of range is an error. A key's "
    "value is\n"
    "the last of: its default, the job file, its environment variable (`optimizer.lr` is "
    "`TAKT_OPTIMIZER_LR`),\n"
    "`--set optimizer.lr=1e-3`, a flag of its own such as `--steps`. A key of another kind "
    "(`optimizer.betas` with sgd)\n"
    "is an error, unless a later source has overruled the kind.\n";

}  // namespace

std::string job_keys_text() {
  std::string text;
  std::string section = "-";
  for (const JobKey& key : job_keys()) {
    if (key.section() != section) {
      section = key.section();
      text += section.empty() ? "" : fmt::format("\n[{}]\n", section);
    }
    const std::string name = section.empty() ? key.name : key.name.substr(section.size() + 1);
    text += fmt::format("  {:<16} {}\n{:19}{}; default {}\n", name, help_of(key), "", key.wanted(),
                        key.get(Job{}));
  }
  return text;
}

std::string job_keys_markdown() {
  std::string text(kIntroduction);
  std::string section = "-";
  for (const JobKey& key : job_keys()) {
    if (key.section() != section) {
      section = key.section();
      text += fmt::format("\n## {}\n\n| key | value | default | what it does |\n|---|---|---|---|\n",
                          section.empty() ? "Top level" : '[' + section + ']');
    }
    text += fmt::format("| `{}` | {} | `{}` | {} |\n", key.name, escaped_for_markdown(key.wanted()),
                        key.get(Job{}), escaped_for_markdown(help_of(key)));
  }
  return text;
}

}  // namespace takt

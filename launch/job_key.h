// One key of the job file: how it reads, what it accepts, and where it lives in the Job.
#pragma once

#include <array>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/setting.h"
#include "launch/job.h"
#include "launch/job_value.h"

namespace takt {

struct JobKey {
  std::string name = {};                  // "optimizer.lr"
  std::string type = {};                  // "number"; a quoted one shows the text to write
  std::string unit = {};                  // "steps"; empty: none
  std::string range = {};                 // "above 0"; empty: any
  std::vector<std::string> choices = {};  // empty: free
  std::string help = {};
  std::vector<std::string> aliases = {};  // what other programs call it, for did-you-mean

  // The key whose value decides whether this one is read, and the values with which it is; empty: always.
  std::string kind_key = {};
  std::vector<std::string> kinds = {};
  // Models whose kind reads this key; empty: every model.
  std::vector<std::string> models = {};

  // Stores the value; false, with the job as it was, if the value is not what wanted() says.
  std::function<bool(Job&, const JobValue&)> set = {};
  // The value as TOML.
  std::function<std::string(const Job&)> get = {};

  std::string section() const;  // "optimizer"; empty at the top level
  std::string wanted() const;   // "a whole number of steps, at least 1"
  bool applies_to(const Job& job) const;
  JobKey only_for(std::string key, std::vector<std::string> values) &&;
  JobKey also_known_as(std::vector<std::string> names) &&;
};

// How a key's member is found in the job.
template <class T>
using Member = T& (*)(Job&);

JobKey whole_key(std::string name, Member<std::int64_t> member, NumberRange range, std::string unit,
                 std::string help);
JobKey number_key(std::string name, Member<double> member, NumberRange range, std::string unit,
                  std::string help);
JobKey flag_key(std::string name, Member<bool> member, std::string help);
JobKey text_key(std::string name, Member<std::string> member, std::string help);
JobKey texts_key(std::string name, Member<std::vector<std::string>> member, std::string help);
JobKey choice_key(std::string name, Member<std::string> member, std::vector<std::string> choices,
                  std::string help);
// The same for a member that is an enumeration: each choice with what it stands for.
template <class Enum>
JobKey enum_key(std::string name, Member<Enum> member, std::vector<std::pair<std::string, Enum>> choices,
                std::string help) {
  JobKey key{.name = std::move(name), .type = "text", .help = std::move(help)};
  for (const auto& [text, value] : choices) key.choices.push_back(text);
  key.set = [member, choices](Job& job, const JobValue& value) {
    const auto* text = std::get_if<std::string>(&value.data);
    for (const auto& [name_of_choice, choice] : choices)
      if (text && *text == name_of_choice) return member(job) = choice, true;
    return false;
  };
  key.get = [member, choices](Job job) {
    for (const auto& [text, choice] : choices)
      if (member(job) == choice) return toml_text(std::string_view(text));
    return std::string();
  };
  return key;
}

// A key that models declare. Several may: then it is read by all their kinds.
JobKey setting_key(const Setting& setting);

// Keys of one of a kind.
JobKey seed_key();
JobKey threads_key();
JobKey global_batch_key();
JobKey betas_key(std::string name, Member<std::array<double, 2>> member, std::string help);
JobKey layout_key();
JobKey bucket_key();
JobKey checkpoint_every_key();
JobKey eval_every_key();
JobKey hang_timeout_key();

}  // namespace takt

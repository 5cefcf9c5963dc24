// What must hold for every key of the table, and for finding keys by what people write.
#include "launch/schema.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <set>
#include <sstream>

#include "core/train/job_task.h"
#include "launch/job_toml.h"
#include "optimizers/optimizer.h"
#include "optimizers/schedule.h"

namespace takt {
namespace {

TEST(Schema, NamesAreUniqueAndNoKeyIsAlsoATable) {
  std::set<std::string> names;
  for (const JobKey& key : job_keys()) {
    EXPECT_TRUE(names.insert(key.name).second) << key.name;
    EXPECT_FALSE(is_job_table(key.name)) << key.name;
  }
}

TEST(Schema, VariablesOfTheEnvironmentAreUnique) {
  std::set<std::string> names;
  for (const JobKey& key : job_keys())
    EXPECT_TRUE(names.insert(environment_name(key.name)).second) << key.name;
}

TEST(Schema, EveryKeyExplainsItself) {
  for (const JobKey& key : job_keys()) {
    EXPECT_FALSE(key.type.empty()) << key.name;
    EXPECT_TRUE(key.help.ends_with('.')) << key.name;
  }
}

TEST(Schema, EveryDefaultIsAcceptedAndReadsBack) {
  for (const JobKey& key : job_keys()) {
    const auto value = read_toml_value(key.get(Job{}));
    ASSERT_TRUE(value) << key.name;
    Job job;
    EXPECT_TRUE(key.set(job, *value)) << key.name << " = " << key.get(Job{});
    EXPECT_EQ(key.get(job), key.get(Job{})) << key.name;
  }
}

TEST(Schema, EveryChoiceIsAccepted) {
  for (const JobKey& key : job_keys())
    for (const std::string& choice : key.choices) {
      Job job;
      EXPECT_TRUE(key.set(job, {.data = choice, .at = {}})) << key.name << " = " << choice;
      EXPECT_EQ(key.get(job), toml_text(std::string_view(choice)));
    }
}

TEST(Schema, ChoicesAreThoseOfTheRegistries) {
  const auto expect_choices = [](const std::string& name, const auto& registry) {
    std::vector<std::string> known;
    for (const auto& entry : registry) known.push_back(entry.name);
    EXPECT_EQ(find_job_key(name)->choices, known) << name;
  };
  expect_choices("model.kind", task_registry());
  expect_choices("optimizer.kind", optimizer_registry());
  expect_choices("optimizer.schedule.kind", schedule_registry());
}

TEST(Schema, KeysOfOneKindNameAKeyAndItsChoices) {
  for (const JobKey& key : job_keys()) {
    if (key.kind_key.empty()) continue;
    const JobKey* kind = find_job_key(key.kind_key);
    ASSERT_NE(kind, nullptr) << key.name;
    EXPECT_FALSE(key.kinds.empty()) << key.name;
    for (const std::string& name : key.kinds)
      EXPECT_NE(std::find(kind->choices.begin(), kind->choices.end(), name), kind->choices.end()) << key.name;
  }
}

// A key that several models read means the same in all of them.
TEST(Schema, ModelsThatShareASettingDeclareItAlike) {
  for (const TaskKind& one : task_registry())
    for (const TaskKind& other : task_registry())
      for (const Setting& setting : one.settings())
        if (const Setting* same = find_setting(other.settings(), setting.name)) {
          EXPECT_EQ(setting.fallback, same->fallback) << setting.name;
          EXPECT_EQ(setting.range, same->range) << setting.name;
          EXPECT_EQ(setting.help, same->help) << setting.name;
        }
}

TEST(Schema, NoKeyTakesADateAndARefusedValueChangesNothing) {
  for (const JobKey& key : job_keys()) {
    Job job;
    EXPECT_FALSE(key.set(job, {})) << key.name;
    EXPECT_EQ(key.get(job), key.get(Job{})) << key.name;
  }
}

struct Case {
  std::string key;
  std::string value;
};

TEST(Schema, ValuesWithUnitsReadBack) {
  for (const auto& [name, value] : std::vector<Case>{{"train.global_batch", "\"32 samples\""},
                                                     {"train.global_batch", "\"512 tokens\""},
                                                     {"checkpoint.every", "\"500 steps\""},
                                                     {"checkpoint.every", "\"20m\""},
                                                     {"checkpoint.every", "\"1.5s\""},
                                                     {"checkpoint.every", "\"2h\""},
                                                     {"checkpoint.every", "\"off\""},
                                                     {"eval.every", "\"100 steps\""},
                                                     {"eval.every", "\"off\""},
                                                     {"guard.hang_timeout", "\"600s\""},
                                                     {"guard.hang_timeout", "\"1.5s\""},
                                                     {"mesh.bucket", "\"40MB\""},
                                                     {"mesh.bucket", "\"64MiB\""},
                                                     {"mesh.bucket", "\"12345B\""},
                                                     {"mesh.bucket", "\"auto\""},
                                                     {"mesh.layout", "\"auto\""},
                                                     {"mesh.layout", "{ tensor = 2 }"},
                                                     {"mesh.layout", "{ data = 4, tensor = 2 }"},
                                                     {"mesh.layout", "{ data = 4, expert = 2, tensor = 2 }"},
                                                     {"mesh.layout", "{ expert = 4, tensor = 1 }"},
                                                     {"optimizer.betas", "[0.9, 0.999]"},
                                                     {"optimizer.lion_betas", "[0.95, 0.98]"},
                                                     {"optimizer.lr", "0.1"},
                                                     {"optimizer.lr", "1e-300"},
                                                     {"name", R"("a \"b\" \\ ü")"}}) {
    Job job;
    const JobKey* key = find_job_key(name);
    ASSERT_NE(key, nullptr) << name;
    ASSERT_TRUE(key->set(job, read_toml_value(value).value())) << name << " = " << value;
    EXPECT_EQ(key->get(job), value);
  }
}

TEST(Schema, WrongTypesUnitsAndRangesAreRefused) {
  for (const auto& [name, value] : std::vector<Case>{{"train.global_batch", "8192"},
                                                     {"train.global_batch", "\"8192\""},
                                                     {"train.global_batch", "\"8192 tok\""},
                                                     {"train.global_batch", "\"0 tokens\""},
                                                     {"train.global_batch", "\"-1 tokens\""},
                                                     {"checkpoint.every", "\"0 steps\""},
                                                     {"checkpoint.every", "\"0s\""},
                                                     {"checkpoint.every", "\"20 minutes\""},
                                                     {"checkpoint.every", "500"},
                                                     {"checkpoint.keep", "1"},
                                                     {"eval.every", "\"20m\""},
                                                     {"guard.hang_timeout", "\"0.9s\""},
                                                     {"guard.hang_timeout", "600"},
                                                     {"guard.hang_timeout", "\"off\""},
                                                     {"mesh.bucket", "\"0MB\""},
                                                     {"mesh.bucket", "\"40 parsec\""},
                                                     {"mesh.layout", "{}"},
                                                     {"mesh.layout", "{ data = 0 }"},
                                                     {"mesh.layout", "{ rows = 2 }"},
                                                     {"mesh.layout", "\"tensor\""},
                                                     {"optimizer.lr", "0"},
                                                     {"optimizer.lr", "-1e-3"},
                                                     {"optimizer.lr", "nan"},
                                                     {"optimizer.lr", "inf"},
                                                     {"optimizer.lr", "\"fast\""},
                                                     {"optimizer.betas", "[0.9]"},
                                                     {"optimizer.betas", "[0.9, 1.0]"},
                                                     {"optimizer.lion_betas", "[-0.1, 0.9]"},
                                                     {"optimizer.muon_momentum", "1"},
                                                     {"model.layers", "4.0"},
                                                     {"model.layers", "0"},
                                                     {"model.layers", "9223372036854775807"},
                                                     {"model.tied", "1"},
                                                     {"data.train", "[1]"},
                                                     {"train.precision", "\"fp64\""},
                                                     {"seed", "-1"},
                                                     {"threads", "99999"}}) {
    Job job;
    const JobKey* key = find_job_key(name);
    ASSERT_NE(key, nullptr) << name;
    EXPECT_FALSE(key->set(job, read_toml_value(value).value())) << name << " = " << value;
    EXPECT_EQ(key->get(job), key->get(Job{})) << name << " = " << value;
  }
}

TEST(Schema, UnknownKeysSuggestWhatWasMeant) {
  EXPECT_EQ(suggest_job_key("optimizer.learning_rate"), "lr");
  EXPECT_EQ(suggest_job_key("train.lr"), "optimizer.lr");
  EXPECT_EQ(suggest_job_key("model.n_layer"), "layers");
  EXPECT_EQ(suggest_job_key("optimizer.schedule.warmup_steps"), "warmup");
  EXPECT_EQ(suggest_job_key("optimiser"), "optimizer");
  EXPECT_EQ(suggest_job_key("optimizer.shedule"), "schedule");
  EXPECT_EQ(suggest_job_key("train.batch_size"), "global_batch");
  EXPECT_EQ(suggest_job_key("guard.zzzzzzzzzzzz"), std::nullopt);
}

TEST(Schema, DocsJobMdIsCurrent) {
  std::ifstream file(TAKT_SOURCE_DIR "/docs/job.md");
  std::ostringstream text;
  text << file.rdbuf();
  EXPECT_EQ(text.str(), job_keys_markdown()) << "run: takt keys --markdown > docs/job.md";
}

}  // namespace
}  // namespace takt

// Weights of another model than the job's are refused by name, whatever their tensors look like: config.json
// is read whole.
#include "core/train/language_task.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/state/files.h"

namespace takt {
namespace {

using nlohmann::json;

GptConfig model_of(const std::string& family) {
  GptConfig model;
  model.family = family == "gpt2" ? "gpt2" : "llama";
  model.experts = family == "mixtral" ? 4 : 0;
  model.heads = 4;
  model.kv_heads = family == "gpt2" ? 4 : 2;
  model.vocab = 500;
  return complete_gpt(model);
}

// As Takt exports it, which is as Hugging Face writes it.
json config_of(const GptConfig& model) {
  return json::parse(hugging_face_config(model, 0));
}

std::filesystem::path folder_with(const std::string& config) {
  const std::filesystem::path folder = testing::TempDir() + "/takt-pretrained-" + random_suffix();
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "config.json") << config;
  return folder;
}

std::string refusal(const std::string& config, const GptConfig& model) {
  try {
    EXPECT_TRUE(require_same_model(folder_with(config), LanguageTask(model)));
  } catch (const Error& error) {
    EXPECT_TRUE(error.fault() == Fault::kData || error.fault() == Fault::kConfig) << error.what();
    return error.what();
  }
  return "accepted";
}

TEST(Pretrained, WhatTaktExportsIsItsOwnModel) {
  for (const std::string family : {"llama", "mixtral", "gpt2"}) {
    const GptConfig model = model_of(family);
    EXPECT_EQ(refusal(config_of(model).dump(), model), "accepted");
  }
}

struct Kind {
  std::string family;
  json change;  // of the exported config.json; null takes a key out
  std::string error;
};

// Each of these trained as another function, without a word, while config.json was not read.
const std::vector<Kind> kOtherFunctions = {
    {"llama", {{"rope_theta", 500000.0}}, "model.rope_theta is 10000.0, the file has rope_theta = 500000.0"},
    {"llama",
     {{"rope_theta", nullptr}, {"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 5e5}}}},
     "model.rope_theta is 10000.0, the file has rope_parameters = {\"rope_theta\":500000.0"},
    {"llama",
     {{"rope_scaling", {{"rope_type", "llama3"}, {"factor", 8.0}}}},
     "rotary positions are not scaled"},
    {"llama", {{"rope_scaling", {{"type", "linear"}, {"factor", 2.0}}}}, "rotary positions are not scaled"},
    {"llama", {{"rope_parameters", {{"rope_type", "yarn"}, {"rope_theta", 1e4}}}}, "not scaled"},
    {"llama", {{"partial_rotary_factor", 0.5}}, "partial_rotary_factor is 0.5, which is not done here"},
    {"llama", {{"rms_norm_eps", 1e-6}}, "model.norm_eps is 1e-05, the file has rms_norm_eps = 1e-06"},
    {"llama", {{"rms_norm_eps", nullptr}}, "rms_norm_eps = 1e-06 (by being without it)"},
    {"llama", {{"hidden_act", "gelu"}}, "hidden_act is \"gelu\", which is not done here; wanted \"silu\""},
    {"llama", {{"num_attention_heads", 8}}, "model.heads is 4, the file has num_attention_heads = 8"},
    {"llama", {{"num_key_value_heads", 4}}, "model.kv_heads is 2, the file has num_key_value_heads = 4"},
    {"llama", {{"head_dim", 128}}, "head_dim is 128, which is not done here; wanted 64"},
    {"llama", {{"model_type", "mistral"}, {"sliding_window", 4096}}, "sliding_window is 4096"},
    {"llama", {{"model_type", "mistral"}}, "mistral without the key sliding_window"},
    {"llama", {{"model_type", "gemma"}}, "model_type is \"gemma\""},
    {"llama", {{"model_type", "gemma2"}, {"attn_logit_softcapping", 50.0}}, "model_type is \"gemma2\""},
    {"llama", {{"model_type", "granite"}}, "model_type is \"granite\""},
    {"llama", {{"model_type", nullptr}}, "model_type is \"absent\""},
    {"llama", {{"embedding_multiplier", 12.0}}, "embedding_multiplier is 12.0, a key that is not known here"},
    {"llama", {{"logits_scaling", 8.0}}, "logits_scaling is 8.0, a key that is not known here"},
    {"llama", {{"attention_bias", true}}, "attention_bias is true"},
    {"llama", {{"mlp_bias", true}}, "mlp_bias is true"},
    {"llama",
     {{"tie_word_embeddings", true}},
     "model.tied is false, the file has tie_word_embeddings = true"},
    {"llama", {{"quantization_config", {{"bits", 4}}}}, "quantization_config is {\"bits\":4}"},
    {"llama", {{"auto_map", {{"AutoModel", "x.Y"}}}}, "auto_map"},
    {"llama", {{"model_type", "gpt2"}}, "set model.family = \"gpt2\""},
    {"llama",
     {{"model_type", "mixtral"}, {"sliding_window", nullptr}, {"num_local_experts", 4}},
     "set model.experts = 4"},
    {"mixtral", {{"model_type", "llama"}}, "has no experts, but model.experts is 4"},
    {"mixtral", {{"num_local_experts", 8}}, "model.experts is 4, the file has num_local_experts = 8"},
    {"mixtral",
     {{"num_experts_per_tok", 3}},
     "model.experts_per_token is 2, the file has num_experts_per_tok = 3"},
    {"mixtral", {{"rope_theta", nullptr}}, "rope_theta = 1000000.0 (by being without it)"},
    {"mixtral", {{"sliding_window", 4096}}, "sliding_window is 4096"},
    {"mixtral", {{"router_jitter_noise", 0.1}}, "router_jitter_noise is 0.1"},
    {"gpt2", {{"model_type", "llama"}}, "set model.family = \"llama\""},
    {"gpt2", {{"activation_function", "gelu"}}, "activation_function is \"gelu\""},
    {"gpt2", {{"activation_function", "relu"}}, "activation_function is \"relu\""},
    {"gpt2", {{"scale_attn_weights", false}}, "scale_attn_weights is false"},
    {"gpt2", {{"scale_attn_by_inverse_layer_idx", true}}, "scale_attn_by_inverse_layer_idx is true"},
    {"gpt2", {{"layer_norm_epsilon", 1e-6}}, "the file has layer_norm_epsilon = 1e-06"},
    {"gpt2", {{"n_head", 2}}, "model.heads is 4, the file has n_head = 2"},
    {"gpt2", {{"n_positions", 1024}}, "model.seq is 256, the file has n_positions = 1024"},
    {"gpt2", {{"tie_word_embeddings", nullptr}}, "tie_word_embeddings = true (by being without it)"},
    {"gpt2", {{"add_cross_attention", true}}, "add_cross_attention is true"},
};

TEST(Pretrained, CheckpointsThatAreAnotherFunctionAreRefusedByName) {
  for (const Kind& kind : kOtherFunctions) {
    const GptConfig model = model_of(kind.family);
    json config = config_of(model);
    config.merge_patch(kind.change);
    const std::string error = refusal(config.dump(), model);
    EXPECT_NE(error.find("config.json: "), std::string::npos) << kind.change << "\n" << error;
    EXPECT_NE(error.find(kind.error), std::string::npos) << kind.change << "\n" << error;
  }
}

// What published files say beside that, and other ways to say the same.
TEST(Pretrained, KeysWithoutAnEffectAndOtherWordsForTheSameAreAccepted) {
  const std::vector<std::pair<std::string, std::string>> same = {
      {"llama", R"({"rope_scaling": null, "head_dim": 64, "hidden_act": "swish", "pretraining_tp": 2})"},
      {"llama", R"({"rope_parameters": {"rope_type": "default", "rope_theta": 10000}})"},
      {"llama", R"({"rms_norm_eps": 9.999999747378752e-06, "attention_dropout": 0.1, "_name_or_path": "a"})"},
      {"llama", R"({"model_type": "mistral", "sliding_window": null, "max_position_embeddings": 131072})"},
      {"gpt2", R"({"n_inner": null, "n_ctx": 1024, "attn_pdrop": 0.1, "summary_type": "cls_index"})"},
      {"gpt2",
       R"({"task_specific_params": {"text-generation": {"do_sample": true}}, "id2label": {"0": "a"}})"}};
  for (const auto& [family, change] : same) {
    const GptConfig model = model_of(family);
    json config = config_of(model);
    config.update(json::parse(change));
    EXPECT_EQ(refusal(config.dump(), model), "accepted") << change;
  }
}

TEST(Pretrained, AllKeysThatDifferAreNamedAtOnce) {
  GptConfig model = model_of("llama");
  const std::string config = config_of(model).dump();
  model.layers = 2;
  model.mlp = 64;
  const std::string error = refusal(config, model);
  EXPECT_NE(error.find("model.layers is 2, the file has num_hidden_layers = 4"), std::string::npos) << error;
  EXPECT_NE(error.find("model.mlp is 64, the file has intermediate_size = 704"), std::string::npos) << error;
}

TEST(Pretrained, DamagedConfigsAreDataErrors) {
  const GptConfig model = model_of("llama");
  EXPECT_NE(refusal("{", model).find("not valid JSON"), std::string::npos);
  EXPECT_NE(refusal("[]", model).find("no JSON object"), std::string::npos);
  EXPECT_NE(refusal("{\"model_type\":\"llama\",\"model_type\":\"gemma\"}", model).find("twice"),
            std::string::npos);
}

TEST(Pretrained, TheConfigLiesBesideAFileAsWellAsInAFolder) {
  const GptConfig model = model_of("llama");
  const std::filesystem::path folder = folder_with(config_of(model).dump());
  EXPECT_TRUE(require_same_model(folder / "model.safetensors", LanguageTask(model)));
  std::filesystem::remove(folder / "config.json");
  EXPECT_FALSE(require_same_model(folder / "model.safetensors", LanguageTask(model)));
  EXPECT_FALSE(require_same_model(folder, LanguageTask(model)));
}

}  // namespace
}  // namespace takt

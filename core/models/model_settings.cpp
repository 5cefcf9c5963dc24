// Defaults are those of a model that a laptop trains.
#include "core/models/model_settings.h"

namespace takt {

Setting layers_setting() {
  return {.name = "model.layers",
          .fallback = std::int64_t{4},
          .range = from_to(1, kMostExtent),
          .help = "Blocks of the residual stream.",
          .aliases = {"n_layer", "n_layers", "num_layers", "num_hidden_layers", "depth"}};
}

Setting embed_setting() {
  return {.name = "model.embed",
          .fallback = std::int64_t{256},
          .range = from_to(1, kMostExtent),
          .help = "Width of the residual stream.",
          .aliases = {"n_embd", "hidden", "hidden_size", "dim", "d_model", "width", "embed_dim"}};
}

Setting mlp_setting() {
  return {.name = "model.mlp",
          .fallback = std::int64_t{0},
          .range = from_to(0, kMostExtent),
          .help = "Width of the feed-forward layers. 0: from the model and its family.",
          .aliases = {"ffn", "ffn_dim", "intermediate_size", "mlp_dim", "hidden_dim"}};
}

Setting norm_eps_setting() {
  return {.name = "model.norm_eps",
          .fallback = 1e-5,
          .range = above(0),
          .help = "Added under the root of the norms.",
          .aliases = {"rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon"}};
}

Setting init_std_setting() {
  return {.name = "model.init_std",
          .fallback = 0.02,
          .range = at_least(0),
          .help = "Standard deviation of the initial weights.",
          .aliases = {"initializer_range", "init_method_std"}};
}

}  // namespace takt

// What the nodes of AdamW and of LAMB's direction have as attributes.
#pragma once

#include "core/graph/op.h"

namespace takt {

struct AdamConstants {
  double beta1, beta2, eps, decay;
  explicit AdamConstants(const OpArgs& args)
      : beta1(args.attrs.number("beta1")),
        beta2(args.attrs.number("beta2")),
        eps(args.attrs.number("eps")),
        decay(args.attrs.number("decay")) {}
};

}  // namespace takt

// decoder.h - THE forward pass: the order of the blocks. Not for: what a block computes (dsopt/backend.h),
// which weights it has (blocks.h), how one family differs from another (arch/).
#ifndef DSOPT_MODEL_DECODER_H_
#define DSOPT_MODEL_DECODER_H_

#include "model/arch/architecture.h"
#include "model/blocks.h"

namespace dsopt {

// Declares (weights NULL) or records the whole model. config has passed CheckConfig and architecture.check.
Recording RecordDecoder(const Architecture& architecture, const ConfigSpec& config, const PageLayout& pages,
                        const std::vector<Weight>* weights);

}  // namespace dsopt
#endif  // DSOPT_MODEL_DECODER_H_

// gguf_rope.h - rotary positions in a GGUF file: keys, and for Llama 3 a tensor of factors.
#ifndef DSOPT_IMPORT_GGUF_ROPE_H_
#define DSOPT_IMPORT_GGUF_ROPE_H_

#include "base/status.h"
#include "import/gguf_checkpoint.h"
#include "spec/model_spec.h"

namespace dsopt {

// Everything but rope->dim, which is set, and rope->interleaved. DSOPT_E_UNSUPPORTED: a scaling or factors that
// RopeSpec cannot express.
Status ParseGgufRope(const GgufCheckpoint& checkpoint, const GgufKeys& keys, uint32_t context, RopeSpec* rope);

}  // namespace dsopt
#endif  // DSOPT_IMPORT_GGUF_ROPE_H_

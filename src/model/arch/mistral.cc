// mistral.cc - Mistral: Llama's layer with an optional sliding window and a head size of its own (arXiv
// 2310.06825).
#include "model/arch/architecture.h"

namespace dsopt {

const Architecture kMistral = {"mistral", CheckDenseAttention, AttentionLayer};

}  // namespace dsopt

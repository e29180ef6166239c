// float_model.h - a float model that reads windows of tokens, a layer at a time with the operators of
// libdsopt.so, and shows the inputs of its matrices to a listener. Holds one layer's weights at a time.
#ifndef DSOPT_TOOLS_FLOAT_MODEL_H_
#define DSOPT_TOOLS_FLOAT_MODEL_H_

#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "import/tensor_source.h"
#include "spec/model_spec.h"
#include "tools/float_ops.h"

namespace dsopt::tools {

class InputListener {
 public:
  virtual ~InputListener() = default;
  // inputs [rows, cols] are those of all matrices in `names`, full names of tensors; of experts, those of one
  // of them. Comes before the matrices are read for their products. An expert that no token chose has no
  // inputs.
  virtual Status OnInputs(const std::vector<std::string>& names, uint64_t expert,
                          const std::vector<float>& inputs, uint64_t rows) = 0;
  // Another matrix to multiply with: what will take the place of `values`, rows of a tensor or of one expert.
  virtual void OnMatrix(const std::string&, uint64_t /*expert*/, std::vector<float>* /*values*/) {}
};

// [thread-compatible]
class FloatModel {
 public:
  // spec and tensors must outlive the model. window: tokens; windows do not see each other.
  static Result<std::unique_ptr<FloatModel>> Create(const ConfigSpec& spec, std::vector<TensorSource>* tensors,
                                                    uint64_t window);
  // Whole windows. Then every layer once, in order; then Finish, which shows the inputs of the head.
  Status Embed(const std::vector<int32_t>& tokens);
  Status RunLayer(uint32_t layer, InputListener* listener);
  Status Finish(InputListener* listener);

  FloatOps* ops() { return ops_.get(); }
  // A tensor, or one expert of it, as floats, by its full name.
  Result<std::vector<float>> Read(const std::string& name, uint64_t expert = 0, uint64_t experts = 1);

 private:
  using Floats = std::vector<float>;

  FloatModel(const ConfigSpec& spec, std::vector<TensorSource>* tensors, uint64_t window)
      : spec_(spec), window_(window), tensors_(*tensors) {}
  TensorSource* Find(const std::string& name);
  Status Show(std::vector<std::string> names, const Floats& inputs, uint64_t rows, uint64_t expert = 0);
  Result<Floats> Norm(const Floats& x, const char* name, float eps);
  Result<Floats> Product(const std::string& name, const Floats& in, bool bias);
  Result<Floats> ExpertProduct(const std::string& name, const MoeSpec& moe, uint64_t expert, const Floats& in,
                               uint64_t rows);
  void AddTo(const Floats& values);
  void Rotate(const RopeSpec& spec, uint64_t heads, uint64_t head_dim, uint64_t first, Floats* values) const;
  Status Attention(const LayerKind& kind, const Floats& h);
  Status Latent(const LayerKind& kind, const Floats& h);
  Status Gated(Activation activation, const std::string& at, bool bias, const Floats& h);
  Status Mixture(const MlpSpec& mlp, const Floats& h);
  std::vector<Floats> Route(const MoeSpec& moe, const Floats& logits) const;

  const ConfigSpec& spec_;
  const uint64_t window_;
  std::vector<TensorSource>& tensors_;
  std::unique_ptr<FloatOps> ops_;
  InputListener* listener_ = nullptr;
  uint64_t tokens_ = 0;
  std::string prefix_;
  Floats x_;
};

// How much of a text is read: windows spread over it.
struct TextWindows {
  uint32_t windows = 8, window = 256;  // tokens
};
// Whole windows of tokens, each with the beginning-of-sequence token first if there is one.
// DSOPT_E_INVALID_ARGUMENT without a tokenizer, or when the text is shorter than a window.
Result<std::vector<int32_t>> TokenWindows(const std::string& text, const TextWindows& windows,
                                          const TokenizerSpec& tokenizer);

}  // namespace dsopt::tools
#endif  // DSOPT_TOOLS_FLOAT_MODEL_H_

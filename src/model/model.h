// model.h - a model: what its file says, where it runs, its packed weights, and the block list a session
// records. Not for: reading weights (loader.h), text (text/), the cache and the scheduler (runtime/).
#ifndef DSOPT_MODEL_MODEL_H_
#define DSOPT_MODEL_MODEL_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "base/log.h"
#include "base/memory.h"
#include "base/status.h"
#include "device/device.h"
#include "format/source.h"
#include "model/config.h"
#include "model/weights.h"
#include "spec/model_spec.h"

namespace dsopt {

// The part of a dsopt_program_desc that follows from the model, the cache type and the precision. Owns the
// arrays that the descriptor points to; refers to the model's weights, so it must not outlive the model.
// Immutable. [thread-safe]
class ProgramPlan {
 public:
  // Sets blocks, ropes, hidden, vocab, page_tokens, page_bytes, kv_dtype and precision. Leaves the rest alone.
  void Fill(dsopt_program_desc* desc) const;

  const std::vector<dsopt_block>& blocks() const { return blocks_; }
  uint32_t page_tokens() const { return kPageTokens; }
  uint64_t page_bytes() const { return page_bytes_; }
  dsopt_dtype kv_dtype() const { return kv_dtype_; }
  dsopt_precision precision() const { return precision_; }

 private:
  friend class Model;
  std::vector<dsopt_block> blocks_;
  std::vector<RopeTable> rope_tables_;
  std::vector<dsopt_rope> ropes_;  // point into rope_tables_
  uint32_t hidden_ = 0, vocab_ = 0;
  uint64_t page_bytes_ = 0;
  dsopt_dtype kv_dtype_ = DSOPT_DTYPE_DEFAULT;
  dsopt_precision precision_ = DSOPT_PRECISION_FAST;
};

// Use: Create -> pick a device with raw_weight_bytes() free -> ModelLoader (loader.h) -> loaded(). A model
// without a loader is a metadata-only model. Everything but the loader's publication is const. [thread-safe]
class Model {
 public:
  // Reads and checks the header of a model file, then Create.
  static Result<std::shared_ptr<Model>> FromSource(Source& source, const dsopt_allocator& allocator,
                                                   const Logger& log);
  // Checks the configuration against the rules of its architecture. DSOPT_E_UNSUPPORTED: an architecture or a
  // combination this build does not know; DSOPT_E_CORRUPT: values that contradict each other. Tensors are
  // checked by the loader.
  static Result<std::shared_ptr<Model>> Create(ModelSpec spec, const Logger& log);
  ~Model();
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  const ModelSpec& spec() const { return spec_; }
  const ConfigSpec& config() const { return spec_.config; }
  const Logger& log() const { return log_; }
  uint64_t fingerprint() const { return spec_.fingerprint; }
  uint64_t parameter_count() const { return parameter_count_; }
  // Of the tensors as stored in the file, decoded: a good estimate of what a device needs.
  uint64_t raw_weight_bytes() const;
  // Of one position over all layers, whole pages divided by their positions. DEFAULT: BF16.
  uint64_t kv_bytes_per_token(dsopt_dtype kv_dtype) const;

  // The weights are complete and readable by every thread.
  bool loaded() const { return loaded_.load(std::memory_order_acquire); }
  // The device chosen for loading; NULL before a loader was created.
  std::shared_ptr<Device> device() const;
  // On the device, after packing; 0 before a loader was created.
  uint64_t weight_bytes() const { return weight_bytes_.load(std::memory_order_relaxed); }

  // kv_dtype DEFAULT: BF16, or F32 with PRECISION_REFERENCE. DSOPT_E_INVALID_STATE before loaded();
  // DSOPT_E_UNSUPPORTED for what is no cache type.
  Result<std::unique_ptr<const ProgramPlan>> Plan(dsopt_dtype kv_dtype, dsopt_precision precision) const;

 private:
  friend class ModelLoader;
  Model(ModelSpec spec, const Logger& log) : spec_(std::move(spec)), log_(log) {}
  void SetDevice(std::shared_ptr<Device> device, uint64_t weight_bytes);
  // Makes the weights (in the order of declarations_) visible.
  void Publish(std::vector<Weight> weights);

  ModelSpec spec_;
  Logger log_;
  std::vector<WeightDeclaration> declarations_;
  uint64_t parameter_count_ = 0;
  std::atomic<uint64_t> weight_bytes_{0};
  mutable std::mutex device_mutex_;  // guards device_ until loaded
  std::shared_ptr<Device> device_;   // declared before weights_: outlives them
  std::vector<Weight> weights_;
  std::atomic<bool> loaded_{false};
};

}  // namespace dsopt
#endif  // DSOPT_MODEL_MODEL_H_

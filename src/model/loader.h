// loader.h - brings the weights of a model file onto a device, a chunk at a time, so that a host can load
// inside its frame budget. Not for: choosing the device, progress callbacks (runtime/).
#ifndef DSOPT_MODEL_LOADER_H_
#define DSOPT_MODEL_LOADER_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/memory.h"
#include "base/status.h"
#include "device/device.h"
#include "format/read_ahead.h"
#include "format/source.h"
#include "model/model.h"

namespace dsopt {

struct LoadOptions {
  uint64_t max_device_bytes = 0;              // of packed weights; 0: no limit
  bool verify = false;                        // also check the checksum of the decoded bytes
  uint32_t workers = 0;                       // threads that decode chunks ahead; 0: the caller's does it all
  const std::atomic<bool>* cancel = nullptr;  // read between chunks; must outlive the loader
};

// [thread-compatible] Destroying an unfinished loader frees what was loaded; the model stays metadata-only.
class ModelLoader {
 public:
  // Checks every tensor the model needs (presence, type, shape), plans the packed bytes and compares them with
  // max_device_bytes and the device's free memory, all before a weight is allocated. DSOPT_E_CORRUPT names a
  // tensor and both shapes; DSOPT_E_DEVICE_MEMORY names both sizes. allocator must outlive the loader; source
  // is destroyed with it.
  static Result<std::unique_ptr<ModelLoader>> Create(std::shared_ptr<Model> model,
                                                     std::unique_ptr<Source> source,
                                                     std::shared_ptr<Device> device,
                                                     const dsopt_allocator& allocator,
                                                     const LoadOptions& options);
  ~ModelLoader();
  ModelLoader(const ModelLoader&) = delete;
  ModelLoader& operator=(const ModelLoader&) = delete;

  // Loads chunks (at least one) until about deadline_ns of CLOCK_MONOTONIC; UINT64_MAX: to the end. When *done
  // becomes true the model is loaded(). Between two calls the workers decode what was read. progress (may be NULL) is in [0, 1]. A failure is final: the same
  // status is returned again, and the weights are gone. DSOPT_E_CANCELLED when options.cancel was set.
  Status Step(uint64_t deadline_ns, bool* done, float* progress);

 private:
  ModelLoader(std::shared_ptr<Model> model, std::unique_ptr<Source> source, std::shared_ptr<Device> device,
              const LoadOptions& options);
  Result<uint64_t> PackedBytes() const;  // of all weights; fails when they do not fit
  Status StepUnit();                     // one chunk or one fill
  Status CheckScalesSupport() const;
  Status LoadChunk(const TensorPlan& plan);
  Status LoadValues(const TensorPlan& plan, std::span<const uint8_t> bytes, uint64_t count);
  Status LoadScales(const TensorPlan& plan, std::span<const uint8_t> bytes, uint64_t count);
  Status Write(uint32_t weight, uint64_t first_element, uint64_t count, const TensorSpec& tensor,
               const uint8_t* src);
  Status WriteScales(uint32_t weight, uint64_t first_group, uint64_t count, dsopt_dtype dtype,
                     const uint8_t* scales, const uint8_t* offsets);
  Status EnsureWeight(uint32_t index);
  Status Complete();

  std::shared_ptr<Model> model_;
  std::unique_ptr<Source> source_;
  std::shared_ptr<Device> device_;  // declared before weights_: outlives them
  LoadOptions options_;
  LoadPlan plan_;
  std::unique_ptr<ReadAhead> reader_;
  std::vector<Weight> weights_;
  Buffer scratch_;             // converted elements
  Buffer scales_;              // a chunk of scales, while that of its offsets is read
  size_t next_tensor_ = 0;     // of plan_.tensors
  uint32_t next_chunk_ = 0;    // of that tensor
  uint64_t next_element_ = 0;  // of that tensor
  size_t next_fill_ = 0;       // of plan_.fills
  uint64_t units_done_ = 0, units_total_ = 0;
  bool done_ = false;
  Status failure_;
};

}  // namespace dsopt
#endif  // DSOPT_MODEL_LOADER_H_

// program.h - RAII over dsopt_be_program: the blocks, cache and workspace of one session.
#ifndef DSOPT_RUNTIME_PROGRAM_H_
#define DSOPT_RUNTIME_PROGRAM_H_

#include <cstdint>
#include <utility>

#include "base/status.h"
#include "device/device.h"
#include "dsopt/backend.h"

namespace dsopt {

// Move-only. The device must outlive it. Thread rules: those of backend.h. [thread-compatible]
class Program {
 public:
  Program() = default;
  static Result<Program> Create(const Device& device, const dsopt_program_desc& desc) {
    dsopt_be_program* handle = nullptr;
    RETURN_IF_ERROR(BackendStatus(device.api().program_create(device.handle(), &desc, &handle), "session"));
    return Program(&device.api(), handle);
  }
  Program(Program&& other) noexcept { *this = std::move(other); }
  Program& operator=(Program&& other) noexcept {
    std::swap(api_, other.api_);
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Program() {
    if (handle_ != nullptr) api_->program_destroy(handle_);
  }

  Status Begin(const dsopt_batch& batch) {
    return BackendStatus(api_->program_begin(handle_, &batch), "batch");
  }
  // The bare status: DSOPT_OK, DSOPT_PENDING or a failure whose message BackendStatus() still has to take.
  dsopt_status Advance(uint64_t deadline_ns, uint64_t* wait_us) {
    return api_->program_advance(handle_, deadline_ns, wait_us);
  }
  Status GetResult(dsopt_batch_result* result) {
    *result = {};
    result->struct_size = sizeof *result;
    return BackendStatus(api_->program_result(handle_, result), "batch");
  }
  Status Cancel() { return BackendStatus(api_->program_cancel(handle_), "batch"); }
  Status ReadLogits(uint32_t index, float* dst) {
    return BackendStatus(api_->program_read_logits(handle_, index, dst), "logits");
  }
  Status CopyPage(int32_t dst, int32_t src) {
    return BackendStatus(
        api_->program_copy_page(handle_, static_cast<uint32_t>(dst), static_cast<uint32_t>(src)), "cache page");
  }
  Status ReadPage(int32_t page, void* dst) {
    return BackendStatus(api_->program_read_page(handle_, static_cast<uint32_t>(page), dst), "cache page");
  }
  Status WritePage(int32_t page, const void* src) {
    return BackendStatus(api_->program_write_page(handle_, static_cast<uint32_t>(page), src), "cache page");
  }

 private:
  Program(const dsopt_backend_api* api, dsopt_be_program* handle) : api_(api), handle_(handle) {}
  const dsopt_backend_api* api_ = nullptr;
  dsopt_be_program* handle_ = nullptr;
};

}  // namespace dsopt
#endif  // DSOPT_RUNTIME_PROGRAM_H_

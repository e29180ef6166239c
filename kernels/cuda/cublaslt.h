// cublaslt.h - large prefill products through libcublasLt, found with dlopen; absent, our own kernel does the work.
#ifndef DSOPT_CUDA_CUBLASLT_H_
#define DSOPT_CUDA_CUBLASLT_H_

#include "host.h"
#include "launch.h"

namespace dsopt_cuda {

inline constexpr uint64_t kLtWorkspaceBytes = uint64_t{32} << 20;

// [thread-safe]. One per device.
class CublasLt {
 public:
  // Null when the library is not there or does not answer.
  static CublasLt* Load(const dsopt_host_api& host);
  static void Unload(const dsopt_host_api& host, CublasLt* lt);

  // out (+)= in W^T without bias: kStore (bf16 or f32) and kAdd of LinearArgs, one product. False: not possible here,
  // use another kernel; *error then stays cudaSuccess.
  bool Run(const Launch& launch, const LinearArgs& args, void* workspace, cudaError_t* error);

  CublasLt() = default;
  ~CublasLt();
  CublasLt(const CublasLt&) = delete;
  CublasLt& operator=(const CublasLt&) = delete;

 private:
  struct State;
  bool Open();
  State* state_ = nullptr;
  alignas(16) unsigned char storage_[16384];
};

}  // namespace dsopt_cuda
#endif  // DSOPT_CUDA_CUBLASLT_H_

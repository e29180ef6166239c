// cublaslt.cc - the few entries of libcublasLt that a bf16 product needs, resolved by name at run time.
#include "cublaslt.h"

#include <dlfcn.h>

#include <mutex>

#if __has_include(<cublasLt.h>)
#include <cublasLt.h>
#define DSOPT_HAVE_CUBLASLT 1
#endif

namespace dsopt_cuda {

#ifdef DSOPT_HAVE_CUBLASLT

namespace {

constexpr int kPlans = 48;

// A product's shape and the algorithm the library chose for it.
struct Plan {
  int m = 0, n = 0, k = 0;
  int64_t in_stride = 0, out_stride = 0;
  bool out_f32 = false, add = false, usable = false;
  cublasLtMatmulDesc_t desc = nullptr;
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, d = nullptr;
  cublasLtMatmulAlgo_t algo{};
};

}  // namespace

struct CublasLt::State {
  std::mutex mutex;
  void* library = nullptr;
  cublasLtHandle_t handle = nullptr;
  decltype(&cublasLtCreate) create = nullptr;
  decltype(&cublasLtDestroy) destroy = nullptr;
  decltype(&cublasLtMatmul) matmul = nullptr;
  decltype(&cublasLtMatmulDescCreate) desc_create = nullptr;
  decltype(&cublasLtMatmulDescDestroy) desc_destroy = nullptr;
  decltype(&cublasLtMatmulDescSetAttribute) desc_set = nullptr;
  decltype(&cublasLtMatrixLayoutCreate) layout_create = nullptr;
  decltype(&cublasLtMatrixLayoutDestroy) layout_destroy = nullptr;
  decltype(&cublasLtMatmulPreferenceCreate) preference_create = nullptr;
  decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy = nullptr;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set = nullptr;
  decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic = nullptr;
  Plan plans[kPlans];
  int used = 0, next = 0;

  template <typename F>
  bool Resolve(F* f, const char* name) {
    *f = reinterpret_cast<F>(dlsym(library, name));
    return *f != nullptr;
  }
  void Drop(Plan& plan) {
    if (plan.a != nullptr) layout_destroy(plan.a);
    if (plan.b != nullptr) layout_destroy(plan.b);
    if (plan.d != nullptr) layout_destroy(plan.d);
    if (plan.desc != nullptr) desc_destroy(plan.desc);
    plan = Plan{};
  }
  // Column-major view: D[n, rows] = W^T[n, k] in[k, rows].
  bool Make(Plan& plan, const LinearArgs& args) {
    plan.m = args.n;
    plan.n = args.rows;
    plan.k = args.k;
    plan.in_stride = args.in_row_stride;
    plan.out_stride = args.out_row_stride;
    plan.add = args.epilogue == Epilogue::kAdd;
    plan.out_f32 = plan.add || args.out_f32;
    const cublasOperation_t transposed = CUBLAS_OP_T, plain = CUBLAS_OP_N;
    const uint64_t k = static_cast<uint64_t>(args.k), n = static_cast<uint64_t>(args.n),
                   rows = static_cast<uint64_t>(args.rows);
    bool ok = desc_create(&plan.desc, CUBLAS_COMPUTE_32F, CUDA_R_32F) == CUBLAS_STATUS_SUCCESS;
    ok = ok && desc_set(plan.desc, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed) == 0;
    ok = ok && desc_set(plan.desc, CUBLASLT_MATMUL_DESC_TRANSB, &plain, sizeof plain) == 0;
    ok = ok && layout_create(&plan.a, CUDA_R_16BF, k, n, args.k) == 0;
    ok = ok && layout_create(&plan.b, CUDA_R_16BF, k, rows, plan.in_stride) == 0;
    ok = ok && layout_create(&plan.d, plan.out_f32 ? CUDA_R_32F : CUDA_R_16BF, n, rows, plan.out_stride) == 0;
    cublasLtMatmulPreference_t preference = nullptr;
    ok = ok && preference_create(&preference) == 0;
    if (!ok) return false;
    const uint64_t workspace = kLtWorkspaceBytes;
    preference_set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace);
    cublasLtMatmulHeuristicResult_t result{};
    int found = 0;
    const cublasStatus_t status =
        heuristic(handle, plan.desc, plan.a, plan.b, plan.d, plan.d, preference, 1, &result, &found);
    preference_destroy(preference);
    if (status != CUBLAS_STATUS_SUCCESS || found < 1 || result.state != CUBLAS_STATUS_SUCCESS) return false;
    plan.algo = result.algo;
    return true;
  }
  Plan& Find(const LinearArgs& args) {
    const bool add = args.epilogue == Epilogue::kAdd, out_f32 = add || args.out_f32;
    for (int i = 0; i < used; ++i) {
      Plan& p = plans[i];
      if (p.m == args.n && p.n == args.rows && p.k == args.k && p.in_stride == args.in_row_stride &&
          p.out_stride == args.out_row_stride && p.add == add && p.out_f32 == out_f32)
        return p;
    }
    Plan& p = plans[used < kPlans ? used++ : next++ % kPlans];
    Drop(p);
    p.usable = Make(p, args);
    return p;
  }
};

bool CublasLt::Open() {
  static_assert(sizeof(State) <= sizeof storage_);
  state_ = new (storage_) State();
  State& s = *state_;
  for (const char* name : {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"}) {
    s.library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (s.library != nullptr) break;
  }
  return s.library != nullptr && s.Resolve(&s.create, "cublasLtCreate") &&
         s.Resolve(&s.destroy, "cublasLtDestroy") && s.Resolve(&s.matmul, "cublasLtMatmul") &&
         s.Resolve(&s.desc_create, "cublasLtMatmulDescCreate") &&
         s.Resolve(&s.desc_destroy, "cublasLtMatmulDescDestroy") &&
         s.Resolve(&s.desc_set, "cublasLtMatmulDescSetAttribute") &&
         s.Resolve(&s.layout_create, "cublasLtMatrixLayoutCreate") &&
         s.Resolve(&s.layout_destroy, "cublasLtMatrixLayoutDestroy") &&
         s.Resolve(&s.preference_create, "cublasLtMatmulPreferenceCreate") &&
         s.Resolve(&s.preference_destroy, "cublasLtMatmulPreferenceDestroy") &&
         s.Resolve(&s.preference_set, "cublasLtMatmulPreferenceSetAttribute") &&
         s.Resolve(&s.heuristic, "cublasLtMatmulAlgoGetHeuristic") && s.create(&s.handle) == CUBLAS_STATUS_SUCCESS;
}

CublasLt::~CublasLt() {
  if (state_ == nullptr) return;
  State& s = *state_;
  for (int i = 0; i < s.used; ++i) s.Drop(s.plans[i]);
  if (s.handle != nullptr) s.destroy(s.handle);
  if (s.library != nullptr) dlclose(s.library);
  s.~State();
}

bool CublasLt::Run(const Launch& launch, const LinearArgs& args, void* workspace, cudaError_t* error) {
  *error = cudaSuccess;
  State& s = *state_;
  const std::lock_guard<std::mutex> lock(s.mutex);
  const Plan& plan = s.Find(args);
  if (!plan.usable) return false;
  const float alpha = 1.0f, beta = plan.add ? 1.0f : 0.0f;
  const cublasStatus_t status =
      s.matmul(s.handle, plan.desc, &alpha, args.weight, plan.a, args.in, plan.b, &beta, args.out, plan.d, args.out,
               plan.d, &plan.algo, workspace, kLtWorkspaceBytes, launch.stream);
  if (status == CUBLAS_STATUS_SUCCESS) return true;
  if (status == CUBLAS_STATUS_EXECUTION_FAILED) {
    *error = cudaGetLastError();
    if (*error == cudaSuccess) *error = cudaErrorLaunchFailure;
    return true;
  }
  return false;
}

#else  // built without cublasLt.h: never found

struct CublasLt::State {};
bool CublasLt::Open() { return false; }
CublasLt::~CublasLt() = default;
bool CublasLt::Run(const Launch&, const LinearArgs&, void*, cudaError_t*) { return false; }

#endif

CublasLt* CublasLt::Load(const dsopt_host_api& host) {
  CublasLt* lt = HostNew<CublasLt>(host.allocator);
  if (lt->Open()) return lt;
  HostDelete(host.allocator, lt);
  return nullptr;
}

void CublasLt::Unload(const dsopt_host_api& host, CublasLt* lt) { HostDelete(host.allocator, lt); }

}  // namespace dsopt_cuda

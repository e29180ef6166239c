// record_linear.cc - which kernel a product gets: by rows, by how its weights are kept, by what this GPU can do.
#include "cublaslt.h"
#include "pack.h"
#include "program.h"

using namespace dsopt_cuda;

namespace {

// From so many rows on the library's kernels beat ours: those for few rows read the activations from L2 too often.
constexpr int kLibraryRows = 5;

}  // namespace

// One product of `rows` rows; the caller sets epilogue, bias and whatever is not dense.
LinearArgs dsopt_be_program::LinearOf(const dsopt_be_weight* weight, const void* in, void* out, int rows) const {
  LinearArgs a{};
  a.weight = weight->data;
  a.elem = weight->elem;
  a.packed = weight->elem == Elem::kPacked ? &weight->packed : nullptr;
  a.n = static_cast<int>(weight->layout.rows);
  a.k = static_cast<int>(weight->layout.cols);
  a.weight_stride = static_cast<int64_t>(weight->layout.rows * weight->layout.cols);
  a.in = in;
  a.in_row_stride = a.k;
  a.out = out;
  a.out_row_stride = a.n;
  a.rows = rows;
  a.batch = 1;
  a.in_div = 1;
  a.bf16 = plan.fast;
  return a;
}

// Pitch of the row image that a product's input shall be; 0: row-major.
int dsopt_be_program::ImagePitch(const LinearArgs& args) const {
  if (!plan.fast) return 0;
  if (args.packed != nullptr) {
    if (PackedTiledSupported(device->limits, args)) return kTiledPitch;
    return args.rows > 1 && args.rows <= kSkinnyRows ? kPackedPitch : 0;
  }
  return PlainSupported(device->limits, args) ? kPlainPitch : 0;
}

cudaError_t dsopt_be_program::Linear(const LinearArgs& args, void* wide) {
  if (args.packed != nullptr) {
    if (!plan.fast) return LinearPackedReference(launch_, args, *args.packed);
    if (args.rows > kSkinnyRows && args.slot_expert == nullptr && plan.unpacked != 0) return LinearUnpacked(args, wide);
    return LinearPacked(launch_, args, At<float>(plan.partial), At<uint32_t>(plan.arrived));
  }
  if (!plan.fast) return LinearReference(launch_, args);
  if (args.image_pitch != 0) return LinearPlain(launch_, args, At<float>(plan.partial), At<uint32_t>(plan.arrived));
  if (GemvSupported(device->limits, args)) return LinearGemv(launch_, args);
  if (args.slot_expert != nullptr)
    return args.sorted_slots != nullptr ? LinearTiles(launch_, args) : LinearSkinny(launch_, args);
  const bool library = device->cublas_lt != nullptr && args.rows >= kLibraryRows && args.batch == 1 &&
                       args.bias == nullptr;
  if (args.rows <= kSkinnyRows && !library) return LinearSkinny(launch_, args);
  const bool pairs = args.epilogue == Epilogue::kGateUp;
  if (library && (!pairs || wide != nullptr)) {
    LinearArgs plain = args;
    if (pairs) {
      plain.epilogue = Epilogue::kStore;
      plain.out_f32 = false;
      plain.out = wide;
      plain.out_row_stride = args.n;
    }
    cudaError_t error = cudaSuccess;
    if (device->cublas_lt->Run(launch_, plain, At<char>(plan.library), &error)) {
      if (error != cudaSuccess || !pairs) return error;
      return GateUpPairs(launch_, wide, args.rows, args.n / 2, args.gelu, args.out, args.out_row_stride);
    }
  }
  return args.rows <= kSkinnyRows ? LinearSkinny(launch_, args) : LinearTiles(launch_, args);
}

// A product of many rows with an encoded matrix: some of its rows at a time are expanded to bf16, which costs less than
// expanding them again for every 64 input rows, and goes the way of bf16 weights.
cudaError_t dsopt_be_program::LinearUnpacked(const LinearArgs& args, void* wide) {
  const bool pairs = args.epilogue == Epilogue::kGateUp;
  if (pairs && args.bias != nullptr)  // gate and up biases do not lie beside each other
    return LinearPacked(launch_, args, At<float>(plan.partial), At<uint32_t>(plan.arrived));
  const int fit = static_cast<int>(kUnpackedBytes / (static_cast<uint64_t>(args.k) * 2) / 128 * 128);
  if (fit == 0)  // rows so long that not one block of them fits
    return LinearPacked(launch_, args, At<float>(plan.partial), At<uint32_t>(plan.arrived));
  const int step = fit < args.n ? fit : args.n;
  for (int first = 0; first < args.n; first += step) {
    LinearArgs part = args;
    part.n = args.n - first < step ? args.n - first : step;
    part.packed = nullptr;
    part.elem = Elem::kBf16;
    part.weight = At<char>(plan.unpacked);
    if (args.bias != nullptr) part.bias = args.bias + first;
    const bool floats = args.epilogue == Epilogue::kAdd || (args.epilogue == Epilogue::kStore && args.out_f32);
    part.out = static_cast<char*>(args.out) + static_cast<int64_t>(pairs ? first / 2 : first) * (floats ? 4 : 2);
    RETURN_IF_CUDA_ERROR(UnpackRows(launch_, *args.packed, first, part.n, At<char>(plan.unpacked)));
    RETURN_IF_CUDA_ERROR(Linear(part, wide));
  }
  return cudaSuccess;
}

cudaError_t dsopt_be_program::Norm(const float* in, int64_t stride, const int* rows_list, const dsopt_be_weight* gain,
                                   float eps, int rows, void* out, float* out_f32, int image_pitch) {
  NormArgs a{};
  a.in = in;
  a.in_stride = stride;
  a.row_list = rows_list;
  a.gain = static_cast<const float*>(gain->data);
  a.eps = eps;
  a.rows = rows;
  a.cols = static_cast<int>(gain->count);
  a.out = out;
  a.out_layout = image_pitch != 0 ? RowLayout::Image(rows, image_pitch) : RowLayout::Plain(a.cols);
  a.out_bf16 = plan.fast;
  a.out_f32 = out_f32;
  return RmsNorm(launch_, a);
}

// args with its input normalised: folded into the product where one row allows it, else a kernel of its own that writes
// args.in.
cudaError_t dsopt_be_program::NormLinear(LinearArgs args, const float* x, int64_t stride, const int* rows_list,
                                         const dsopt_be_weight* gain, float eps, void* h, void* wide) {
  LinearArgs folded = args;
  folded.norm_in = x;
  folded.norm_gain = static_cast<const float*>(gain->data);
  folded.norm_eps = eps;
  if (plan.fast && args.rows == 1 && rows_list == nullptr && GemvSupported(device->limits, folded))
    return LinearGemv(launch_, folded);
  args.image_pitch = ImagePitch(args);
  RETURN_IF_CUDA_ERROR(Norm(x, stride, rows_list, gain, eps, args.rows, h, nullptr, args.image_pitch));
  return Linear(args, wide);
}

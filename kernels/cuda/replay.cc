// replay.cc - batches of few rows that come again and again, the steps of decoding, as CUDA graphs: one launch
// instead of about a hundred. The host needs about as long to launch the kernels of a small model's step one by
// one as the device to run them, and its time is the less even one.
//
// Recording such a batch depends on its BatchState alone. PackBatch rounds up what changes from step to step
// (context, lists of the samplers), so most steps have the state of the one before; positions, pages, tokens
// and sampling are read from device memory, at addresses that belong to the state. The graph of a state holds
// what its recording launches, with the same programmatic edges: it computes the same bits. The upload of the
// batch stays outside.
//
// When. A graph is made when a state comes for the third time: by then its kernels are loaded and it is likely
// to stay. That costs the host in the order of a millisecond (capture, which runs nothing, and instantiation of
// a hundred nodes; at most once per step, and whatever deadline the step has). A graph that was dropped for
// another one, or could not be made, waits eight times as long for its next try, so that states in turns cannot
// make a graph in every step.
//
// Not replayed: what one persistent kernel does; steps that the device does not finish within one slice, for a
// slice must end where the time is over, a graph ends where it was cut, and behind so much device work the
// launches of a step do not show; and whatever cannot be captured, instantiated or uploaded, for want of memory
// or because the driver cannot capture programmatic launches (CUDA 12.3 can).
//
// Memory. States are host memory of the program (host_bytes). A graph is memory of the driver, on the host and
// some on the device, which cannot be asked for; kReplayGraphs bounds it.
#include "program.h"

using namespace dsopt_cuda;

namespace {

constexpr uint32_t kFirstGraph = 3, kPatience = 8, kMostWanted = 1u << 20;

}  // namespace

// Of few rows, and one slice.
bool dsopt_be_program::MayReplay() const {
  if (!batch_.few_rows || (desc.flags & DSOPT_PROGRAM_NO_REPLAY) != 0) return false;
  const double block_ns = block_ns_[0];
  return desc.slice_us == 0 ||
         (block_ns > 0 && (block_ns + 1.0) * static_cast<double>(blocks.size()) <= 1000.0 * desc.slice_us);
}

// Launches the graph of this batch's state and sets replayed_, if there is one or it is time to make it.
dsopt_status dsopt_be_program::Replay() {
  if (!MayReplay()) return DSOPT_OK;
  ReplayState& state = RememberBatch();
  if (state.graph == nullptr && state.seen >= state.wanted) MakeGraph(&state);
  if (state.graph == nullptr) return DSOPT_OK;
  DSOPT_CUDA_RETURN_IF_ERROR(device->Check(cudaGraphLaunch(state.graph, stream_), "launching a graph"));
  replayed_ = true;
  return DSOPT_OK;
}

// The entry of this batch's state. A new one takes the place of the one that was used least recently among
// those without a graph.
ReplayState& dsopt_be_program::RememberBatch() {
  static_assert(kReplayGraphs < kReplayStates);
  ReplayState* oldest = nullptr;
  ++replay_batches_;
  for (ReplayState& state : replays_) {
    if (state.used != 0 && state.batch == batch_) {
      state.used = replay_batches_;
      ++state.seen;
      return state;
    }
    if (state.graph == nullptr && (oldest == nullptr || state.used < oldest->used)) oldest = &state;
  }
  *oldest = {batch_, nullptr, replay_batches_, 1, kFirstGraph};
  return *oldest;
}

// Leaves state->graph null where that fails: then the step is launched kernel by kernel, and if the device is
// lost that says so.
void dsopt_be_program::MakeGraph(ReplayState* state) {
  uint32_t graphs = 0;
  ReplayState* oldest = nullptr;
  for (ReplayState& other : replays_) {
    if (other.graph == nullptr) continue;
    ++graphs;
    if (oldest == nullptr || other.used < oldest->used) oldest = &other;
  }
  if (graphs >= kReplayGraphs) DropGraph(oldest);
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t made = nullptr;
  cudaError_t error = Capture(&graph);
  if (error == cudaSuccess) error = cudaGraphInstantiate(&made, graph, 0);
  if (error == cudaSuccess) state->graph = made;
  if (graph != nullptr) cudaGraphDestroy(graph);
  // The launch would do this, too, but its failure ends the batch.
  if (error == cudaSuccess) error = cudaGraphUpload(made, stream_);
  if (error == cudaSuccess) return;
  cudaGetLastError();
  DropGraph(state);
}

// Records into a graph. On a stream of its own: the program's may be the host's, which may be one that cannot
// be captured, and another thread that uses the legacy stream meanwhile would be refused. Relaxed: other calls
// of this thread and of others are none of its business.
cudaError_t dsopt_be_program::Capture(cudaGraph_t* graph) {
  *graph = nullptr;
  RETURN_IF_CUDA_ERROR(cudaStreamBeginCapture(capture_stream_, cudaStreamCaptureModeRelaxed));
  launch_.stream = capture_stream_;
  cudaError_t recorded = cudaSuccess;
  const char* what = nullptr;
  for (uint32_t i = 0; i < blocks.size() && recorded == cudaSuccess; ++i) recorded = Record(i, &what);
  launch_.stream = stream_;
  const cudaError_t ended = cudaStreamEndCapture(capture_stream_, graph);
  return recorded != cudaSuccess ? recorded : ended;
}

// A graph that still runs is freed by the driver when it is done.
void dsopt_be_program::DropGraph(ReplayState* state) {
  if (state->graph != nullptr) cudaGraphExecDestroy(state->graph);
  state->graph = nullptr;
  state->seen = 0;
  state->wanted = state->wanted < kMostWanted / kPatience ? state->wanted * kPatience : kMostWanted;
}

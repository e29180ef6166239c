// session_create.cc - turns options into the sizes of a program and checks that they can be met.
#include <algorithm>

#include "runtime/session.h"

namespace dsopt {
namespace {

constexpr uint32_t kMaxStreams = 1024;
constexpr uint32_t kDefaultPrefillRows = 64;  // of a device that states no preference
constexpr uint32_t kScoreRows = 64;           // rows of one batch that can have logits

uint32_t CeilDiv(uint32_t a, uint32_t b) { return a / b + (a % b != 0 ? 1 : 0); }

}  // namespace

Result<std::shared_ptr<Session>> Session::Create(std::shared_ptr<LoadedModel> loaded,
                                                 const SessionOptions& options) {
  const Model& model = loaded->model();
  ASSIGN_OR_RETURN(const std::unique_ptr<const ProgramPlan> plan,
                   model.Plan(options.kv_dtype, options.precision));
  const std::shared_ptr<Device> device = model.device();
  const uint32_t context = model.config().context;
  if (options.max_streams > kMaxStreams) {
    return Error(DSOPT_E_INVALID_ARGUMENT, "session: max_streams %u, expected at most %u", options.max_streams,
                 kMaxStreams);
  }
  const uint32_t streams = std::max(options.max_streams, 1u);
  const uint32_t preferred =
      device->info().preferred_rows != 0 ? device->info().preferred_rows : kDefaultPrefillRows;
  const uint32_t chunk = std::min(options.prefill_chunk != 0 ? options.prefill_chunk : preferred, context);

  dsopt_program_desc desc = {};
  desc.struct_size = sizeof desc;
  plan->Fill(&desc);
  desc.max_rows = std::max(chunk, streams);
  desc.max_seqs = streams;
  desc.max_logit_rows = std::max(streams, std::min(desc.max_rows, kScoreRows));
  desc.page_count = CeilDiv(options.max_tokens != 0 ? options.max_tokens : context, desc.page_tokens);
  desc.max_pages_per_seq = std::min(desc.page_count, CeilDiv(context, desc.page_tokens));
  desc.max_adjust = streams * kMaxBiases;
  desc.max_history = streams * kMaxPenaltyWindow;
  desc.slice_us = options.device_slice_us;
  desc.native_stream = options.native_stream;

  dsopt_program_memory memory = {};
  memory.struct_size = sizeof memory;
  RETURN_IF_ERROR(BackendStatus(device->api().program_plan(device->handle(), &desc, &memory), "session"));
  const uint64_t total = device->info().memory_total;
  if (total != 0 && (memory.cache_bytes > total || memory.workspace_bytes > total - memory.cache_bytes)) {
    return Error(DSOPT_E_DEVICE_MEMORY, "session: %llu bytes of cache and %llu of workspace, %s has %llu",
                 static_cast<unsigned long long>(memory.cache_bytes),
                 static_cast<unsigned long long>(memory.workspace_bytes), device->info().id,
                 static_cast<unsigned long long>(total));
  }
  ASSIGN_OR_RETURN(Program program, Program::Create(*device, desc));
  std::shared_ptr<Session> session(new Session(std::move(loaded), desc, memory));
  session->program_ = std::move(program);
  return session;
}

Session::Session(std::shared_ptr<LoadedModel> model, const dsopt_program_desc& desc,
                 const dsopt_program_memory& memory)
    : model_(std::move(model)),
      desc_(desc),
      asynchronous_(model_->model().device()->info().kind != DSOPT_DEVICE_CPU),
      length_limit_(static_cast<uint32_t>(std::min<uint64_t>(
          model_->model().config().context, static_cast<uint64_t>(desc.page_count) * desc.page_tokens))),
      pool_(desc.page_count),
      batch_(desc) {
  stats_.struct_size = sizeof stats_;
  stats_.kv_tokens_total = desc.page_count * desc.page_tokens;
  stats_.host_bytes = memory.host_bytes;
  stats_.device_bytes = memory.cache_bytes + memory.workspace_bytes;
}

// A failure here leaves nothing to report to: the program is destroyed next, batch or not.
Session::~Session() {
  if (batch_.state == BatchState::kInFlight) (void)program_.Cancel().ok();
}

}  // namespace dsopt

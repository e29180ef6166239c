// session_create.cc - turns options into the sizes of a program, says what they take and checks that it can be
// met.
#include <algorithm>

#include "base/checked.h"
#include "runtime/session.h"

namespace dsopt {
namespace {

constexpr uint32_t kMaxStreams = 1024;
constexpr uint32_t kDefaultPrefillRows = 64;  // of a device that states no preference
constexpr uint32_t kScoreRows = 64;           // rows of one batch that can have logits
// Of the device's memory, what a cache that may go on in host memory leaves free: for kernels that the driver
// loads late, and for the device's other users.
constexpr uint64_t kKeptFree = 64;  // one part of so many

uint32_t CeilDiv(uint32_t a, uint32_t b) { return a / b + (a % b != 0 ? 1 : 0); }

struct Sizes {
  std::unique_ptr<const ProgramPlan> plan;  // desc points into it
  dsopt_program_desc desc = {};             // at least one page, fitting or not
  dsopt_program_memory memory = {};         // of desc
  uint32_t wanted_pages = 0;
  uint32_t pages = 0;  // of those, what the caps have room for; desc.host_pages of them on the host
};

uint64_t Less(uint64_t from, uint64_t bytes) { return from > bytes ? from - bytes : 0; }

Status PlanProgram(const Device& device, Sizes* sizes) {
  sizes->memory = {};
  sizes->memory.struct_size = sizeof sizes->memory;
  return BackendStatus(device.api().program_plan(device.handle(), &sizes->desc, &sizes->memory), "session");
}

bool HostAllowed(const Device& device, const SessionOptions& options) {
  return options.max_host_cache_bytes != 0 && device.info().kind != DSOPT_DEVICE_CPU;
}

// What caps and free memory leave for pages on the device, beside a workspace for a cache of which host_pages
// lie on the host.
struct Room {
  uint64_t bytes = UINT64_MAX;
  bool rest_fits = true;  // weights and workspace
};
Result<Room> RoomBeside(uint32_t host_pages, const Model& model, const Device& device,
                        const SessionOptions& options, Sizes* sizes) {
  dsopt_program_desc& desc = sizes->desc;
  desc.page_count = std::max(sizes->wanted_pages, 1u);  // with fewer the workspace does not grow
  desc.max_pages_per_seq = std::min(desc.page_count, CeilDiv(model.config().context, desc.page_tokens));
  desc.host_pages = host_pages;
  RETURN_IF_ERROR(PlanProgram(device, sizes));
  const uint64_t workspace_bytes = sizes->memory.workspace_bytes;
  Room room;
  if (options.max_device_bytes != 0) {
    const uint64_t left_bytes = Less(options.max_device_bytes, model.weight_bytes());
    room.rest_fits = left_bytes >= workspace_bytes;
    room.bytes = Less(left_bytes, workspace_bytes);
  }
  const uint64_t free_bytes = HostAllowed(device, options) ? device.FreeBytes() : 0;
  if (free_bytes != 0) {
    const uint64_t kept_bytes = device.info().memory_total / kKeptFree;
    room.bytes = std::min(room.bytes, Less(free_bytes, workspace_bytes + kept_bytes));
  }
  return room;
}

// Cuts the wanted pages to what there is room for: on the device first, then on the host.
Status DividePages(const Model& model, const Device& device, const SessionOptions& options, Sizes* sizes) {
  dsopt_program_desc& desc = sizes->desc;
  const uint64_t wanted = sizes->wanted_pages;
  const bool host_allowed = HostAllowed(device, options);
  const uint64_t cap_bytes = options.max_cache_bytes != 0 ? options.max_cache_bytes : UINT64_MAX;
  Room room;
  if (host_allowed || options.max_device_bytes != 0) {
    ASSIGN_OR_RETURN(room, RoomBeside(0, model, device, options, sizes));
  }
  const auto pages_of = [&](const Room& r) {
    return r.rest_fits ? std::min(wanted, std::min(r.bytes, cap_bytes) / desc.page_bytes) : 0;
  };
  uint64_t on_device = pages_of(room), on_host = 0;
  // Pages on the host may want a larger workspace, most of it where all pages are there. That must pay.
  if (host_allowed && on_device < wanted) {
    ASSIGN_OR_RETURN(room, RoomBeside(desc.page_count, model, device, options, sizes));
    const uint64_t beside = pages_of(room);
    const uint64_t more = std::min(wanted - beside, options.max_host_cache_bytes / desc.page_bytes);
    if (room.rest_fits && beside + more > on_device) on_device = beside, on_host = more;
  }
  sizes->pages = static_cast<uint32_t>(on_device + on_host);
  desc.host_pages = static_cast<uint32_t>(on_host);
  desc.page_count = std::max(sizes->pages, 1u);
  desc.max_pages_per_seq = std::min(desc.page_count, CeilDiv(model.config().context, desc.page_tokens));
  return Status();
}

Result<Sizes> Measure(const Model& model, const SessionOptions& options) {
  Sizes sizes;
  ASSIGN_OR_RETURN(sizes.plan, model.Plan(options.kv_dtype, options.precision));
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

  dsopt_program_desc& desc = sizes.desc;
  desc.struct_size = sizeof desc;
  sizes.plan->Fill(&desc);
  desc.max_rows = std::max(chunk, streams);
  desc.max_seqs = streams;
  desc.max_logit_rows = std::max(streams, std::min(desc.max_rows, kScoreRows));
  sizes.wanted_pages = CeilDiv(options.max_tokens != 0 ? options.max_tokens : context, desc.page_tokens);
  desc.max_adjust = streams * kMaxBiases;
  desc.max_history = streams * kMaxPenaltyWindow;
  desc.slice_us = options.device_slice_us;
  desc.native_stream = options.native_stream;
  RETURN_IF_ERROR(DividePages(model, *device, options, &sizes));
  RETURN_IF_ERROR(PlanProgram(*device, &sizes));
  if (desc.host_pages != 0 && sizes.memory.host_cache_bytes == 0) {
    return Error(DSOPT_E_UNSUPPORTED,
                 "session: max_host_cache_bytes: the plugin of %s keeps no pages on the host",
                 device->info().id);
  }
  return sizes;
}

using ull = unsigned long long;

// With more caps than max_cache_bytes, why there is no room for `needed` pages.
Status NoRoom(const Sizes& sizes, const SessionOptions& options, uint64_t weight_bytes, uint32_t needed) {
  const dsopt_program_desc& desc = sizes.desc;
  const uint64_t workspace_bytes = sizes.memory.workspace_bytes;
  if (options.max_device_bytes != 0 && Less(options.max_device_bytes, weight_bytes) < workspace_bytes) {
    return Error(DSOPT_E_DEVICE_MEMORY,
                 "session: max_device_bytes %llu, %llu of weights and %llu of workspace expected",
                 ull{options.max_device_bytes}, ull{weight_bytes}, ull{workspace_bytes});
  }
  return Error(
      DSOPT_E_DEVICE_MEMORY,
      "session: room for %u pages on the device and %u on the host, %u expected, each of %u tokens and %llu "
      "bytes; max_cache_bytes %llu, max_device_bytes %llu with %llu of weights and %llu of workspace, "
      "max_host_cache_bytes %llu",
      sizes.pages - desc.host_pages, desc.host_pages, needed, desc.page_tokens, ull{desc.page_bytes},
      ull{options.max_cache_bytes}, ull{options.max_device_bytes}, ull{weight_bytes}, ull{workspace_bytes},
      ull{options.max_host_cache_bytes});
}

Status CheckFit(const Sizes& sizes, const SessionOptions& options, const LoadedModel& model) {
  const dsopt_program_desc& desc = sizes.desc;
  const dsopt_device_info& device = model.model().device()->info();
  if (sizes.pages == 0 || (options.max_tokens != 0 && sizes.pages < sizes.wanted_pages)) {
    const uint32_t needed = options.max_tokens != 0 ? sizes.wanted_pages : 1;
    if (options.max_device_bytes != 0 || options.max_host_cache_bytes != 0) {
      return NoRoom(sizes, options, model.model().weight_bytes(), needed);
    }
    return Error(DSOPT_E_DEVICE_MEMORY,
                 "session: max_cache_bytes %llu, %llu expected for %u pages of %u tokens and %llu bytes",
                 static_cast<unsigned long long>(options.max_cache_bytes),
                 static_cast<unsigned long long>(needed * desc.page_bytes), needed, desc.page_tokens,
                 static_cast<unsigned long long>(desc.page_bytes));
  }
  const dsopt_program_memory& memory = sizes.memory;
  const uint64_t total = device.memory_total;
  if (total != 0 && (memory.cache_bytes > total || memory.workspace_bytes > total - memory.cache_bytes)) {
    return Error(DSOPT_E_DEVICE_MEMORY, "session: %llu bytes of cache and %llu of workspace, %s has %llu",
                 static_cast<unsigned long long>(memory.cache_bytes),
                 static_cast<unsigned long long>(memory.workspace_bytes), device.id,
                 static_cast<unsigned long long>(total));
  }
  // A host that is asked for more than it has ends processes instead of saying so.
  if (memory.host_cache_bytes == 0) return Status();
  for (const dsopt_device_info& host : model.runtime()->backends().Devices()) {
    if (host.kind != DSOPT_DEVICE_CPU || host.memory_free == 0 || memory.host_cache_bytes <= host.memory_free)
      continue;
    return Error(DSOPT_E_OUT_OF_MEMORY, "session: %llu bytes of cache on the host, %llu are free",
                 ull{memory.host_cache_bytes}, ull{host.memory_free});
  }
  return Status();
}

}  // namespace

Result<dsopt_session_memory> Session::PlanMemory(const LoadedModel& model, const SessionOptions& options) {
  ASSIGN_OR_RETURN(const Sizes sizes, Measure(model.model(), options));
  const uint64_t page_bytes = sizes.desc.page_bytes;
  const std::optional<uint64_t> wanted_bytes = CheckedMul<uint64_t>(sizes.wanted_pages, page_bytes);
  if (!wanted_bytes.has_value() || sizes.wanted_pages > UINT32_MAX / sizes.desc.page_tokens) {
    return Error(DSOPT_E_INVALID_ARGUMENT, "session: %u pages of %llu bytes are more than can be counted",
                 sizes.wanted_pages, static_cast<unsigned long long>(page_bytes));
  }
  dsopt_session_memory memory = {};
  memory.struct_size = sizeof memory;
  memory.page_tokens = sizes.desc.page_tokens;
  memory.wanted_tokens = sizes.wanted_pages * sizes.desc.page_tokens;
  memory.tokens = sizes.pages * sizes.desc.page_tokens;
  memory.wanted_cache_bytes = *wanted_bytes;
  memory.cache_bytes = (sizes.pages - sizes.desc.host_pages) * page_bytes;
  memory.workspace_bytes = sizes.memory.workspace_bytes;
  memory.host_bytes = sizes.memory.host_bytes;
  memory.device_free_bytes = model.model().device()->FreeBytes();
  memory.host_cache_bytes = sizes.desc.host_pages * page_bytes;
  memory.host_tokens = sizes.desc.host_pages * sizes.desc.page_tokens;
  return memory;
}

Result<std::shared_ptr<Session>> Session::Create(std::shared_ptr<LoadedModel> loaded,
                                                 const SessionOptions& options) {
  ASSIGN_OR_RETURN(const Sizes sizes, Measure(loaded->model(), options));
  const std::shared_ptr<Device> device = loaded->model().device();
  RETURN_IF_ERROR(CheckFit(sizes, options, *loaded));
  ASSIGN_OR_RETURN(Program program, Program::Create(*device, sizes.desc));
  std::shared_ptr<Session> session(new Session(std::move(loaded), sizes.desc, sizes.memory));
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
      pool_(desc.page_count, desc.host_pages),
      batch_(desc) {
  stats_.struct_size = sizeof stats_;
  stats_.host_bytes = memory.host_bytes + memory.host_cache_bytes;
  stats_.device_bytes = memory.cache_bytes + memory.workspace_bytes;
}

// A failure here leaves nothing to report to: the program is destroyed next, batch or not.
Session::~Session() {
  if (batch_.state == BatchState::kInFlight) (void)program_.Cancel().ok();
}

}  // namespace dsopt

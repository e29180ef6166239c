// ops.cc - dsopt_ops_* and dsopt_op_*: check, then hand over to the device's backend.
#include "dsopt/ops.h"

#include "capi/guard.h"
#include "capi/handles.h"
#include "ops/operators.h"

// A device and, to keep its backend, the runtime.
struct dsopt_ops {
  std::shared_ptr<dsopt::Runtime> runtime;
  std::shared_ptr<dsopt::Device> device;
};

namespace dsopt {
namespace {

constexpr uint64_t kWorkspaceAlignment = 256;

bool HasOperators(const dsopt_backend_api& api) {
  return api.struct_size >= offsetof(dsopt_backend_api, op_run) + sizeof(api.op_run) &&
         api.op_pointer != nullptr && api.op_workspace != nullptr && api.op_run != nullptr;
}

struct Need {
  uint64_t bytes = 0;
  const char* kernel = "";
};

Status FindNeed(const Device& device, const Operator& op, const OpArgs& args, Need* need) {
  return BackendStatus(device.api().op_workspace(device.handle(), op.id, &args, &need->bytes, &need->kernel),
                       op.name);
}

Status Workspace(const dsopt_ops& ops, dsopt_op id, const void* args, Need* need) {
  const Operator* op = FindOperator(id);
  if (op == nullptr) {
    return Error(DSOPT_E_UNSUPPORTED, "op: %d, expected DSOPT_OP_RMSNORM (1) to DSOPT_OP_SAMPLE (7)",
                 static_cast<int>(id));
  }
  OpArgs checked;
  Operands operands(op->name, *ops.device);
  RETURN_IF_ERROR(op->check(args, &operands, &checked));
  return FindNeed(*ops.device, *op, checked, need);
}

Status ReadLaunch(const Device& device, const char* op, const dsopt_launch* launch, uint64_t bytes,
                  dsopt_launch* out) {
  RETURN_IF_ERROR(ReadStruct(launch, "launch", out));
  RETURN_IF_ERROR(CheckFlags("launch.flags", out->flags, 0));
  if (out->stream == nullptr && device.info().kind == DSOPT_DEVICE_CUDA) {
    return Error(DSOPT_E_INVALID_ARGUMENT, "%s: launch.stream: NULL, expected a CUDA stream of %s", op,
                 device.info().id);
  }
  if (out->workspace_size < bytes) {
    return Error(DSOPT_E_BUFFER_TOO_SMALL, "%s: launch.workspace_size: %zu bytes, expected at least %llu", op,
                 out->workspace_size, static_cast<unsigned long long>(bytes));
  }
  if (bytes == 0 || out->workspace != nullptr) return Status();
  return Error(DSOPT_E_INVALID_ARGUMENT, "%s: launch.workspace: NULL, expected %llu bytes", op,
               static_cast<unsigned long long>(bytes));
}

Status Run(const dsopt_ops& ops, dsopt_op id, const void* args, const dsopt_launch* launch) {
  const Device& device = *ops.device;
  const Operator& op = *FindOperator(id);
  OpArgs checked;
  Operands operands(op.name, device);
  RETURN_IF_ERROR(op.check(args, &operands, &checked));
  Need need;
  RETURN_IF_ERROR(FindNeed(device, op, checked, &need));
  dsopt_launch where;
  RETURN_IF_ERROR(ReadLaunch(device, op.name, launch, need.bytes, &where));
  if (need.bytes > 0) RETURN_IF_ERROR(operands.Workspace(where.workspace, need.bytes, kWorkspaceAlignment));
  RETURN_IF_ERROR(operands.CheckMemory());
  if (operands.on_host() && op.check_values != nullptr) RETURN_IF_ERROR(op.check_values(checked, operands));
  return BackendStatus(device.api().op_run(device.handle(), id, &checked, &where), op.name);
}

dsopt_status GuardedRun(const dsopt_ops* ops, dsopt_op id, const void* args, const dsopt_launch* launch) {
  return Guard([&]() -> Reply {
    RETURN_IF_NULL(ops);
    RETURN_IF_NULL(args);
    return Run(*ops, id, args, launch);
  });
}

}  // namespace
}  // namespace dsopt

using namespace dsopt;  // NOLINT: the functions below are the C face of this namespace

dsopt_status dsopt_ops_create(dsopt_runtime* runtime, const char* device, dsopt_ops** out) {
  return Guard([&]() -> Reply {
    RETURN_IF_NULL(runtime);
    RETURN_IF_NULL(device);
    RETURN_IF_NULL(out);
    auto handle = std::make_unique<dsopt_ops>();
    handle->runtime = runtime->impl;
    ASSIGN_OR_RETURN(handle->device, runtime->impl->backends().Open(device, 0));
    if (!HasOperators(handle->device->api())) {
      return Error(DSOPT_E_UNSUPPORTED, "device '%s': its backend %s (%s) has no operators", device,
                   handle->device->api().name, handle->device->api().build_id);
    }
    *out = handle.release();
    return DSOPT_OK;
  });
}

void dsopt_ops_release(dsopt_ops* ops) { delete ops; }

dsopt_status dsopt_op_workspace(const dsopt_ops* ops, dsopt_op op, const void* args, size_t* bytes,
                                const char** kernel) {
  return Guard([&]() -> Reply {
    RETURN_IF_NULL(ops);
    RETURN_IF_NULL(args);
    RETURN_IF_NULL(bytes);
    Need need;
    RETURN_IF_ERROR(Workspace(*ops, op, args, &need));
    *bytes = need.bytes;
    if (kernel != nullptr) *kernel = need.kernel;
    return DSOPT_OK;
  });
}

dsopt_status dsopt_op_rmsnorm(const dsopt_ops* ops, const dsopt_rmsnorm_args* args,
                              const dsopt_launch* launch) {
  return GuardedRun(ops, DSOPT_OP_RMSNORM, args, launch);
}
dsopt_status dsopt_op_linear(const dsopt_ops* ops, const dsopt_linear_args* args, const dsopt_launch* launch) {
  return GuardedRun(ops, DSOPT_OP_LINEAR, args, launch);
}
dsopt_status dsopt_op_qkv(const dsopt_ops* ops, const dsopt_qkv_args* args, const dsopt_launch* launch) {
  return GuardedRun(ops, DSOPT_OP_QKV, args, launch);
}
dsopt_status dsopt_op_attention(const dsopt_ops* ops, const dsopt_attention_args* args,
                                const dsopt_launch* launch) {
  return GuardedRun(ops, DSOPT_OP_ATTENTION, args, launch);
}
dsopt_status dsopt_op_gated_mlp(const dsopt_ops* ops, const dsopt_gated_mlp_args* args,
                                const dsopt_launch* launch) {
  return GuardedRun(ops, DSOPT_OP_GATED_MLP, args, launch);
}
dsopt_status dsopt_op_moe(const dsopt_ops* ops, const dsopt_moe_args* args, const dsopt_launch* launch) {
  return GuardedRun(ops, DSOPT_OP_MOE, args, launch);
}
dsopt_status dsopt_op_sample(const dsopt_ops* ops, const dsopt_sample_args* args, const dsopt_launch* launch) {
  return GuardedRun(ops, DSOPT_OP_SAMPLE, args, launch);
}

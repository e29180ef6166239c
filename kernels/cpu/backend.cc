// backend.cc - the table that the core sees. What the functions do is in device.cc, weight.cc, program.cc,
// schedule.cc and ops/.
#include "coded.h"
#include "common.h"
#include "device.h"
#include "ops/op.h"
#include "program.h"
#include "weight.h"

#ifndef DSOPT_BUILD_ID
#define DSOPT_BUILD_ID "dsopt cpu, abi 1"
#endif

extern "C" dsopt_status dsopt_cpu_backend_entry(const dsopt_host_api* host, uint32_t* abi,
                                                const dsopt_backend_api** out) {
  using namespace dsopt_cpu;
  static constexpr dsopt_backend_api kTable = {sizeof(dsopt_backend_api),
                                               DSOPT_BACKEND_ABI,
                                               "cpu",
                                               DSOPT_BUILD_ID,
                                               DeviceCount,
                                               DeviceInfo,
                                               DeviceOpen,
                                               DeviceClose,
                                               DeviceReport,
                                               WeightBytes,
                                               WeightCreate,
                                               WeightWrite,
                                               WeightFill,
                                               WeightFinish,
                                               WeightDestroy,
                                               ProgramPlan,
                                               ProgramCreate,
                                               ProgramDestroy,
                                               ProgramBegin,
                                               ProgramAdvance,
                                               ProgramResult,
                                               ProgramCancel,
                                               ProgramReadLogits,
                                               ProgramCopyPage,
                                               ProgramReadPage,
                                               ProgramWritePage,
                                               MeasureRead,
                                               WeightWriteScales,
                                               OpPointer,
                                               OpWorkspace,
                                               OpRun};
  if (abi == nullptr || out == nullptr) return DSOPT_E_INVALID_ARGUMENT;
  if (*abi < DSOPT_BACKEND_ABI) {
    return Fail(host, DSOPT_E_VERSION, "cpu backend: it speaks ABI %d, the core at most %u", DSOPT_BACKEND_ABI,
                *abi);
  }
  *abi = DSOPT_BACKEND_ABI;
  *out = &kTable;
  return DSOPT_OK;
}

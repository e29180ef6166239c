/* fake_plugin.c - plugins that fail in one way each: FAKE_KIND says which. Built as libdsopt_cuda.so, each in a folder
 * of its own. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "dsopt/backend.h"

#define FAKE_GOOD 0         /* one device that opens and measures */
#define FAKE_OLD_GPU 1      /* one device that refuses to open */
#define FAKE_NO_DRIVER 2
#define FAKE_OTHER_ABI 3    /* newer than this library */
#define FAKE_HOLE 4         /* a table without its last function */
#define FAKE_NO_ENTRY 5
#define FAKE_UNDEFINED 6    /* needs a function that nobody has */
#define FAKE_NEEDS_LIBRARY 7 /* needs a library that is not there */

#define FIRST_FUNCTION offsetof(dsopt_backend_api, device_count)

static dsopt_backend_api table;

static uint32_t DeviceCount(void) { return 1; }

static dsopt_status DeviceInfo(uint32_t index, dsopt_device_info* info) {
  (void)index;
  info->kind = DSOPT_DEVICE_CUDA;
  info->arch = FAKE_KIND == FAKE_OLD_GPU ? 75 : 90;
  strcpy(info->id, "cuda:0");
  strcpy(info->name, "fake GPU");
  return DSOPT_OK;
}

static dsopt_status DeviceOpen(uint32_t index, const dsopt_device_options* options, dsopt_be_device** out) {
  (void)index;
  if (FAKE_KIND == FAKE_OLD_GPU) {
    options->host->set_error(options->host->context, "compute capability 7.5, at least 8.0 expected");
    return DSOPT_E_UNSUPPORTED;
  }
  *out = (dsopt_be_device*)&table;
  return DSOPT_OK;
}

static void DeviceClose(dsopt_be_device* device) { (void)device; }

static const char* DeviceReport(dsopt_be_device* device) {
  (void)device;
  return "  nothing is chosen\n";
}

static dsopt_status MeasureRead(dsopt_be_device* device, uint64_t bytes, double* bytes_per_second) {
  (void)device;
  *bytes_per_second = (double)bytes;
  return DSOPT_OK;
}

static dsopt_status Refuse(void) { return DSOPT_E_UNSUPPORTED; }

#if FAKE_KIND == FAKE_UNDEFINED
int dsopt_test_nobody_has_this(void);
#elif FAKE_KIND == FAKE_NEEDS_LIBRARY
int dsopt_test_absent_library(void);
#define dsopt_test_nobody_has_this dsopt_test_absent_library
#else
#define dsopt_test_nobody_has_this() 0
#endif

static void FillTable(void) {
  void (*refuse)(void) = (void (*)(void))Refuse;
  for (size_t at = FIRST_FUNCTION; at + sizeof refuse <= sizeof table; at += sizeof refuse) {
    memcpy((char*)&table + at, &refuse, sizeof refuse);
  }
  table.struct_size = sizeof table;
  table.abi = DSOPT_BACKEND_ABI + (FAKE_KIND == FAKE_OTHER_ABI);
  table.name = "fake";
  table.build_id = "fake plugin";
  table.device_count = DeviceCount;
  table.device_info = DeviceInfo;
  table.device_open = DeviceOpen;
  table.device_close = DeviceClose;
  table.device_report = DeviceReport;
  table.measure_read = MeasureRead;
  if (FAKE_KIND == FAKE_HOLE) table.measure_read = NULL;
}

#if FAKE_KIND == FAKE_NO_ENTRY
dsopt_status dsopt_test_not_the_entry(const dsopt_host_api* host, uint32_t* abi, const dsopt_backend_api** out);
dsopt_status dsopt_test_not_the_entry
#else
dsopt_status dsopt_backend_entry(const dsopt_host_api* host, uint32_t* abi, const dsopt_backend_api** out);
dsopt_status dsopt_backend_entry
#endif
    (const dsopt_host_api* host, uint32_t* abi, const dsopt_backend_api** out) {
  if (FAKE_KIND == FAKE_NO_DRIVER) {
    host->set_error(host->context, "no usable driver");
    return DSOPT_E_NOT_FOUND;
  }
  FillTable();
  *abi = table.abi;
  *out = &table;
  return (dsopt_status)dsopt_test_nobody_has_this();
}

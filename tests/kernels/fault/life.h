// life.h - all that a session asks of a backend, step by step, so that any step may fail: open the device,
// write weights of every kind, create a program, run a prefill and decode steps (so many that some are
// replayed), read logits, move pages, close. A step that failed can be tried again.
#ifndef DSOPT_TESTS_KERNELS_FAULT_LIFE_H_
#define DSOPT_TESTS_KERNELS_FAULT_LIFE_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "dsopt/backend.h"

namespace dsopt::fault {

enum class Kind {
  kBlocks,      // every block kind; plain, interleaved, transposed, 12-bit, int8 and int4 weights
  kSliced,      // the same in slices of device work
  kHostPages,   // the same, the pages of the sequence in host memory
  kPersistent,  // the shape of Llama-3.2-1B with one layer, for which there is one kernel per token
};

// Host services that count; nothing is filled, so that an upload buffer costs nothing.
class Host {
 public:
  Host();
  const dsopt_host_api* api() const { return &api_; }
  std::string message;  // of the last error
  int64_t live = 0;

 private:
  dsopt_allocator allocator_{};
  dsopt_host_api api_{};
};

class Life {
 public:
  Life(const dsopt_backend_api* api, Kind kind);
  ~Life() { Close(); }
  Life(const Life&) = delete;
  Life& operator=(const Life&) = delete;

  // Goes on where the last call failed. False: status, step and host.message say what happened.
  bool Open();
  bool Work();
  void Close();

  Host host;
  dsopt_status status = DSOPT_OK;
  std::string step;
  std::vector<int32_t> tokens;  // that Work drew
  uint32_t replayed = 0;        // batches so far that were one graph
  int polls = 0;                // calls of program_advance so far

 private:
  struct Weight {
    dsopt_weight_desc desc;
    dsopt_be_weight* handle;
    bool written;
  };
  void AddWeight(dsopt_weight_kind kind, uint64_t batch, uint64_t rows, uint64_t cols,
                 dsopt_encoding encoding = DSOPT_ENCODING_PLAIN);
  void DescribeBlocks();
  void DescribePersistent();
  bool Write(Weight* weight);
  bool CreateProgram();
  bool Batch(const char* what, uint32_t first, uint32_t rows);
  bool Did(const std::string& what, dsopt_status result);

  const dsopt_backend_api* const api_;
  const Kind kind_;
  uint32_t hidden_ = 0, vocab_ = 0;
  uint64_t page_values_ = 0;
  std::vector<Weight> weights_;
  std::vector<dsopt_block> blocks_;
  std::vector<std::pair<const dsopt_be_weight**, size_t>> links_;  // where a block wants which weight
  std::vector<float> frequencies_;
  dsopt_be_device* device_ = nullptr;
  dsopt_be_program* program_ = nullptr;
  uint64_t page_bytes_ = 0;
};

}  // namespace dsopt::fault
#endif  // DSOPT_TESTS_KERNELS_FAULT_LIFE_H_

// pool.h - the compute threads of one device. They sleep in the kernel unless a Run is in progress.
#ifndef DSOPT_CPU_POOL_H_
#define DSOPT_CPU_POOL_H_

#include <pthread.h>

#include <atomic>
#include <cstdint>

#include "common.h"

namespace dsopt_cpu {

class Pool {
 public:
  using Function = void (*)(void* context, uint32_t slot);

  // threads counts the caller of Run; with 1 there are no workers.
  static dsopt_status Create(const dsopt_host_api* host, uint32_t threads, Pool** out);
  static void Destroy(Pool* pool);  // NULL is ignored

  // Calls function(context, 0) here, and function(context, slot) on every worker that wakes up before that call
  // is over. Never waits for a worker to wake; returns when none is inside any more. While another thread is
  // inside Run, a second one works alone.
  void Run(Function function, void* context);
  // body(index, slot) for every index below count, by Run; slot < threads(), one thread each.
  template <typename Body>
  void ForEach(uint64_t count, const Body& body) {
    struct Work {
      const Body& body;
      uint64_t count;
      std::atomic<uint64_t> next;
    } work = {body, count, {0}};
    Run(
        [](void* context, uint32_t slot) {
          Work* w = static_cast<Work*>(context);
          for (uint64_t i = w->next.fetch_add(1); i < w->count; i = w->next.fetch_add(1)) w->body(i, slot);
        },
        &work);
  }
  uint32_t threads() const { return threads_; }

  // One step of waiting for another thread: a pause, or after a while a yield. Starts at *count 0.
  void Relax(uint32_t* count) const;

 private:
  Pool() = default;
  static void* Main(void* worker);
  void Work(uint32_t slot);

  struct Worker {
    Pool* pool;
    uint32_t slot;
    bool started;
    pthread_t thread;
  };

  const dsopt_host_api* host_ = nullptr;
  Memory memory_;
  Worker* workers_ = nullptr;
  uint32_t threads_ = 1;
  uint32_t spins_ = 0;  // pauses before the first yield; 0 when threads outnumber cores
  Function function_ = nullptr;
  void* context_ = nullptr;
  std::atomic<bool> stop_{false};
  alignas(64) std::atomic<bool> busy_{false};
  alignas(64) std::atomic<uint32_t> epoch_{0};  // futex: one more per Run
  std::atomic<uint32_t> sleepers_{0};
  alignas(64) std::atomic<uint64_t> gate_{0};  // epoch << 32 | open | workers inside
};

}  // namespace dsopt_cpu
#endif  // DSOPT_CPU_POOL_H_

// pool.cc - see pool.h.
#include "pool.h"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#include <new>

namespace dsopt_cpu {
namespace {

constexpr uint64_t kOpen = uint64_t{1} << 31;
constexpr uint64_t kInside = kOpen - 1;
constexpr size_t kStackBytes = size_t{512} << 10;

void Futex(std::atomic<uint32_t>* word, int operation, uint32_t value) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(word), operation, value, nullptr, nullptr, 0);
}

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

dsopt_status Pool::Create(const dsopt_host_api* host, uint32_t threads, Pool** out) {
  Memory memory;
  const uint64_t bytes = RoundUp(sizeof(Pool), 64) + threads * sizeof(Worker);
  const dsopt_status status = Allocate(host, bytes, "thread pool", &memory);
  if (status != DSOPT_OK) return status;
  Pool* pool = new (memory.data) Pool();
  pool->host_ = host;
  pool->memory_ = memory;
  pool->threads_ = threads;
  pool->workers_ = reinterpret_cast<Worker*>(memory.data + RoundUp(sizeof(Pool), 64));
  const long cores = sysconf(_SC_NPROCESSORS_ONLN);
  pool->spins_ = cores > 0 && threads <= static_cast<unsigned long>(cores) ? 4000 : 0;
  for (uint32_t i = 0; i < threads; ++i) pool->workers_[i] = Worker{pool, i, false, {}};

  pthread_attr_t attributes;
  int error = pthread_attr_init(&attributes);
  if (error == 0) {
    pthread_attr_setstacksize(&attributes, kStackBytes);
    for (uint32_t i = 1; i < threads && error == 0; ++i) {
      Worker& worker = pool->workers_[i];
      error = pthread_create(&worker.thread, &attributes, Main, &worker);
      worker.started = error == 0;
    }
    pthread_attr_destroy(&attributes);
  }
  if (error != 0) {
    Destroy(pool);
    return Fail(host, DSOPT_E_OUT_OF_MEMORY,
                "thread pool: pthread_create failed with error %d, %u threads wanted", error, threads);
  }
  *out = pool;
  return DSOPT_OK;
}

void Pool::Destroy(Pool* pool) {
  if (pool == nullptr) return;
  pool->stop_.store(true);
  pool->epoch_.fetch_add(1);
  Futex(&pool->epoch_, FUTEX_WAKE_PRIVATE, INT_MAX);
  for (uint32_t i = 1; i < pool->threads_; ++i) {
    if (pool->workers_[i].started) pthread_join(pool->workers_[i].thread, nullptr);
  }
  const dsopt_host_api* host = pool->host_;
  Memory memory = pool->memory_;
  pool->~Pool();
  Release(host, &memory);
}

void* Pool::Main(void* worker) {
  Worker* self = static_cast<Worker*>(worker);
  self->pool->Work(self->slot);
  return nullptr;
}

void Pool::Work(uint32_t slot) {
  uint32_t seen = 0;
  while (true) {
    const uint32_t epoch = epoch_.load();
    if (stop_.load()) return;
    if (epoch == seen) {
      sleepers_.fetch_add(1);
      Futex(&epoch_, FUTEX_WAIT_PRIVATE, seen);
      sleepers_.fetch_sub(1);
      continue;
    }
    seen = epoch;
    uint64_t gate = gate_.load(std::memory_order_acquire);
    while ((gate >> 32) == epoch && (gate & kOpen) != 0) {
      if (!gate_.compare_exchange_weak(gate, gate + 1, std::memory_order_acquire)) continue;
      function_(context_, slot);
      gate_.fetch_sub(1, std::memory_order_release);
      break;
    }
  }
}

void Pool::Run(Function function, void* context) {
  if (threads_ == 1 || busy_.exchange(true, std::memory_order_acquire)) {
    function(context, 0);
    return;
  }
  function_ = function;
  context_ = context;
  const uint32_t epoch = epoch_.load(std::memory_order_relaxed) + 1;
  gate_.store((static_cast<uint64_t>(epoch) << 32) | kOpen, std::memory_order_release);
  epoch_.store(epoch);  // ordered before the look at the sleepers: one of the two sides sees the other
  if (sleepers_.load() > 0) Futex(&epoch_, FUTEX_WAKE_PRIVATE, INT_MAX);
  function(context, 0);
  gate_.fetch_and(~kOpen, std::memory_order_acq_rel);
  uint32_t count = 0;
  while ((gate_.load(std::memory_order_acquire) & kInside) != 0) Relax(&count);
  busy_.store(false, std::memory_order_release);
}

void Pool::Relax(uint32_t* count) const {
  if (*count < spins_) {
    ++*count;
    Pause();
  } else {
    sched_yield();
  }
}

}  // namespace dsopt_cpu

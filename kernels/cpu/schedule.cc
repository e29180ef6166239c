// schedule.cc - runs the phases of a batch: threads claim units from one counter, the last to finish a phase
// prepares the next. Everything that a claim needs is in program->next, so stopping at a deadline and going on
// later is nothing but not claiming for a while. No allocation, no lock.
#include "program.h"

namespace dsopt_cpu {
namespace {

constexpr uint64_t kClosed = UINT32_MAX;  // as next unit: nothing to claim

// Publishes the first phase from `index` on that has units, or the end of the batch.
void Publish(dsopt_be_program* p, uint32_t index) {
  // A thread that still looks at the finished phase must not claim with the count of the next one: whoever sees
  // the new count also sees that next has moved on.
  const uint64_t sequence = p->next.load(std::memory_order_relaxed) >> 32;
  p->next.store((sequence + 1) << 32 | kClosed, std::memory_order_relaxed);
  uint32_t units = 0;
  while (index < p->phase_count) {
    const Phase& phase = p->phases[index];
    p->phase_index = index;
    units = phase.prepare(p, phase);
    if (units != 0) break;
    ++index;
  }
  p->done.store(0, std::memory_order_relaxed);
  p->units.store(units, std::memory_order_release);
  if (index == p->phase_count) p->finished.store(true, std::memory_order_relaxed);
  p->next.store((sequence + 2) << 32, std::memory_order_release);
}

void FinishPhase(dsopt_be_program* p) {
  const Phase& phase = p->phases[p->phase_index];
  const bool again = phase.again != nullptr && phase.again(p, phase);
  Publish(p, again ? p->phase_index - phase.back : p->phase_index + 1);
}

// Works until the batch is done or the deadline has passed. The caller's thread (slot 0) does at least one
// unit, so that every advance makes progress; a worker never starts one late.
void Work(void* context, uint32_t slot) {
  dsopt_be_program* p = static_cast<dsopt_be_program*>(context);
  bool must = slot == 0;
  uint32_t waited = 0;
  while (true) {
    uint64_t next = p->next.load(std::memory_order_acquire);
    const uint32_t units = p->units.load(std::memory_order_acquire);
    const uint32_t unit = static_cast<uint32_t>(next);
    if (unit >= units) {
      if (p->finished.load(std::memory_order_relaxed)) return;
      if (NowNs() >= p->deadline_ns) return;
      p->device->pool->Relax(&waited);
      continue;
    }
    if (!must && NowNs() >= p->deadline_ns) return;
    // Fails if anything was published since.
    if (!p->next.compare_exchange_weak(next, next + 1, std::memory_order_acq_rel)) continue;
    must = false;
    waited = 0;
    const Phase& phase = p->phases[p->phase_index];
    phase.run(p, phase, unit, &p->scratch[slot]);
    if (p->done.fetch_add(1, std::memory_order_acq_rel) + 1 == units) FinishPhase(p);
  }
}

}  // namespace

void StartPhases(dsopt_be_program* p) {
  p->finished.store(false, std::memory_order_relaxed);
  p->geometry = Geometry{};
  p->busy_ns = 0;
  Publish(p, 0);
}

dsopt_status ProgramAdvance(dsopt_be_program* p, uint64_t deadline_ns, uint64_t* wait_us) {
  if (wait_us != nullptr) *wait_us = 0;
  if (p->state == dsopt_be_program::kFinished) return DSOPT_OK;
  if (p->state != dsopt_be_program::kRunning) {
    return Fail(p->device->host, DSOPT_E_INVALID_STATE, "program_advance: no batch was begun");
  }
  const uint64_t start = NowNs();
  p->deadline_ns = deadline_ns;
  p->device->pool->Run(Work, p);
  p->busy_ns += NowNs() - start;
  if (!p->finished.load(std::memory_order_acquire)) return DSOPT_PENDING;
  p->state = dsopt_be_program::kFinished;
  return DSOPT_OK;
}

}  // namespace dsopt_cpu

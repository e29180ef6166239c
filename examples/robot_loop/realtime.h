// realtime.h - asks Linux to run the calling thread before ordinary programs.
#ifndef ROBOT_LOOP_REALTIME_H_
#define ROBOT_LOOP_REALTIME_H_

#include <cstdint>
#include <string>

// SCHED_DEADLINE with this share of each period, which no other program can take; where that is not permitted,
// SCHED_FIFO with this priority; else the thread stays as it is. Returns what it got, in words.
std::string AskForRealtime(int64_t runtime_ns, int64_t period_ns, int fifo_priority);
void BackToNormal();

// Keeps the memory of the process from being paged out. Returns what came of it, in words.
std::string LockMemory();

#endif  // ROBOT_LOOP_REALTIME_H_

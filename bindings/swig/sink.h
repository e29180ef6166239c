// sink.h - objects of the host language that native code calls back. The library holds a number, never a
// pointer: garbage collectors destroy objects in any order, so a callback may come after its receiver is gone.
// It is then answered with "cancel" (events, progress), dropped (log) or a failure (io).
#ifndef DSOPT_BINDINGS_SINK_H_
#define DSOPT_BINDINGS_SINK_H_

#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

class Sink {
 public:
  Sink(const Sink&) = delete;
  Sink& operator=(const Sink&) = delete;

  // Deletes this, after calls of other threads into it have returned; later ones do not reach it. What SWIG
  // calls instead of delete, because a destructor is too late: the host language's half of the object is gone
  // by then.
  void retire();
  virtual ~Sink() {}

#ifndef SWIG
  void* user() const { return reinterpret_cast<void*>(id_); }
  // From now on no callback reaches a receiver: for hosts whose runtime ends before the process does.
  static void RetireAll() {
    const std::lock_guard<std::mutex> lock(TheTable().mutex);
    TheTable().closed = true;
  }

 protected:
  Sink();

 private:
  template <typename T>
  friend class SinkCall;
  struct Entry {
    Sink* sink;
    std::vector<std::thread::id> callers;
  };
  struct Table {
    std::mutex mutex;
    std::condition_variable left;
    std::map<uintptr_t, std::shared_ptr<Entry>> entries;
    uintptr_t last_id = 0;
    bool closed = false;
  };
  // Never destroyed: log callbacks may come while the process ends.
  static Table& TheTable() {
    static Table* table = new Table;
    return *table;
  }
  uintptr_t id_;
#endif
};

#ifndef SWIG

inline Sink::Sink() {
  Table& table = TheTable();
  auto entry = std::make_shared<Entry>(Entry{this, {}});
  const std::lock_guard<std::mutex> lock(table.mutex);
  id_ = ++table.last_id;
  table.entries.emplace(id_, std::move(entry));
}

inline void Sink::retire() {
  Table& table = TheTable();
  {
    std::unique_lock<std::mutex> lock(table.mutex);
    const auto found = table.entries.find(id_);
    const std::shared_ptr<Entry> entry = found->second;
    table.entries.erase(found);
    const auto mine = [](std::thread::id caller) { return caller == std::this_thread::get_id(); };
    table.left.wait(lock, [&] { return std::all_of(entry->callers.begin(), entry->callers.end(), mine); });
  }
  delete this;
}

// The receiver of one callback, kept from being deleted by other threads while the callback runs.
template <typename T>
class SinkCall {
 public:
  explicit SinkCall(void* user) noexcept {
    Sink::Table& table = Sink::TheTable();
    const std::lock_guard<std::mutex> lock(table.mutex);
    const auto found = table.entries.find(reinterpret_cast<uintptr_t>(user));
    if (found == table.entries.end() || table.closed) return;
    try {
      found->second->callers.push_back(std::this_thread::get_id());
      entry_ = found->second;
    } catch (...) {  // no memory to remember the call: as if the receiver were gone
    }
  }
  ~SinkCall() {
    if (entry_ == nullptr) return;
    Sink::Table& table = Sink::TheTable();
    const std::lock_guard<std::mutex> lock(table.mutex);
    auto& callers = entry_->callers;
    callers.erase(std::find(callers.begin(), callers.end(), std::this_thread::get_id()));
    table.left.notify_all();
  }
  SinkCall(const SinkCall&) = delete;
  SinkCall& operator=(const SinkCall&) = delete;
  T* get() const { return entry_ != nullptr ? static_cast<T*>(entry_->sink) : nullptr; }

 private:
  std::shared_ptr<Sink::Entry> entry_;
};

#endif  // SWIG
#endif  // DSOPT_BINDINGS_SINK_H_

// flat_map.h - open addressing hash tables that are filled once and then only read: 64-bit keys, and byte
// strings. No erase.
#ifndef DSOPT_TEXT_FLAT_MAP_H_
#define DSOPT_TEXT_FLAT_MAP_H_

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace dsopt {

inline uint64_t MixHash(uint64_t x) {
  x ^= x >> 32;
  x *= 0x9E3779B97F4A7C15u;
  x ^= x >> 29;
  x *= 0xBF58476D1CE4E5B9u;
  return x ^ x >> 32;
}

inline uint64_t HashBytes(std::string_view bytes) {
  uint64_t h = 0x243F6A8885A308D3u ^ bytes.size();
  size_t i = 0;
  for (; i + 8 <= bytes.size(); i += 8) {
    uint64_t word;
    std::memcpy(&word, bytes.data() + i, 8);
    h = MixHash(h ^ word);
  }
  uint64_t tail = 0;
  if (i < bytes.size()) std::memcpy(&tail, bytes.data() + i, bytes.size() - i);
  return MixHash(h ^ tail);
}

// uint64_t -> Value. [thread-compatible]; concurrent Find is fine.
template <typename Value>
class FlatMap {
 public:
  void Reserve(size_t count) {
    size_t slots = 16;
    while (slots < count * 2) slots *= 2;
    if (slots > slots_.size()) Rehash(slots);
  }
  // Keeps the value that is there already; says whether it inserted.
  bool Insert(uint64_t key, const Value& value) {
    if ((used_ + 1) * 2 > slots_.size()) Rehash(slots_.empty() ? 16 : slots_.size() * 2);
    size_t i = MixHash(key) & (slots_.size() - 1);
    for (; slots_[i].used; i = (i + 1) & (slots_.size() - 1)) {
      if (slots_[i].key == key) return false;
    }
    slots_[i] = {key, value, true};
    ++used_;
    return true;
  }
  const Value* Find(uint64_t key) const {
    if (slots_.empty()) return nullptr;
    for (size_t i = MixHash(key) & (slots_.size() - 1); slots_[i].used; i = (i + 1) & (slots_.size() - 1)) {
      if (slots_[i].key == key) return &slots_[i].value;
    }
    return nullptr;
  }
  size_t size() const { return used_; }

 private:
  struct Slot {
    uint64_t key = 0;
    Value value{};
    bool used = false;
  };
  void Rehash(size_t slots) {
    std::vector<Slot> old(slots);
    old.swap(slots_);
    used_ = 0;
    for (const Slot& slot : old) {
      if (slot.used) Insert(slot.key, slot.value);
    }
  }
  std::vector<Slot> slots_;
  size_t used_ = 0;
};

// Bytes -> index of the string in `pieces`, which must outlive the index unchanged. The first insertion of
// equal bytes wins.
class PieceIndex {
 public:
  void Init(std::span<const std::string> pieces) {
    pieces_ = pieces;
    size_t slots = 16;
    while (slots < pieces.size() * 2) slots *= 2;
    slots_.assign(slots, Slot{});
  }
  void Insert(uint32_t id) {
    const uint64_t hash = HashBytes(pieces_[id]);
    const size_t mask = slots_.size() - 1;
    for (size_t i = hash & mask;; i = (i + 1) & mask) {
      if (slots_[i].id < 0) {
        slots_[i] = {static_cast<uint32_t>(hash >> 32), static_cast<int32_t>(id)};
        return;
      }
      if (pieces_[static_cast<uint32_t>(slots_[i].id)] == pieces_[id]) return;
    }
  }
  // -1: not there.
  int32_t Find(std::string_view bytes) const {
    const uint64_t hash = HashBytes(bytes);
    const size_t mask = slots_.size() - 1;
    for (size_t i = hash & mask; slots_[i].id >= 0; i = (i + 1) & mask) {
      if (slots_[i].tag == static_cast<uint32_t>(hash >> 32) &&
          pieces_[static_cast<uint32_t>(slots_[i].id)] == bytes) {
        return slots_[i].id;
      }
    }
    return -1;
  }

 private:
  struct Slot {
    uint32_t tag = 0;
    int32_t id = -1;
  };
  std::span<const std::string> pieces_;
  std::vector<Slot> slots_;
};

}  // namespace dsopt
#endif  // DSOPT_TEXT_FLAT_MAP_H_

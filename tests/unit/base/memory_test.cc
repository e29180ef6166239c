#include "base/memory.h"

#include <catch2/catch.hpp>
#include <cstring>
#include <string>

namespace dsopt {
namespace {

// Remembers what it gave and checks that it gets the same back.
struct Ledger {
  size_t given_size = 0, given_align = 0;
  void* given = nullptr;
  int alive = 0;
  bool mismatch = false, fail = false;

  dsopt_allocator Allocator() {
    dsopt_allocator allocator = {};
    allocator.struct_size = sizeof allocator;
    allocator.user = this;
    allocator.alloc = [](void* user, size_t size, size_t align) -> void* {
      Ledger& ledger = *static_cast<Ledger*>(user);
      if (ledger.fail) return nullptr;
      ledger.given_size = size;
      ledger.given_align = align;
      ledger.given = DefaultAllocator().alloc(nullptr, size, align);
      ++ledger.alive;
      return ledger.given;
    };
    allocator.free = [](void* user, void* ptr, size_t size, size_t align) {
      Ledger& ledger = *static_cast<Ledger*>(user);
      ledger.mismatch |= ptr != ledger.given || size != ledger.given_size || align != ledger.given_align;
      --ledger.alive;
      DefaultAllocator().free(nullptr, ptr, size, align);
    };
    return allocator;
  }
};

TEST_CASE("memory of the default allocator is aligned and writable", "[base]") {
  for (size_t align : {size_t{1}, size_t{8}, size_t{64}, size_t{4096}}) {
    for (size_t size : {size_t{1}, size_t{63}, size_t{64}, size_t{100000}}) {
      Result<Buffer> buffer = Buffer::Allocate(DefaultAllocator(), size, "test", align);
      REQUIRE(buffer.ok());
      CHECK(buffer->size() == size);
      CHECK(reinterpret_cast<uintptr_t>(buffer->data()) % align == 0);
      std::memset(buffer->data(), 0x5A, size);
    }
  }
}

TEST_CASE("a buffer gives its memory back once, with the size and alignment it asked for", "[base]") {
  Ledger ledger;
  const dsopt_allocator allocator = ledger.Allocator();
  {
    Result<Buffer> buffer = Buffer::Allocate(allocator, 1000, "test", 128);
    REQUIRE(buffer.ok());
    CHECK(ledger.given_size == 1000);
    CHECK(ledger.given_align == 128);
    Buffer moved = *std::move(buffer);
    CHECK(moved.data() == ledger.given);
    Buffer assigned;
    assigned = std::move(moved);
    CHECK(assigned.span().size() == 1000);
    CHECK(moved.data() == nullptr);  // NOLINT: moved-from is empty
    CHECK(ledger.alive == 1);
    assigned.Reset();
    CHECK(ledger.alive == 0);
    assigned.Reset();
  }
  CHECK(ledger.alive == 0);
  CHECK_FALSE(ledger.mismatch);
}

TEST_CASE("assigning to a buffer frees what it had", "[base]") {
  Ledger first, second;
  const dsopt_allocator a = first.Allocator(), b = second.Allocator();
  Buffer buffer = *Buffer::Allocate(a, 10, "first");
  buffer = *Buffer::Allocate(b, 20, "second");
  CHECK(first.alive == 0);
  CHECK(second.alive == 1);
  CHECK(buffer.size() == 20);
}

TEST_CASE("an empty buffer asks for nothing", "[base]") {
  Ledger ledger;
  ledger.fail = true;
  const dsopt_allocator allocator = ledger.Allocator();
  Result<Buffer> buffer = Buffer::Allocate(allocator, 0, "test");
  REQUIRE(buffer.ok());
  CHECK(buffer->size() == 0);
  CHECK(buffer->data() == nullptr);
}

TEST_CASE("a failed allocation names the buffer and its size", "[base]") {
  Ledger ledger;
  ledger.fail = true;
  const dsopt_allocator allocator = ledger.Allocator();
  const Result<Buffer> buffer = Buffer::Allocate(allocator, 12345, "scratch of the test");
  CHECK(buffer.status().code() == DSOPT_E_OUT_OF_MEMORY);
  CHECK_THAT(std::string(buffer.status().message()),
             Catch::Contains("scratch of the test") && Catch::Contains("12345"));
  // Sizes near the end of the address space fail, they do not wrap around.
  CHECK(Buffer::Allocate(DefaultAllocator(), UINT64_MAX, "all").status().code() == DSOPT_E_OUT_OF_MEMORY);
  CHECK(Buffer::Allocate(DefaultAllocator(), UINT64_MAX - 32, "all").status().code() == DSOPT_E_OUT_OF_MEMORY);
}

}  // namespace
}  // namespace dsopt

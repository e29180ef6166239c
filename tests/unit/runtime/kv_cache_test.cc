#include "runtime/kv_cache.h"

#include <catch2/catch.hpp>
#include <vector>

namespace dsopt {
namespace {

TEST_CASE("a sequence takes pages as it grows and gives them back when it is cut", "[kv_cache]") {
  PagePool pool(4);
  SequenceCache cache(&pool, 8);
  PageCopy copy;
  REQUIRE(cache.Reserve(17, &copy));
  CHECK(!copy.needed());
  cache.Commit(17);
  CHECK(pool.used_pages() == 3);
  cache.Truncate(8);
  CHECK(pool.used_pages() == 1);
  CHECK(cache.tokens() == 8);
  cache.Truncate(0);
  CHECK(pool.used_pages() == 0);
}

TEST_CASE("a limit lowered below what is held takes nothing away and lets nothing grow", "[kv_cache]") {
  PagePool pool(6);
  SequenceCache a(&pool, 8), b(&pool, 8);
  PageCopy copy;
  REQUIRE(a.Reserve(24, &copy));
  a.Commit(24);
  pool.SetLimit(2);
  CHECK(pool.limit() == 2);
  CHECK(pool.used_pages() == 3);
  CHECK(pool.free_pages() == 0);
  CHECK(pool.Take() == -1);
  CHECK(!b.Reserve(1, &copy));
  CHECK(a.pages().size() == 3);
  a.Truncate(8);
  CHECK(pool.free_pages() == 1);
  CHECK(!b.Reserve(9, &copy));
  CHECK(b.Reserve(8, &copy));
  pool.SetLimit(99);
  CHECK(pool.limit() == 6);
  CHECK(b.Reserve(32, &copy));
}

TEST_CASE("pages on the host are given only while the device has none, and come back last", "[kv_cache]") {
  PagePool pool(5, 3);  // 0 and 1 on the device
  std::vector<int32_t> taken;
  for (int i = 0; i < 5; ++i) taken.push_back(pool.Take());
  CHECK(taken == std::vector<int32_t>{0, 1, 2, 3, 4});
  CHECK(pool.Take() == -1);
  CHECK(pool.used_host_pages() == 3);
  pool.Unref(3);
  pool.Unref(1);
  pool.Unref(4);
  CHECK(pool.used_pages() == 2);
  CHECK(pool.used_host_pages() == 1);
  CHECK(pool.Take() == 1);
  CHECK(pool.used_host_pages() == 1);
  CHECK(pool.Take() >= 2);
  CHECK(pool.used_host_pages() == 2);
  CHECK(pool.host_limit() == 3);
  pool.SetLimit(4);
  CHECK(pool.host_limit() == 2);
  pool.SetLimit(1);
  CHECK(pool.host_limit() == 0);

  PagePool host_only(2, 2), device_only(2);
  CHECK(host_only.Take() == 0);
  CHECK(host_only.used_host_pages() == 1);
  CHECK(device_only.Take() == 0);
  CHECK(device_only.used_host_pages() == 0);
  CHECK(device_only.host_limit() == 0);
}

TEST_CASE("a reservation that does not fit changes nothing", "[kv_cache]") {
  PagePool pool(2);
  SequenceCache cache(&pool, 8);
  PageCopy copy;
  REQUIRE(cache.Reserve(8, &copy));
  cache.Commit(8);
  CHECK(!cache.Reserve(9, &copy));
  CHECK(pool.used_pages() == 1);
  CHECK(cache.pages().size() == 1);
  CHECK(cache.Reserve(8, &copy));
}

TEST_CASE("a fork shares pages and copies only the partly filled one when it writes", "[kv_cache]") {
  PagePool pool(8);
  SequenceCache parent(&pool, 8), fork(&pool, 8);
  PageCopy copy;
  REQUIRE(parent.Reserve(12, &copy));
  parent.Commit(12);
  fork.ShareFrom(parent);
  CHECK(pool.used_pages() == 2);
  REQUIRE(fork.Reserve(1, &copy));
  CHECK(copy.needed());
  CHECK(copy.from == parent.pages()[1]);
  CHECK(copy.to == fork.pages()[1]);
  CHECK(fork.pages()[0] == parent.pages()[0]);
  CHECK(pool.used_pages() == 3);
  REQUIRE(parent.Reserve(1, &copy));  // now the only owner of its second page
  CHECK(!copy.needed());
}

TEST_CASE("a full shared page is never copied", "[kv_cache]") {
  PagePool pool(8);
  SequenceCache parent(&pool, 8), fork(&pool, 8);
  PageCopy copy;
  REQUIRE(parent.Reserve(8, &copy));
  parent.Commit(8);
  fork.ShareFrom(parent);
  REQUIRE(fork.Reserve(1, &copy));
  CHECK(!copy.needed());
  CHECK(fork.pages()[0] == parent.pages()[0]);
  CHECK(pool.used_pages() == 2);
}

TEST_CASE("copying a shared page needs a free page, and without one nothing changes", "[kv_cache]") {
  PagePool pool(1);
  SequenceCache parent(&pool, 8), fork(&pool, 8);
  PageCopy copy;
  REQUIRE(parent.Reserve(4, &copy));
  parent.Commit(4);
  fork.ShareFrom(parent);
  CHECK(!fork.Reserve(1, &copy));
  CHECK(fork.pages()[0] == parent.pages()[0]);
  fork.Truncate(0);
  CHECK(pool.used_pages() == 1);
  CHECK(parent.Reserve(1, &copy));
}

TEST_CASE("a page goes back to the pool when its last owner lets go", "[kv_cache]") {
  PagePool pool(1);
  const int32_t page = pool.Take();
  REQUIRE(page == 0);
  CHECK(pool.Take() == -1);
  pool.Ref(page);
  pool.Unref(page);
  CHECK(pool.free_pages() == 0);
  pool.Unref(page);
  CHECK(pool.free_pages() == 1);
}

}  // namespace
}  // namespace dsopt

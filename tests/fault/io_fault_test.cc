// The n-th read of the host's file fails, or brings other bytes than the file has.
#include <cstring>

#include "tests/capi/capi_harness.h"

namespace dsopt::testing {
namespace {

enum class Damage { kFail, kZeros, kFlip, kShort };

struct HostFile {
  const std::vector<uint8_t>* bytes;
  Damage damage;
  int at = -1;
  int reads = 0, closes = 0;

  static dsopt_status DSOPT_CALL ReadAt(void* user, uint64_t offset, void* dst, size_t len) {
    auto* self = static_cast<HostFile*>(user);
    const bool hit = self->reads++ == self->at;
    if (hit && self->damage == Damage::kFail) return DSOPT_E_IO;
    std::memcpy(dst, self->bytes->data() + offset, len);
    if (!hit || len == 0) return DSOPT_OK;
    auto* to = static_cast<uint8_t*>(dst);
    if (self->damage == Damage::kZeros) std::memset(to, 0, len);
    if (self->damage == Damage::kFlip) to[len / 2] ^= 0x20;
    if (self->damage == Damage::kShort) std::memset(to + len / 2, 0xAA, len - len / 2);
    return DSOPT_OK;
  }
  static void DSOPT_CALL Close(void* user) { ++static_cast<HostFile*>(user)->closes; }

  dsopt_status Open(dsopt_runtime* runtime, dsopt_model** model) {
    auto io = Sized<dsopt_io>();
    io.user = this;
    io.size = bytes->size();
    io.read_at = ReadAt;
    io.close = Close;
    auto options = Sized<dsopt_model_options>();
    options.device = "cpu";
    return dsopt_model_open_io(runtime, &io, &options, model);
  }
};

TEST_CASE("a read that fails or brings wrong bytes is a typed failure at every point", "[fault]") {
  const uint32_t threads = GENERATE(1u, 3u);  // with more than one, chunks are decoded ahead
  RuntimePtr runtime = NewRuntime(threads);
  const bool compress = GENERATE(true, false);
  TinyOptions tiny;
  tiny.compress = compress;
  const std::vector<uint8_t> bytes = TinyModelBytes(tiny);
  HostFile good{&bytes, Damage::kFail};
  dsopt_model* model = nullptr;
  REQUIRE_OK(good.Open(runtime.get(), &model));
  dsopt_model_release(model);
  for (Damage damage : {Damage::kFail, Damage::kZeros, Damage::kFlip, Damage::kShort}) {
    for (int at = 0; at < good.reads; ++at) {
      CAPTURE(static_cast<int>(damage), at, compress, threads);
      HostFile file{&bytes, damage, at};
      model = nullptr;
      const dsopt_status status = file.Open(runtime.get(), &model);
      CHECK(model == nullptr);
      CHECK(file.closes == 1);
      if (damage == Damage::kFail) {
        CHECK(status == DSOPT_E_CALLBACK);
      } else {
        CHECK((status == DSOPT_E_CORRUPT || status == DSOPT_E_VERSION));
      }
      CHECK(std::string(dsopt_last_error()) != "");
    }
  }
}

}  // namespace
}  // namespace dsopt::testing

#include "tests/hostile/rules.h"

#include <catch2/catch.hpp>

#include "tests/unit/format/spec_builder.h"

namespace dsopt::testing {

ModelSpec HonestSpec() {
  ModelSpec spec = SmallSpec();
  spec.tensors.erase(spec.tensors.begin(), spec.tensors.end() - 1);
  spec.chunk_bytes = 1u << 20;
  return spec;
}

void CheckRules(std::span<const Rule> rules) {
  for (const Rule& rule : rules) {
    DYNAMIC_SECTION(rule.name) {
      ModelSpec spec = HonestSpec();
      rule.lie(spec);
      const Status status = OpenBytes(RawFile(spec, 128u << 10));
      const std::string message(status.message());
      CHECK_THAT(message, Catch::Contains(rule.message));
      CHECK(status.code() == rule.code);
      CHECK(message.find('\n') == std::string::npos);
    }
  }
}

}  // namespace dsopt::testing

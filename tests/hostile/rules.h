// rules.h - a rule of the reader as a test: one lie told by an honest description, and what the refusal says.
#ifndef DSOPT_TESTS_HOSTILE_RULES_H_
#define DSOPT_TESTS_HOSTILE_RULES_H_

#include <functional>
#include <span>

#include "spec/model_spec.h"

namespace dsopt::testing {

struct Rule {
  const char* name;
  std::function<void(ModelSpec&)> lie;
  const char* message;  // part of it: the thing, what was found, what was expected
  dsopt_code code = DSOPT_E_CORRUPT;
};

// Valid without chunks: its one tensor is synthetic. kinds[0] is attention and dense, kinds[1] latent and a
// mixture.
ModelSpec HonestSpec();
// Each in a section of its own, in a file with 128 KiB of room for chunks.
void CheckRules(std::span<const Rule> rules);

}  // namespace dsopt::testing
#endif  // DSOPT_TESTS_HOSTILE_RULES_H_

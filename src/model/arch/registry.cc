// registry.cc - the list of model families.
#include <string>

#include "model/arch/architecture.h"

namespace dsopt {

static constexpr const Architecture* kArchitectures[] = {&kLlama, &kMistral, &kMixtral, &kDeepseekV2};

Result<const Architecture*> FindArchitecture(std::string_view name) {
  std::string known;
  for (const Architecture* architecture : kArchitectures) {
    if (name == architecture->name) return architecture;
    known += known.empty() ? "" : ", ";
    known += architecture->name;
  }
  return Error(DSOPT_E_UNSUPPORTED, "architecture '%.*s' is not supported; known: %s",
               static_cast<int>(name.size() < 64 ? name.size() : 64), name.data(), known.c_str());
}

}  // namespace dsopt

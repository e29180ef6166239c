// shape_text.h - shapes in messages.
#ifndef DSOPT_IMPORT_SHAPE_TEXT_H_
#define DSOPT_IMPORT_SHAPE_TEXT_H_

#include <cstdint>
#include <string>
#include <vector>

namespace dsopt {

// "[4096, 2048]"
inline std::string ImportedShapeText(const std::vector<uint64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + "]";
}

}  // namespace dsopt
#endif  // DSOPT_IMPORT_SHAPE_TEXT_H_

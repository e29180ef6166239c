// calibration.h - what the inputs of a model's matrices look like when it reads a calibration text.
#ifndef DSOPT_QUANT_CALIBRATION_H_
#define DSOPT_QUANT_CALIBRATION_H_

#include <cstddef>
#include <map>
#include <string>
#include <vector>

namespace dsopt {

// Of each input channel of a matrix, over all tokens.
struct ChannelStats {
  std::vector<float> mean_magnitude, mean_square;
};
using Calibration = std::map<std::string, ChannelStats>;  // by tensor name

}  // namespace dsopt
#endif  // DSOPT_QUANT_CALIBRATION_H_

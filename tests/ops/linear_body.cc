// linear_body.cc - rmsnorm and linear.
#include "ops_bodies.h"
#include "ops_reference.h"

namespace dsopt::ops_test {
namespace {

const dsopt_dtype kActivationTypes[] = {DSOPT_F32, DSOPT_BF16};
const dsopt_dtype kWeightTypes[] = {DSOPT_F32, DSOPT_F16, DSOPT_BF16};

struct NormCase {
  int64_t tokens, hidden, pad;
  bool residual, in_place;
};

void CheckNorm(Device* device, Random* random, const NormCase& shape, dsopt_dtype x_type, dsopt_dtype w_type,
               dsopt_dtype out_type) {
  CAPTURE(shape.tokens, shape.hidden, shape.pad, shape.residual, shape.in_place, x_type, w_type, out_type);
  Tensor x(device, x_type, {shape.tokens, shape.hidden}, shape.pad);
  Tensor residual(device, w_type == DSOPT_F32 ? DSOPT_BF16 : DSOPT_F32, {shape.tokens, shape.hidden},
                  shape.pad);
  Tensor weight(device, w_type, {shape.hidden}), out(device, out_type, {shape.tokens, shape.hidden}, shape.pad);
  x.Normal(random, 3.0);
  residual.Normal(random, 3.0);
  weight.Normal(random, 0.5, 1.0);
  auto args = Sized<dsopt_rmsnorm_args>();
  args.eps = 1e-5f;
  args.x = x;
  args.weight = weight;
  args.residual = shape.residual ? static_cast<const dsopt_tensor*>(residual) : nullptr;
  args.out = shape.in_place ? x : out;
  Values y = x.values;
  for (size_t i = 0; i < y.size() && shape.residual; ++i) y[i] += residual.values[i];
  const Bounded expected =
      RmsNormReference(y, static_cast<size_t>(shape.hidden), &weight.values, static_cast<double>(args.eps));
  Run(device, DSOPT_OP_RMSNORM, &args);
  CheckOutput(shape.in_place ? &x : &out, expected, "out");
  Bounded sum = Exactly(y);
  for (double& e : sum.error) e = 1e-6;
  if (shape.residual) CheckOutput(&residual, sum, "residual");
}

struct LinearCase {
  int64_t tokens, inputs, outputs, pad;
};

void CheckOneLinear(Device* device, Random* random, const LinearCase& shape, dsopt_dtype x_type,
                    dsopt_dtype w_type, dsopt_dtype out_type, dsopt_activation activation, bool with_bias) {
  CAPTURE(shape.tokens, shape.inputs, shape.outputs, shape.pad, x_type, w_type, out_type, activation,
          with_bias);
  Tensor x(device, x_type, {shape.tokens, shape.inputs}, shape.pad),
      weight(device, w_type, {shape.outputs, shape.inputs});
  Tensor bias(device, kWeightTypes[shape.inputs % 3], {shape.outputs});
  Tensor out(device, out_type, {shape.tokens, shape.outputs}, shape.pad);
  x.Normal(random);
  weight.Normal(random, 0.1);
  bias.Normal(random);
  auto args = Sized<dsopt_linear_args>();
  args.activation = activation;
  args.x = x;
  args.weight = weight;
  args.bias = with_bias ? static_cast<const dsopt_tensor*>(bias) : nullptr;
  args.out = out;
  Bounded expected = LinearReference(Exactly(x.values), static_cast<size_t>(shape.inputs), weight.values.data(),
                                     static_cast<size_t>(shape.outputs), with_bias ? &bias.values : nullptr);
  for (size_t i = 0; i < expected.value.size(); ++i) {
    expected.value[i] = Activate(activation, expected.value[i]);
    expected.error[i] = 1.2 * expected.error[i] + 1e-5 * std::abs(expected.value[i]);
  }
  Run(device, DSOPT_OP_LINEAR, &args);
  CheckOutput(&out, expected, "out");
}

}  // namespace

void CheckRmsNorm(Device* device) {
  Random random(Seed() + 1);
  INFO("seed " << Seed());
  for (const NormCase& shape : {NormCase{1, 1, 0, false, false}, NormCase{3, 97, 5, true, false},
                                NormCase{5, 64, 0, false, true}, NormCase{2, 1000, 24, true, false},
                                NormCase{7, 33, 1, true, true}, NormCase{2, 5003, 0, false, false}}) {
    for (const dsopt_dtype x : kActivationTypes) {
      for (const dsopt_dtype w : kWeightTypes) {
        CheckNorm(device, &random, shape, x, w, shape.in_place ? x : DSOPT_F32);
        if (!shape.in_place) CheckNorm(device, &random, shape, x, w, DSOPT_BF16);
      }
    }
  }
}

void CheckLinear(Device* device) {
  Random random(Seed() + 2);
  INFO("seed " << Seed());
  const dsopt_activation activations[] = {DSOPT_ACT_NONE, DSOPT_ACT_SILU, DSOPT_ACT_GELU_TANH};
  uint32_t turn = 0;
  for (const LinearCase& shape :
       {LinearCase{1, 1, 1, 0}, LinearCase{1, 96, 64, 0}, LinearCase{7, 97, 65, 3}, LinearCase{101, 33, 130, 0},
        LinearCase{2, 513, 31, 7}, LinearCase{130, 72, 200, 8}, LinearCase{1, 1024, 300, 0},
        LinearCase{40, 264, 136, 16}, LinearCase{70, 512, 96, 0}}) {
    for (const dsopt_dtype x : kActivationTypes) {
      for (const dsopt_dtype w : kWeightTypes) {
        for (const dsopt_dtype out : kActivationTypes) {
          CheckOneLinear(device, &random, shape, x, w, out, activations[turn % 3], turn % 2 == 0);
          ++turn;
        }
      }
    }
  }
}

}  // namespace dsopt::ops_test

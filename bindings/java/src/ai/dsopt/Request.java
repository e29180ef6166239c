package ai.dsopt;

import ai.dsopt.raw.GenerateRequest;
import ai.dsopt.raw.dsopt_sampling;
import java.util.Map;

/** {@link GenerateOptions} in native memory, for the time of one call. */
final class Request implements AutoCloseable {
  private final GenerateRequest raw = new GenerateRequest();

  Request(GenerateOptions options) {
    try {
      fill(options);
    } catch (Throwable failure) {
      raw.delete();
      throw failure;
    }
  }

  GenerateRequest raw() {
    return raw;
  }

  @Override
  public void close() {
    raw.delete();
  }

  private void fill(GenerateOptions options) {
    raw.set_flags(options.flags());
    raw.set_max_tokens(options.maxTokens());
    raw.set_priority(options.priority());
    raw.set_logprobs(options.logprobs());
    raw.set_top_logprobs(options.topLogprobs());
    if (options.sampling() != null) {
      fill(options.sampling());
    }
    for (String stop : options.stop()) {
      raw.add_stop(Check.utf8Name(stop, "options.stop"));
    }
    for (int token : options.stopTokens()) {
      raw.add_stop_token(token);
    }
    for (Map.Entry<Integer, Float> bias : options.bias().entrySet()) {
      raw.add_bias(bias.getKey(), bias.getValue());
    }
  }

  private void fill(Sampling sampling) {
    dsopt_sampling to = new dsopt_sampling();
    try {
      to.setTemperature(sampling.temperature());
      to.setTop_k(Check.notNegative(sampling.topK(), "sampling.topK"));
      to.setTop_p(sampling.topP());
      to.setMin_p(sampling.minP());
      to.setTypical_p(sampling.typicalP());
      to.setTop_n_sigma(sampling.topNSigma());
      to.setRepeat_penalty(sampling.repeatPenalty());
      to.setPresence_penalty(sampling.presencePenalty());
      to.setFrequency_penalty(sampling.frequencyPenalty());
      to.setPenalty_window(Check.notNegative(sampling.penaltyWindow(), "sampling.penaltyWindow"));
      to.setSeed(sampling.seed());
      raw.set_sampling(to);
    } finally {
      to.delete();
    }
  }
}

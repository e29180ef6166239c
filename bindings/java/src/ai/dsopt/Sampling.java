package ai.dsopt;

/**
 * How the next token is drawn ({@code dsopt_sampling}). Zero turns a rule off. They apply in this order: bans
 * and biases, penalties, temperature, topK, topNSigma, typicalP, topP, minP, draw. The same seed gives the same
 * tokens whatever else the session does.
 *
 * @param temperature 0: greedy, the most probable token
 * @param topK only the k most probable tokens
 * @param topP only the most probable tokens that together have this probability
 * @param minP only tokens with at least this part of the best one's probability
 * @param typicalP locally typical sampling
 * @param topNSigma only tokens within n standard deviations of the best logit
 * @param repeatPenalty logits of seen tokens are divided by it (negative ones multiplied); 0 or 1: off
 * @param presencePenalty subtracted from the logits of seen tokens
 * @param frequencyPenalty subtracted once for each time a token was seen
 * @param penaltyWindow last tokens that the penalties look at, at most 1024; 0: 64
 * @param seed of the random numbers; 0: from the operating system
 */
public record Sampling(float temperature, int topK, float topP, float minP, float typicalP, float topNSigma,
    float repeatPenalty, float presencePenalty, float frequencyPenalty, int penaltyWindow, long seed) {
  /**
   * Always the most probable token.
   *
   * @return sampling with temperature 0
   */
  public static Sampling greedy() {
    return builder().build();
  }

  /**
   * Starts from greedy sampling.
   *
   * @return a new builder
   */
  public static Builder builder() {
    return new Builder();
  }

  /** Builds a {@link Sampling}; each method sets the component of its name and returns the builder. */
  public static final class Builder {
    private float temperature;
    private int topK;
    private float topP;
    private float minP;
    private float typicalP;
    private float topNSigma;
    private float repeatPenalty;
    private float presencePenalty;
    private float frequencyPenalty;
    private int penaltyWindow;
    private long seed;

    private Builder() {}

    /**
     * Sets {@link Sampling#temperature()}.
     *
     * @param value 0: greedy
     * @return this
     */
    public Builder temperature(double value) {
      temperature = (float) value;
      return this;
    }

    /**
     * Sets {@link Sampling#topK()}.
     *
     * @param value 0: off
     * @return this
     */
    public Builder topK(int value) {
      topK = value;
      return this;
    }

    /**
     * Sets {@link Sampling#topP()}.
     *
     * @param value 0: off
     * @return this
     */
    public Builder topP(double value) {
      topP = (float) value;
      return this;
    }

    /**
     * Sets {@link Sampling#minP()}.
     *
     * @param value 0: off
     * @return this
     */
    public Builder minP(double value) {
      minP = (float) value;
      return this;
    }

    /**
     * Sets {@link Sampling#typicalP()}.
     *
     * @param value 0: off
     * @return this
     */
    public Builder typicalP(double value) {
      typicalP = (float) value;
      return this;
    }

    /**
     * Sets {@link Sampling#topNSigma()}.
     *
     * @param value 0: off
     * @return this
     */
    public Builder topNSigma(double value) {
      topNSigma = (float) value;
      return this;
    }

    /**
     * Sets {@link Sampling#repeatPenalty()}.
     *
     * @param value 0 or 1: off
     * @return this
     */
    public Builder repeatPenalty(double value) {
      repeatPenalty = (float) value;
      return this;
    }

    /**
     * Sets {@link Sampling#presencePenalty()}.
     *
     * @param value 0: off
     * @return this
     */
    public Builder presencePenalty(double value) {
      presencePenalty = (float) value;
      return this;
    }

    /**
     * Sets {@link Sampling#frequencyPenalty()}.
     *
     * @param value 0: off
     * @return this
     */
    public Builder frequencyPenalty(double value) {
      frequencyPenalty = (float) value;
      return this;
    }

    /**
     * Sets {@link Sampling#penaltyWindow()}.
     *
     * @param value 0: 64
     * @return this
     */
    public Builder penaltyWindow(int value) {
      penaltyWindow = value;
      return this;
    }

    /**
     * Sets {@link Sampling#seed()}.
     *
     * @param value 0: from the operating system
     * @return this
     */
    public Builder seed(long value) {
      seed = value;
      return this;
    }

    /**
     * The sampling as set so far.
     *
     * @return a new record
     */
    public Sampling build() {
      return new Sampling(temperature, topK, topP, minP, typicalP, topNSigma, repeatPenalty, presencePenalty,
          frequencyPenalty, penaltyWindow, seed);
    }
  }
}

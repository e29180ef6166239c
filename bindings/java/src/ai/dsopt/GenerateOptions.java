package ai.dsopt;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** What a generation is to do ({@code dsopt_generate_options}). Immutable; made by {@link #builder()}. */
public final class GenerateOptions {
  /**
   * Until an end token, the context length or the capacity of the cache, with the sampling of the model file.
   */
  public static final GenerateOptions DEFAULT = builder().build();

  private static final int PREFILL_ONLY = 1;
  private static final int SCORE = 2;
  private static final int IGNORE_EOS = 4;

  private final int flags;
  private final int maxTokens;
  private final int priority;
  private final Sampling sampling;
  private final List<String> stop;
  private final int[] stopTokens;
  private final Map<Integer, Float> bias;
  private final boolean logprobs;
  private final int topLogprobs;
  private final EventListener listener;

  private GenerateOptions(Builder b) {
    flags = (b.prefillOnly ? PREFILL_ONLY : 0) | (b.score ? SCORE : 0) | (b.ignoreEos ? IGNORE_EOS : 0);
    maxTokens = b.maxTokens;
    priority = b.priority;
    sampling = b.sampling;
    stop = List.copyOf(b.stop);
    stopTokens = b.stopTokens.clone();
    bias = Map.copyOf(b.bias);
    logprobs = b.logprobs;
    topLogprobs = b.topLogprobs;
    listener = b.listener;
  }

  /**
   * Starts from {@link #DEFAULT}.
   *
   * @return a new builder
   */
  public static Builder builder() {
    return new Builder();
  }

  int flags() {
    return flags;
  }

  /**
   * Most tokens to sample.
   *
   * @return 0: no limit of its own
   */
  public int maxTokens() {
    return maxTokens;
  }

  /**
   * Streams of larger priority come first.
   *
   * @return 0 unless set
   */
  public int priority() {
    return priority;
  }

  /**
   * How tokens are drawn.
   *
   * @return {@code null}: as the model file says
   */
  public Sampling sampling() {
    return sampling;
  }

  /**
   * Texts that end the generation; not part of its output.
   *
   * @return unmodifiable
   */
  public List<String> stop() {
    return stop;
  }

  /**
   * Tokens that end the generation, besides the model's own end tokens.
   *
   * @return a copy
   */
  public int[] stopTokens() {
    return stopTokens.clone();
  }

  /**
   * What is added to the logits of tokens; negative infinity bans one.
   *
   * @return unmodifiable
   */
  public Map<Integer, Float> bias() {
    return bias;
  }

  /**
   * Whether events report the log probability of each token.
   *
   * @return {@code false} unless set
   */
  public boolean logprobs() {
    return logprobs;
  }

  /**
   * Of how many most probable tokens events report the log probability.
   *
   * @return 0 to 20
   */
  public int topLogprobs() {
    return topLogprobs;
  }

  /**
   * Who receives the events.
   *
   * @return {@code null}: they are read with {@link Stream#read()} or a {@link Generation}
   */
  public EventListener listener() {
    return listener;
  }

  /** Builds {@link GenerateOptions}. Each method returns the builder. */
  public static final class Builder {
    private boolean prefillOnly;
    private boolean score;
    private boolean ignoreEos;
    private int maxTokens;
    private int priority;
    private Sampling sampling;
    private final List<String> stop = new ArrayList<>();
    private int[] stopTokens = {};
    private final Map<Integer, Float> bias = new LinkedHashMap<>();
    private boolean logprobs;
    private int topLogprobs;
    private EventListener listener;

    private Builder() {}

    /**
     * Brings all appended tokens into the cache and samples nothing.
     *
     * @return this
     */
    public Builder prefillOnly() {
      prefillOnly = true;
      return this;
    }

    /**
     * Also computes the log probability of each appended token that is not yet in the cache: see {@link
     * Stream#logprobs}.
     *
     * @return this
     */
    public Builder score() {
      score = true;
      return this;
    }

    /**
     * The model's end tokens do not end the generation.
     *
     * @return this
     */
    public Builder ignoreEos() {
      ignoreEos = true;
      return this;
    }

    /**
     * Sets {@link GenerateOptions#maxTokens()}.
     *
     * @param value 0: no limit of its own
     * @return this
     */
    public Builder maxTokens(int value) {
      maxTokens = Check.notNegative(value, "options.maxTokens");
      return this;
    }

    /**
     * Sets {@link GenerateOptions#priority()}.
     *
     * @param value larger comes first
     * @return this
     */
    public Builder priority(int value) {
      priority = value;
      return this;
    }

    /**
     * Sets {@link GenerateOptions#sampling()}.
     *
     * @param value {@code null}: as the model file says
     * @return this
     */
    public Builder sampling(Sampling value) {
      sampling = value;
      return this;
    }

    /**
     * Adds stop strings, at most 64 of at most 4096 bytes.
     *
     * @param texts none may be empty
     * @return this
     */
    public Builder stop(String... texts) {
      for (String text : Check.notNull(texts, "options.stop")) {
        stop.add(Check.notNull(text, "options.stop"));
      }
      return this;
    }

    /**
     * Sets {@link GenerateOptions#stopTokens()}.
     *
     * @param tokens at most 1024
     * @return this
     */
    public Builder stopTokens(int... tokens) {
      stopTokens = Check.notNull(tokens, "options.stopTokens").clone();
      return this;
    }

    /**
     * Adds something to the logit of a token.
     *
     * @param token its id
     * @param value negative infinity bans it
     * @return this
     */
    public Builder bias(int token, double value) {
      bias.put(token, (float) value);
      return this;
    }

    /**
     * Sets {@link GenerateOptions#logprobs()}.
     *
     * @return this
     */
    public Builder logprobs() {
      logprobs = true;
      return this;
    }

    /**
     * Sets {@link GenerateOptions#topLogprobs()}.
     *
     * @param count 0 to 20
     * @return this
     */
    public Builder topLogprobs(int count) {
      topLogprobs = Check.notNegative(count, "options.topLogprobs");
      return this;
    }

    /**
     * Sets {@link GenerateOptions#listener()}.
     *
     * @param value {@code null}: events are read
     * @return this
     */
    public Builder listener(EventListener value) {
      listener = value;
      return this;
    }

    /**
     * The options as set so far.
     *
     * @return a new object
     */
    public GenerateOptions build() {
      return new GenerateOptions(this);
    }
  }
}

package ai.dsopt;

/** How text becomes tokens and back ({@code DSOPT_TOKENIZE_*}, {@code DSOPT_DETOKENIZE_*}). */
public enum TextFlag {
  /** To tokens: begin with the model's start token, as its tokenizer does; nothing if it adds none. */
  ADD_BOS(1),
  /** To tokens: let for example "&lt;|eot|&gt;" in the text become a control token. */
  PARSE_SPECIAL(2),
  /** To text: leave control tokens out. */
  SKIP_SPECIAL(4);

  private final int bit;

  TextFlag(int bit) {
    this.bit = bit;
  }

  static int bits(TextFlag... flags) {
    int bits = 0;
    for (TextFlag flag : Check.notNull(flags, "flags")) {
      bits |= Check.notNull(flag, "flags").bit;
    }
    return bits;
  }
}

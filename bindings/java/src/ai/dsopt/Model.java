package ai.dsopt;

import ai.dsopt.raw.ChatMessages;
import ai.dsopt.raw.DsoptNative;
import ai.dsopt.raw.dsopt_model_info;
import ai.dsopt.raw.dsopt_session_memory;
import ai.dsopt.raw.dsopt_session_options;
import java.lang.ref.Cleaner;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Optional;

/**
 * An open model: its weights, its tokenizer, its chat template. Thread-safe; only {@link #poll} runs one at a
 * time.
 */
public final class Model implements AutoCloseable {
  private static final int ADD_PROMPT = 1;

  private final Handle handle;
  private final Cleaner.Cleanable cleanable;
  private final Shared shared;
  private final Opening opening;
  private volatile float progress;

  /** Takes over one share of shared. */
  Model(long pointer, Shared shared, Opening opening) {
    this.shared = shared;
    this.opening = opening;
    handle = new Handle("model", pointer, DsoptNative::dsopt_model_release, () -> {
      opening.free();
      shared.drop();
    });
    cleanable = handle.ownedBy(this);
    if (info().loaded()) {
      finished();
    }
  }

  /**
   * Opens a model file on the best device, with a runtime of its own.
   *
   * @param path of a .dsopt file
   * @return to be closed
   */
  public static Model open(String path) {
    return open(path, ModelOptions.DEFAULT);
  }

  /**
   * Opens a model file with a runtime of its own.
   *
   * @param path of a .dsopt file
   * @param options how
   * @return to be closed
   */
  public static Model open(String path, ModelOptions options) {
    try (Runtime runtime = Runtime.create()) {
      return runtime.open(path, options);
    }
  }

  /**
   * Opens a model file on the best device, with a runtime of its own.
   *
   * @param path of a .dsopt file
   * @return to be closed
   */
  public static Model open(Path path) {
    return open(Check.notNull(path, "path").toString());
  }

  /**
   * Continues a text: the short way, with a session of its own. See {@link Stream} for more control.
   *
   * @param prompt the text to continue
   * @return the generated text as it appears; to be closed if it is not read to its end
   */
  public Generation generate(String prompt) {
    return generate(prompt, GenerateOptions.DEFAULT);
  }

  /**
   * Continues a text: the short way, with a session of its own.
   *
   * @param prompt the text to continue
   * @param options of the generation; without a listener
   * @return the generated text as it appears; to be closed if it is not read to its end
   */
  public Generation generate(String prompt, GenerateOptions options) {
    return Generation.withSession(this, stream -> stream.append(prompt), options);
  }

  /**
   * Answers one message through the model's chat template: the short way, with a session of its own.
   *
   * @param message what the user says
   * @return the answer as it appears; to be closed if it is not read to its end
   */
  public Generation chat(String message) {
    return chat(List.of(Message.user(message)), GenerateOptions.DEFAULT);
  }

  /**
   * Answers a chat: the short way, with a session of its own.
   *
   * @param messages so far; the last one is to be answered
   * @param options of the generation; without a listener
   * @return the answer as it appears; to be closed if it is not read to its end
   */
  public Generation chat(List<Message> messages, GenerateOptions options) {
    return Generation.withSession(this, stream -> stream.appendChat(messages), options);
  }

  /**
   * A session with one stream of the model's context length.
   *
   * @return to be closed
   */
  public Session newSession() {
    return newSession(SessionOptions.DEFAULT);
  }

  /**
   * A session.
   *
   * @param options its memory and arithmetic
   * @return to be closed
   */
  public Session newSession(SessionOptions options) {
    dsopt_session_options raw = Records.sessionOptions(options);
    try {
      long pointer = handle.enter();
      try {
        return new Session(DsoptNative.session_create(pointer, raw), shared.hold(), this);
      } finally {
        handle.leave(this);
      }
    } finally {
      raw.delete();
    }
  }

  /**
   * What {@link #newSession(SessionOptions)} would take with the same options; nothing is taken yet. Throws nothing
   * where that would throw {@link DsoptException.OutOfMemory}: then {@link SessionMemory#tokens()} is less than
   * wanted, or the bytes exceed the device.
   *
   * @param options its memory and arithmetic
   * @return tokens and bytes
   */
  public SessionMemory planSession(SessionOptions options) {
    dsopt_session_options raw = Records.sessionOptions(options);
    dsopt_session_memory memory = new dsopt_session_memory();
    try {
      long pointer = handle.enter();
      try {
        DsoptNative.dsopt_session_plan(pointer, raw, memory);
        return Records.memory(memory);
      } finally {
        handle.leave(this);
      }
    } finally {
      memory.delete();
      raw.delete();
    }
  }

  /**
   * Loads a model that was opened with {@link ModelOptions.Builder#lazy()}.
   *
   * @param budget about how long
   * @return whether it is complete
   */
  public boolean poll(Duration budget) {
    long micros = Check.micros(budget, "budget");
    float[] reached = new float[1];
    long pointer = handle.enter();
    try {
      boolean done = DsoptNative.dsopt_model_poll(pointer, micros, reached);
      opening.pending().rethrow();
      progress = reached[0];
      if (done) {
        finished();
      }
      return done;
    } catch (DsoptException failure) {
      throw opening.pending().rethrowInsteadOf(failure);
    } finally {
      handle.leave(this);
    }
  }

  /**
   * How much of the weights is loaded.
   *
   * @return 0 to 1, as of the last {@link #poll}
   */
  public float progress() {
    return progress;
  }

  /** Makes a load in progress throw {@link DsoptException.Cancelled}, from any thread. */
  public void cancel() {
    long pointer = handle.enter();
    try {
      DsoptNative.dsopt_model_cancel(pointer);
    } finally {
      handle.leave(this);
    }
  }

  /**
   * What the model is.
   *
   * @return a record
   */
  public ModelInfo info() {
    long pointer = handle.enter();
    dsopt_model_info raw = new dsopt_model_info();
    try {
      DsoptNative.dsopt_model_get_info(pointer, raw);
      return Records.model(raw);
    } finally {
      raw.delete();
      handle.leave(this);
    }
  }

  /**
   * Free-form metadata of the file.
   *
   * @param key for example "license"
   * @return empty if the file has no such key
   */
  public Optional<String> metadata(String key) {
    byte[] utf8 = Check.utf8Name(key, "key");
    long pointer = handle.enter();
    try {
      return Optional.of(Out.text(256, buffer -> DsoptNative.model_get_metadata(pointer, utf8, buffer)));
    } catch (DsoptException.NotFound absent) {
      return Optional.empty();
    } finally {
      handle.leave(this);
    }
  }

  /**
   * Text to tokens.
   *
   * @param text any text
   * @param flags {@link TextFlag#ADD_BOS}, {@link TextFlag#PARSE_SPECIAL}
   * @return their ids
   */
  public int[] tokenize(String text, TextFlag... flags) {
    return tokenizeUtf8(Check.utf8(text, "text"), flags);
  }

  /**
   * Bytes to tokens.
   *
   * @param utf8 a text in UTF-8
   * @param flags {@link TextFlag#ADD_BOS}, {@link TextFlag#PARSE_SPECIAL}
   * @return their ids
   */
  public int[] tokenizeUtf8(byte[] utf8, TextFlag... flags) {
    Check.notNull(utf8, "text");
    int bits = TextFlag.bits(flags);
    long pointer = handle.enter();
    try {
      return Out.tokens(utf8.length + 8, buffer -> DsoptNative.tokenize(pointer, utf8, bits, buffer));
    } finally {
      handle.leave(this);
    }
  }

  /**
   * Tokens to text. Bytes that are no valid UTF-8 become U+FFFD.
   *
   * @param tokens their ids
   * @param flags {@link TextFlag#SKIP_SPECIAL}
   * @return the text
   */
  public String detokenize(int[] tokens, TextFlag... flags) {
    return Check.string(detokenizeUtf8(tokens, flags));
  }

  /**
   * The exact bytes of tokens, which may be a part of a character.
   *
   * @param tokens their ids
   * @param flags {@link TextFlag#SKIP_SPECIAL}
   * @return UTF-8 if the tokens are
   */
  public byte[] detokenizeUtf8(int[] tokens, TextFlag... flags) {
    Check.notNull(tokens, "tokens");
    int bits = TextFlag.bits(flags);
    long pointer = handle.enter();
    try {
      return Out.utf8(
          Out.room(tokens.length * 8L + 1), buffer -> DsoptNative.detokenize(pointer, tokens, bits, buffer));
    } finally {
      handle.leave(this);
    }
  }

  /**
   * Applies the model's chat template. The result is to be tokenized with {@link TextFlag#PARSE_SPECIAL};
   * {@link Stream#appendChat} does both.
   *
   * @param messages of the chat
   * @param addPrompt end with the header of an assistant's turn
   * @return the text
   */
  public String formatChat(List<Message> messages, boolean addPrompt) {
    Check.notNull(messages, "messages");
    ChatMessages raw = new ChatMessages();
    try {
      for (Message message : messages) {
        Check.notNull(message, "messages");
        raw.add(
            Check.utf8Name(message.role(), "messages.role"), Check.utf8(message.content(), "messages.content"));
      }
      long pointer = handle.enter();
      try {
        return Out.text(
            1024, buffer -> DsoptNative.chat_format(pointer, raw, addPrompt ? ADD_PROMPT : 0, buffer));
      } finally {
        handle.leave(this);
      }
    } finally {
      raw.delete();
    }
  }

  /** Releases the model. Sessions made from it stay usable. */
  @Override
  public void close() {
    cleanable.clean();
  }

  private void finished() {
    progress = 1;
    opening.loaded();
  }
}

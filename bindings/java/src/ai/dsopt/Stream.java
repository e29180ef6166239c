package ai.dsopt;

import ai.dsopt.raw.DsoptNative;
import ai.dsopt.raw.NativeEvent;
import java.lang.ref.Cleaner;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;

/** One sequence of tokens: its prompt, its generation, its part of the cache. See the package for threads. */
public final class Stream implements AutoCloseable {
  private final Handle handle;
  private final Cleaner.Cleanable cleanable;
  private final Session session;
  private final Attached attached = new Attached();

  /** Not used here, only kept from the garbage collector: see EventBridge. */
  @SuppressWarnings("unused") private EventListener listener;

  private volatile int generationNumber; // counts them

  Stream(long pointer, Session session) {
    this.session = session;
    Attached mine = attached;
    Shared shared = session.shared().hold();
    handle = new Handle("stream", pointer, DsoptNative::stream_release, () -> {
      mine.free();
      shared.drop();
    });
    cleanable = handle.ownedBy(this);
  }

  /**
   * Appends text to the sequence. The first one begins with the model's start token, if it has one.
   *
   * @param text any text; control tokens in it stay text
   * @return this
   */
  public Stream append(String text) {
    return tokenCount() == 0 ? append(text, TextFlag.ADD_BOS) : append(text, new TextFlag[0]);
  }

  /**
   * Appends text to the sequence.
   *
   * @param text any text
   * @param flags {@link TextFlag#ADD_BOS}, {@link TextFlag#PARSE_SPECIAL}
   * @return this
   */
  public Stream append(String text, TextFlag... flags) {
    return appendUtf8(Check.utf8(text, "text"), flags);
  }

  /**
   * Appends text to the sequence.
   *
   * @param utf8 a text in UTF-8
   * @param flags {@link TextFlag#ADD_BOS}, {@link TextFlag#PARSE_SPECIAL}
   * @return this
   */
  public Stream appendUtf8(byte[] utf8, TextFlag... flags) {
    Check.notNull(utf8, "text");
    int bits = TextFlag.bits(flags);
    long pointer = handle.enter();
    try {
      DsoptNative.stream_append_text(pointer, utf8, bits);
      return this;
    } finally {
      handle.leave(this);
    }
  }

  /**
   * Appends messages through the model's chat template, ready for the assistant to answer.
   *
   * @param messages of the chat
   * @return this
   */
  public Stream appendChat(List<Message> messages) {
    return append(session.model().formatChat(messages, true), TextFlag.PARSE_SPECIAL);
  }

  /**
   * Appends tokens to the sequence.
   *
   * @param tokens their ids
   * @return this
   */
  public Stream appendTokens(int... tokens) {
    Check.notNull(tokens, "tokens");
    long pointer = handle.enter();
    try {
      DsoptNative.dsopt_stream_append_tokens(pointer, tokens);
      return this;
    } finally {
      handle.leave(this);
    }
  }

  /**
   * Generates with default options.
   *
   * @return the text as it appears
   */
  public Generation generate() {
    return generate(GenerateOptions.DEFAULT);
  }

  /**
   * Generates. Nothing is computed before the result is read.
   *
   * @param options without a listener
   * @return the text as it appears
   */
  public Generation generate(GenerateOptions options) {
    begin(options);
    return new Generation(this, false);
  }

  void begin(GenerateOptions options) {
    if (Check.notNull(options, "options").listener() != null) {
      throw new DsoptException.InvalidArgument("options.listener: set, expected none: use Stream.start");
    }
    start(options);
  }

  /**
   * Starts a generation, which {@link Session#poll} and {@link Session#await} then do. Its events come to the
   * listener of the options, or are read by {@link #read}.
   *
   * @param options of the generation
   */
  public void start(GenerateOptions options) {
    EventListener receiver = Check.notNull(options, "options").listener();
    long pointer = handle.enter();
    try (Request request = new Request(options)) {
      synchronized (attached) {
        EventBridge bridge = receiver != null ? new EventBridge(this, receiver) : null;
        boolean kept = receiver != null && session.keep(this); // before another thread's poll ends it
        try {
          DsoptNative.stream_generate(pointer, request.raw(), bridge);
        } catch (Throwable failure) {
          if (kept) {
            session.letGo(this);
          }
          if (bridge != null) {
            bridge.delete();
          }
          throw failure;
        }
        listener = receiver;
        ++generationNumber;
        attached.replace(bridge);
      }
    } finally {
      handle.leave(this);
    }
  }

  /**
   * The next event of a generation without a listener.
   *
   * @return empty: there is none yet
   */
  public Optional<Event> read() {
    long pointer = handle.enter();
    try {
      synchronized (attached) {
        NativeEvent raw = attached.event();
        return DsoptNative.stream_read(pointer, raw) ? Optional.of(Records.event(raw)) : Optional.empty();
      }
    } finally {
      handle.leave(this);
    }
  }

  /** Ends the generation with {@link Finish#CANCELLED}, from any thread. Tokens already delivered stay. */
  public void cancel() {
    long pointer = handle.enter();
    try {
      DsoptNative.dsopt_stream_cancel(pointer);
    } finally {
      handle.leave(this);
    }
  }

  /**
   * Why the last generation failed.
   *
   * @return empty: it did not
   */
  public Optional<DsoptException> error() {
    byte[] buffer = new byte[1024];
    long pointer = handle.enter();
    try {
      int status = DsoptNative.stream_error(pointer, buffer);
      if (status >= 0) {
        return Optional.empty();
      }
      return Optional.of(DsoptException.of(status, Out.toNul(buffer)));
    } finally {
      handle.leave(this);
    }
  }

  /**
   * Tokens appended and sampled so far.
   *
   * @return their number
   */
  public int tokenCount() {
    long pointer = handle.enter();
    try {
      return (int) DsoptNative.dsopt_stream_token_count(pointer);
    } finally {
      handle.leave(this);
    }
  }

  /**
   * Tokens appended and sampled so far.
   *
   * @param first how many to leave out at the beginning
   * @return a copy of the others
   */
  public int[] tokens(int first) {
    Check.notNegative(first, "first");
    long pointer = handle.enter();
    try {
      int[] buffer = new int[room(pointer, first)];
      return Arrays.copyOf(buffer, (int) DsoptNative.stream_get_tokens(pointer, first, buffer));
    } finally {
      handle.leave(this);
    }
  }

  /**
   * Log probability of each token, given those before it.
   *
   * @param first how many tokens to leave out at the beginning
   * @return NaN where it was not computed: see {@link GenerateOptions.Builder#score()} and {@code logprobs()}
   */
  public float[] logprobs(int first) {
    Check.notNegative(first, "first");
    long pointer = handle.enter();
    try {
      float[] buffer = new float[room(pointer, first)];
      return Arrays.copyOf(buffer, (int) DsoptNative.stream_get_logprobs(pointer, first, buffer));
    } finally {
      handle.leave(this);
    }
  }

  /**
   * The logits that follow the last token in the cache, in a buffer of native memory without a further copy.
   * Only after a generation that was read to its end.
   *
   * @return a new direct buffer, one value for each token of the vocabulary
   */
  public FloatBuffer logits() {
    long pointer = handle.enter();
    try {
      long count = DsoptNative.stream_get_logits_direct(pointer, Out.floats(0));
      FloatBuffer buffer = Out.floats(count);
      DsoptNative.stream_get_logits_direct(pointer, buffer);
      return buffer;
    } finally {
      handle.leave(this);
    }
  }

  /**
   * The same into a buffer that the caller uses again.
   *
   * @param direct of {@link java.nio.ByteBuffer#allocateDirect} and native byte order; filled from its
   *     position, which moves
   */
  public void logits(FloatBuffer direct) {
    if (!Check.notNull(direct, "logits").isDirect() || direct.isReadOnly()
        || direct.order() != ByteOrder.nativeOrder()) {
      throw new DsoptException.InvalidArgument(
          "logits: " + direct + ", expected a writable direct buffer of native byte order");
    }
    long pointer = handle.enter();
    try {
      FloatBuffer rest = direct.slice();
      long count = DsoptNative.stream_get_logits_direct(pointer, rest);
      if (count > rest.capacity()) {
        throw new DsoptException(
            Status.BUFFER_TOO_SMALL, "logits: room for " + rest.capacity() + ", " + count + " needed");
      }
      direct.position(direct.position() + (int) count);
    } finally {
      handle.leave(this);
    }
  }

  /**
   * Drops everything after the first tokens; their part of the cache goes back to the session.
   *
   * @param count how many tokens stay
   */
  public void rewind(int count) {
    Check.notNegative(count, "count");
    long pointer = handle.enter();
    try {
      DsoptNative.dsopt_stream_rewind(pointer, count);
    } finally {
      handle.leave(this);
    }
  }

  /**
   * A new stream with the same tokens, which shares this one's cache until one of them changes it.
   *
   * @return to be closed
   */
  public Stream fork() {
    long pointer = handle.enter();
    try {
      return new Stream(DsoptNative.stream_fork(pointer), session);
    } finally {
      handle.leave(this);
    }
  }

  /**
   * Tokens and cache as one block with a checksum, for {@link #load} into a session of the same model file.
   *
   * @return a new array
   */
  public byte[] save() {
    long pointer = handle.enter();
    try {
      return Out.bytes(buffer -> DsoptNative.stream_save(pointer, buffer));
    } finally {
      handle.leave(this);
    }
  }

  /**
   * Replaces everything by what {@link #save} gave. A failure leaves the stream as it was.
   *
   * @param saved by this or another process
   */
  public void load(byte[] saved) {
    Check.notNull(saved, "saved");
    long pointer = handle.enter();
    try {
      DsoptNative.stream_load(pointer, saved);
    } finally {
      handle.leave(this);
    }
  }

  /**
   * The session of this stream.
   *
   * @return as it was when the stream was made, also when it has been closed
   */
  public Session session() {
    return session;
  }

  /** Releases the stream; a generation in progress is cancelled without an event. */
  @Override
  public void close() {
    session.letGo(this);
    cleanable.clean();
  }

  /** Inside a poll: false if the stream is closed. What the listener throws comes out. */
  boolean deliver(EventListener receiver, NativeEvent event) {
    try {
      handle.enter(); // a close meanwhile, by the listener or another thread, waits until it has returned
    } catch (DsoptException.InvalidState closed) {
      return false;
    }
    try {
      Event made = Records.event(event);
      if (made.last()) {
        session.letGo(this);
      }
      receiver.onEvent(this, made);
      return true;
    } finally {
      handle.leave(this);
    }
  }

  int generationNumber() {
    return generationNumber;
  }

  private static int room(long pointer, int first) {
    return (int) Math.max(0, DsoptNative.dsopt_stream_token_count(pointer) - first);
  }
}

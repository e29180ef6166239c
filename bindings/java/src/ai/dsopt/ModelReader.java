package ai.dsopt;

import java.io.IOException;
import java.nio.ByteBuffer;

/** A model file that is inside something else, for example a game archive. Used from one thread at a time. */
public interface ModelReader extends AutoCloseable {
  /**
   * The length of the file.
   *
   * @return in bytes
   * @throws IOException if it cannot be told; comes back out of the open
   */
  long size() throws IOException;

  /**
   * Fills the rest of a buffer with bytes of the file.
   *
   * @param offset of the first byte
   * @param destination to be filled from its position to its limit; not to be kept
   * @throws IOException if that fails: comes back out of the open or poll, as the cause of an
   *     {@link java.io.UncheckedIOException}
   */
  void readAt(long offset, ByteBuffer destination) throws IOException;

  /**
   * Called once, when the model has loaded or the open failed.
   *
   * @throws IOException if that fails; comes back out of the call that is running, if one is
   */
  @Override
  default void close() throws IOException {}
}

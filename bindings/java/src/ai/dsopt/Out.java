package ai.dsopt;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.util.Arrays;

/** Arrays for native functions that fill a buffer and tell the full length. */
final class Out {
  private static final int LONGEST = Integer.MAX_VALUE - 16;

  private Out() {}

  /** A native call with a buffer; returns the full length, also when the buffer was too small. */
  interface Call<T> {
    long fill(T buffer);
  }

  /** UTF-8 text, which needs one byte more for its NUL. */
  static String text(int guess, Call<byte[]> call) {
    return Check.string(utf8(guess, call));
  }

  static byte[] utf8(int guess, Call<byte[]> call) {
    byte[] buffer = new byte[guess];
    for (;;) {
      long length = call.fill(buffer);
      if (length < buffer.length) {
        return Arrays.copyOf(buffer, (int) length);
      }
      buffer = new byte[room(length + 1)];
    }
  }

  static byte[] bytes(Call<byte[]> call) {
    byte[] buffer = new byte[0];
    for (;;) {
      long length = call.fill(buffer);
      if (length <= buffer.length) {
        return length == buffer.length ? buffer : Arrays.copyOf(buffer, (int) length);
      }
      buffer = new byte[room(length)];
    }
  }

  static int[] tokens(int guess, Call<int[]> call) {
    int[] buffer = new int[guess];
    for (;;) {
      long count = call.fill(buffer);
      if (count <= buffer.length) {
        return count == buffer.length ? buffer : Arrays.copyOf(buffer, (int) count);
      }
      buffer = new int[room(count)];
    }
  }

  static FloatBuffer floats(long count) {
    return ByteBuffer.allocateDirect(room(count * Float.BYTES)).order(ByteOrder.nativeOrder()).asFloatBuffer();
  }

  static byte[] toNul(byte[] buffer) {
    int length = 0;
    while (length < buffer.length && buffer[length] != 0) {
      ++length;
    }
    return Arrays.copyOf(buffer, length);
  }

  /** A size from the native layer as that of a Java array. */
  static int room(long size) {
    if (size > LONGEST) {
      throw new DsoptException.OutOfMemory(
          Status.OUT_OF_MEMORY, "result: " + size + " elements, a Java array has at most " + LONGEST);
    }
    return (int) size;
  }
}

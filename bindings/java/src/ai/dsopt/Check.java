package ai.dsopt;

import java.nio.ByteBuffer;
import java.nio.CharBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.CodingErrorAction;
import java.nio.charset.StandardCharsets;
import java.time.Duration;

/** What arguments are before they go to the native layer: present, in range, valid UTF-16. */
final class Check {
  private Check() {}

  static <T> T notNull(T value, String name) {
    if (value == null) {
      throw new DsoptException.InvalidArgument(name + ": null, expected a value");
    }
    return value;
  }

  static int notNegative(int value, String name) {
    return (int) range(value, Integer.MAX_VALUE, name);
  }

  static long range(long value, long most, String name) {
    if (value < 0 || value > most) {
      throw new DsoptException.InvalidArgument(name + ": " + value + ", expected 0 to " + most);
    }
    return value;
  }

  /** Whole microseconds; a part of one counts as one, so that a budget above zero stays above zero. */
  static long micros(Duration time, String name) {
    notNull(time, name);
    if (time.isNegative()) {
      throw new DsoptException.InvalidArgument(name + ": " + time + ", expected at least zero");
    }
    if (time.getSeconds() > Long.MAX_VALUE / 1_000_000 - 1) {
      return Long.MAX_VALUE;
    }
    return time.getSeconds() * 1_000_000 + (time.getNano() + 999) / 1000;
  }

  /** UTF-8 of a text that may contain NUL. String.getBytes would turn an unpaired surrogate into '?'. */
  static byte[] utf8(String text, String name) {
    notNull(text, name);
    CharBuffer in = CharBuffer.wrap(text);
    try {
      ByteBuffer out = StandardCharsets.UTF_8.newEncoder()
                           .onMalformedInput(CodingErrorAction.REPORT)
                           .onUnmappableCharacter(CodingErrorAction.REPORT)
                           .encode(in);
      byte[] bytes = new byte[out.remaining()];
      out.get(bytes);
      return bytes;
    } catch (CharacterCodingException e) {
      throw new DsoptException.InvalidArgument(
          name + ": an unpaired surrogate at index " + in.position() + ", expected valid UTF-16");
    }
  }

  /** UTF-8 of a name that the C interface takes as a NUL-terminated string. */
  static byte[] utf8Name(String text, String name) {
    int nul = notNull(text, name).indexOf('\0');
    if (nul >= 0) {
      throw new DsoptException.InvalidArgument(name + ": a NUL character at index " + nul + ", expected none");
    }
    return utf8(text, name);
  }

  static byte[] utf8NameOrNull(String text, String name) {
    return text == null ? null : utf8Name(text, name);
  }

  static String string(byte[] utf8) {
    return new String(utf8, StandardCharsets.UTF_8);
  }
}

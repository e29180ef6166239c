package ai.dsopt;

import ai.dsopt.raw.IoSource;
import ai.dsopt.raw.ProgressSink;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;

/** What the native side uses while a model loads: listener, reader or bytes; and what the first two threw. */
final class Opening {
  private static final int SLICE_BYTES = 1 << 20;

  private final Pending pending = new Pending();
  private final ModelReader reader;
  private Progress progress;
  private Source source;
  /** Not used here, only kept from the garbage collector: the library reads it. */
  private ByteBuffer bytes;

  /** One of the native open functions. */
  interface Call {
    long open(long runtime, byte[] device, ModelOptions options, Opening opening);
  }

  private Opening(ByteBuffer bytes, ModelReader reader) {
    this.bytes = bytes;
    this.reader = reader;
  }

  /** Closes the reader whenever it gives no model. */
  static Model run(Runtime runtime, ByteBuffer bytes, ModelReader reader, ModelOptions options, Call call) {
    Opening opening = new Opening(bytes, reader);
    Model model = null;
    try {
      model = opening.open(runtime, options, call);
      opening.pending.rethrow();
      return model;
    } catch (Throwable failure) {
      if (model != null) {
        model.close();
      } else {
        opening.abandon(failure);
      }
      if (failure instanceof DsoptException e) {
        throw opening.pending.rethrowInsteadOf(e);
      }
      throw failure;
    }
  }

  private Model open(Runtime runtime, ModelOptions options, Call call) {
    byte[] device = Check.utf8NameOrNull(Check.notNull(options, "options").device(), "options.device");
    long pointer = runtime.enter();
    try {
      if (reader != null) {
        source = new Source(reader, pending);
      }
      if (options.progress() != null) {
        progress = new Progress(options.progress(), pending);
      }
      return new Model(call.open(pointer, device, options, this), runtime.shared().hold(), this);
    } catch (IOException failure) {
      throw new UncheckedIOException(failure);
    } finally {
      runtime.leave();
    }
  }

  private void abandon(Throwable failure) {
    if (reader != null && (source == null || !source.closed)) {
      try {
        reader.close();
      } catch (Exception another) {
        failure.addSuppressed(another);
      }
    }
    free();
  }

  Pending pending() {
    return pending;
  }

  Progress progress() {
    return progress;
  }

  Source source() {
    return source;
  }

  /** The library needs the bytes no longer. */
  void loaded() {
    bytes = null;
  }

  /** After the native model is gone. */
  void free() {
    if (progress != null) {
      progress.delete();
    }
    if (source != null) {
      source.delete();
    }
    loaded();
  }

  static final class Progress extends ProgressSink {
    private final ProgressListener listener;
    private final Pending pending;

    Progress(ProgressListener listener, Pending pending) {
      this.listener = listener;
      this.pending = pending;
    }

    @Override
    public boolean on_progress(float progress) {
      try {
        return !listener.onProgress(progress);
      } catch (Throwable thrown) {
        pending.add(thrown);
        return true;
      }
    }
  }

  static final class Source extends IoSource {
    private final ModelReader reader;
    private final Pending pending;
    private final long size;
    private ByteBuffer slice;
    private boolean closed;

    Source(ModelReader reader, Pending pending) throws IOException {
      this.reader = reader;
      this.pending = pending;
      size = Check.range(reader.size(), Long.MAX_VALUE, "reader.size()");
    }

    long size() {
      return size;
    }

    @Override
    public boolean on_read(long offset, long length) {
      try {
        if (slice == null) {
          slice = ByteBuffer.allocateDirect((int) Math.min(SLICE_BYTES, size));
        }
        for (long done = 0; done < length;) {
          int bytes = (int) Math.min(slice.capacity(), length - done);
          ByteBuffer part = slice.slice(0, bytes);
          ByteBuffer destination = part.duplicate();
          reader.readAt(offset + done, destination);
          if (destination.position() != bytes) {
            throw new IOException(
                "readAt(" + (offset + done) + "): " + destination.position() + " bytes, expected " + bytes);
          }
          if (!fill_direct(part)) {
            return false;
          }
          done += bytes;
        }
        return true;
      } catch (IOException thrown) {
        pending.add(new UncheckedIOException(thrown));
      } catch (Throwable thrown) {
        pending.add(thrown);
      }
      return false;
    }

    @Override
    public void on_close() {
      closed = true;
      slice = null;
      try {
        reader.close();
      } catch (IOException thrown) {
        pending.add(new UncheckedIOException(thrown));
      } catch (Throwable thrown) {
        pending.add(thrown);
      }
    }
  }
}

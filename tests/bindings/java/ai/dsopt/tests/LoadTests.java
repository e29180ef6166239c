package ai.dsopt.tests;

import static ai.dsopt.tests.Suite.equal;
import static ai.dsopt.tests.Suite.that;
import static ai.dsopt.tests.Suite.thrown;

import ai.dsopt.DsoptException;
import ai.dsopt.Model;
import ai.dsopt.ModelInfo;
import ai.dsopt.ModelOptions;
import ai.dsopt.ModelReader;
import ai.dsopt.Runtime;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

/** Scenario 1. */
final class LoadTests {
  private LoadTests() {}

  static void add(Suite suite) {
    suite.test("load: a model opens from a path, bytes, buffers and a reader", LoadTests::everySource);
    suite.test("load: information and metadata are those of the file", LoadTests::information);
    suite.test("load: a lazy load polled in slices ends complete", LoadTests::lazy);
    suite.test("load: a progress listener that says no cancels", LoadTests::progressCancels);
    suite.test("load: a lazy load is cancelled", LoadTests::cancelled);
    suite.test("load: a model without weights tokenizes", LoadTests::metadataOnly);
    suite.test("load: a reader's exception comes back and the reader is closed once", LoadTests::readerFails);
    suite.test("load: devices and report of a runtime", LoadTests::devices);
  }

  /** A reader over bytes that counts its closes. */
  static class Bytes implements ModelReader {
    private final ByteBuffer bytes;
    int closes;

    Bytes(byte[] bytes) {
      this.bytes = ByteBuffer.wrap(bytes);
    }

    @Override
    public long size() {
      return bytes.capacity();
    }

    @Override
    public void readAt(long offset, ByteBuffer destination) throws IOException {
      destination.put(bytes.slice((int) offset, destination.remaining()));
    }

    @Override
    public void close() {
      ++closes;
    }
  }

  private static void everySource() throws IOException {
    byte[] bytes = Demo.bytes();
    ByteBuffer inside = ByteBuffer.allocate(bytes.length + 20).position(7).put(bytes).flip().position(7);
    ByteBuffer direct = ByteBuffer.allocateDirect(bytes.length).put(bytes).flip();
    Bytes reader = new Bytes(bytes);
    String answer;
    try (Model model = Demo.model()) {
      answer = Demo.answer(model);
      that(answer.contains(Demo.ANSWER_PART), answer);
    }
    try (Runtime runtime = Demo.runtime()) {
      List<Model> models = List.of(runtime.open(Path.of(Demo.MODEL), Demo.CPU),
          runtime.open(Demo.MODEL, ModelOptions.builder().device("cpu").mmap().verify().build()),
          runtime.open(bytes, Demo.CPU), runtime.open(inside, Demo.CPU), runtime.open(direct, Demo.CPU),
          runtime.open(reader, Demo.CPU));
      for (Model model : models) {
        equal(answer, Demo.answer(model), "answer");
        model.close();
      }
    }
    equal(7, inside.position(), "position of the buffer");
    equal(1, reader.closes, "closes of the reader");
  }

  private static void information() {
    try (Model model = Demo.model()) {
      ModelInfo info = model.info();
      equal("deepseek_v2", info.architecture(), "architecture");
      equal("cpu", info.device(), "device");
      equal(true, info.loaded(), "loaded");
      that(info.vocabSize() > 1000 && info.layerCount() > 1 && info.contextLength() >= 512, info.toString());
      that(info.parameterCount() > 1_000_000 && info.weightBytes() > info.parameterCount(), info.toString());
      equal(Optional.of("MIT"), model.metadata("license"), "license");
      equal(Optional.empty(), model.metadata("no such key"), "absent metadata");
    }
  }

  private static void lazy() {
    try (Runtime runtime = Demo.runtime();
         Model model = runtime.open(Demo.MODEL, ModelOptions.builder().device("cpu").lazy().build())) {
      equal(false, model.info().loaded(), "loaded after the open");
      thrown(DsoptException.InvalidState.class, "", model::newSession);
      List<Float> steps = new ArrayList<>();
      while (!model.poll(Duration.ofMillis(1))) {
        steps.add(model.progress());
      }
      that(steps.size() > 1, "one poll of 1 ms loaded everything");
      for (int i = 1; i < steps.size(); ++i) {
        that(steps.get(i) >= steps.get(i - 1), "progress went back: " + steps);
      }
      equal(1f, model.progress(), "progress at the end");
      that(Demo.answer(model).contains(Demo.ANSWER_PART), "answer");
    }
  }

  private static void progressCancels() {
    List<Float> steps = new ArrayList<>();
    ModelOptions options = ModelOptions.builder()
                               .progress(progress -> {
                                 steps.add(progress);
                                 return progress < 0.5f;
                               })
                               .build();
    try (Runtime runtime = Demo.runtime()) {
      thrown(DsoptException.Cancelled.class, "", () -> runtime.open(Demo.MODEL, options));
    }
    that(!steps.isEmpty() && steps.get(steps.size() - 1) >= 0.5f, "progress: " + steps);
  }

  private static void cancelled() {
    try (Runtime runtime = Demo.runtime();
         Model model = runtime.open(Demo.MODEL, ModelOptions.builder().lazy().build())) {
      model.cancel();
      thrown(DsoptException.Cancelled.class, "", () -> model.poll(Duration.ofSeconds(10)));
    }
  }

  private static void metadataOnly() {
    try (Runtime runtime = Demo.runtime();
         Model model = runtime.open(Demo.MODEL, ModelOptions.builder().metadataOnly().build())) {
      that(model.tokenize("go to the kitchen").length > 0, "tokens");
      equal("", model.info().device(), "device");
      thrown(DsoptException.InvalidState.class, "", model::newSession);
    }
  }

  private static void readerFails() throws IOException {
    byte[] bytes = Demo.bytes();
    IOException mine = new IOException("the archive is gone");
    Bytes failing = new Bytes(bytes) {
      @Override
      public void readAt(long offset, ByteBuffer destination) throws IOException {
        if (offset > 100_000) {
          throw mine;
        }
        super.readAt(offset, destination);
      }
    };
    Bytes lazy = new Bytes(bytes) {
      @Override
      public void readAt(long offset, ByteBuffer destination) throws IOException {
        super.readAt(offset, destination.limit(destination.limit() - 1));
      }
    };
    try (Runtime runtime = Demo.runtime()) {
      UncheckedIOException back =
          thrown(UncheckedIOException.class, "the archive is gone", () -> runtime.open(failing, Demo.CPU));
      that(back.getCause() == mine, "the cause is another exception");
      thrown(UncheckedIOException.class, "readAt(0)", () -> runtime.open(lazy, Demo.CPU));
      Bytes unused = new Bytes(bytes);
      thrown(DsoptException.InvalidArgument.class, "options", () -> runtime.open(unused, null));
      thrown(DsoptException.NotFound.class, "cuda:7",
          () -> runtime.open(unused, ModelOptions.builder().device("cuda:7").build()));
      equal(List.of(1, 1, 2), List.of(failing.closes, lazy.closes, unused.closes), "closes");
    }
  }

  private static void devices() {
    try (Runtime runtime = Demo.runtime()) {
      equal("cpu", runtime.devices().get(0).id(), "first device");
      that(runtime.devices().get(0).memoryTotal() > 0, runtime.devices().toString());
      that(runtime.report().contains("cpu"), runtime.report());
      that(runtime.measureRead("cpu", 1 << 22) > 1e6, "read rate");
      thrown(DsoptException.NotFound.class, "", () -> runtime.measureRead("cuda:7", 0));
    }
  }
}

package ai.dsopt.tests;

import ai.dsopt.Event;
import ai.dsopt.GenerateOptions;
import ai.dsopt.Message;
import ai.dsopt.Model;
import ai.dsopt.ModelOptions;
import ai.dsopt.Runtime;
import ai.dsopt.Sampling;
import ai.dsopt.Session;
import ai.dsopt.SessionOptions;
import ai.dsopt.Stream;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

/** The demo model and short ways to drive it. */
final class Demo {
  /** The robot model, and another model with other text. */
  static final String MODEL = System.getProperty("dsopt.model");
  static final String OTHER = System.getProperty("dsopt.other");

  static final List<Message> PROMPT = List.of(Message.user("go to the kitchen"));
  static final String ANSWER_PART = "\"action\":\"goto\"";
  static final ModelOptions CPU = ModelOptions.builder().device("cpu").build();
  static final GenerateOptions GREEDY = greedy().build();
  /** Does not end by itself before the context is full. */
  static final GenerateOptions ENDLESS = greedy().ignoreEos().build();

  private Demo() {}

  static GenerateOptions.Builder greedy() {
    return GenerateOptions.builder().sampling(Sampling.greedy());
  }

  static Runtime runtime() {
    return Runtime.builder().threads(1).withoutBackendScan().build();
  }

  static Model model() {
    try (Runtime runtime = runtime()) {
      return runtime.open(MODEL, CPU);
    }
  }

  static byte[] bytes() throws IOException {
    return Files.readAllBytes(Path.of(MODEL));
  }

  static Session session(Model model, int streams) {
    return model.newSession(SessionOptions.builder().maxStreams(streams).maxTokens(4096).build());
  }

  /** A stream with the prompt of README.md. */
  static Stream prompted(Session session) {
    return session.newStream().appendChat(PROMPT);
  }

  /** The answer to that prompt. */
  static String answer(Model model) {
    return model.chat(PROMPT, GREEDY).text();
  }

  /** Events of the stream so far. */
  static List<Event> drain(Stream stream) {
    List<Event> events = new ArrayList<>();
    for (Optional<Event> event = stream.read(); event.isPresent(); event = stream.read()) {
      events.add(event.get());
    }
    return events;
  }

  /** Polls until the generation has ended; gives all its events. */
  static List<Event> finish(Stream stream, Duration budget) {
    List<Event> events = drain(stream);
    while (events.isEmpty() || !events.get(events.size() - 1).last()) {
      stream.session().poll(budget);
      events.addAll(drain(stream));
    }
    return events;
  }

  static String text(List<Event> events) {
    StringBuilder text = new StringBuilder();
    events.forEach(event -> text.append(event.text()));
    return text.toString();
  }
}

package ai.dsopt;

/**
 * One message of a chat.
 *
 * @param role "system", "user", "assistant" or "tool", or what the model's template knows
 * @param content the text
 */
public record Message(String role, String content) {
  /**
   * What the program tells the model before the chat.
   *
   * @param content the text
   * @return a message with role "system"
   */
  public static Message system(String content) {
    return new Message("system", content);
  }

  /**
   * What the user says.
   *
   * @param content the text
   * @return a message with role "user"
   */
  public static Message user(String content) {
    return new Message("user", content);
  }

  /**
   * What the model answered.
   *
   * @param content the text
   * @return a message with role "assistant"
   */
  public static Message assistant(String content) {
    return new Message("assistant", content);
  }
}

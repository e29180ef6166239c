/** dsopt: language-model inference that other programs embed. Only {@code ai.dsopt} is public. */
module ai.dsopt {
  exports ai.dsopt;
}

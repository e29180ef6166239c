/* speech.h - turns the answer of the model, as it arrives, into what a speech bubble shows. The answer is a
 * JSON array of actions; each becomes a line of words that grows letter by letter. Text of other models is
 * shown as it is. */
#ifndef GAME_NPC_SPEECH_H_
#define GAME_NPC_SPEECH_H_

#include <stddef.h>

typedef enum SpeechState { kOutside, kKey, kAfterKey, kBeforeValue, kString, kBare } SpeechState;

typedef struct Speech {
  char text[1024]; /* lines separated by '\n', NUL terminated; what does not fit is left out */
  size_t length;
  int actions;      /* complete ones */
  int closed;       /* the array has ended */
  int plain;        /* not an array of actions */
  char gesture[16]; /* of the action in progress, "" if it is none: what the character does */
  SpeechState state;
  int begun, in_object, escaped;
  char key[16], word[24];
  size_t key_length, word_length;
} Speech;

void speech_begin(Speech* s);
void speech_add(Speech* s, const char* text, size_t length);

#endif /* GAME_NPC_SPEECH_H_ */

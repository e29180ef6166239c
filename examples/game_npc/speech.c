#include "speech.h"

#include <stdio.h>
#include <string.h>

typedef struct Phrase {
  const char *name, *words;
} Phrase;

/* How an action is said; the others as they are, with spaces for underscores. */
static const Phrase kVerbs[] = {{"goto", "go to"},
                                {"pick", "take"},
                                {"place", "put"},
                                {"gesture", ""},
                                {"photo", "take a photo of"},
                                {"scan", "look around"},
                                {"return", "come back"},
                                {"refuse", "No:"}};
/* What is said before the value of a field. */
static const Phrase kBefore[] = {{"to", " to "}, {"from", " from "}, {"room", " in "}, {"for", " for "},
                                 {"size", " ("}, {"color", " ("},    {"count", " ("},  {"text", " \""}};
static const Phrase kAfter[] = {{"size", ")"},     {"color", ")"},    {"count", ")"},  {"text", "\""},
                                {"person", " to"}, {"seconds", " s"}, {"meters", " m"}};

#define COUNT(list) (sizeof(list) / sizeof((list)[0]))

static const char* Find(const Phrase* list, size_t count, const char* name, const char* otherwise) {
  for (size_t i = 0; i < count; ++i)
    if (strcmp(list[i].name, name) == 0) return list[i].words;
  return otherwise;
}

static void PutChar(Speech* s, char c) {
  if (s->length + 1 >= sizeof s->text) return;
  if (c == ' ' && (s->length == 0 || s->text[s->length - 1] == ' ' || s->text[s->length - 1] == '\n')) return;
  s->text[s->length++] = c == '_' ? ' ' : c;
  s->text[s->length] = '\0';
}

static void Put(Speech* s, const char* words) {
  for (; *words != '\0'; ++words) PutChar(s, *words);
}

static void Append(char* word, size_t capacity, size_t* length, char c) {
  if (*length + 1 >= capacity) return;
  word[(*length)++] = c;
  word[*length] = '\0';
}

void speech_begin(Speech* s) { memset(s, 0, sizeof *s); }

/* Every turn has degrees: said nothing of. */
static int IsHidden(const Speech* s) { return strcmp(s->key, "degrees") == 0; }

static int IsVerb(const Speech* s) { return strcmp(s->key, "action") == 0; }

static void BeginValue(Speech* s) {
  s->word_length = 0;
  s->word[0] = '\0';
  if (!IsVerb(s) && !IsHidden(s)) Put(s, Find(kBefore, COUNT(kBefore), s->key, " "));
}

static void ValueChar(Speech* s, char c) {
  Append(s->word, sizeof s->word, &s->word_length, c);
  if (!IsVerb(s) && !IsHidden(s)) PutChar(s, c);
}

static void EndValue(Speech* s) {
  if (IsVerb(s)) {
    if (s->length > 0) PutChar(s, '\n');
    Put(s, Find(kVerbs, COUNT(kVerbs), s->word, s->word));
    s->gesture[0] = '\0';
  } else {
    Put(s, Find(kAfter, COUNT(kAfter), s->key, ""));
  }
  if (strcmp(s->key, "name") == 0) {
    snprintf(s->gesture, sizeof s->gesture, "%.*s", (int)sizeof s->gesture - 1, s->word);
  }
  s->state = kOutside;
}

static void Step(Speech* s, char c) {
  switch (s->state) {
    case kOutside:
      if (c == '{') s->in_object = 1;
      if (c == '}') s->actions += s->in_object, s->in_object = 0;
      if (c == ']') s->closed = 1;
      if (c == '"' && s->in_object) s->key_length = 0, s->key[0] = '\0', s->state = kKey;
      return;
    case kKey:
      if (c == '"')
        s->state = kAfterKey;
      else
        Append(s->key, sizeof s->key, &s->key_length, c);
      return;
    case kAfterKey:
      if (c == ':') s->state = kBeforeValue;
      return;
    case kBeforeValue:
      if (c == ' ') return;
      BeginValue(s);
      s->escaped = 0;
      s->state = c == '"' ? kString : kBare;
      if (c != '"') ValueChar(s, c);
      return;
    case kString:
      if (c == '"' && !s->escaped) {
        EndValue(s);
      } else if (c == '\\' && !s->escaped) {
        s->escaped = 1;
      } else {
        s->escaped = 0;
        ValueChar(s, c);
      }
      return;
    case kBare:
      if (c == ',' || c == '}') {
        EndValue(s);
        Step(s, c);
      } else {
        ValueChar(s, c);
      }
      return;
  }
}

void speech_add(Speech* s, const char* text, size_t length) {
  for (size_t i = 0; i < length; ++i) {
    if (!s->begun) {
      s->begun = 1;
      s->plain = text[i] != '[';
    }
    if (s->plain)
      PutChar(s, text[i]);
    else
      Step(s, text[i]);
  }
}

/* scene.h - the village square: the picture of one frame, drawn in software. */
#ifndef GAME_NPC_SCENE_H_
#define GAME_NPC_SCENE_H_

#include "canvas.h"
#include "talk.h"

typedef struct Villager {
  const char* name;
  int x, y; /* where the feet are */
  uint32_t tunic, hair;
  int hat; /* 0 none, 1 pointed, 2 flat, 3 crown */
} Villager;

extern const Villager kVillagers[kVoices];

typedef struct Meter {     /* the line on top of the picture */
  double work_ms, poll_ms; /* of the last frame */
  const float*
      history; /* milliseconds of the last `count` frames: work, then poll, alternating; oldest first */
  int count;
  int inference; /* polls in this block of frames */
} Meter;

/* What stands still; drawn once. */
void scene_background(Canvas* background);
/* One frame: background, villagers in motion, bubbles, meter. */
void scene_draw(Canvas* c, const Canvas* background, const Talk* talk, const Meter* meter, int frame);

#endif /* GAME_NPC_SCENE_H_ */

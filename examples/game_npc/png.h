/* png.h - writes a picture as an RGB PNG file, each pixel `scale` x `scale` times. 0, or -1 with errno set. */
#ifndef GAME_NPC_PNG_H_
#define GAME_NPC_PNG_H_

#include "canvas.h"

int png_write(const char* path, const Canvas* canvas, int scale);

#endif /* GAME_NPC_PNG_H_ */

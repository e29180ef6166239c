/* window.h - shows pictures in a window: window_sdl.c, or window_none.c where SDL2 is not installed. */
#ifndef GAME_NPC_WINDOW_H_
#define GAME_NPC_WINDOW_H_

#include "canvas.h"

/* 0, or -1 if there is no display (or no SDL2): then the game runs without a window. */
int window_open(const char* title);
/* Shows the picture. 1 when the player closed the window. */
int window_show(const Canvas* canvas);
void window_close(void);

#endif /* GAME_NPC_WINDOW_H_ */

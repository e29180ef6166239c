#include <SDL2/SDL.h>

#include "window.h"

static SDL_Window* window;
static SDL_Renderer* renderer;
static SDL_Texture* texture;

int window_open(const char* title) {
  if (SDL_Init(SDL_INIT_VIDEO) != 0) return -1;
  window = SDL_CreateWindow(title, SDL_WINDOWPOS_CENTERED, SDL_WINDOWPOS_CENTERED, kWidth * 2, kHeight * 2,
                            SDL_WINDOW_RESIZABLE);
  if (window != NULL) renderer = SDL_CreateRenderer(window, -1, 0);
  if (renderer != NULL) {
    texture = SDL_CreateTexture(renderer, SDL_PIXELFORMAT_RGB888, SDL_TEXTUREACCESS_STREAMING, kWidth, kHeight);
    SDL_RenderSetLogicalSize(renderer, kWidth, kHeight);
  }
  if (texture != NULL) return 0;
  window_close();
  return -1;
}

int window_show(const Canvas* canvas) {
  SDL_Event event;
  while (SDL_PollEvent(&event))
    if (event.type == SDL_QUIT || (event.type == SDL_KEYDOWN && event.key.keysym.sym == SDLK_ESCAPE)) return 1;
  SDL_UpdateTexture(texture, NULL, canvas->pixel, kWidth * (int)sizeof(uint32_t));
  SDL_RenderClear(renderer);
  SDL_RenderCopy(renderer, texture, NULL, NULL);
  SDL_RenderPresent(renderer);
  return 0;
}

void window_close(void) {
  if (texture != NULL) SDL_DestroyTexture(texture);
  if (renderer != NULL) SDL_DestroyRenderer(renderer);
  if (window != NULL) SDL_DestroyWindow(window);
  texture = NULL;
  renderer = NULL;
  window = NULL;
  SDL_Quit();
}

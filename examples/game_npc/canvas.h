/* canvas.h - a picture in memory and a few shapes. No window, no GPU: the same pixels everywhere.
 * Colours are 0xRRGGBB. Shapes outside the picture are cut. */
#ifndef GAME_NPC_CANVAS_H_
#define GAME_NPC_CANVAS_H_

#include <stdint.h>

enum { kWidth = 720, kHeight = 436, kGlyphWidth = 6, kGlyphHeight = 10 };

typedef struct Canvas {
  uint32_t pixel[kHeight][kWidth];
} Canvas;

/* alpha: 0 invisible .. 255 solid */
void canvas_rect(Canvas* c, int x, int y, int width, int height, uint32_t color, int alpha);
void canvas_disc(Canvas* c, int x, int y, int radius_x, int radius_y, uint32_t color, int alpha);
void canvas_rounded(Canvas* c, int x, int y, int width, int height, int radius, uint32_t color);
void canvas_triangle(Canvas* c, const int x[3], const int y[3], uint32_t color);
/* From (x0, y0) to (x1, y1), `thick` pixels wide. */
void canvas_line(Canvas* c, int x0, int y0, int x1, int y1, int thick, uint32_t color);
/* One line of ASCII in the font of font.c; other bytes appear as a box. Returns the x after it. */
int canvas_text(Canvas* c, int x, int y, const char* text, uint32_t color);
int canvas_text_n(Canvas* c, int x, int y, const char* text, int length, uint32_t color);

/* font.c: nine rows of five bits, the leftmost pixel in bit 4; the base line is below row 6. */
extern const uint8_t kFont[95][9];

#endif /* GAME_NPC_CANVAS_H_ */

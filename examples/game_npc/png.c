#include "png.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

static void Put32(unsigned char* at, uint32_t value) {
  for (int i = 0; i < 4; ++i) at[i] = (unsigned char)(value >> (24 - 8 * i));
}

/* Length, type, data, checksum of type and data. */
static int WriteChunk(FILE* file, const char type[4], const unsigned char* data, size_t length) {
  unsigned char word[4];
  uLong sum = crc32(0, (const Bytef*)type, 4);
  if (length > 0) sum = crc32(sum, data, (uInt)length);
  Put32(word, (uint32_t)length);
  if (fwrite(word, 1, 4, file) != 4 || fwrite(type, 1, 4, file) != 4) return -1;
  if (length > 0 && fwrite(data, 1, length, file) != length) return -1;
  Put32(word, (uint32_t)sum);
  return fwrite(word, 1, 4, file) == 4 ? 0 : -1;
}

/* The rows as PNG wants them: a filter byte (0: none, 2: difference to the row above), then the bytes. */
static void FillRows(unsigned char* rows, const Canvas* canvas, int scale) {
  const size_t line = 1 + (size_t)kWidth * (size_t)scale * 3;
  for (int y = 0; y < kHeight * scale; ++y) {
    unsigned char* out = rows + (size_t)y * line;
    if (y % scale != 0) { /* the same as the row above */
      memset(out, 0, line);
      out[0] = 2;
      continue;
    }
    *out++ = 0;
    for (int x = 0; x < kWidth * scale; ++x) {
      const uint32_t pixel = canvas->pixel[y / scale][x / scale];
      *out++ = (unsigned char)(pixel >> 16);
      *out++ = (unsigned char)(pixel >> 8);
      *out++ = (unsigned char)pixel;
    }
  }
}

int png_write(const char* path, const Canvas* canvas, int scale) {
  static const unsigned char kSignature[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
  const size_t size = (1 + (size_t)kWidth * (size_t)scale * 3) * (size_t)(kHeight * scale);
  uLongf packed_size = compressBound((uLong)size);
  unsigned char* rows = malloc(size);
  unsigned char* packed = malloc(packed_size);
  unsigned char header[13] = {0, 0, 0, 0, 0, 0, 0, 0, 8, 2, 0, 0, 0}; /* 8 bits, RGB */
  FILE* file = NULL;
  int result = -1;
  if (rows == NULL || packed == NULL) goto done;
  FillRows(rows, canvas, scale);
  if (compress2(packed, &packed_size, rows, (uLong)size, 9) != Z_OK) {
    errno = ENOMEM;
    goto done;
  }
  Put32(header, (uint32_t)(kWidth * scale));
  Put32(header + 4, (uint32_t)(kHeight * scale));
  file = fopen(path, "wb");
  if (file == NULL || fwrite(kSignature, 1, sizeof kSignature, file) != sizeof kSignature ||
      WriteChunk(file, "IHDR", header, sizeof header) != 0 ||
      WriteChunk(file, "IDAT", packed, packed_size) != 0)
    goto done;
  result = WriteChunk(file, "IEND", NULL, 0);
done:
  if (file != NULL && fclose(file) != 0) result = -1;
  free(packed);
  free(rows);
  return result;
}

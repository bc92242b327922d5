#!/usr/bin/env python3
"""A small set of handwritten-looking digits for examples/digits: strokes drawn with a shaky pen, shifted, slanted and
scaled at random. Writes digits-images.idx [1200][14][14] and digits-labels.idx [1200] there.

    tests/reference/digits.py
"""
import math
import pathlib
import random
import struct

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "examples" / "digits"
SIZE, ROWS = 14, 1200


def arc(x, y, width, height, begin, end, steps=14):
    """Points on an ellipse, angles in turns from the right, clockwise."""
    return [(x + width * math.cos(2 * math.pi * (begin + (end - begin) * i / steps)),
             y + height * math.sin(2 * math.pi * (begin + (end - begin) * i / steps))) for i in range(steps + 1)]


# in a box from (0, 0), top left, to (1, 1)
STROKES = {
    0: [arc(0.5, 0.5, 0.36, 0.48, 0, 1)],
    1: [[(0.3, 0.2), (0.55, 0.02), (0.55, 0.98)]],
    2: [arc(0.5, 0.28, 0.34, 0.26, 0.5, 1.08) + [(0.15, 0.97), (0.88, 0.97)]],
    3: [arc(0.46, 0.26, 0.32, 0.24, 0.55, 1.25), arc(0.46, 0.73, 0.36, 0.25, 0.75, 1.42)],
    4: [[(0.62, 0.98), (0.62, 0.02), (0.12, 0.68), (0.9, 0.68)]],
    5: [[(0.82, 0.04), (0.24, 0.04), (0.2, 0.45)] + arc(0.48, 0.68, 0.36, 0.29, 0.65, 1.42)],
    6: [[(0.72, 0.04), (0.34, 0.38)] + arc(0.5, 0.7, 0.34, 0.27, 0.55, 1.55)],
    7: [[(0.12, 0.05), (0.86, 0.05), (0.4, 0.98)]],
    8: [arc(0.5, 0.27, 0.28, 0.24, 0.25, 1.25), arc(0.5, 0.74, 0.35, 0.24, 0.75, 1.75)],
    9: [arc(0.48, 0.3, 0.33, 0.27, 0.05, 1.05) + [(0.78, 0.6), (0.66, 0.98)]],
}


def distance(px, py, a, b):
    dx, dy = b[0] - a[0], b[1] - a[1]
    length = dx * dx + dy * dy
    t = max(0, min(1, ((px - a[0]) * dx + (py - a[1]) * dy) / length)) if length else 0
    return math.hypot(px - a[0] - t * dx, py - a[1] - t * dy)


def image(digit, draw):
    width, height = draw.uniform(4.5, 7), draw.uniform(7.5, 10)
    left, top = (SIZE - width) / 2 + draw.uniform(-1.3, 1.3), (SIZE - height) / 2 + draw.uniform(-1.3, 1.3)
    slant, pen = draw.uniform(-0.28, 0.18), draw.uniform(0.6, 0.95)
    segments = []
    for stroke in STROKES[digit]:
        shake = (draw.gauss(0, 0.4), draw.gauss(0, 0.4))
        points = [(left + width * x + slant * height * (0.5 - y) + shake[0] + draw.gauss(0, 0.14),
                   top + height * y + shake[1] + draw.gauss(0, 0.14)) for x, y in stroke]
        segments += zip(points, points[1:])
    pixels = []
    for row in range(SIZE):
        for column in range(SIZE):
            near = min(distance(column + 0.5, row + 0.5, a, b) for a, b in segments)
            ink = 255 / (1 + math.exp(6 * (near - pen))) + draw.gauss(0, 6)
            pixels.append(max(0, min(255, round(ink / 8) * 8)))
    return bytes(min(255, pixel) for pixel in pixels)


def write(name, dims, values):
    header = bytes([0, 0, 8, len(dims)]) + b"".join(struct.pack(">I", n) for n in dims)
    (FOLDER / name).write_bytes(header + values)


def main():
    draw = random.Random(1)
    labels = [i % 10 for i in range(ROWS)]
    draw.shuffle(labels)
    FOLDER.mkdir(parents=True, exist_ok=True)
    write("digits-images.idx", [ROWS, SIZE, SIZE], b"".join(image(digit, draw) for digit in labels))
    write("digits-labels.idx", [ROWS], bytes(labels))


if __name__ == "__main__":
    main()

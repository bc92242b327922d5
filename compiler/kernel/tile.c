/* Before: a product of so many panels and columns. After: the tile of sums that is kept in registers.

   One step along the summed axis loads `panels` vectors of one factor, spreads `columns` numbers of the other over the
   lanes, and does panels x columns fused multiply-adds. Taken as two of these and two loads a cycle, with a result after
   four cycles (what x86 cores since Haswell and Zen 2 do, or nearly); a product costs the sum over its tiles. */
#include "lower.h"

enum { WORK_REGISTERS = 3 }; /* a weight, a spread number, one more on the way */

static double step_cycles(const Machine *machine, int panels, int columns) {
    double vectors = (double)(LANES / machine->lanes), sums = panels * columns * vectors;
    double loads = panels * vectors + columns;
    double cycles = sums / 2 > loads / 2 ? sums / 2 : loads / 2;
    double slack = sums < 12 ? 1.08 : 1; /* few chains leave gaps wherever one of them waits */
    return (cycles > 4 ? cycles : 4) * slack + 0.25; /* the loop itself */
}

bool tile_fits(const Machine *machine, int panels, int columns) {
    int vectors = LANES / machine->lanes;
    return panels * columns * vectors + (panels > 1 ? panels * vectors : vectors) + 1 <= machine->registers &&
           panels * columns * vectors <= machine->registers - WORK_REGISTERS;
}

/* All columns against `panels` panels: whole tiles and what is left, which rows of the batch fill up and columns of
   weights, that go in sixteens, do not. */
static double columns_cycles(const Machine *machine, int panels, int64_t columns, int tile, TileColumns kind) {
    double whole = step_cycles(machine, panels, tile);
    if (kind != TILE_WEIGHTS || columns < LANES)
        return whole * (double)((columns + tile - 1) / tile);
    double sixteen = LANES / tile * whole + (LANES % tile ? step_cycles(machine, panels, LANES % tile) : 0);
    return sixteen * (double)columns / LANES;
}

static double product_cycles(const Machine *machine, int64_t panels, int64_t columns, Tile tile, TileColumns kind) {
    int rest = (int)(panels % tile.panels);
    double cycles = (double)(panels / tile.panels) * columns_cycles(machine, tile.panels, columns, tile.columns, kind);
    return cycles + (rest ? columns_cycles(machine, rest, columns, tile.columns, kind) : 0);
}

Tile tile_of_product(const Machine *machine, int64_t panels, int64_t columns, TileColumns kind, int most) {
    Tile best = {1, 1};
    double least = 1e300;
    for (int p = 1; p <= 4 && p <= panels; p++)
        for (int c = 1; c <= LANES; c++) {
            bool whole = kind != TILE_BLOCK_ROWS || LANES % c == 0 || (c == columns && columns < LANES);
            Tile tile = {p, c};
            if (!whole || c > columns || p * c > most || (p * c > 1 && !tile_fits(machine, p, c)))
                continue;
            double cycles = product_cycles(machine, panels, columns, tile, kind);
            if (cycles < least * 0.99) { /* the smaller one where it makes no difference */
                least = cycles;
                best = tile;
            }
        }
    return best;
}

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
    return (cycles > 4 ? cycles : 4) + 0.25; /* the loop itself */
}

static bool fits(const Machine *machine, int panels, int columns) {
    int vectors = LANES / machine->lanes;
    return panels * columns * vectors + (panels > 1 ? panels * vectors : vectors) + 1 <= machine->registers &&
           panels * columns * vectors <= machine->registers - WORK_REGISTERS;
}

static double product_cycles(const Machine *machine, int64_t panels, int64_t columns, Tile tile) {
    int64_t rounds = (columns + tile.columns - 1) / tile.columns;
    int rest = (int)(panels % tile.panels);
    double cycles = (double)(panels / tile.panels) * step_cycles(machine, tile.panels, tile.columns);
    if (rest)
        cycles += step_cycles(machine, rest, tile.columns);
    return cycles * (double)rounds;
}

Tile tile_of_product(const Machine *machine, int64_t panels, int64_t columns, int most) {
    Tile best = {1, 1};
    double least = 1e300;
    for (int p = 1; p <= 4 && p <= panels; p++)
        for (int c = 1; c <= LANES; c++) {
            bool whole = LANES % c == 0 || (c == columns && columns < LANES);
            Tile tile = {p, c};
            if (!whole || p * c > most || (p * c > 1 && !fits(machine, p, c)))
                continue;
            double cycles = product_cycles(machine, panels, columns, tile);
            if (cycles < least * 0.98) { /* the smaller one where it makes no difference */
                least = cycles;
                best = tile;
            }
        }
    return best;
}

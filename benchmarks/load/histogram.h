/* A histogram of times, from 1 ns to minutes, in which a value is known to 1 %.
 *
 * A bucket is a power of two and, inside it, one of 64 equal steps; adding a
 * value is a shift and an increment, so that it may be done for every message.
 */
#ifndef HISTOGRAM_H
#define HISTOGRAM_H

#include <stdint.h>

enum { HIST_STEPS = 64, HIST_POWERS = 40 };

typedef struct {
    uint64_t count, largest, bucket[HIST_POWERS * HIST_STEPS];
} hist_t;

static void hist_add(hist_t *h, double seconds) {
    uint64_t ns = seconds > 0 ? (uint64_t)(seconds * 1e9) : 0;
    int power = 0;
    uint64_t step = ns;
    while (step >= 2 * HIST_STEPS) { step >>= 1; power++; }
    /* Below 2 * HIST_STEPS a step is 1 ns; above, `step' is in [STEPS, 2 * STEPS). */
    int i = power * HIST_STEPS + (int)step;
    if (i >= HIST_POWERS * HIST_STEPS) i = HIST_POWERS * HIST_STEPS - 1;
    h->bucket[i]++;
    h->count++;
    if (ns > h->largest) h->largest = ns;
}

/* The value, in microseconds, that the share `q' of all values do not exceed:
 * the middle of its bucket. */
static double hist_quantile(const hist_t *h, double q) {
    uint64_t seen = 0, wanted = (uint64_t)(q * h->count);
    if (wanted >= h->count) return h->largest / 1e3;
    for (int i = 0; i < HIST_POWERS * HIST_STEPS; i++) {
        seen += h->bucket[i];
        if (seen > wanted) {
            int power = i < 2 * HIST_STEPS ? 0 : i / HIST_STEPS - 1;
            double ns = (double)(i - power * HIST_STEPS + (power ? 0.5 : 0)) * (1ull << power);
            return (ns < h->largest ? ns : h->largest) / 1e3;
        }
    }
    return h->largest / 1e3;
}

#endif

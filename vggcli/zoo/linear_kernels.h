/* A fully connected layer of few rows for one instruction set; included by winograd_kernels.h. */

#define ROWS 6              /* rows of one product in registers */
#define DOWN (SUMS / ROWS)  /* outputs of one */
#define STEPS (512 / LANES) /* vectors of depth that are multiplied while they lie in the first-level cache */

/* sums[output][row] += the products of weights[output][..] and rows[row][..], by lanes, over `steps` vectors. What
   comes next of the weights is fetched meanwhile. */
#define DOT(count)                                                                                              \
    TARGET static void NAME(dot_##count)(int64_t steps, const float *weights, const float *rows, int64_t depth, \
                                         float *all) {                                                          \
        vec sums[DOWN][count];                                                                                  \
        EACH(o, DOWN)                                                                                           \
            EACH(r, count) sums[o][r] = *(const vec *)(all + (o * count + r) * LANES);                          \
        for (int64_t step = 0; step < steps; step++, weights += LANES, rows += LANES) {                         \
            vec weight[DOWN];                                                                                   \
            EACH(o, DOWN) weight[o] = *(const vec *)(weights + o * depth);                                      \
            EACH(o, DOWN) __builtin_prefetch(weights + o * depth + STEPS * LANES, 0, 2);                        \
            EACH(r, count) {                                                                                    \
                vec row = *(const vec *)(rows + r * depth);                                                     \
                EACH(o, DOWN) sums[o][r] += weight[o] * row;                                                    \
            }                                                                                                   \
        }                                                                                                       \
        EACH(o, DOWN)                                                                                           \
            EACH(r, count) *(vec *)(all + (o * count + r) * LANES) = sums[o][r];                                \
    }
DOT(1)
DOT(2)
DOT(3)
DOT(4)
DOT(5)
DOT(6)
#undef DOT

TARGET static void NAME(dot)(int64_t count, int64_t steps, const float *weights, const float *rows, int64_t depth,
                             float *sums) {
    if (count == 1) NAME(dot_1)(steps, weights, rows, depth, sums);
    if (count == 2) NAME(dot_2)(steps, weights, rows, depth, sums);
    if (count == 3) NAME(dot_3)(steps, weights, rows, depth, sums);
    if (count == 4) NAME(dot_4)(steps, weights, rows, depth, sums);
    if (count == 5) NAME(dot_5)(steps, weights, rows, depth, sums);
    if (count == 6) NAME(dot_6)(steps, weights, rows, depth, sums);
}

/* The same for the `rest` of a vector. */
TARGET static void NAME(dot_rest)(int64_t count, int64_t rest, const float *weights, const float *rows, int64_t depth,
                                  float *sums) {
    for (int64_t o = 0; o < DOWN; o++)
        for (int64_t r = 0; r < count; r++, sums += LANES)
            for (int64_t lane = 0; lane < rest; lane++)
                sums[lane] += weights[o * depth + lane] * rows[r * depth + lane];
}

/* The sum of a vector's lanes. */
TARGET static float NAME(total)(const float *from) {
    float lanes[LANES];
    memcpy(lanes, from, sizeof lanes);
    for (int64_t half = LANES / 2; half > 0; half /= 2)
        for (int64_t lane = 0; lane < half; lane++) lanes[lane] += lanes[lane + half];
    return lanes[0];
}

/* maps times weights plus bias. A task is a band of rows and a group of outputs, whose sums lie in the cache while the
   weights come past once. Each lane is one sum over the depth in its order, and the lanes are added in pairs. */
TARGET static void NAME(linear)(struct linear *c) {
    int64_t depth = c->depth, steps = depth / LANES, rest = depth % LANES;
    int64_t bands = rounded(c->rows, c->band) / c->band, groups = rounded(c->outputs, c->group) / c->group;
    float *sums = c->scratch + __atomic_fetch_add(&c->threads, 1, __ATOMIC_RELAXED) * c->scratch_size;
    for (;;) {
        int64_t task = __atomic_fetch_add(&c->task, 1, __ATOMIC_RELAXED);
        if (task >= bands * groups) return;
        int64_t band = task / groups * c->band, count = least(c->band, c->rows - band);
        int64_t first = task % groups * c->group, end = least(first + c->group, c->outputs);
        int64_t parts = rounded(count, ROWS) / ROWS;
        memset(sums, 0, 4 * (size_t)c->scratch_size);
        for (int64_t step = 0; step < steps + (rest > 0); step += STEPS) {
            float *to = sums;
            for (int64_t part = 0; part < parts; part++) {
                int64_t from = count * part / parts, together = count * (part + 1) / parts - from;
                const float *rows = c->maps + (band + from) * depth;
                for (int64_t o = first; o < end; o += DOWN, to += DOWN * together * LANES) {
                    const float *weights = c->weights + least(o, c->outputs - DOWN) * depth;
                    NAME(dot)
                    (together, least(STEPS, steps - step), weights + step * LANES, rows + step * LANES, depth, to);
                    if (step + STEPS > steps && rest)
                        NAME(dot_rest)(together, rest, weights + steps * LANES, rows + steps * LANES, depth, to);
                }
            }
        }
        const float *from = sums;
        for (int64_t part = 0; part < parts; part++) {
            int64_t above = band + count * part / parts, below = band + count * (part + 1) / parts;
            for (int64_t o = first; o < end; o += DOWN) {
                int64_t start = least(o, c->outputs - DOWN);
                for (int64_t output = start; output < start + DOWN; output++)
                    for (int64_t row = above; row < below; row++, from += LANES)
                        if (output >= o) c->result[row * c->outputs + output] = NAME(total)(from) + c->bias[output];
            }
        }
    }
}

#undef ROWS
#undef DOWN
#undef STEPS

/* The kernels for one instruction set: SET is its name, TARGET the attribute that picks it, NAME(name) a function's
   name in it, LANES the floats of a vector, SUMS the vectors that a matrix product keeps in registers and PANEL those
   of one row. No guard: it is included once for each. */

typedef float NAME(vec) __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t NAME(mask)
    __attribute__((vector_size(4 * LANES), aligned(4), may_alias)); /* all bits of a lane, or none */
#define vec NAME(vec)
#define mask NAME(mask)

/* c[r][v] = the sum over `steps` of a[r][step] * b[step][v], plus what c holds where `add`, for SUMS / vectors rows. */
#define PRODUCT(vectors)                                                                                           \
    TARGET static void NAME(product_##vectors)(int64_t steps, const float *a, int64_t a_row, int64_t a_step,       \
                                               const float *b, int64_t b_step, float *c, int64_t c_row, int add) { \
        vec sums[SUMS / vectors][vectors];                                                                         \
        EACH(r, SUMS / vectors)                                                                                    \
            EACH(v, vectors) sums[r][v] = (vec){0};                                                                \
        if (add)                                                                                                   \
            EACH(r, SUMS / vectors)                                                                                \
                EACH(v, vectors) sums[r][v] = *(const vec *)(c + r * c_row + LANES * v);                           \
        for (int64_t step = 0; step < steps; step++, a += a_step, b += b_step) {                                   \
            vec row[vectors];                                                                                      \
            EACH(v, vectors) row[v] = *(const vec *)(b + LANES * v);                                               \
            EACH(r, SUMS / vectors) {                                                                              \
                float one = a[r * a_row];                                                                          \
                EACH(v, vectors) sums[r][v] += one * row[v];                                                       \
            }                                                                                                      \
        }                                                                                                          \
        EACH(r, SUMS / vectors)                                                                                    \
            EACH(v, vectors) *(vec *)(c + r * c_row + LANES * v) = sums[r][v];                                     \
    }
PRODUCT(1)
PRODUCT(2)
#if PANEL == 4
PRODUCT(3)
PRODUCT(4)
#endif
#undef PRODUCT

/* The same for any number of rows; up to SUMS / vectors - 1 more are computed and written. */
TARGET static void NAME(product)(int64_t rows, int64_t vectors, int64_t steps, const float *a, int64_t a_row,
                                 int64_t a_step, const float *b, int64_t b_step, float *c, int64_t c_row, int add) {
    int64_t together = SUMS / vectors;
    for (int64_t row = 0; row < rows; row += together, a += together * a_row, c += together * c_row) {
        if (vectors == 1) NAME(product_1)(steps, a, a_row, a_step, b, b_step, c, c_row, add);
        if (vectors == 2) NAME(product_2)(steps, a, a_row, a_step, b, b_step, c, c_row, add);
#if PANEL == 4
        if (vectors == 3) NAME(product_3)(steps, a, a_row, a_step, b, b_step, c, c_row, add);
        if (vectors == 4) NAME(product_4)(steps, a, a_row, a_step, b, b_step, c, c_row, add);
#endif
    }
}

TARGET static void NAME(load)(vec *to, const float *from, int64_t count) {
    *to = (vec){0};
    memcpy(to, from, 4 * (size_t)least(count, LANES));
}

/* B' d B of the window whose upper left pixel is (top, left) of an image, zero outside it, into [36][.., channels]. */
TARGET static void NAME(transform_window)(const float *image, int64_t height, int64_t width, int64_t channels,
                                          int64_t top, int64_t left, float *into, int64_t point_step) {
    int64_t whole = channels / LANES * LANES, line = width * channels;
    const float *from = image + top * line + left * channels;
    int inner = top >= 0 && left >= 0 && top + WINDOW <= height && left + WINDOW <= width;
    for (int64_t channel = 0; channel < channels; channel += LANES, from += LANES) {
        vec halves[WINDOW * WINDOW];
        if (inner && channel < whole) {
            EACH(j, WINDOW) {
                const float *d = from + j * channels;
                vec d0 = *(const vec *)d, d1 = *(const vec *)(d + line), d2 = *(const vec *)(d + 2 * line);
                vec d3 = *(const vec *)(d + 3 * line), d4 = *(const vec *)(d + 4 * line),
                    d5 = *(const vec *)(d + 5 * line);
                INPUT_TRANSFORM((halves + j), WINDOW, d0, d1, d2, d3, d4, d5);
            }
        } else {
            vec window[WINDOW * WINDOW];
            for (int i = 0; i < WINDOW; i++)
                for (int j = 0; j < WINDOW; j++) {
                    int within = top + i >= 0 && top + i < height && left + j >= 0 && left + j < width;
                    NAME(load)(window + WINDOW * i + j, within ? from + i * line + j * channels : image,
                     within ? channels - channel : 0);
                }
            EACH(j, WINDOW) {
                vec *d = window + j;
                INPUT_TRANSFORM((halves + j), WINDOW, d[0], d[6], d[12], d[18], d[24], d[30]);
            }
        }
        EACH(i, WINDOW) {
            vec *d = halves + WINDOW * i, points[WINDOW];
            INPUT_TRANSFORM(points, 1, d[0], d[1], d[2], d[3], d[4], d[5]);
            EACH(j, WINDOW) *(vec *)(into + (WINDOW * i + j) * point_step + channel) = points[j];
        }
    }
}

/* A' m A of one tile and `vectors` vectors of outputs, plus bias, to the pixels of the result that exist. */
TARGET static void NAME(transform_tile)(const struct convolution *c, const float *from, int64_t point_step,
                                        float *image, int64_t top, int64_t left, int64_t first, int64_t last) {
    int64_t outputs = c->outputs, height = c->height, width = c->width;
    if (c->pool) {
        height /= 2;
        width /= 2;
        top /= 2;
        left /= 2;
    }
    int side = c->pool ? TILE / 2 : TILE;
    int64_t rows = least(side, height - top), columns = least(side, width - left);
    float *to = image + (top * width + left) * outputs;
    for (int64_t output = first; output < last; output += LANES, from += LANES) {
        vec halves[TILE * WINDOW], tile[TILE * TILE];
        vec bias;
        NAME(load)(&bias, c->bias + output, c->bias ? outputs - output : 0);
        EACH(j, WINDOW) {
            const float *m = from + j * point_step;
            int64_t down = WINDOW * point_step;
            vec m0 = *(const vec *)m, m1 = *(const vec *)(m + down), m2 = *(const vec *)(m + 2 * down);
            vec m3 = *(const vec *)(m + 3 * down), m4 = *(const vec *)(m + 4 * down), m5 = *(const vec *)(m + 5 * down);
            OUTPUT_TRANSFORM((halves + j), WINDOW, m0, m1, m2, m3, m4, m5);
        }
        EACH(i, TILE) {
            vec *m = halves + WINDOW * i;
            OUTPUT_TRANSFORM((tile + TILE * i), 1, m[0], m[1], m[2], m[3], m[4], m[5]);
        }
        EACH(p, TILE * TILE) tile[p] += bias;
        if (c->pool) {
            EACH(i, 2)
                EACH(j, 2) {
                    vec *t = tile + 8 * i + 2 * j, above = LARGER(t[0], t[1]), below = LARGER(t[4], t[5]);
                    tile[TILE * i + j] = LARGER(above, below);
                }
        }
        if (c->relu) {
            EACH(p, TILE * TILE) tile[p] = (vec)((mask)tile[p] & ~(tile[p] < 0));
        }
        int64_t count = outputs - output;
        if (rows == TILE && columns == TILE && count >= LANES) {
            EACH(i, TILE)
                EACH(j, TILE) *(vec *)(to + (i * width + j) * outputs + output) = tile[TILE * i + j];
        } else {
            for (int64_t i = 0; i < rows; i++)
                for (int64_t j = 0; j < columns; j++)
                    memcpy(to + (i * width + j) * outputs + output, tile + TILE * i + j,
                           4 * (size_t)least(count, LANES));
        }
    }
}

/* A thread's share of a convolution: tasks until none is left. A task is a block of tiles and some panels of outputs.
 */
TARGET static void NAME(convolve)(struct convolution *c) {
    int64_t across = rounded(c->width, TILE) / TILE, down = rounded(c->height, TILE) / TILE;
    int64_t tiles = c->images * down * across, wide = LANES * PANEL, columns = rounded(c->outputs, LANES);
    int64_t shares = rounded(columns, wide * c->panels) / (wide * c->panels);
    int64_t blocks = rounded(tiles, c->block) / c->block, padded = rounded(c->channels, LANES);
    int64_t input_step = rounded(c->block, 24) * padded + LANES, product_step = rounded(c->block, 24) * wide + LANES;
    int64_t pixels = c->height * c->width, result_pixels = c->pool ? (c->height / 2) * (c->width / 2) : pixels;
    int64_t thread = __atomic_fetch_add(&c->threads, 1, __ATOMIC_RELAXED);
    float *inputs = c->scratch + thread * c->scratch_size, *products = inputs + POINTS * input_step;
    for (;;) {
        int64_t task = __atomic_fetch_add(&c->task, 1, __ATOMIC_RELAXED);
        if (task >= blocks * shares) return;
        int64_t start = task / shares * c->block, count = least(c->block, tiles - start);
        for (int64_t t = 0; t < count; t++) {
            struct place at = place_of(start + t, down, across);
            NAME(transform_window)(c->maps + at.image * pixels * c->channels, c->height, c->width, c->channels, at.top - 1, at.left - 1,
             inputs + t * padded, input_step);
        }
        int64_t first = task % shares * c->panels * wide;
        for (int64_t panel = first; panel < least(columns, first + c->panels * wide); panel += wide) {
            int64_t vectors = least(wide, columns - panel) / LANES;
            for (int64_t point = 0; point < POINTS; point++)
                NAME(product)(count, vectors, c->channels, inputs + point * input_step, padded, 1,
                 c->filters + (point * columns + panel) * c->channels, LANES * vectors, products + point * product_step,
                 wide, 0);
            for (int64_t t = 0; t < count; t++) {
                struct place at = place_of(start + t, down, across);
                NAME(transform_tile)(c, products + t * wide, product_step, c->result + at.image * result_pixels * c->outputs, at.top,
                 at.left, panel, panel + vectors * LANES);
            }
        }
    }
}

/* The same without transforms, for a few channels. A task is a row of an image. `filters` are [3, 3, channels,
 * columns]. */
TARGET static void NAME(convolve_few)(struct convolution *c) {
    int64_t channels = c->channels, line = c->width * channels, wide = LANES * PANEL,
            columns = rounded(c->outputs, LANES);
    int64_t padded = (rounded(c->width, SUMS) + 2) * channels;
    int64_t thread = __atomic_fetch_add(&c->threads, 1, __ATOMIC_RELAXED);
    float *rows = c->scratch + thread * c->scratch_size, *sums = rows + 3 * padded;
    memset(rows, 0, 4 * 3 * (size_t)padded);
    for (;;) {
        int64_t task = __atomic_fetch_add(&c->task, 1, __ATOMIC_RELAXED);
        if (task >= c->images * c->height) return;
        int64_t y = task % c->height;
        for (int64_t i = 0; i < 3; i++) {
            float *row = rows + i * padded + channels;
            if (y + i < 1 || y + i > c->height)
                memset(row, 0, 4 * (size_t)line);
            else
                memcpy(row, c->maps + (task + i - 1) * line, 4 * (size_t)line);
        }
        for (int64_t panel = 0; panel < columns; panel += wide) {
            int64_t vectors = least(wide, columns - panel) / LANES;
            for (int64_t x = 0; x < c->width; x += SUMS) {
                int64_t count = least(SUMS, c->width - x);
                for (int64_t i = 0; i < 3; i++)
                    NAME(product)(count, vectors, 3 * channels, rows + i * padded + x * channels, channels, 1,
                     c->filters + 3 * i * channels * columns + panel, columns, sums, wide, i > 0);
                for (int64_t output = panel; output < panel + LANES * vectors; output += LANES) {
                    vec bias;
                    NAME(load)(&bias, c->bias + output, c->bias ? c->outputs - output : 0);
                    float *to = c->result + (task * c->width + x) * c->outputs + output;
                    for (int64_t pixel = 0; pixel < count; pixel++, to += c->outputs) {
                        vec found = *(const vec *)(sums + pixel * wide + output - panel) + bias;
                        if (c->relu) found = (vec)((mask)found & ~(found < 0));
                        if (output + LANES <= c->outputs)
                            *(vec *)to = found;
                        else
                            memcpy(to, &found, 4 * (size_t)(c->outputs - output));
                    }
                }
            }
        }
    }
}

/* G g G' of filters as the products take them: by point and panel, then by channel. A task is a panel of some channels,
   which are transformed in the cache and then written point by point. */
TARGET static void NAME(pack)(struct packing *p) {
    int64_t wide = LANES * PANEL, columns = rounded(p->outputs, LANES), panels = rounded(columns, wide) / wide;
    float points[POINTS][TOGETHER * LANES * PANEL];
    const double *g = p->matrix;
    for (;;) {
        int64_t task = __atomic_fetch_add(&p->task, 1, __ATOMIC_RELAXED);
        int64_t first = task / panels * TOGETHER, panel = task % panels * wide, width = least(wide, columns - panel);
        if (first >= p->channels) return;
        int64_t channels = least(TOGETHER, p->channels - first);
        for (int64_t output = panel; output < panel + width; output += LANES)
            for (int64_t channel = 0; channel < channels; channel++) {
                const float *from = p->weights + output * p->output_step + (first + channel) * p->channel_step;
                int64_t count = least(LANES, p->outputs - output), at = channel * width + output - panel;
                double filter[9][LANES] = {{0}}, halves[18][LANES];
                for (int k = 0; k < 9; k++)
                    for (int64_t lane = 0; lane < count; lane++)
                        filter[k][lane] = from[k / 3 * p->down + k % 3 * p->across + lane * p->output_step];
                for (int i = 0; i < WINDOW; i++)
                    for (int j = 0; j < 3; j++)
                        for (int lane = 0; lane < LANES; lane++)
                            halves[3 * i + j][lane] = g[3 * i] * filter[j][lane] + g[3 * i + 1] * filter[3 + j][lane] +
                                                      g[3 * i + 2] * filter[6 + j][lane];
                for (int i = 0; i < WINDOW; i++)
                    for (int j = 0; j < WINDOW; j++) {
                        const double *h = halves[3 * i];
                        for (int lane = 0; lane < LANES; lane++)
                            points[WINDOW * i + j][at + lane] = (float)(g[3 * j] * h[lane] + g[3 * j + 1] * h[LANES + lane] +
                                                                g[3 * j + 2] * h[2 * LANES + lane]);
                    }
            }
        for (int64_t point = 0; point < POINTS; point++)
            memcpy(p->filters + (point * columns + panel) * p->channels + first * width, points[point],
                   4 * (size_t)(channels * width));
    }
}

/* A dy A' of a tile of gradients, zero outside the map, into [36][.., outputs]: the transpose of `transform_tile`. */
TARGET static void NAME(transform_gradient)(const float *image, int64_t height, int64_t width, int64_t outputs,
                                            int64_t top, int64_t left, float *into, int64_t point_step) {
    for (int64_t output = 0; output < outputs; output += LANES) {
        vec tile[TILE * TILE], halves[WINDOW * TILE];
        for (int i = 0; i < TILE; i++)
            for (int j = 0; j < TILE; j++) {
                int within = top + i < height && left + j < width;
                const float *pixel = within ? image + ((top + i) * width + left + j) * outputs + output : image;
                if (within && output + LANES <= outputs)
                    tile[TILE * i + j] = *(const vec *)pixel;
                else
                    NAME(load)(tile + TILE * i + j, pixel, within ? outputs - output : 0);
            }
        EACH(j, TILE) {
            vec *d = tile + j;
            GRADIENT_TRANSFORM((halves + j), TILE, d[0], d[TILE], d[2 * TILE], d[3 * TILE]);
        }
        EACH(i, WINDOW) {
            vec *d = halves + TILE * i, points[WINDOW];
            GRADIENT_TRANSFORM(points, 1, d[0], d[1], d[2], d[3]);
            EACH(j, WINDOW) *(vec *)(into + (WINDOW * i + j) * point_step + output) = points[j];
        }
    }
}

/* G' s G of the sums over all tiles: one row of channels of the gradient [3, 3, channels, outputs]. */
TARGET static void NAME(gather)(const struct gradient *c, int64_t channel, const float *sums, int64_t point_step) {
    const double *g = c->matrix;
    for (int64_t output = 0; output < c->outputs; output += LANES) {
        double halves[3 * WINDOW][LANES];
        int64_t count = least(LANES, c->outputs - output);
        for (int i = 0; i < 3; i++)
            for (int j = 0; j < WINDOW; j++)
                for (int lane = 0; lane < LANES; lane++) {
                    double sum = 0;
                    for (int k = 0; k < WINDOW; k++)
                        sum += g[3 * k + i] * sums[(WINDOW * k + j) * point_step + output + lane];
                    halves[WINDOW * i + j][lane] = sum;
                }
        for (int i = 0; i < 3; i++)
            for (int j = 0; j < 3; j++) {
                float *to = c->result + ((3 * i + j) * c->channels + channel) * c->outputs + output;
                for (int lane = 0; lane < count; lane++) {
                    double sum = 0;
                    for (int k = 0; k < WINDOW; k++) sum += g[3 * k + j] * halves[WINDOW * i + k][lane];
                    to[lane] = (float)sum;
                }
            }
    }
}

/* A thread's share of the gradient to the filters. Tasks are given out in the order of their stages: for every chunk of
   tiles the transforms, then the products, and last the sums over all; each waits until the stage before it is done. */
TARGET static void NAME(filter_gradient)(struct gradient *c) {
    int64_t across = rounded(c->width, TILE) / TILE, down = rounded(c->height, TILE) / TILE,
            tiles = c->images * down * across;
    int64_t pixels = c->height * c->width, wide = LANES * PANEL, group = 8, rows = 48;
    int64_t inputs_row = rounded(c->channels, LANES), columns = rounded(c->outputs, LANES);
    int64_t inputs_step = c->chunk * inputs_row + LANES + SUMS, gradients_step = c->chunk * columns + LANES;
    int64_t sums_step = rounded(c->channels, SUMS) * columns;
    float *inputs = c->scratch, *gradients = inputs + POINTS * inputs_step, *sums = gradients + POINTS * gradients_step;
    int64_t bands = rounded(c->channels, rows) / rows, products = POINTS * bands;
    int64_t chunks = rounded(tiles, c->chunk) / c->chunk, transforms = rounded(c->chunk, group) / group;
    for (;;) {
        int64_t task = __atomic_fetch_add(&c->task, 1, __ATOMIC_RELAXED), chunk = task / (transforms + products);
        int64_t within = task % (transforms + products), before = chunk * (transforms + products);
        if (chunk >= chunks) {
            before = chunks * (transforms + products);
            if (task - before >= c->channels) return;
            wait_for(&c->done, before);
            NAME(gather)(c, task - before, sums + (task - before) * columns, sums_step);
            continue;
        }
        int64_t start = chunk * c->chunk, count = least(c->chunk, tiles - start);
        if (within < transforms) {
            wait_for(&c->done, before);
            for (int64_t t = within * group; t < least(count, (within + 1) * group); t++) {
                struct place at = place_of(start + t, down, across);
                NAME(transform_window)(c->maps + at.image * pixels * c->channels, c->height, c->width, c->channels, at.top - 1, at.left - 1,
                 inputs + t * inputs_row, inputs_step);
                NAME(transform_gradient)(c->gradients + at.image * pixels * c->outputs, c->height, c->width, c->outputs, at.top, at.left,
                 gradients + t * columns, gradients_step);
            }
        } else {
            int64_t point = (within - transforms) / bands, first = (within - transforms) % bands * rows;
            wait_for(&c->done, before + transforms);
            for (int64_t panel = 0; panel < columns; panel += wide)
                NAME(product)(least(rows, c->channels - first), least(wide, columns - panel) / LANES, count,
                 inputs + point * inputs_step + first, 1, inputs_row, gradients + point * gradients_step + panel,
                 columns, sums + point * sums_step + first * columns + panel, columns, chunk > 0);
        }
        __atomic_fetch_add(&c->done, 1, __ATOMIC_RELEASE);
    }
}

#include "linear_kernels.h"

static const struct kernels NAME(kernels) = {
    SET, LANES, SUMS, PANEL, NAME(convolve), NAME(convolve_few), NAME(pack), NAME(filter_gradient), NAME(linear)};

#undef vec
#undef mask
#undef TARGET
#undef NAME
#undef SET
#undef LANES
#undef SUMS
#undef PANEL

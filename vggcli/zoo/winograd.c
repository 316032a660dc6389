/* 3x3 convolution with padding 1 of float32 maps by Winograd's F(4x4, 3x3), its gradients, and fully connected layers, in
   plain C.

   A block of tiles goes through input transform, 36 matrix products and output transform while it lies in the cache. Maps
   are NHWC. Each output is one sum over the channels in their order, and each sum of a gradient one over the tiles in
   theirs, so results do not depend on how the work is divided. `winograd_kernels.h` and `linear_kernels.h` have the
   kernels, compiled here once for each instruction set, and `kernel_set` names those that the processor it runs on has.

   Every function takes tasks from a counter until none is left: any number of threads may call it with the same record. */

#include <sched.h>
#include <stdint.h>
#include <string.h>

#define POINTS 36
#define TILE 4
#define WINDOW 6

/* Raised, with INTERFACE in compiled.py, with every change of what is passed between the two files. */
const int64_t interface = 3;

/* One convolution. Sizes count elements, in the memory after each pointer the last index runs fastest. */
struct convolution {
    const float *maps;    /* [images, height, width, channels] */
    const float *filters; /* as `pack` leaves them; of `convolve_few` [3, 3, channels, outputs rounded up to vectors] */
    const float *bias;    /* [outputs], or null */
    float *result;        /* [images, height, width, outputs]; with `pool` half the height and width, rounded down */
    float *scratch;       /* `scratch_size` for each thread */
    int64_t images, height, width, channels, outputs;
    int64_t relu, pool;   /* whether they follow */
    int64_t block, panels; /* tiles, and panels of outputs, of one task */
    int64_t scratch_size;
    int64_t threads, task; /* how many have begun, and the next task; 0 at the start */
};

/* The gradient of a convolution to its filters. */
struct gradient {
    const float *maps;      /* [images, height, width, channels] */
    const float *gradients; /* to the result, [images, height, width, outputs] */
    const double *matrix;   /* G [6, 3] */
    float *result;          /* [3, 3, channels, outputs] */
    float *scratch;
    int64_t images, height, width, channels, outputs;
    int64_t chunk;      /* tiles whose transforms are in memory together */
    int64_t task, done; /* the next task, and how many are done; 0 at the start */
};

#define TOGETHER 16 /* channels of filters that are transformed by one task */

/* Filters to be transformed. */
struct packing {
    const float *weights; /* the first of the first filter */
    const double *matrix; /* G [6, 3] */
    float *filters;       /* 36 times channels times outputs rounded up to vectors */
    int64_t channels, outputs;
    int64_t channel_step, output_step, down, across; /* from a weight to the next one of each kind */
    int64_t task; /* the next one; 0 at the start */
};

/* A fully connected layer. */
struct linear {
    const float *maps;    /* [rows, depth] */
    const float *weights; /* [outputs, depth] */
    const float *bias;    /* [outputs] */
    float *result;        /* [rows, outputs] */
    float *scratch;       /* `scratch_size` for each thread */
    int64_t rows, depth, outputs;
    int64_t band, group; /* rows and outputs of one task */
    int64_t scratch_size;
    int64_t threads, task; /* how many have begun, and the next task; 0 at the start */
};

/* The functions for one instruction set. */
struct kernels {
    const char *name;
    int64_t lanes, sums, panel; /* floats of a vector; vectors of sums in registers; vectors of a panel */
    void (*convolve)(struct convolution *), (*convolve_few)(struct convolution *);
    void (*pack)(struct packing *);
    void (*filter_gradient)(struct gradient *);
    void (*linear)(struct linear *);
};

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t rounded(int64_t size, int64_t unit) { return (size + unit - 1) / unit * unit; }

/* An image, and the upper left pixel of a tile of its outputs. */
struct place {
    int64_t image, top, left;
};

static inline struct place place_of(int64_t tile, int64_t down, int64_t across) {
    return (struct place){tile / (down * across), TILE * (tile / across % down), TILE * (tile % across)};
}

/* Wait for what other threads are still computing. */
static inline void wait_for(const int64_t *done, int64_t count) {
    while (__atomic_load_n(done, __ATOMIC_ACQUIRE) < count) sched_yield();
}

#define PICK(choice, a, b) ((vec)(((mask)(a) & (choice)) | ((mask)(b) & ~(choice))))
#define LARGER(a, b) PICK(((a) < (b)) | ((b) != (b)), b, a) /* not a number where one of them is not */
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 24")
#endif
#define EACH(i, count) UNROLL for (int i = 0; i < (count); i++)

/* The points are 0, A, -A, B, -B and infinity, A = 5/8 and B = 3/2. */
#define A 0.625f
#define B 1.5f
#define A2 0.390625f
#define B2 2.25f
#define A2B2 0.87890625f
#define A2_B2 2.640625f

#define INPUT_TRANSFORM(o, step, d0, d1, d2, d3, d4, d5) \
    do { \
        vec even_a = d4 - B2 * d2, odd_a = A * (d3 - B2 * d1), even_b = d4 - A2 * d2, odd_b = B * (d3 - A2 * d1); \
        o[0 * step] = A2B2 * d0 - A2_B2 * d2 + d4; \
        o[1 * step] = even_a + odd_a; \
        o[2 * step] = even_a - odd_a; \
        o[3 * step] = even_b + odd_b; \
        o[4 * step] = even_b - odd_b; \
        o[5 * step] = A2B2 * d1 - A2_B2 * d3 + d5; \
    } while (0)

#define OUTPUT_TRANSFORM(o, step, m0, m1, m2, m3, m4, m5) \
    do { \
        vec sum_a = m1 + m2, odd_a = m1 - m2, sum_b = m3 + m4, odd_b = m3 - m4; \
        o[0 * step] = m0 + sum_a + sum_b; \
        o[1 * step] = A * odd_a + B * odd_b; \
        o[2 * step] = A2 * sum_a + B2 * sum_b; \
        o[3 * step] = (A * A2) * odd_a + (B * B2) * odd_b + m5; \
    } while (0)

/* The transpose of the output transform. */
#define GRADIENT_TRANSFORM(o, step, d0, d1, d2, d3) \
    do { \
        vec even_a = d0 + A2 * d2, odd_a = A * (d1 + A2 * d3), even_b = d0 + B2 * d2, odd_b = B * (d1 + B2 * d3); \
        o[0 * step] = d0; \
        o[1 * step] = even_a + odd_a; \
        o[2 * step] = even_a - odd_a; \
        o[3 * step] = even_b + odd_b; \
        o[4 * step] = even_b - odd_b; \
        o[5 * step] = d3; \
    } while (0)

#if defined(__x86_64__)
#define TARGET __attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")))
#define NAME(name) name##_avx512
#define SET "avx512"
#define LANES 16
#define SUMS 24
#define PANEL 4
#include "winograd_kernels.h"
#define TARGET __attribute__((target("avx2,fma")))
#define NAME(name) name##_avx2
#define SET "avx2"
#define LANES 8
#define SUMS 12
#define PANEL 2
#include "winograd_kernels.h"
#endif
#define TARGET
#define NAME(name) name##_plain
#define LANES 4
#if defined(__aarch64__)
#define SET "neon"
#define SUMS 24
#define PANEL 4
#else
#define SET "plain"
#define SUMS 12
#define PANEL 2
#endif
#include "winograd_kernels.h"

/* The kernels number `index` of those that this processor can run, the widest first; null after the last. */
const struct kernels *kernel_set(int64_t index) {
    const struct kernels *found[4] = {0};
    int64_t count = 0;
#if defined(__x86_64__)
    __builtin_cpu_init();
    int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    int avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                 __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
    if (avx2 && avx512)
        found[count++] = &kernels_avx512;
    if (avx2) found[count++] = &kernels_avx2;
#endif
    found[count++] = &kernels_plain;
    return index < count ? found[index] : 0;
}

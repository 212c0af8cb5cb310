// Matrix products of a training step that need less time than a library's.
//
// A library copies both matrices of a product, which pays where they are large. Here the first is
// read where it lies. The second is copied strip by strip, so that a strip lies in a fast cache,
// and the sums over it stay in registers.

#include <cstdint>
#include <cstring>
#include <numeric>
#include <vector>

#ifdef __AVX2__
#include <immintrin.h>
#endif

namespace {

// A tile of a dense product's outcome is so many rows of so many registers at most. Its sums take
// most of the processor's registers; what is left holds a row of the strip and a factor.
#ifdef __AVX512F__
constexpr int64_t LANES = 16;
constexpr int TILE_ROWS = 8, TILE_REGISTERS = 3;
#else
constexpr int64_t LANES = 8;
constexpr int TILE_ROWS = 6, TILE_REGISTERS = 2;
#endif

typedef float Lanes __attribute__((vector_size(LANES * sizeof(float)), aligned(sizeof(float))));
constexpr uint32_t REGISTER = sizeof(Lanes);

constexpr uintptr_t LINE = 64;

// A block of a sparse product's second matrix: so many rows and registers at most.
constexpr int64_t BLOCK_ROWS = 200;
constexpr int BLOCK_REGISTERS = 64 / LANES;

// A number's neighbour below is `down` further on in memory, the one to its right `right`.
struct Matrix {
    const float* at;
    int64_t down, right;
};

// Room for so many numbers from the start of a cache line, lest every other load touch two.
float* room(int64_t numbers) {
    static thread_local std::vector<float> kept;
    kept.resize(numbers + LINE / sizeof(float));
    const auto address = reinterpret_cast<uintptr_t>(kept.data());
    return reinterpret_cast<float*>((address + LINE - 1) / LINE * LINE);
}

// Rows of a matrix as rows of N registers; `columns` numbers are there, and what follows them is of
// no account.
template <int N>
void copy_strip(const Matrix& from, int64_t rows, int64_t columns, float* to) {
    for (int64_t k = 0; k < rows; k++, to += N * LANES) {
        const float* row = from.at + k * from.down;
        if (from.right == 1 && columns == N * LANES) {
            std::memcpy(to, row, N * REGISTER);
            continue;
        }
        for (int64_t j = 0; j < columns; j++) to[j] = row[j * from.right];
    }
}

// Calls `act` with the first column and the number of columns of each strip, and with its registers
// as a type: all strips are as equally wide as whole registers allow.
template <int N>
struct Registers {
    static constexpr int COUNT = N;
};

template <int N, typename Act>
void call(int64_t registers, Act act) {
    if constexpr (N > 0) {
        if (registers == N)
            act(Registers<N>{});
        else
            call<N - 1>(registers, act);
    }
}

template <int WIDEST, typename Act>
void each_strip(int64_t width, Act act) {
    const int64_t registers = (width + LANES - 1) / LANES;
    const int64_t strips = (registers + WIDEST - 1) / WIDEST;
    int64_t first = 0;
    for (int64_t s = 0; s < strips; s++) {
        const int64_t wide = (registers + s) / strips;
        const int64_t columns = first + wide * LANES < width ? wide * LANES : width - first;
        call<WIDEST>(wide, [=](auto registers) { act(registers, first, columns); });
        first += columns;
    }
}

// ---------------------------------------------------------------------------------------------
// A batch of images, most of whose pixels are zero, times a dense matrix: zeros are skipped.

struct Pixel {
    uint32_t offset;  // of its row of a strip one register wide, in bytes
    float value;
};

// The pixels of a row of the outcome and block of the dense matrix, all blocks of a row in turn:
// `pixels[begin[i]]` up to `pixels[begin[i + 1]]`.
struct Rows {
    std::vector<Pixel> pixels;
    std::vector<int64_t> begin;
};

thread_local Rows by_image, by_place;
thread_local std::vector<int64_t> next_of_row;

constexpr int64_t EIGHT = 8;  // pixels are looked at in one go

// Rows of the dense matrix in a block: blocks are equally high, and hold eights of pixels.
int64_t block_rows(int64_t depth) {
    const int64_t blocks = (depth + BLOCK_ROWS - 1) / BLOCK_ROWS;
    return ((depth + blocks - 1) / blocks + EIGHT - 1) / EIGHT * EIGHT;
}

// The pixel is written, and kept only if it isn't zero: a branch would be guessed wrongly too
// often.
Pixel* keep(float value, int64_t row, Pixel* next) {
    *next = {static_cast<uint32_t>(row) * REGISTER, value};
    return next + (value != 0);
}

#ifdef __AVX2__

// Which places a mask of eight bits keeps, in their order; then any.
struct Packing {
    alignas(32) int32_t places[256][EIGHT] = {};

    constexpr Packing() {
        for (int mask = 0; mask < 256; mask++)
            for (int place = 0, next = 0; place < EIGHT; place++)
                if (mask >> place & 1) places[mask][next++] = place;
    }
};

constexpr Packing PACKING;

Pixel* keep_eight(const float* eight, int64_t row, Pixel* next) {
    const __m256 values = _mm256_loadu_ps(eight);
    const int mask =
        _mm256_movemask_ps(_mm256_cmp_ps(values, _mm256_setzero_ps(), _CMP_NEQ_UQ));
    if (mask == 0) return next;
    const __m256i places =
        _mm256_load_si256(reinterpret_cast<const __m256i*>(PACKING.places[mask]));
    const __m256i kept = _mm256_castps_si256(_mm256_permutevar8x32_ps(values, places));
    const __m256i offsets = _mm256_mullo_epi32(
        _mm256_add_epi32(places, _mm256_set1_epi32(static_cast<int32_t>(row))),
        _mm256_set1_epi32(REGISTER));
    const __m256i low = _mm256_unpacklo_epi32(offsets, kept);
    const __m256i high = _mm256_unpackhi_epi32(offsets, kept);
    __m256i* to = reinterpret_cast<__m256i*>(next);
    _mm256_storeu_si256(to, _mm256_permute2x128_si256(low, high, 0x20));
    _mm256_storeu_si256(to + 1, _mm256_permute2x128_si256(low, high, 0x31));
    return next + __builtin_popcount(mask);
}

#else

Pixel* keep_eight(const float* eight, int64_t row, Pixel* next) {
    for (int64_t i = 0; i < EIGHT; i++) next = keep(eight[i], row + i, next);
    return next;
}

#endif

// Pixels that aren't zero, image by image; a row of the dense matrix is a place.
void find_by_image(const float* x, int64_t images, int64_t size, int64_t block) {
    by_image.pixels.resize(images * size + EIGHT);  // eight at a time are written
    by_image.begin.clear();
    Pixel* next = by_image.pixels.data();
    for (int64_t i = 0; i < images; i++) {
        const float* image = x + i * size;
        for (int64_t first = 0; first < size; first += block) {
            by_image.begin.push_back(next - by_image.pixels.data());
            const int64_t end = first + block < size ? first + block : size;
            int64_t j = first;
            for (; j + EIGHT <= end; j += EIGHT) next = keep_eight(image + j, j - first, next);
            for (; j < end; j++) next = keep(image[j], j - first, next);
        }
    }
    by_image.begin.push_back(next - by_image.pixels.data());
}

// Calls `act` with block, image in the block, place and value of each pixel found image by image.
template <typename Act>
void each_by_image(int64_t images, int64_t block, Act act) {
    const Pixel* pixels = by_image.pixels.data();
    const int64_t* begin = by_image.begin.data();
    for (int64_t first = 0, b = 0; first < images; first += block, b++)
        for (int64_t i = first; i < images && i < first + block; i++)
            for (int64_t k = begin[i]; k < begin[i + 1]; k++)
                act(b, i - first, pixels[k].offset / REGISTER, pixels[k].value);
}

// The same place by place; a row of the dense matrix is an image.
void find_by_place(const float* x, int64_t images, int64_t size, int64_t block) {
    find_by_image(x, images, size, size);
    const int64_t blocks = (images + block - 1) / block;
    by_place.begin.assign(size * blocks + 1, 0);
    int64_t* count = by_place.begin.data() + 1;
    each_by_image(images, block, [=](int64_t b, int64_t, int64_t place, float) {
        count[place * blocks + b]++;
    });
    std::partial_sum(by_place.begin.begin(), by_place.begin.end(), by_place.begin.begin());
    by_place.pixels.resize(by_place.begin.back());
    next_of_row = by_place.begin;
    int64_t* next = next_of_row.data();
    Pixel* pixels = by_place.pixels.data();
    each_by_image(images, block, [=](int64_t b, int64_t image, int64_t place, float value) {
        pixels[next[place * blocks + b]++] = {static_cast<uint32_t>(image) * REGISTER, value};
    });
}

// Add N registers of a row of the outcome up, over a block; the first block's row starts at zero.
template <int N>
void add_row(const Pixel* pixel, const Pixel* end, bool first, const char* block, float* outcome) {
    Lanes* row = reinterpret_cast<Lanes*>(outcome);
    Lanes sums[N];
#pragma GCC unroll 8
    for (int n = 0; n < N; n++) sums[n] = first ? Lanes{} : row[n];
    for (; pixel < end; pixel++) {
        const auto* weights = reinterpret_cast<const Lanes*>(block + uint64_t{pixel->offset} * N);
#pragma GCC unroll 8
        for (int n = 0; n < N; n++) sums[n] += pixel->value * weights[n];
    }
#pragma GCC unroll 8
    for (int n = 0; n < N; n++) row[n] = sums[n];
}

// N registers of columns of the outcome, of which `columns` numbers are there.
template <int N>
void sparse_strip(const Rows& rows, const Matrix& dense, int64_t depth, int64_t columns,
                  float* outcome, int64_t width) {
    const int64_t high = block_rows(depth), blocks = (depth + high - 1) / high;
    const int64_t count = static_cast<int64_t>(rows.begin.size() - 1) / blocks;
    float* copy = room(high * N * LANES);
    for (int64_t b = 0; b < blocks; b++) {
        const int64_t from = b * high, to = from + high < depth ? from + high : depth;
        copy_strip<N>({dense.at + from * width, width, 1}, to - from, columns, copy);
        const int64_t* begin = rows.begin.data() + b;
        for (int64_t i = 0; i < count; i++, begin += blocks) {
            const auto add = [&](float* row) {
                add_row<N>(rows.pixels.data() + begin[0], rows.pixels.data() + begin[1], b == 0,
                           reinterpret_cast<const char*>(copy), row);
            };
            float* row = outcome + i * width;
            if (columns == N * LANES) {
                add(row);
                continue;
            }
            float part[N * LANES] = {};
            std::memcpy(part, row, columns * sizeof(float));
            add(part);
            std::memcpy(row, part, columns * sizeof(float));
        }
    }
}

void times(const Rows& rows, const float* dense, int64_t depth, int64_t width, float* outcome) {
    each_strip<BLOCK_REGISTERS>(width, [&](auto registers, int64_t first, int64_t columns) {
        sparse_strip<registers.COUNT>(rows, {dense + first, width, 1}, depth, columns,
                                      outcome + first, width);
    });
}

// ---------------------------------------------------------------------------------------------
// A dense matrix times a dense matrix.

// M rows and N registers of the outcome.
template <int M, int N, bool BY_COLUMNS>
void tile(const Matrix& first, const float* strip, int64_t depth, float* outcome, int64_t width) {
    // Which of the two is one is known to the compiler.
    const int64_t down = BY_COLUMNS ? 1 : first.down, right = BY_COLUMNS ? first.right : 1;
    // The outcome's memory is on its way while the sums are worked out.
    for (int i = 0; i < M; i++)
        for (int n = 0; n < N; n++) __builtin_prefetch(outcome + i * width + n * LANES, 1, 2);
    const float* factor = first.at;
    Lanes sums[M][N];
#pragma GCC unroll 8
    for (int i = 0; i < M; i++)
#pragma GCC unroll 3
        for (int n = 0; n < N; n++) sums[i][n] = Lanes{};
    for (int64_t k = 0; k < depth; k++, factor += right, strip += N * LANES) {
        const Lanes* row = reinterpret_cast<const Lanes*>(strip);
#pragma GCC unroll 8
        for (int i = 0; i < M; i++)
#pragma GCC unroll 3
            for (int n = 0; n < N; n++) sums[i][n] += factor[i * down] * row[n];
    }
#pragma GCC unroll 8
    for (int i = 0; i < M; i++)
#pragma GCC unroll 3
        for (int n = 0; n < N; n++) reinterpret_cast<Lanes*>(outcome + i * width)[n] = sums[i][n];
}

// Tiles of M rows from row i on, as many as there are; then lower ones. Of their columns, `columns`
// are the outcome's.
template <int M, int N>
void tiles(int64_t i, const Matrix& first, const float* strip, int64_t rows, int64_t depth,
           float* outcome, int64_t width, int64_t columns) {
    for (; i + M <= rows; i += M) {
        const Matrix part{first.at + i * first.down, first.down, first.right};
        const auto fill = [&](float* to, int64_t apart) {
            if (first.right == 1)
                tile<M, N, false>(part, strip, depth, to, apart);
            else
                tile<M, N, true>(part, strip, depth, to, apart);
        };
        float* to = outcome + i * width;
        if (columns == N * LANES) {
            fill(to, width);
            continue;
        }
        float whole[M * N * LANES];
        fill(whole, N * LANES);
        for (int m = 0; m < M; m++)
            std::memcpy(to + m * width, whole + m * N * LANES, columns * sizeof(float));
    }
    if constexpr (M > 1) {
        constexpr int LOWER = M > 4 ? 4 : M / 2;
        tiles<LOWER, N>(i, first, strip, rows, depth, outcome, width, columns);
    }
}

}  // namespace

// Whether the dense product is faster than MKL's, which has its best code for Intel's processors.
extern "C" int dense_product_pays() {
#ifdef __AVX2__
    __builtin_cpu_init();
    return __builtin_cpu_is("amd");
#else
    return 0;
#endif
}

// The outcome of all products is stored row by row.

// x (images, size) times dense (size, width): outcome (images, width).
extern "C" void pixels_times(const float* x, int64_t images, int64_t size, const float* dense,
                             int64_t width, float* outcome) {
    find_by_image(x, images, size, block_rows(size));
    times(by_image, dense, size, width, outcome);
}

// x (images, size) turned, times dense (images, width): outcome (size, width).
extern "C" void turned_pixels_times(const float* x, int64_t images, int64_t size,
                                    const float* dense, int64_t width, float* outcome) {
    find_by_place(x, images, size, block_rows(images));
    times(by_place, dense, images, width, outcome);
}

// first (rows, depth) times second (depth, width): outcome (rows, width). The first's `down` or
// `right` is one.
extern "C" void dense_times(const float* first, int64_t down, int64_t right, const float* second,
                            int64_t second_down, int64_t second_right, float* outcome,
                            int64_t rows, int64_t depth, int64_t width) {
    const Matrix a{first, down, right};
    each_strip<TILE_REGISTERS>(width, [&](auto registers, int64_t j, int64_t columns) {
        constexpr int N = registers.COUNT;
        const Matrix b{second + j * second_right, second_down, second_right};
        float* copy = room(depth * N * LANES);
        copy_strip<N>(b, depth, columns, copy);
        tiles<TILE_ROWS, N>(0, a, copy, rows, depth, outcome + j, width, columns);
    });
}

// Products of a batch of images, most of whose pixels are zero, with a dense matrix.
//
// Only pixels that aren't zero are visited. A dense product does five times the work but waits for
// memory less, so the dense matrix is copied block by block: a block lies in a fast cache, and the
// sums over it stay in registers.

#include <cstdint>
#include <cstring>
#include <numeric>
#include <vector>

#ifdef __AVX2__
#include <immintrin.h>
#endif

#ifdef _WIN32
#define EXPORT extern "C" __declspec(dllexport)
#else
#define EXPORT extern "C"
#endif

namespace {

// Eight numbers a register; processors with wider ones wait for memory here, too.
constexpr int64_t LANES = 8;
typedef float Lanes __attribute__((vector_size(LANES * sizeof(float)), aligned(sizeof(float))));
constexpr uint32_t LANES_BYTES = sizeof(Lanes);

constexpr uintptr_t LINE = 64;

// A block of the dense matrix: so many rows at most, and so many registers wide.
constexpr int64_t BLOCK_ROWS = 200;
constexpr int64_t BLOCK_LANES = 8;

struct Pixel {
    uint32_t offset;  // of its row of a block of the dense matrix one register wide, in bytes
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
thread_local std::vector<float> block_of_dense;

// Rows of the dense matrix in a block: blocks are equally high, and hold whole registers of pixels.
int64_t block_rows(int64_t depth) {
    const int64_t blocks = (depth + BLOCK_ROWS - 1) / BLOCK_ROWS;
    return ((depth + blocks - 1) / blocks + LANES - 1) / LANES * LANES;
}

// The pixel is written, and kept only if it isn't zero: a branch would be guessed wrongly too often.
Pixel* keep(float value, int64_t row, Pixel* next) {
    *next = {static_cast<uint32_t>(row) * LANES_BYTES, value};
    return next + (value != 0);
}

#ifdef __AVX2__

// Which lanes a mask of eight bits keeps, in their order; then any.
struct Packing {
    alignas(32) int32_t lanes[256][LANES] = {};

    constexpr Packing() {
        for (int mask = 0; mask < 256; mask++)
            for (int lane = 0, next = 0; lane < LANES; lane++)
                if (mask >> lane & 1) lanes[mask][next++] = lane;
    }
};

constexpr Packing PACKING;

Pixel* keep_eight(const float* eight, int64_t row, Pixel* next) {
    const __m256 values = _mm256_loadu_ps(eight);
    const int mask =
        _mm256_movemask_ps(_mm256_cmp_ps(values, _mm256_setzero_ps(), _CMP_NEQ_UQ));
    if (mask == 0) return next;
    const __m256i lanes =
        _mm256_load_si256(reinterpret_cast<const __m256i*>(PACKING.lanes[mask]));
    const __m256i kept = _mm256_castps_si256(_mm256_permutevar8x32_ps(values, lanes));
    const __m256i offsets = _mm256_mullo_epi32(
        _mm256_add_epi32(lanes, _mm256_set1_epi32(static_cast<int32_t>(row))),
        _mm256_set1_epi32(LANES_BYTES));
    const __m256i low = _mm256_unpacklo_epi32(offsets, kept);
    const __m256i high = _mm256_unpackhi_epi32(offsets, kept);
    __m256i* to = reinterpret_cast<__m256i*>(next);
    _mm256_storeu_si256(to, _mm256_permute2x128_si256(low, high, 0x20));
    _mm256_storeu_si256(to + 1, _mm256_permute2x128_si256(low, high, 0x31));
    return next + __builtin_popcount(mask);
}

#else

Pixel* keep_eight(const float* eight, int64_t row, Pixel* next) {
    for (int64_t lane = 0; lane < LANES; lane++) next = keep(eight[lane], row + lane, next);
    return next;
}

#endif

// Pixels that aren't zero, image by image; a row of the dense matrix is a place.
void find_by_image(const float* x, int64_t images, int64_t size, int64_t block) {
    by_image.pixels.resize(images * size + LANES);  // eight at a time are written
    by_image.begin.clear();
    Pixel* next = by_image.pixels.data();
    for (int64_t i = 0; i < images; i++) {
        const float* image = x + i * size;
        for (int64_t first = 0; first < size; first += block) {
            by_image.begin.push_back(next - by_image.pixels.data());
            const int64_t end = first + block < size ? first + block : size;
            int64_t j = first;
            for (; j + LANES <= end; j += LANES) next = keep_eight(image + j, j - first, next);
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
                act(b, i - first, pixels[k].offset / LANES_BYTES, pixels[k].value);
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
        pixels[next[place * blocks + b]++] = {static_cast<uint32_t>(image) * LANES_BYTES, value};
    });
}

// Add N registers of a row of the outcome up, over a block; the first block's row starts at zero.
template <int N>
void add_row(const Pixel* pixel, const Pixel* end, bool first, const char* block, float* outcome) {
    Lanes* row = reinterpret_cast<Lanes*>(outcome);
    Lanes sums[N];
    for (int n = 0; n < N; n++) sums[n] = first ? Lanes{} : row[n];
    for (; pixel < end; pixel++) {
        const auto* weights = reinterpret_cast<const Lanes*>(block + uint64_t{pixel->offset} * N);
#pragma GCC unroll 8
        for (int n = 0; n < N; n++) sums[n] += pixel->value * weights[n];
    }
#pragma GCC unroll 8
    for (int n = 0; n < N; n++) row[n] = sums[n];
}

// N registers of columns of the outcome; `dense` and `outcome` are `width` numbers wide.
template <int N>
void strip(const Rows& rows, const float* dense, int64_t depth, int64_t width, float* outcome) {
    const int64_t high = block_rows(depth), blocks = (depth + high - 1) / high;
    const int64_t count = static_cast<int64_t>(rows.begin.size() - 1) / blocks;
    // From the start of a cache line, lest every other load touch two.
    block_of_dense.resize(high * N * LANES + LINE / sizeof(float));
    const auto address = reinterpret_cast<uintptr_t>(block_of_dense.data());
    float* copy = reinterpret_cast<float*>((address + LINE - 1) / LINE * LINE);
    for (int64_t b = 0; b < blocks; b++) {
        for (int64_t k = b * high; k < depth && k < (b + 1) * high; k++)
            std::memcpy(copy + (k - b * high) * N * LANES, dense + k * width, N * LANES_BYTES);
        const int64_t* begin = rows.begin.data() + b;
        for (int64_t i = 0; i < count; i++, begin += blocks)
            add_row<N>(rows.pixels.data() + begin[0], rows.pixels.data() + begin[1], b == 0,
                       reinterpret_cast<const char*>(copy), outcome + i * width);
    }
}

void times(const Rows& rows, const float* dense, int64_t depth, int64_t width, float* outcome) {
    const int64_t lanes = width / LANES, strips = (lanes + BLOCK_LANES - 1) / BLOCK_LANES;
    for (int64_t s = 0; s < strips; s++) {
        const int64_t wide = (lanes + s) / strips;  // as equal as may be, the wider ones last
        switch (wide) {
            case 8: strip<8>(rows, dense, depth, width, outcome); break;
            case 7: strip<7>(rows, dense, depth, width, outcome); break;
            case 6: strip<6>(rows, dense, depth, width, outcome); break;
            case 5: strip<5>(rows, dense, depth, width, outcome); break;
            case 4: strip<4>(rows, dense, depth, width, outcome); break;
            case 3: strip<3>(rows, dense, depth, width, outcome); break;
            case 2: strip<2>(rows, dense, depth, width, outcome); break;
            case 1: strip<1>(rows, dense, depth, width, outcome); break;
        }
        dense += wide * LANES;
        outcome += wide * LANES;
    }
}

}  // namespace

// `width`, a multiple of 8, is that of `dense` and `outcome`; all are contiguous.

// x (images, size) times dense (size, width): outcome (images, width).
EXPORT void pixels_times(const float* x, int64_t images, int64_t size, const float* dense,
                         int64_t width, float* outcome) {
    find_by_image(x, images, size, block_rows(size));
    times(by_image, dense, size, width, outcome);
}

// x (images, size) turned, times dense (images, width): outcome (size, width).
EXPORT void turned_pixels_times(const float* x, int64_t images, int64_t size, const float* dense,
                                int64_t width, float* outcome) {
    find_by_place(x, images, size, block_rows(images));
    times(by_place, dense, images, width, outcome);
}

// Products of a batch of images, most of whose pixels are zero, with a dense matrix.
//
// Only pixels that aren't zero are visited. A dense product does five times the work but waits for
// memory less, so the dense matrix is copied strip by strip: a strip lies in a fast cache, and its
// sums stay in registers.

#include <cstdint>
#include <cstring>
#include <vector>

#ifdef _WIN32
#define EXPORT extern "C" __declspec(dllexport)
#else
#define EXPORT extern "C"
#endif

namespace {

// Eight numbers a register; processors with wider ones wait for memory here, too.
constexpr int64_t LANES = 8;
typedef float Lanes __attribute__((vector_size(LANES * sizeof(float)), aligned(sizeof(float))));

constexpr uintptr_t LINE = 64;

// Five sums keep a multiplier busy, and a strip of five lanes fits a fast cache.
constexpr int STRIP = 5;

struct Pixel {
    int32_t index;  // which row of the dense matrix it is multiplied with
    float value;
};

// The pixels of a row of the outcome: `pixels[begin[i]]` up to `pixels[end[i]]`.
struct Rows {
    std::vector<Pixel> pixels;
    std::vector<int64_t> begin, end;
};

thread_local Rows rows;
thread_local std::vector<float> strip_of_dense;

bool all_zero(const float* eight) {
    uint64_t bits[4];
    std::memcpy(bits, eight, sizeof bits);
    return !(bits[0] | bits[1] | bits[2] | bits[3]);
}

void resize(int64_t count, int64_t longest) {
    rows.pixels.resize(count * longest + 1);  // one is written beyond a full row's end
    rows.begin.resize(count);
    rows.end.resize(count);
}

// Pixels that aren't zero, image by image. Each is written, and kept only if it isn't zero:
// a branch here would be guessed wrongly once an edge.
void by_image(const float* x, int64_t images, int64_t size) {
    resize(images, size);
    Pixel* next = rows.pixels.data();
    for (int64_t i = 0; i < images; i++) {
        const float* image = x + i * size;
        rows.begin[i] = next - rows.pixels.data();
        int64_t j = 0;
        for (; j + LANES <= size; j += LANES) {
            if (all_zero(image + j)) continue;
            for (int64_t k = j; k < j + LANES; k++) {
                *next = {static_cast<int32_t>(k), image[k]};
                next += image[k] != 0;
            }
        }
        for (; j < size; j++) {
            *next = {static_cast<int32_t>(j), image[j]};
            next += image[j] != 0;
        }
        rows.end[i] = next - rows.pixels.data();
    }
}

// The same place by place: a few neighbouring pixels of all images at a time.
template <int PLACES>
void by_places(const float* x, int64_t images, int64_t size, int64_t first) {
    Pixel* next[PLACES];
    for (int k = 0; k < PLACES; k++) next[k] = rows.pixels.data() + (first + k) * images;
    for (int64_t i = 0; i < images; i++) {
        const float* pixels = x + i * size + first;
        if (PLACES == LANES && all_zero(pixels)) continue;
#pragma GCC unroll 8
        for (int k = 0; k < PLACES; k++) {
            *next[k] = {static_cast<int32_t>(i), pixels[k]};
            next[k] += pixels[k] != 0;
        }
    }
    for (int k = 0; k < PLACES; k++) {
        rows.begin[first + k] = (first + k) * images;
        rows.end[first + k] = next[k] - rows.pixels.data();
    }
}

void by_place(const float* x, int64_t images, int64_t size) {
    resize(size, images);
    int64_t j = 0;
    for (; j + LANES <= size; j += LANES) by_places<LANES>(x, images, size, j);
    for (; j < size; j++) by_places<1>(x, images, size, j);
}

template <int N>
void strip_of_row(const Pixel* pixel, const Pixel* end, const float* dense, float* outcome) {
    Lanes sums[N];
    for (int n = 0; n < N; n++) sums[n] = Lanes{};
    for (; pixel < end; pixel++) {
        const Lanes* row = reinterpret_cast<const Lanes*>(dense + pixel->index * N * LANES);
#pragma GCC unroll 8
        for (int n = 0; n < N; n++) sums[n] += pixel->value * row[n];
    }
#pragma GCC unroll 8
    for (int n = 0; n < N; n++) reinterpret_cast<Lanes*>(outcome)[n] = sums[n];
}

// N lanes of columns of the outcome; `dense` and `outcome` are `width` numbers wide.
template <int N>
void strip(const float* dense, int64_t depth, int64_t width, float* outcome) {
    // From the start of a cache line, lest every other load touch two.
    strip_of_dense.resize(depth * N * LANES + LINE / sizeof(float));
    const auto address = reinterpret_cast<uintptr_t>(strip_of_dense.data());
    float* copy = reinterpret_cast<float*>((address + LINE - 1) / LINE * LINE);
    for (int64_t k = 0; k < depth; k++)
        std::memcpy(copy + k * N * LANES, dense + k * width, N * LANES * sizeof(float));
    const Pixel* pixels = rows.pixels.data();
    for (size_t i = 0; i < rows.begin.size(); i++)
        strip_of_row<N>(pixels + rows.begin[i], pixels + rows.end[i], copy, outcome + i * width);
}

void times(const float* dense, int64_t depth, int64_t width, float* outcome) {
    int64_t c = 0;
    for (; c + STRIP * LANES <= width; c += STRIP * LANES)
        strip<STRIP>(dense + c, depth, width, outcome + c);
    switch ((width - c) / LANES) {
        case 4: strip<4>(dense + c, depth, width, outcome + c); break;
        case 3: strip<3>(dense + c, depth, width, outcome + c); break;
        case 2: strip<2>(dense + c, depth, width, outcome + c); break;
        case 1: strip<1>(dense + c, depth, width, outcome + c); break;
    }
}

}  // namespace

// `width`, a multiple of 8, is that of `dense` and `outcome`; all are contiguous.

// x (images, size) times dense (size, width): outcome (images, width).
EXPORT void pixels_times(const float* x, int64_t images, int64_t size, const float* dense,
                         int64_t width, float* outcome) {
    by_image(x, images, size);
    times(dense, size, width, outcome);
}

// x (images, size) turned, times dense (images, width): outcome (size, width).
EXPORT void turned_pixels_times(const float* x, int64_t images, int64_t size, const float* dense,
                                int64_t width, float* outcome) {
    by_place(x, images, size);
    times(dense, images, width, outcome);
}

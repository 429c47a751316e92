// Training and scoring of a stack's members, one member after another.
//
// A member's weights, its optimizer's states and the activations of a tile of rows stay in the cache
// while all batches given pass by, where an operation over the whole stack would stream every array
// from memory. Every product has the form out[r, :] = init[r, :] + sum over k of a[r, k] b[k, :], in
// blocks that are held in registers. Rows of matrices are padded to whole vectors, and the padding
// holds anything: lanes never mix.
//
// The update rules are appended to this file: see codegen.py. Layouts and meanings are in kernel.py.

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace {

#if defined(__AVX512F__)
constexpr long LANES = 16, COLUMNS = 4;
#elif defined(__AVX__)
constexpr long LANES = 8, COLUMNS = 2;
#else
constexpr long LANES = 4, COLUMNS = 2;
#endif
constexpr long TILE = 64;       // rows that pass the network at once
constexpr long MAX_LAYERS = 64;  // as kernel.py checks

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t ints __attribute__((vector_size(4 * LANES)));

inline vec load(const float *at) { return *reinterpret_cast<const vec *>(at); }
inline void store(float *at, vec value) { *reinterpret_cast<vec *>(at) = value; }
inline vec all(float value) { return value - vec{}; }  // x - 0 is x, and x + 0 is not for -0
inline vec where(ints mask, vec yes, vec no) { return mask ? yes : no; }
inline vec absolute(vec x) { return where(x < 0, -x, x); }
inline vec from_bits(ints bits) {
    vec x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}
inline ints to_bits(vec x) {
    ints bits;
    std::memcpy(&bits, &x, sizeof x);
    return bits;
}
inline long padded(long width) { return (width + LANES - 1) / LANES * LANES; }

// exp, log and tanh: the polynomials of Cephes (expf.c, logf.c, tanhf.c), within 2 units in the last
// place. A NaN stays one.

vec exponential(vec x) {
    x = where(x > 88.0f, all(88.0f), x);
    x = where(x < -87.0f, all(-87.0f), x);
    const vec shift = all(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
    const vec n = (x * 1.44269504088896341f + shift) - shift;
    const vec r = x - n * 0.693359375f + n * 2.12194440e-4f;
    vec y = all(1.9875691500e-4f);
    y = y * r + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * r * r + r + 1.0f;
    return y * from_bits((__builtin_convertvector(n, ints) + 127) << 23);
}

// Of x in [1, 2].
vec logarithm(vec x) {
    const ints upper = x > 1.41421356f;
    const vec half = where(upper, x * 0.5f, x);
    const vec m = half - 1.0f, z = m * m;
    vec y = all(7.0376836292e-2f);
    y = y * m - 1.1514610310e-1f;
    y = y * m + 1.1676998740e-1f;
    y = y * m - 1.2420140846e-1f;
    y = y * m + 1.4249322787e-1f;
    y = y * m - 1.6668057665e-1f;
    y = y * m + 2.0000714765e-1f;
    y = y * m - 2.4999993993e-1f;
    y = y * m + 3.3333331174e-1f;
    return m + (y * m * z - 0.5f * z) + where(upper, all(0.69314718f), all(0));
}

vec tangent(vec x) {
    const vec z = x * x, size = absolute(x);
    vec y = all(-5.70498872745e-3f);
    y = y * z + 2.06390887954e-2f;
    y = y * z - 5.37397155531e-2f;
    y = y * z + 1.33314422036e-1f;
    y = y * z - 3.33332819422e-1f;
    const vec near = y * z * x + x;
    const vec far = 1.0f - 2.0f / (exponential(2.0f * size) + 1.0f);
    return where(size < 0.625f, near, where(x < 0, -far, far));
}

inline vec logistic(vec x) { return 1.0f / (1.0f + exponential(-x)); }

// Abramowitz and Stegun 7.1.26: within 1.5e-7.
vec normal_cdf(vec x) {
    const vec u = absolute(x) * 0.70710678f, t = 1.0f / (1.0f + 0.3275911f * u);
    vec y = all(1.061405429f);
    y = y * t - 1.453152027f;
    y = y * t + 1.421413741f;
    y = y * t - 0.284496736f;
    y = y * t + 0.254829592f;
    const vec tail = 0.5f * y * t * exponential(-u * u);
    return where(x < 0, tail, 1.0f - tail);
}

enum Activation { RELU, LEAKY_RELU, ELU, GELU, SILU, TANH, SIGMOID };

inline vec activated(long activation, vec x) {
    switch (activation) {
        case RELU: return where(x < 0, all(0), x);
        case LEAKY_RELU: return where(x < 0, x * 0.01f, x);
        case ELU: return where(x < 0, exponential(x) - 1.0f, x);
        case GELU: return x * normal_cdf(x);
        case SILU: return x * logistic(x);
        case TANH: return tangent(x);
        default: return logistic(x);
    }
}

// The derivative, of the activation's input and output.
inline vec slope(long activation, vec x, vec out) {
    switch (activation) {
        case RELU: return where(out > 0, all(1), all(0));
        case LEAKY_RELU: return where(out > 0, all(1), all(0.01f));
        case ELU: return where(out > 0, all(1), out + 1.0f);
        case GELU: return normal_cdf(x) + x * 0.39894228f * exponential(-0.5f * x * x);
        case SILU: {
            const vec s = logistic(x);
            return s * (1.0f + x * (1.0f - s));
        }
        case TANH: return 1.0f - out * out;
        default: return out * (1.0f - out);
    }
}

// out[r, :] = init[r, :] + sum over k < depth of a[r, k] b[k, :]; the steps are between neighbours.
struct Product {
    long depth;
    const float *a;
    long a_row, a_step;
    const float *b;
    long b_step;
    const float *init;
    long init_row;
    float *out;
    long out_row;
};

// R rows and C vectors of columns.
template <int R, int C>
void block(const Product &p) {
    vec sum[R][C];
    for (int r = 0; r < R; r++)
        for (int c = 0; c < C; c++) sum[r][c] = load(p.init + r * p.init_row + c * LANES);
    for (long k = 0; k < p.depth; k++) {
        vec row[C];
        for (int c = 0; c < C; c++) row[c] = load(p.b + k * p.b_step + c * LANES);
        for (int r = 0; r < R; r++) {
            const vec factor = all(p.a[r * p.a_row + k * p.a_step]);
            for (int c = 0; c < C; c++) sum[r][c] += factor * row[c];
        }
    }
    for (int r = 0; r < R; r++)
        for (int c = 0; c < C; c++) store(p.out + r * p.out_row + c * LANES, sum[r][c]);
}

// Rows in a block: as many as keep both multipliers busy and fit the registers.
constexpr int block_rows(int columns) {
    return columns == 1 ? 8 : columns == 2 ? (LANES == 16 ? 8 : 6) : 4;
}

template <int R, int C>
void rows(Product p, long count) {
    for (; count >= R; count -= R) {
        block<R, C>(p);
        p.a += R * p.a_row, p.init += R * p.init_row, p.out += R * p.out_row;
    }
    if constexpr (R > 1)
        if (count > 0) rows<(R + 1) / 2, C>(p, count);
}

void multiply(Product p, long count, long width) {
    for (long left = padded(width) / LANES, c; left > 0; left -= c) {
        c = left < COLUMNS ? left : COLUMNS;
        switch (c) {
            case 1: rows<block_rows(1), 1>(p, count); break;
            case 2: rows<block_rows(2), 2>(p, count); break;
            case 3: rows<block_rows(3), 3>(p, count); break;
            default: rows<block_rows(4), 4>(p, count);
        }
        p.b += c * LANES, p.init += c * LANES, p.out += c * LANES;
    }
}

struct Layer {
    long in, out, in_row, out_row;  // widths, and the same padded
    const float *weight, *bias;     // [out, in] and [out], in the member's parameters
    float *transposed;              // [in, out_row]
    float *before;                  // [TILE, out_row], what the activation is given
    float *after;                   // [TILE, out_row], what it gives
    float *output;                  // [TILE, out_row], after dropout
    float *delta;                   // [TILE, out_row], the gradient of `before`
    float *weight_gradient;         // [out, in_row]
    float *bias_gradient;           // [out_row]
};

struct Network {
    long count, activation, size;
    Layer layers[MAX_LAYERS];
    float *memory, *parameters, *gradients, *zeros;
    bool ready;

    // Buffers for a member in training, or for its outputs alone.
    Network(long count, const int64_t *widths, long activation, bool trains, bool drops)
        : count(count), activation(activation), size(0), memory(nullptr) {
        const bool by_input = activation == GELU || activation == SILU;
        long widest = 0;
        for (long l = 0; l < count; l++) {
            Layer &layer = layers[l];
            layer.in = widths[l], layer.out = widths[l + 1];
            layer.in_row = padded(layer.in), layer.out_row = padded(layer.out);
            size += layer.in * layer.out + layer.out;
            widest = layer.out_row > widest ? layer.out_row : widest;
            widest = layer.in_row > widest ? layer.in_row : widest;
        }
        // Once to count the numbers, once to place them.
        for (int pass = 0; pass < 2; pass++) {
            float *next = memory;
            auto take = [&](long numbers) {
                float *at = next;
                next += padded(numbers);
                return at;
            };
            parameters = take(size + LANES), gradients = take(size + LANES), zeros = take(widest);
            const float *place = parameters;
            for (long l = 0; l < count; l++) {
                Layer &layer = layers[l];
                const long tile = TILE * layer.out_row;
                layer.weight = place, layer.bias = place + layer.in * layer.out;
                place = layer.bias + layer.out;
                layer.transposed = take(layer.in * layer.out_row);
                layer.after = take(tile);
                layer.before = trains && by_input && l + 1 < count ? take(tile) : layer.after;
                layer.output = drops ? take(tile) : layer.after;
                layer.delta = trains ? take(tile) : nullptr;
                layer.weight_gradient = trains ? take(layer.out * layer.in_row) : nullptr;
                layer.bias_gradient = trains ? take(layer.out_row) : nullptr;
            }
            if (pass == 0) {
                const size_t bytes = (next - memory) * sizeof(float);
                memory = static_cast<float *>(std::aligned_alloc(64, (bytes + 63) / 64 * 64));
                if (memory == nullptr) break;
                std::memset(memory, 0, bytes);
            }
        }
        ready = memory != nullptr;
    }
    Network(const Network &) = delete;
    ~Network() { std::free(memory); }

    void transpose() {
        for (long l = 0; l < count; l++) {
            const Layer &layer = layers[l];
            for (long o = 0; o < layer.out; o++)
                for (long i = 0; i < layer.in; i++)
                    layer.transposed[i * layer.out_row + o] = layer.weight[o * layer.in + i];
        }
    }

    // draws: for each hidden layer [rows, out], or none. The last layer's `after` are the logits.
    void forward(long rows, const float *x, const float *const *draws, float rate) {
        long x_row = layers[0].in_row;
        for (long l = 0; l < count; l++) {
            const Layer &layer = layers[l];
            const long n = rows * layer.out_row;
            multiply({layer.in, x, x_row, 1, layer.transposed, layer.out_row, layer.bias, 0,
                      layer.before, layer.out_row},
                     rows, layer.out);
            if (l + 1 == count) break;
            switch (activation) {  // so that the loop has no branch in it
                case RELU: activate<RELU>(layer, n); break;
                case LEAKY_RELU: activate<LEAKY_RELU>(layer, n); break;
                case ELU: activate<ELU>(layer, n); break;
                case GELU: activate<GELU>(layer, n); break;
                case SILU: activate<SILU>(layer, n); break;
                case TANH: activate<TANH>(layer, n); break;
                default: activate<SIGMOID>(layer, n);
            }
            if (draws) drop(layer, rows, draws[l], rate, layer.after, layer.output);
            x = draws ? layer.output : layer.after, x_row = layer.out_row;
        }
    }

    template <long A>
    static void activate(const Layer &layer, long n) {
        for (long i = 0; i < n; i += LANES)
            store(layer.after + i, activated(A, load(layer.before + i)));
    }

    template <long A>
    static void descend(const Layer &layer, long n) {
        for (long i = 0; i < n; i += LANES)
            store(layer.delta + i, load(layer.delta + i) * slope(A, load(layer.before + i),
                                                                 load(layer.after + i)));
    }

    static void drop(const Layer &layer, long rows, const float *draws, float rate,
                     const float *from, float *to) {
        const float kept = 1 / (1 - rate);
        for (long r = 0; r < rows; r++)
            for (long o = 0; o < layer.out; o++)
                to[r * layer.out_row + o] =
                    draws[r * layer.out + o] >= rate ? from[r * layer.out_row + o] * kept : 0;
    }

    // Adds the tile's gradients; the last layer's `delta` is there.
    void backward(long rows, const float *x, const float *const *draws, float rate) {
        for (long l = count - 1; l >= 0; l--) {
            const Layer &layer = layers[l];
            const float *input = l == 0 ? x : draws ? layers[l - 1].output : layers[l - 1].after;
            multiply({rows, layer.delta, 1, layer.out_row, input, layer.in_row,
                      layer.weight_gradient, layer.in_row, layer.weight_gradient, layer.in_row},
                     layer.out, layer.in);
            for (long o = 0; o < layer.out_row; o += LANES) {
                vec sums[4] = {load(layer.bias_gradient + o)};  // four, none waits for another
                for (long r = 0; r < rows; r++)
                    sums[r % 4] += load(layer.delta + r * layer.out_row + o);
                store(layer.bias_gradient + o, (sums[0] + sums[1]) + (sums[2] + sums[3]));
            }
            if (l == 0) break;
            const Layer &below = layers[l - 1];
            const long n = rows * below.out_row;
            multiply({layer.out, layer.delta, layer.out_row, 1, layer.weight, layer.in, zeros, 0,
                      below.delta, below.out_row},
                     rows, layer.in);
            if (draws) drop(below, rows, draws[l - 1], rate, below.delta, below.delta);
            switch (activation) {
                case RELU: descend<RELU>(below, n); break;
                case LEAKY_RELU: descend<LEAKY_RELU>(below, n); break;
                case ELU: descend<ELU>(below, n); break;
                case GELU: descend<GELU>(below, n); break;
                case SILU: descend<SILU>(below, n); break;
                case TANH: descend<TANH>(below, n); break;
                default: descend<SIGMOID>(below, n);
            }
        }
    }

    void zero_gradients() {
        for (long l = 0; l < count; l++) {
            std::memset(layers[l].weight_gradient, 0,
                        layers[l].out * layers[l].in_row * sizeof(float));
            std::memset(layers[l].bias_gradient, 0, layers[l].out_row * sizeof(float));
        }
    }

    // The layers' gradients side by side, as the parameters are. What is written beyond a row is
    // overwritten by the next.
    void gather_gradients() {
        float *to = gradients;
        for (long l = 0; l < count; l++) {
            const Layer &layer = layers[l];
            for (long o = 0; o < layer.out; o++, to += layer.in)
                for (long i = 0; i < layer.in; i += LANES)
                    store(to + i, load(layer.weight_gradient + o * layer.in_row + i));
            for (long o = 0; o < layer.out; o += LANES) store(to + o, load(layer.bias_gradient + o));
            to += layer.out;
        }
    }

    // The tile's summed losses, of labels of which `smoothing` is dealt out evenly; the last layer's
    // `delta` is made the gradient of their mean over all rows of the batch.
    double loss(long rows, const int64_t *y, float share, float smoothing) {
        const Layer &last = layers[count - 1];
        return last.out == 1 ? binary_loss(last, rows, y, share, smoothing)
                             : labels_loss(last, rows, y, share, smoothing);
    }

    static double binary_loss(const Layer &last, long rows, const int64_t *y, float share,
                              float smoothing) {
        alignas(64) float z[TILE], target[TILE], d[TILE], losses[TILE];
        for (long r = 0; r < TILE; r++) {
            z[r] = r < rows ? last.after[r * last.out_row] : 0;
            const float certain = r < rows ? static_cast<float>(y[r]) : 0;
            target[r] = certain + smoothing * (0.5f - certain);
        }
        for (long r = 0; r < TILE; r += LANES) {
            const vec logit = load(z + r), wanted = load(target + r);
            const vec small = exponential(-absolute(logit)), part = 1.0f / (1.0f + small);
            const vec p = where(logit < 0, small * part, part);
            store(losses + r, where(logit < 0, all(0), logit) - logit * wanted +
                                  logarithm(1.0f + small));
            store(d + r, (p - wanted) * share);
        }
        double sum = 0;
        for (long r = 0; r < rows; r++) {
            sum += losses[r];
            last.delta[r * last.out_row] = d[r];
        }
        return sum;
    }

    static double labels_loss(const Layer &last, long rows, const int64_t *y, float share,
                              float smoothing) {
        double sum = 0;
        const float each = smoothing / static_cast<float>(last.out);
        for (long r = 0; r < rows; r++) {
            float *z = last.after + r * last.out_row, *d = last.delta + r * last.out_row;
            float top = z[0], total = 0, all_logits = 0;
            for (long o = 1; o < last.out; o++) top = z[o] > top || z[o] != z[o] ? z[o] : top;
            for (long o = 0; o < last.out; o += LANES) store(d + o, exponential(load(z + o) - top));
            for (long o = 0; o < last.out; o++) total += d[o], all_logits += z[o];
            sum += std::log(total) + top - (1 - smoothing) * z[y[r]] - each * all_logits;
            for (long o = 0; o < last.out; o++)
                d[o] = (d[o] / total - each - (o == y[r] ? 1 - smoothing : 0.0f)) * share;
        }
        return sum;
    }
};

using Rule = void (*)(long n, float *p, const float *g, double t, void *const *states,
                      const double *h);
extern const Rule RULES[];

constexpr long MAX_STATES = 8;

}  // namespace

extern "C" int64_t lanes() { return LANES; }

// 0, or 1 when there is no memory.
extern "C" int train(int64_t layers, const int64_t *widths, int64_t activation, int64_t members,
                     int64_t batches, int64_t rows, int64_t splits, const float *x,
                     const int64_t *y, const float *const *draws, const int64_t *split,
                     const float *rates, double smoothing, int64_t rule, double steps, float *parameters,
                     char *const *states, const int64_t *state_bytes, int64_t state_count,
                     const double *hyper, int64_t hyper_count, double *losses,
                     double *gradient_sums) {
    Network network(layers, widths, activation, true, draws != nullptr);
    if (!network.ready) return 1;
    const float share = 1.0f / static_cast<float>(rows);
    const long x_row = network.layers[0].in_row;
    for (int64_t m = 0; m < members; m++) {
        float *own = parameters + m * network.size;
        void *own_states[MAX_STATES];
        for (int64_t s = 0; s < state_count; s++) own_states[s] = states[s] + m * state_bytes[s];
        std::memcpy(network.parameters, own, network.size * sizeof(float));
        double loss = 0;
        vec checked = {};
        for (int64_t b = 0; b < batches; b++) {
            const int64_t first = (b * splits + split[m]) * rows;
            network.zero_gradients();
            network.transpose();
            for (int64_t start = 0; start < rows; start += TILE) {
                const long count = rows - start < TILE ? rows - start : TILE;
                const float *tile = x + (first + start) * x_row;
                const float *tile_draws[MAX_LAYERS];
                for (int64_t l = 0; draws && l + 1 < layers; l++)
                    tile_draws[l] = draws[l] + (first + start) * widths[l + 1];
                const float *const *drawn = draws ? tile_draws : nullptr;
                network.forward(count, tile, drawn, rates[m]);
                loss += network.loss(count, y + first + start, share,
                                     static_cast<float>(smoothing)) * share;
                network.backward(count, tile, drawn, rates[m]);
            }
            network.gather_gradients();
            std::memset(network.gradients + network.size, 0, LANES * sizeof(float));
            // 0 as long as all are finite, else NaN.
            for (long i = 0; i < network.size; i += LANES)
                checked += load(network.gradients + i) * 0.0f;
            RULES[rule](network.size, network.parameters, network.gradients,
                        steps + static_cast<double>(b + 1), own_states, hyper + m * hyper_count);
        }
        std::memcpy(own, network.parameters, network.size * sizeof(float));
        losses[m] += loss;
        for (long i = 0; i < LANES; i++) gradient_sums[m] += checked[i];
    }
    return 0;
}

// 0, or 1 when there is no memory.
extern "C" int score(int64_t layers, const int64_t *widths, int64_t activation, int64_t members,
                     int64_t rows, int64_t split_rows, const float *x, const int64_t *split,
                     const float *parameters, float *logits) {
    Network network(layers, widths, activation, false, false);
    if (!network.ready) return 1;
    const Layer &last = network.layers[layers - 1];
    for (int64_t m = 0; m < members; m++) {
        std::memcpy(network.parameters, parameters + m * network.size,
                    network.size * sizeof(float));
        network.transpose();
        for (int64_t start = 0; start < rows; start += TILE) {
            const long count = rows - start < TILE ? rows - start : TILE;
            network.forward(count, x + (split[m] * split_rows + start) * network.layers[0].in_row,
                            nullptr, 0);
            for (long r = 0; r < count; r++)
                std::memcpy(logits + (m * rows + start + r) * last.out,
                            last.after + r * last.out_row, last.out * sizeof(float));
        }
    }
    return 0;
}

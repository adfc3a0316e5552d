//! Teeth: kernels broken on purpose, one line each, and the suite must see every one.
//!
//! The broken WGSL runs on the op's own cases against the reference in f64, as the
//! parity test does; a mutant is caught by the first case that disagrees. A mutant that
//! does not compile proves nothing and fails the test.
//!
//! `WGRAD_WRITE_RESULTS=1 cargo test --test mutants` writes `results/mutants.md`;
//! `WGRAD_MUTANTS=lanes` runs those alone whose op or description has that text.

mod common;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::nonfinite::{given_of, without_tiny};
use common::{checked_gpu, mixed_gpu};
use wgrad::doctor::harness::{Prepared, in_f16, inputs, plan_of};
use wgrad::doctor::tolerance::{Side, allowed};
use wgrad::doctor::{compare, truth};
use wgrad::exec::Device;
use wgrad::kernel::Kernel;
use wgrad::ops::TABLE;
use wgrad::plan::Launch;

/// What breaks, in which op's shader, by replacing which text (its first occurrence) by
/// what.
struct Mutant {
    stem: &'static str,
    what: &'static str,
    from: &'static str,
    to: &'static str,
}

/// Begins what is broken of kernels that a device in mixed precision takes alone. Where
/// there is none, these are left out; llvmpipe has units in Mesa 26.2, not in 22.3.
const UNITS: &str = "units: ";

/// Begins what is broken of numbers that are not finite: inputs have such.
const NAN: &str = "NaN: ";

macro_rules! mutants {
    ($($stem:literal $what:literal: $from:literal => $to:literal;)*) => {
        &[$(Mutant { stem: $stem, what: $what, from: $from, to: $to }),*]
    };
}

const MUTANTS: &[Mutant] = mutants! {
    "adaptive_avg_pool2d" "last row of a window left out": "+ output - 1u) / output - first" => "+ output - 1u) / output - first - select(0u, 1u, input > output)";
    "adaptive_avg_pool2d" "windows of the same size": "return f32(window(i / WO % HO, H, HO).y" => "return f32(window(0u, H, HO).y";
    "adaptive_avg_pool2d" "gradient over the first window's size": "f32(window(h, H, HO).y * window(v, W, WO).y)" => "f32(window(0u, H, HO).y * window(v, W, WO).y)";
    "adaptive_avg_pool2d" "gradient of the first window alone": "v < columns.y; v++" => "v < columns.x + 1u; v++";
    "adaptive_max_pool2d" "last maximum wins": "if outdoes(candidate, largest)" => "if candidate >= largest";
    "adaptive_max_pool2d" "the tree takes a later one of equals": "| first_of_equals" => "";
    "adaptive_max_pool2d" "places count within the window": "argmax[at] = best" => "argmax[at] = best - window(i / WO % HO, H, HO).x * W";
    "adaptive_max_pool2d" "gradient whoever has won": "saved_argmax[at] == i % (W * H)" => "saved_argmax[at] < W * H";
    "argmax" "last maximum wins": "candidate > largest" => "candidate >= largest";
    "argmax" "NaN: never the largest": "(candidate > largest) | is_nan(candidate)" => "(candidate > largest)";
    "argmax" "first class never looked at": "var best = 0u;" => "var best = 1u % K;";
    "attention" "a query sees the key behind it": "key > query)" => "key > query + 1u)";
    "attention" "keys beyond the last one are seen": "if query >= T || key >= S ||" => "if query >= T ||";
    "attention" "what is hidden is seen": "return shown > 0.0 && !is_nan(shown);" => "return true;";
    "attention" "the first example's mask for all": "from_mask = example * MASK_ROW;" => "from_mask = replica * N * MASK_ROW;";
    "attention" "keys for values": "from_kv + values * WIDTH + row" => "from_kv + row";
    "attention" "every head the first one's queries": "example * T * Q_ROW + head * D" => "example * T * Q_ROW";
    "attention" "numbers of the next head": "select(vec4(0.0), four, first + vec4(0u, 1u, 2u, 3u) < vec4(D))" => "four";
    "attention" "scale forgotten": "let four = products * SCALE;" => "let four = products;";
    "attention" "scores of the last chunk alone": "(*sums)[r] += vec4(" => "(*sums)[r] = vec4(";
    "attention" "the sum stays when a larger score comes": "total[r] * before[r]" => "total[r]";
    "attention" "the mixture stays when a larger score comes": "mixed[chunk * ROWS + r] * before[r] + more[r]" => "mixed[chunk * ROWS + r] + more[r]";
    "attention" "columns of the second vector for the fourth": "let w = right[column.w + quad];" => "let w = right[column.y + quad];";
    "attention" "the last numbers of a head lost": "min(QUADS, (D + 3u) / 4u)" => "min(QUADS, D / 4u)";
    "attention" "a row that sees nothing divides by 0": "= select(share, 0.0, none)" => "= share";
    "attention" "levels without the largest": "select(most[r] + log(total[r]), 0.0, none)" => "select(log(total[r]), 0.0, none)";
    "attention" "levels of one head": "example * T * HEADS + head;" => "example * T * HEADS;";
    "attention" "NaN: hidden, it counts": "let careful = atomicLoad(&spoiled) == 1u;" => "let careful = false;";
    "attention" "NaN: infinite scores are scores": "if_finite(four.w, four.w)," => "four.w,";
    "attention" "gradient: queries' deltas forgotten": "share * (outer[r] - deltas[row])" => "share * outer[r]";
    "attention" "gradient: keys' deltas forgotten": "share * (outer[r] - delta)," => "share * outer[r],";
    "attention" "gradient: levels of the first tile": "min(first + row, T - 1u) * HEADS]" => "min(row, T - 1u) * HEADS]";
    "attention" "gradient: queries before the key left out": "start = select(0u, first, CAUSAL == 1u)" => "start = first";
    "attention" "gradient: scale forgotten": "made[chunk * ROWS + r] += more[r] * SCALE;" => "made[chunk * ROWS + r] += more[r];";
    "attention" "gradient: values' rows the first one's": "made_value[chunk * ROWS + r] += more[r];" => "made_value[chunk * ROWS] += more[r];";
    "attention" "four rows: queries' in the keys'": "made[k] = vec4(0.0);" => "";
    "attention" "four rows: the last one lost": "dkv[at] = made.value;" => "dkv[at] = select(made.value, 0.0, made.row % TILE >= 3u * APART);";
    "attention" "gradient: keys' tiles begin behind": "select(tile, tile - tiles, keys) * TILE" => "tile * TILE";
    "attention" "gradient: keys' for values'": "dkv[at + WIDTH] = made.more" => "dkv[at + WIDTH] = made.value";
    "attention" "gradient: of one buffer, keys' for values'": "dqkv[at + 2u * WIDTH] = made.more" => "dqkv[at + 2u * WIDTH] = made.value";
    "attention" "gradient: of one buffer, the first example's": "T * 3u * WIDTH + job.head % HEADS * D" => "T * WIDTH + job.head % HEADS * D";
    "attention" "gradient: the last chunk lost": "k < 4u * CHUNKS * ROWS; k++" => "k < 4u * CHUNKS * ROWS - 4u; k++";
    "attention" "gradient: of mixtures alone": "share += dot(upstream(first + row, at), mixture(first + row, at));" => "share += dot(mixture(first + row, at), mixture(first + row, at));";
    "bmm" "half a tile multiplied": "q < TILE" => "q < TILE / 2u";
    "bmm" "A's first matrix for all": "from_a = (group.z * BATCH_A + from_a) * M * K" => "from_a = group.z * BATCH_A * M * K";
    "bmm" "an axis that is used again goes on": "matrix % E3 * B3" => "matrix % E3";
    "bmm" "B's transpose forgotten": "select(p * N + j, j * K + p, TRANS_B == 1u)" => "p * N + j";
    "bmm" "teams: the last one's share lost": "share < SHARES; share++" => "share < SHARES - 1u; share++";
    "broadcast" "factor forgotten": "times(FACTOR, x" => "times(1.0, x";
    "concat" "a thread's fourth element lost": "k < 4u; k++" => "k < 3u; k++";
    "concat" "runs of the wrong length": "x1[run * SIZE_1" => "x1[run * SIZE_0";
    "concat" "off by one at the seam": "place < seam" => "place <= seam";
    "concat" "the third part begins with the second": "let seam = SIZE_0 + SIZE_1;" => "let seam = SIZE_0;";
    "concat" "of seven parts the last one lost": "return of_7(at.x" => "return of_6(at.x";
    "squares" "a run's last elements lost": "min(first + RUN, SIZE_0)" => "min(first + RUN - 1u, SIZE_0)";
    "squares" "elements of the next value": "min(first + RUN, SIZE_1)" => "first + RUN";
    "squares" "each replica the first": "x2[replica * SIZE_2 + i]" => "x2[i]";
    "squares" "the fourth value's runs begin too early": "runs_of(SIZE_0) + runs_of(SIZE_1) + runs_of(SIZE_2);" => "runs_of(SIZE_0) + runs_of(SIZE_1);";
    "squares" "the seventh value is the sixth": "let x = x6[replica * SIZE_6 + i]" => "let x = x5[replica * SIZE_5 + i]";
    "squares" "a run that is not full has none": "(size + RUN - 1u) / RUN" => "size / RUN";
    "squares" "sums of elements": "sum += x * x;" => "sum += x;";
    "squares" "half the tree": "half = THREADS / 2u" => "half = THREADS / 4u";
    "squares" "sums of every replica at the first's": "y4[group.z * RUNS + run]" => "y4[run]";
    "split" "a thread's fourth element lost": "k < 4u; k++" => "k < 3u; k++";
    "split" "runs of the wrong length": "y1[run * SIZE_1" => "y1[run * SIZE_0";
    "split" "off by one at the seam": "place < seam" => "place <= seam";
    "split" "the seventh part begins too early": "SIZE_4 + SIZE_5;" => "SIZE_4;";
    "average" "one epoch too few counted": "f32(done - FROM + 1u)" => "f32(done - FROM)";
    "average" "the first epoch's mean kept": "done <= FROM" => "done < FROM";
    "avg_pool2d" "padding not counted": "sum / f32(KH * KW);\n}\n\n@group(0) @binding(0) var<storage, read> g" => "sum / f32(KH);\n}\n\n@group(0) @binding(0) var<storage, read> g";
    "avg_pool2d" "image's last column never seen": "at - PW < W" => "at - PW < W - 1u";
    "conv2d" "wrong stride": "o * SH + k * DH" => "o + k * DH";
    "conv2d" "padding forgotten": "at - PW, at >= PW" => "at, at >= PW";
    "conv2d" "dilation forgotten": "o * SW + k * DW" => "o * SW + k";
    "conv2d" "every group the first one's channels": "f / group_filters() * group_channels();\n    var sum" => "0u;\n    var sum";
    "conv2d" "group offset of the filters": "c / group_channels() * group_filters()" => "c / group_channels()";
    "conv2d" "ending: of the first output": "group.z, i, convolved" => "group.z, 0u, convolved";
    "conv2d" "ending: of the first pixel": "group.z, i, spread" => "group.z, 0u, spread";
    "conv2d" "implicit: ending of the first element": "scalars, group.z, i, e.sum" => "scalars, group.z, 0u, e.sum";
    "conv2d" "stride not divided in the input gradient": "at / SH, fits" => "at, fits";
    "conv2d" "places between strides taken": "at % SW == 0u &&" => "";
    "conv2d" "weight gradient without the last place": "p < N * HO * WO" => "p < N * HO * WO - 1u";
    "conv2d" "weight gradient of the first image alone": "let n = p / (HO * WO);" => "let n = 0u;";
    "conv2d" "kernel flipped": "let weight = w[(taps + kh) * KW + kw];" => "let weight = w[(taps + KH - 1u - kh) * KW + kw];";
    "conv2d" "NaN: zeros around the image passed over": "sum += zero_times(weight);" => "";
    "conv2d" "NaN: implicit: weights meet the zeros between": "if largest_bits >= 0xFF000000u {" => "if false {";
    "conv2d" "implicit: every group the first one's filters": "conv_group * ROWS + f) * DEPTH" => "f) * DEPTH";
    "conv2d" "implicit: every group the first one's channels": "conv_group * group_channels() + tap / (KW * KH)" => "tap / (KW * KH)";
    "conv2d" "implicit: groups block by block": "conv_group = group.y / blocks;" => "conv_group = group.y % GROUPS;";
    "conv2d" "implicit: padding is the pixel beside it": "if h == NOWHERE || v == NOWHERE {\n        return 0.0;\n    }\n    let c" => "if h == NOWHERE {\n        return 0.0;\n    }\n    let c";
    "conv2d" "implicit: every image the first one": "place / (HO * WO)) * C + c" => "0u) * C + c";
    "conv2d" "implicit: outputs image by image swapped": "place / (HO * WO) * F + f) * HO * WO + place % (HO * WO)" => "0u * F + f) * HO * WO + place % (HO * WO)";
    "conv2d" "implicit: filters for channels": "let f = conv_group * group_filters() + k / (KW * KH);\n    return met(" => "let f = conv_group * group_filters();\n    return met(";
    "conv2d" "implicit: upstream of the first filter": "conv_group * ROWS + f;\n    return upstream" => "conv_group * ROWS;\n    return upstream";
    "conv2d" "implicit: weights of the first group": "(conv_group * ROWS + e.row) * COLUMNS" => "e.row * COLUMNS";
    "conv2d" "tiled: every group the first one's filters": "tile_group * ROWS + f) * DEPTH" => "f) * DEPTH";
    "conv2d" "tiled: every chunk's weights the first one's": "let k = first + i % CHUNK;" => "let k = i % CHUNK;";
    "conv2d" "tiled: rows of the second vector those of the first": "by_rows(kept[at + 1u], places)" => "by_rows(kept[at], places)";
    "conv2d" "tiled: rows of the last vector those of the third": "by_rows(kept[at + 3u], places)" => "by_rows(kept[at + 2u], places)";
    "conv2d" "tiled: every image the first one": "places / (HO * WO)) * C + tile_group" => "vec4(0u)) * C + tile_group";
    "conv2d" "tiled: padding is the pixel beside it": "(rows < vec4(H)) & (columns < vec4(W)) & vec4(tap < DEPTH)" => "(rows < vec4(H)) & vec4(tap < DEPTH)";
    "conv2d" "tiled: the fourth place lost": "for (var n = 0u; n < 4u; n++)" => "for (var n = 0u; n < 3u; n++)";
    "conv2d" "tiled: ending of the first element": "finish(scalars, replica, i, sum)" => "finish(scalars, replica, 0u, sum)";
    "conv2d" "tiled: ending of the first pixel": "finish(scalars, replica, i, all)" => "finish(scalars, replica, 0u, all)";
    "conv2d" "tiled: places between strides taken": "reached & between &" => "reached &";
    "conv2d" "tiled: all taps the first filter's": "tile_group * group_filters() + k / (KW * KH);" => "tile_group * group_filters();";
    "conv2d" "NaN: tiled: weights meet the zeros between": "if !tile_is_finite {" => "if false {";
    "conv2d" "parts: ending of the first element": "all[group.z * SIZE + i] = finish(scalars, group.z, i, sum)" => "all[group.z * SIZE + i] = finish(scalars, group.z, 0u, sum)";
    "conv2d" "parts: each the first one's images": "return part * DEPTH + k;" => "return k;";
    "conv2d" "parts: the next one's first places too": "k < DEPTH && place_of_part(k)" => "place_of_part(k)";
    "conv2d" "parts: every group the first one": "part_group = group.y / blocks % GROUPS;" => "part_group = 0u;";
    "conv2d" "parts: stride forgotten": "tap_rows + place / WO % HO * SH" => "tap_rows + place / WO % HO";
    "conv2d" "parts: four filters are one": "part_group * ROWS + held_filters;" => "vec4(part_group * ROWS + held_filters.x);";
    "conv2d" "parts: the last one not in the sum": "p < PARTS; p += TEAMS" => "p < PARTS - 1u; p += TEAMS";
    "conv2d" "parts: a team's share lost": "other < TEAMS; other++" => "other < TEAMS - 1u; other++";
    "constant" "wrong sign": "] = VALUE" => "] = -VALUE";
    "cross_entropy" "not stable: |z| lost": "exp(-abs(z))" => "exp(z)";
    "cross_entropy" "gradient not scaled by g": "g[row] * slope_of" => "slope_of";
    "cross_entropy" "both: ended by the replica's element in all": "slopes[i] = finish(scalars, group.z, i - group.z * N * K," => "slopes[i] = finish(scalars, group.z, i,";
    "cross_entropy" "short: the last example's loss": "losses[row] = share_of(row, 0u, 1u)" => "losses[row] = share_of(row, 1u, 1u)";
    "cross_entropy" "smoothed targets that add up to more than one": "t * (1.0 - SMOOTHING) + SMOOTHING / f32(K)" => "t + SMOOTHING / f32(K)";
    "cross_entropy" "loss of the plain target": "return z * target_of(k, label);" => "return chosen_among(K, k, label, z);";
    "cumsum" "the run before alone is added": "sum = sums[lane - 1u]" => "sum = x[place(group.z, row, first - 1u)]";
    "cumsum" "never reversed": "select(k, K - 1u - k, REVERSE == 1u)" => "k";
    "cumsum" "half of the steps": "reach < LANES" => "reach < LANES / 2u";
    "dense_grad" "last row of each chunk skipped": "o < CHUNK; o += ROWS" => "o < CHUNK - 1u; o += ROWS";
    "dense_grad" "biases of the first chunk alone": "update_bias(replica, first + lane, sum)" => "update_bias(replica, lane, sum)";
    "dense_grad" "ending: input gradients of the first input": "replica, i, sum, inputs[n]" => "replica, i, sum, inputs[0]";
    "dense_grad" "wide: ending of another column's input": "let x = (*inputs)[n][c / 4u][c % 4u];" => "let x = (*inputs)[n][c / 4u][0];";
    "dense_grad" "lanes: ending of a neighbour's input": "replica, i + 2u, sums.y, inputs.y" => "replica, i + 2u, sums.y, inputs.x";
    "dense_grad" "shares of one row lost": "r < ROWS; r++" => "r < ROWS - 1u; r++";
    "dense_grad" "wide: a column of another thread": "w[row + column] =" => "w[row + (column ^ 1u)] =";
    "dense_grad" "wide: biases by one thread": "for (var o = thread; o < OUT; o += THREADS)" => "for (var o = thread; o < THREADS; o += THREADS)";
    "dense_grad" "wide: sums of half the columns": "sums[n][1] += delta * weights[1]" => "sums[n][1] += delta * weights[0]";
    "dense_grad" "lanes: gradients of a neighbouring row": "subgroupShuffle(gradients[n], r)" => "subgroupShuffle(gradients[n], r ^ 1u)";
    "dense_grad" "lanes: odd columns slope by the even ones' inputs": "slopes.odd += delta * inputs.odd[n]" => "slopes.odd += delta * inputs.even[n]";
    "dense_grad" "lanes: even and odd columns exchanged": "slopes.even.x, weights.even.x" => "slopes.odd.x, weights.even.x";
    "dense_grad" "lanes: an input's gradient of its neighbour": "(*sums).odd[n], inputs.odd[n])" => "(*sums).even[n], inputs.odd[n])";
    "dense_grad" "lanes: the last example without input gradients": "if n >= N {\n        return;" => "if n + 1u >= N {\n        return;";
    "dense_grad" "lanes: biases of the first rows alone": "update_bias_of(&gradients, replica, first + lane)" => "update_bias_of(&gradients, replica, lane)";
    "dense_grad" "lanes: the last of four updated like the third": "i + 6u, slopes.even.w" => "i + 6u, slopes.even.z";
    "dense_grad" "quads: a part of a sum lost": "p < PARTS; p++" => "p < PARTS - 1u; p++";
    "dense_grad" "quads: a lane's share lost": "lane < LANES; lane += PARTS" => "lane < LANES - 1u; lane += PARTS";
    "dense_grad" "quads: shares overwritten too early": "added up yet.\n    workgroupBarrier();\n    shares[thread]" => "added up yet.\n    shares[thread]";
    "dense_grad" "quads: the last of a turn's second rows left out": "if o + LANES < OUT {" => "if o + LANES + 1u < OUT {";
    "dense_grad" "quads: a second row's slopes of the first": "slopes_of(inputs, next), next.weights" => "slopes_of(inputs, row), next.weights";
    "dense_grad" "quads: the fifth example's slopes forgotten": "slopes += inputs[1] * row.deltas[1];" => "";
    "dense_grad" "quads: the ninth example's sums of the fifth": "outer(row.weights, row.deltas[2])" => "outer(row.weights, row.deltas[1])";
    "dense_grad" "quads: the thirteenth example's sums of the ninth": "outer(row.weights, row.deltas[3])" => "outer(row.weights, row.deltas[2])";
    "dense_grad" "quads: ending of another example's input": "input_behind(replica, 4u, first, thread)" => "input_behind(replica, 0u, first, thread)";
    "dense_grad" "quads: values of both fours swapped": "first + value % QUADS * 4u" => "first + (QUADS - 1u - value % QUADS) * 4u";
    "dense_grad" "quads: biases of the first rows alone": "o < OUT; o += THREADS" => "o < min(OUT, THREADS); o += THREADS";
    "dense_grad" "quads: states of a neighbour": "replica, i + 1u, slopes.y" => "replica, i, slopes.y";
    "dense_grad" "quads: a column past the last one": "if column < IN {\n        let i = o" => "if column <= IN {\n        let i = o";
    "dense_grad" "single: input gradients by weights that are changed": "storageBarrier();\n    workgroupBarrier();" => "";
    "dense_grad" "single: the first example's gradients": "(replica * N + i / IN) * OUT" => "replica * N * OUT";
    "dense_grad" "single: the first fours alone": "first < FOURS; first += WIDE" => "first < 1u; first += WIDE";
    "dense_grad" "single: ending of the first input": "input_at(replica, i))" => "input_at(replica, 0u))";
    "dense_loss" "lanes: a sum for the neighbour": "select(first, second, is_second)" => "select(second, first, is_second)";
    "dense_loss" "lanes: the last output without weights": "if first + t < K {\n            weights" => "if first + t < K - 1u {\n            weights";
    "dense_loss" "lanes: second block of outputs again": "let k = first + lane;" => "let k = lane;";
    "dense_loss" "wide: second block of outputs again": "min(first + t, K - 1u)" => "min(t, K - 1u)";
    "dense_loss" "wide: second block of examples again": "min(block + i, N - 1u)" => "min(i, N - 1u)";
    "dense_loss" "wide: a share lost": "share < WIDE; share++) {\n                        sum" => "share < WIDE - 1u; share++) {\n                        sum";
    "dense_loss" "tiles: the first four again": "let tile = first + thread / SLICES;" => "let tile = thread / SLICES;";
    "dense_loss" "tiles: last pieces missed": "p < PIECES; p += SLICES" => "p + SLICES <= PIECES; p += SLICES";
    "dense_loss" "tiles: a share lost": "slice < SLICES; slice += PARTS" => "slice < SLICES - 1u; slice += PARTS";
    "dense_loss" "tiles: a part lost": "p < PARTS; p++" => "p < PARTS - 1u; p++";
    "dense_loss" "tiles: parts added before they are there": "shares[thread] = part;\n    }\n    workgroupBarrier();" => "shares[thread] = part;\n    }";
    "dense_loss" "tiles: lower rows for upper ones": "add_up(first, ROWS, EDGE - ROWS, thread)" => "add_up(first, 0u, EDGE - ROWS, thread)";
    "dense_loss" "tiles: the fifth output like the fourth": "sums.fifth + product(a, w[4])" => "sums.fifth + product(a, w[3])";
    "dense_loss" "tiles: the fifth example like the fourth": "piece_of_a(above + min(first + 4u, last), p)" => "piece_of_a(above + min(first + 3u, last), p)";
    "dense_loss" "tiles: the first row's label for all": "labels[replica * N + thread / K]" => "labels[replica * N]";
    "dense_loss" "tiles: the first output's bias for all": "b[replica * K + thread % K]" => "b[replica * K]";
    "dense_loss" "tiles: every replica the first one's epoch": "found = found_by(replica)" => "found = found_by(0u)";
    "dense_loss" "tiles: upstream gradient forgotten": "delta[replica * N * K + i] = sloped(UPSTREAM * slope, z)" => "delta[replica * N * K + i] = sloped(slope, z)";
    "dense_loss" "tiles: the first output's loss for all": "loss += shares[thread * K + k];" => "loss += shares[thread * K];";
    "dense_loss" "tiles: who is wrong is right": "shares[RIGHT + row] = select(0.0, 1.0" => "shares[RIGHT + row] = select(1.0, 0.0";
    "dense_loss" "tiles: always counts the step": "if ADVANCE == 1u" => "if true";
    "dense_loss" "single: threads beyond the tiles have shares": "if thread >= LIVE {" => "if false {";
    "dense_loss" "always counts the step": "if ADVANCE == 1u" => "if true";
    "dense_loss" "kept totals begin anew": "place == 0u && KEEPS == 0u" => "place == 0u";
    "dense_loss" "NaN: tiles: nothing is left of one score alone": "slope = if_finite(slope, largest);\n        if k" => "if k";
    "dense_loss" "NaN: tiles: a loss that is a number": "term = if_finite(log(total) + (largest - chosen), largest)" => "term = log(total) + (largest - chosen)";
    "dense_loss" "counts the step to come": "step[2u * replica] = step[2u * replica + 1u] + 1u" => "step[2u * replica] += 1u";
    "dense_loss" "upstream gradient forgotten": "UPSTREAM * slope" => "slope";
    "dense_loss" "the first sixteen scores alone": "first < N * K; first += TEAMS" => "first < TEAMS; first += TEAMS";
    "dense_loss" "label's probability not lowered": "- select(0.0, 1.0, k == label);" => "- 0.0;";
    "dense_loss" "NaN: nothing is left of one score alone": "slope = if_finite(slope, largest);" => "";
    "dense_loss" "NaN: its class answers rightly": "(given.best == label) & !is_nan(given.score)" => "given.best == label";
    "distort" "zero outside forgotten": "row < 0 || row >= i32(H) ||" => "";
    "distort" "second node row never reached": "(row / SPACING + j) * NODES" => "(row / SPACING) * NODES";
    "distort" "pixel rounded instead of mixed": "above + share.y * (below - above)" => "above";
    "distort" "the same images each step": "let now = step[2u * group.z + 1u];" => "let now = 0u * step[2u * group.z + 1u];";
    "distort" "every image the first one's map": "let map = n * ROW;" => "let map = group.z * N * ROW;";
    "dropout" "every replica the same mask": "step, stream, keys[at + 2u]" => "step, stream, 0u";
    "embedding" "row of no index": "if row < V" => "if true";
    "embedding" "first run of indices alone": "start < N; start +=" => "start < min(N, LANES * RUN); start +=";
    "embedding" "one reader of a thread's run": "left &= left - 1u" => "left = 0u";
    "embedding" "last index of a run not looked at": "j < RUN; j++" => "j < RUN - 1u; j++";
    "embedding" "columns of the first thread": "return g[place * D + column]" => "return g[place * D + column % LANES]";
    "finite" "asleep": "exponent == 0x7F800000u" => "exponent == 0x7F900000u";
    "finite" "first round of threads alone": "i += LANES" => "i += N";
    "finite" "first thread alone": "bad |= lost[j]" => "bad |= lost[0]";
    "finite" "every replica the first one's": "x[group.z * N + i]" => "x[i]";
    "finite" "a later buffer overwrites the first": "&& guard[at] == 0u" => "";
    "finite" "never forgets": "if NUMBER == 0u" => "if NUMBER == 77u";
    "gather" "wrong byte of a word": "8u * (at % 4u)" => "8u * (3u - at % 4u)";
    "gather" "shift wraps around": "col < 0 ||" => "";
    "gather" "up and down swapped": "case 1u: { row += 1; }" => "case 1u: { row -= 1; }";
    "gather" "labels of the position": "shuffled_y[group.z * BATCH + i / size] = labels[image]" => "shuffled_y[group.z * BATCH + i / size] = labels[position(group.z, i / size) % IMAGES]";
    "gather" "the step never begins": "step[2u * replica + 1u] = step[2u * replica];" => "step[2u * replica + 1u] = step[2u * replica + 1u];";
    "augment" "never mirrored": "words.x >= 0x80000000u" => "words.x > 0xFFFFFFFFu";
    "augment" "up for down": "row += shift(words.y);" => "row -= shift(words.y);";
    "augment" "shifts of one sign": "- i32(CROP)" => "";
    "augment" "what goes out on the left comes in on the right": "&& col >= 0" => "&& col >= -i32(row > 0)";
    "augment" "every image alike": "now, i / (C * H * W))" => "now, 0u)";
    "augment" "back as forth": "if BACK == 1u {" => "if BACK == 7u {";
    "rows" "always the first mini-batch": "now * BATCH + i / SIZE" => "i / SIZE";
    "rows" "begins at element 0": "row * STRIDE + START" => "row * STRIDE";
    "rows" "the first replica's order": "order[replica * ROWS + position]" => "order[position]";
    "rows" "past the end": "min(now * BATCH + i / SIZE, ROWS - 1u)" => "(now * BATCH + i / SIZE) % ROWS";
    "rows" "the first byte of four": "(8u * (at % 4u))" => "0u";
    "reduce" "short: the last term left out": "p < OUTER * INNER; p++" => "p + 1u < OUTER * INNER; p++";
    "reduce" "short: factor forgotten": "times(FACTOR, sum))" => "sum)";
    "rows_pair" "begins no step": "step[2u * replica + 1u] = step[2u * replica];" => "";
    "rows_pair" "always the first mini-batch": "min(now * BATCH + n, ROWS - 1u)" => "min(n, ROWS - 1u)";
    "rows_pair" "the first replica's order": "order[replica * ROWS + position]" => "order[position]";
    "rows_pair" "past the end": "min(now * BATCH + n, ROWS - 1u)" => "(now * BATCH + n) % ROWS";
    "rows_pair" "the first column's size for both": "row(replica, i / SIZE_2) * STRIDE_2" => "row(replica, i / SIZE) * STRIDE_2";
    "rows_pair" "the first column begins at element 0": "* STRIDE + START + i" => "* STRIDE + i";
    "rows_pair" "the first byte of four": "(8u * (at % 4u))" => "0u";
    "rows_pair" "the second's last element left out": "i < BATCH * (SIZE + SIZE_2)" => "i + 1u < BATCH * (SIZE + SIZE_2)";
    "rows_pair" "single: the first four again": "let high = four_bytes_of(replica, i + 4u * THREADS);" => "let high = low;";
    "rows_pair" "single: the last element left out": "if i < BATCH * SIZE {\n        x[" => "if i + 1u < BATCH * SIZE {\n        x[";

    "advance" "counts the step to come": "= step[2u * group.z + 1u] + 1u" => "= step[2u * group.z] + 1u";
    "advance" "does not begin it": "step[2u * group.z + 1u] = to_come;" => "";
    "gather" "scale forgotten": "SCALE * f32(" => "f32(";
    "init" "variance for deviation": "VALUE * vec4<f32>(normal" => "VALUE * VALUE * vec4<f32>(normal";
    "init" "half of each pair": "normal_pair(words.z, words.w)" => "normal_pair(words.x, words.y)";
    "init" "nine rounds of Philox": "round < 10u" => "round < 9u";
    "init" "carry lost in the product's high word": "+ (middle >> 16u)" => "";
    "gather" "run: one byte too far": "let bits = 8u * u32(start & 3);" => "let bits = 8u * u32((start + 1) & 3);";
    "gather" "run: edge of a moved image not cleared": "case 3u: { return col + 1u < W; }" => "case 3u: { return true; }";
    "gather" "run: next word not fetched": "        word = next;" => "        word = word;";
    "gather" "whole runs: bytes of a word turned round": "vec4(0u, 8u, 16u, 24u)" => "vec4(24u, 16u, 8u, 0u)";
    "gather" "single: the first words again": "keep_word(replica, word + THREADS, second)" => "keep_word(replica, word + THREADS, first)";
    "gather" "single: the first four again": "let high = four_pixels_of(replica, i + 4u * THREADS);" => "let high = low;";
    "gather" "single: labels of the place": "labels[shuffled_example(replica, n) % IMAGES]" => "labels[n % IMAGES]";
    "gather" "whole runs: the first eight alone": "run < runs; run += FEW" => "run < FEW; run += FEW";
    "log_likelihood" "maximum not subtracted from the label's score": "(e.largest - right)" => "(0.0 - right)";
    "log_likelihood" "smoothed: other classes' scores forgotten": "+ e.scores * (SMOOTHING / f32(K))" => "";
    "log_likelihood" "smoothed: one thread's scores": "found.scores = tree_sum(lane, found.scores);" => "";
    "log_likelihood" "short: the neighbour's ending": "finish(scalars, group.z, example * K + k, slope_of" => "finish(scalars, group.z, example, slope_of";
    "log_likelihood" "short: largest of the first score": "summed(row, 0u, 1u, largest_of(row, 0u, 1u))" => "summed(row, 0u, 1u, scores[row * K])";
    "log_likelihood" "both: no loss but the first example's": "losses[row] = loss_of(row, e);\n    }\n    let scalars" => "losses[group.z * N] = loss_of(row, e);\n    }\n    let scalars";
    "log_likelihood" "label off by one": "k == labels[row]" => "k == labels[row] + 1u";
    "log_softmax" "gradient's sum forgotten": "exp(saved_y[at]) * sum" => "exp(saved_y[at])";
    "lrn" "an even number around leans the other way": "c - min(c, SIZE / 2u)" => "c - min(c, (SIZE - 1u) / 2u)";
    "lrn" "gradient without its neighbours": "- times(2.0 * ALPHA * BETA, saved_x[at] * sum)" => "";
    "lrn" "gradient from the wrong side": "c - min(c, (SIZE - 1u) / 2u)" => "c - min(c, SIZE / 2u)";
    "matmul" "parts: ending of the first element": "all[group.z * SIZE + i] = finish(scalars, group.z, i, sum)" => "all[group.z * SIZE + i] = finish(scalars, group.z, 0u, sum)";
    "matmul" "parts: each the first one's rows": "let k = part * DEPTH + p;" => "let k = p;";
    "matmul" "parts: every part the first one's place": "(group.z * PARTS + part) * M + e.row" => "(group.z * PARTS) * M + e.row";
    "matmul" "wide: last columns missed": "for (var p = thread; p < K; p += WIDE)" => "for (var p = thread; p + WIDE <= K; p += WIDE)";
    "matmul" "lanes: rows of A from the first again": "min(above + i, M - 1u)) * (K / VECTOR)" => "min(i, M - 1u)) * (K / VECTOR)";
    "matmul" "lanes: last octets missed": "p < K / VECTOR; p += VECTOR" => "p + VECTOR <= K / VECTOR; p += VECTOR";
    "matmul" "lanes: odd neighbours forgotten": "dot(a.even, b.even) + dot(a.odd, b.odd)" => "dot(a.even, b.even)";
    "matmul" "lanes: half of the lanes added up": "fold(fold(a, b, lane, 2u), fold(c, d, lane, 2u), lane, 4u)" => "select(fold(a, b, lane, 2u), fold(c, d, lane, 2u), lane >= 4u)";
    "matmul" "lanes: the third four rows for the fourth": "(*sums)[i][3] += four_products(value, (*beside).fourth)" => "(*sums)[i][3] += four_products(value, (*beside).third)";
    "matmul" "units: lower rows multiplied like the upper ones": "fragment_a(corner.x + FRAGMENT, k)" => "fragment_a(corner.x, k)";
    "matmul" "units: right columns like the left ones": "fragment_b(k, corner.y + FRAGMENT)" => "fragment_b(k, corner.y)";
    "matmul" "units: last step missed": "p < DEPTH; p += DEEP" => "p + DEEP <= DEPTH; p += DEEP";
    "matmul" "units: half a step multiplied": "k < DEEP; k += FRAGMENT" => "k < DEEP / 2u; k += FRAGMENT";
    "matmul" "units: A's rows taken for columns": "coopLoadT<FragmentA>(&half_a[at], PITCH_ALONG)" => "coopLoad<FragmentA>(&half_a[at], PITCH_ALONG)";
    "matmul" "units: A's columns taken for rows": "coopLoad<FragmentA>(&half_a[at], PITCH_ACROSS)" => "coopLoadT<FragmentA>(&half_a[at], PITCH_ACROSS)";
    "matmul" "units: B's rows taken for columns": "coopLoadT<FragmentB>(&half_b[at], PITCH_ACROSS)" => "coopLoad<FragmentB>(&half_b[at], PITCH_ACROSS)";
    "matmul" "units: B's columns taken for rows": "coopLoad<FragmentB>(&half_b[at], PITCH_ALONG)" => "coopLoadT<FragmentB>(&half_b[at], PITCH_ALONG)";
    "matmul" "units: a fragment stored by columns": "coopStoreT(sum_11" => "coopStore(sum_11";
    "matmul" "units: a sum goes on from its neighbour": "coopMultiplyAdd(above, right, sum_01)" => "coopMultiplyAdd(above, right, sum_00)";
    "matmul" "units: another crew's fragment": "square_of(at / size) * 2u" => "square_of(at / size ^ 1u) * 2u";
    "matmul" "units: parts: each the first one's rows": "element_a(replica, i, part * DEPTH + p)" => "element_a(replica, i, p)";
    "matmul" "units: parts: every part the first one's place": "((group.z * PARTS + part) * M + e.row) * N + e.column] = e.sum;\n        }\n    }\n}\n// C = A B" => "((group.z * PARTS) * M + e.row) * N + e.column] = e.sum;\n        }\n    }\n}\n// C = A B";
    "matmul" "single: a share lost": "slice < SLICES; slice += PARTS" => "slice < SLICES - 1u; slice += PARTS";
    "matmul" "single: a part lost": "p < PARTS; p++" => "p < PARTS - 1u; p++";
    "matmul" "single: shares overwritten too early": "barrier shows.\n    workgroupBarrier();" => "barrier shows.";
    "matmul" "single: the first blocks again": "let block = first + thread / SLICES;" => "let block = thread / SLICES;";
    "matmul" "single: the third row like the second": "first, 2u, sums[2], thread" => "first, 2u, sums[1], thread";
    "matmul" "single: the first replica's A": "a[replica * M * K + select(row" => "a[select(row";
    "matmul" "single: transposed B as it lies": "select(p * N + column, column * K + p, TRANS_B == 1u)" => "(p * N + column)";
    "matmul" "units: only the first fragments reach the threads": "let which = r * THREADS / STAGE;" => "let which = 0u;";
    "matmul" "wide: a row's neighbour": "min(first + t, N - 1u)) * K + p" => "min(first + t + 1u, N - 1u)) * K + p";
    "matmul" "wide: shares of another row": "wide_shares[(i * WIDE + t) * WIDE + share]" => "wide_shares[(i * WIDE + t ^ 1u) * WIDE + share]";
    "matmul" "off by one at the tile's edge": "if i >= M || p >= K" => "if i >= M || p >= K - 1u";
    "matmul" "a column past the edge written": "if place.y < M && place.x < N {\n        let i" => "if place.y < M && place.x <= N {\n        let i";
    "matmul" "transposes swapped": "TRANS_A == 1u" => "TRANS_B == 1u";
    "matmul" "barrier after the load missing": "workgroupBarrier();" => "";
    "matmul" "accumulator not zeroed": "var sum = 0.0;" => "var sum = 1e-3;";
    "matmul" "half a tile multiplied": "q < TILE" => "q < TILE / 2u";
    "matmul" "wrong row stride": "i * K + p" => "i * M + p";
    "matmul" "of few rows: a lane's share lost": "lane < LANES; lane++" => "lane < LANES - 1u; lane++";
    "matmul" "of few rows: every replica the first one's B": "b[(replica * N + j) * K + p]" => "b[j * K + p]";
    "matmul" "of few rows: mask of another element": "group.z, i * N + j, sum)" => "group.z, i * N, sum)";
    "matmul" "slices: last pieces missed": "p < PIECES; p += SLICES" => "p + SLICES <= PIECES; p += SLICES";
    "matmul" "slices: a share lost": "slice < SLICES; slice += PARTS" => "slice < SLICES - 1u; slice += PARTS";
    "matmul" "slices: a part lost": "p < PARTS; p++" => "p < PARTS - 1u; p++";
    "matmul" "slices: parts added before they are there": "before the next barrier.\n    workgroupBarrier();" => "before the next barrier.";
    "matmul" "slices: the third column like the second": "shares[slot(value + 2u, thread)] = sum.z" => "shares[slot(value + 2u, thread)] = sum.y";
    "matmul" "slices: the thirteenth row like the ninth": "multiply_four((*sums)[3], fourth, b)" => "multiply_four((*sums)[3], third, b)";
    "matmul" "slices: the second of four rows like the first": "share(sums[1], row + 1u, thread)" => "share(sums[0], row + 1u, thread)";
    "matmul" "slices: last rows for those before": "add_up(replica, scalars, 12u, corner, thread)" => "add_up(replica, scalars, 8u, corner, thread)";
    "matmul" "slices: every sixteen rows the first": "group.yx * vec2(HEIGHT, COLUMNS)" => "vec2(0u, group.x) * vec2(HEIGHT, COLUMNS)";
    "matmul" "slices: of one column, rows from the thirteenth on like the ninth": "share_four(sums[3], 4u, thread)" => "share_four(sums[2], 4u, thread)";
    "matmul" "slices: bias by row": "finish(scalars, replica, at, sum)" => "finish(scalars, replica, place.x, sum)";
    "matmul" "slices: every replica the first one's B": "piece_of_b(replica * N + min(j, N - 1u), p)" => "piece_of_b(min(j, N - 1u), p)";
    "matmul" "slices: a column past the last one": "place.x < M && place.y < N" => "place.x < M && place.y <= N";
    "matmul" "in blocks: tiles multiplied before they are stored": "tiles[to_b] = next_b;\n        workgroupBarrier();" => "tiles[to_b] = next_b;";
    "matmul" "in blocks: the next tiles stored too early": "reads these.\n        workgroupBarrier();" => "reads these.";
    "matmul" "in blocks: the first step again and again": "p + (SHARES + share) * STEP" => "share * STEP";
    "matmul" "in blocks: rows of the tile without padding": "tile + from_a.y * (FOURS + 1u)" => "tile + from_a.y * FOURS";
    "matmul" "in blocks: the last of four columns is the third": "j + 3u * FOURS" => "j + 2u * FOURS";
    "matmul" "in blocks: a column past the edge written": "place.y < COLUMNS, place.x" => "place.y <= COLUMNS, place.x";
    "matmul" "in blocks: one of a thread's four quarters lost": "sums[2] += outer(below, beside)" => "sums[2] += outer(above, beside)";
    "matmul" "in blocks: quarters swapped": "(r / 32u, r / 16u % 2u)" => "(r / 16u % 2u, r / 32u)";
    "matmul" "in blocks: last team's share lost": "share < SHARES; share++" => "share < SHARES - 1u; share++";
    "matmul" "in blocks: shares added before they are there": "four_results(row);\n        workgroupBarrier();" => "four_results(row);";
    "matmul" "in blocks: every replica the first one's velocity": "finish(scalars, group.z, i, e.sum)" => "finish(scalars, 0u, i, e.sum)";
    "matmul" "every replica the first one's A": "a[replica * M * K" => "a[0u * M * K";
    "matmul" "bias by row": "finish(finish_scalars(group.z), group.z, i, sum)" => "finish(finish_scalars(group.z), group.z, place.y, sum)";
    "matmul" "writes added to what was there": "c[group.z * M * N + i] = finish(finish_scalars" => "c[group.z * M * N + i] += finish(finish_scalars";
    "matmul" "ending: every replica the first one's": "let own = replica * FINISH_N + at;" => "let own = at;";
    "matmul" "ending: both states are the first": "(2u * replica + 1u) * (FINISH_N)" => "(2u * replica + 0u) * (FINISH_N)";
    "matmul" "ending: a mask's words block by block": "now, at / 4u)" => "now, at)";
    "matmul" "ending: the first column's bias for all": "i / FINISH_X1_DIV0 % FINISH_X1_EXTENT0" => "0u % FINISH_X1_EXTENT0";
    "matmul" "ending: what stands beside is lost": "[own] = v" => "[own] = 0.0 * v";
    "matmul" "ending: a table ends before its last entry": "let last = FINISH_X2_COUNT - 1u;" => "let last = FINISH_X2_COUNT - 2u;";
    "dense_grad" "ending: the bias as it was": "finish_bias(finish_bias_scalars(replica), replica, o, sum, b[at])" => "b[at]";
    "dense_grad" "ending: weights of the first rows": "(first + o) * IN + column, slope" => "o * IN + column, slope";
    "dense_grad" "lanes: states of a neighbour": "finish_weight(scalars, replica, i + 1u, slopes.odd.x" => "finish_weight(scalars, replica, i, slopes.odd.x";
    "reduce" "ending: of the first element": "group.z, c, sum);" => "group.z, 0u, sum);";
    "conv2d" "ending: of the first weight": "finish_scalars(group.z), group.z, i, sum);" => "finish_scalars(group.z), group.z, 0u, sum);";
    "conv2d_pool" "ending: of the first maximum": "replica, i, maxima[k]" => "replica, 0u, maxima[k]";
    "conv2d_pool" "ending: of the first pixel": "group.z, at, sum[k]" => "group.z, 0u, sum[k]";
    "conv2d_pool" "strip: ending of the first maximum": "to.replica, element, best" => "to.replica, 0u, best";
    "conv2d_pool" "strip: ending of a part of a sum": "if j < 2u * STRIP || q + STRIP >= QO {" => "if true {";
    "conv2d_pool" "strip: rows not moved down": "strip[i] = strip[i + 6u]" => "strip[i] = strip[i + 3u]";
    "conv2d_pool" "strip: what the strip before left is lost": "return q > 0u && j < KW - 1u;" => "return false;";
    "conv2d_pool" "strip: a winner for another": "min(3u, last)" => "min(2u, last)";
    "conv2d_pool" "strip: what is beyond the last column sends too": "select(0.0, g[one], last >= 1u)" => "g[one]";
    "conv2d_pool" "strip: what is beyond a short row sends too": "select(0.0, g[three], last >= 3u)" => "g[three]";
    "conv2d_pool" "strip: wrong place of a window": "winner == place + WO)" => "winner == place + WO - 1u)";
    "conv2d_pool" "strip: row below not kept": "            above = below;" => "            above = above;";
    "conv2d_pool" "strip: last of equal maxima": "let wins = candidate > best.value;" => "let wins = candidate >= best.value;";
    "conv2d_pool" "strip: every group the first one's channels": "* C + strip.block / strip_blocks() * group_channels() + c" => "* C + c";
    "conv2d_pool" "lanes: weights of the neighbouring tap": "subgroupShuffle(share[i / VECTOR], i % VECTOR)" => "subgroupShuffle(share[i / VECTOR], (i ^ 1u) % VECTOR)";
    "conv2d_pool" "lanes: the last share never loaded": "t < 3u; t++" => "t < 2u; t++";
    "conv2d_pool" "lanes: pixels exchanged": "pixels[4u * t + 2u] = even.y;" => "pixels[4u * t + 2u] = odd.y;";
    "conv2d_pool" "lanes: every strip the first one's pixels": "left / 4u + t" => "t";
    "conv2d_pool" "wide: shares of a place lost": "i < N * PO * QO; i += SHARES) {\n        let n = i / (PO * QO);\n        let at = ((replica * N + n) * F + f) * PO * QO + i - n * (PO * QO);\n        let slope = upstream[at];\n        if" => "i + 1u < N * PO * QO; i += SHARES) {\n        let n = i / (PO * QO);\n        let at = ((replica * N + n) * F + f) * PO * QO + i - n * (PO * QO);\n        let slope = upstream[at];\n        if";
    "conv2d_pool" "wide: bias of the last share alone": "sum += wide_partial[first + share * span.width]" => "sum = wide_partial[first + share * span.width]";
    "conv2d_pool" "wide: weights of a channel beyond the last": "if c < group_channels() {\n            dw" => "if true {\n            dw";
    "conv2d_pool" "staged: a team's planes lost": "for (var plane = team; plane < CHUNK; plane += TEAMS) {" => "for (var plane = team; plane < CHUNK; plane += 2u * TEAMS) {";
    "conv2d_pool" "staged: the last team's share lost": "for (var team = 1u; team < TEAMS; team++) {" => "for (var team = 1u; team + 1u < TEAMS; team++) {";
    "conv2d_pool" "staged: the first chunk's planes in every chunk": "own.group * group_channels() + first) * H * W" => "own.group * group_channels()) * H * W";
    "conv2d_pool" "staged: squares do not slide": "                above = next_above;\n                below = next_below;\n            }\n        }\n    }\n}" => "                below = next_below;\n            }\n        }\n    }\n}";
    "conv2d_pool" "staged: more channels exchanged": "(*sums).more_b += next_above * more;" => "(*sums).more_b += above * more;";
    "conv2d_pool" "staged: last of equal maxima": "let wins = outdoes(here, best);" => "let wins = here >= best;";
    "conv2d_pool" "staged: the place of a maximum across for down": "place / 2u * WO + place % 2u, wins" => "place % 2u * WO + place / 2u, wins";
    "conv2d_pool" "staged: biases as many as threads": "k < 2u * PAIRS; k += THREADS" => "k < min(2u * PAIRS, THREADS); k += THREADS";
    "conv2d_pool" "staged: bias of the first filter": "biases[k];\n        var best_at" => "biases[0];\n        var best_at";
    "conv2d_pool" "staged: filters not turned round": "taps() + KH * KW - 1u - tap;" => "taps() + tap;";
    "conv2d_pool" "staged: what was in memory for padding": "memory[i] = 0.0;" => "memory[i] += 0.0;";
    "conv2d_pool" "staged: gradients beyond those ahead lost": "for (var i = thread + AHEAD * THREADS; i < planes * places;" => "for (var i = thread + AHEAD * THREADS; i + 1u < planes * places;";
    "conv2d_pool" "staged: gradients in rows of the convolution": "winner / WO * W + winner % WO] = slope" => "winner] = slope";
    "conv2d_pool" "staged: planes overwritten while they are read": "    // Nobody may overwrite planes that somebody still reads.\n    workgroupBarrier();" => "";
    "conv2d_pool" "staged: ending of the first pixel": "group.z, element, sum);\n    }\n}\n\n// Rows" => "group.z, 0u, sum);\n    }\n}\n\n// Rows";
    "conv2d_pool" "staged: ending of the first maximum": "finish(scalars, group.z, element, best)" => "finish(scalars, group.z, 0u, best)";
    "conv2d_pool" "staged: a row for the next": "let row = min(first + thread / SHARES," => "let row = min(first + thread / SHARES + 1u,";
    "conv2d_pool" "staged: winners beyond the last counted": "select(vec4<f32>(0.0), loaded, all < vec4<u32>(N * places))" => "loaded";
    "conv2d_pool" "staged: every image the first one's gradients": "n * (F - 1u) * places + here" => "here";
    "conv2d_pool" "staged: parts of a sum lost": "for (var part = 1u; part < PARTS; part++) {" => "for (var part = 2u; part < PARTS; part++) {";
    "conv2d_pool" "staged: bias from another row": "memory[ROWS * KW * SHARES + share] = total;" => "memory[ROWS * KW * SHARES + share] = sums[0];";
    "conv2d_pool" "staged: sums beyond the last tap stored": "if tap < taps() {" => "if true {";
    "conv2d_pool" "NaN: staged: not looked for": "let by_itself = atomicLoad(&not_finite) != 0u;" => "let by_itself = false;";
    "conv2d_pool" "NaN: staged: zeros multiplied": "select(slopes * pixels, vec4<f32>(0.0), none)" => "slopes * pixels";
    "conv2d_pool" "last maximum wins": "(candidates > largest)" => "(candidates >= largest)";
    "conv2d_pool" "NaN: zeros around the image passed over": "low += zero_times_four(low_w);" => "";
    "conv2d_pool" "NaN: the last one wins": "& !are_nan(largest)" => "";
    "conv2d_pool" "NaN: strip: not looked for": "if any(are_nan(a + b + c + d)) {" => "if false {";
    "conv2d_pool" "NaN: strip: weights meet the zeros of places that lost": "return largest_bits < 0xFF000000u;" => "return true;";
    "conv2d_pool" "bias forgotten in the general kernel": "sums.low + added.low" => "sums.low";
    "conv2d_pool" "pool's padding forgotten": "top + kh - PPH" => "top + kh";
    "conv2d_pool" "window past the plane's edge": "row < HO && col < WO" => "row < HO";
    "conv2d_pool" "argmax in the pooled plane": "let at = row * WO + col" => "let at = row * QO + col";
    "conv2d_pool" "pairs look down by one column": "at + WO)" => "at + 1u)";
    "conv2d_pool" "pairs do not slide": "above = next_above" => "above = above";
    "conv2d_pool" "filters of a block beyond its group": "min(FILTERS, group_filters() - within)" => "min(FILTERS, F)";
    "conv2d_pool" "every group the first one's channels": "tile.first / group_filters() * group_channels()" => "0u";
    "conv2d_pool" "last window over a pixel forgotten": "pool.y + 1u, outputs" => "pool.y, outputs";
    "conv2d_pool" "first window over a pixel forgotten": "/ pool.y + 1u, begin" => "/ pool.y + 2u, begin";
    "conv2d_pool" "dilation not divided": "at / dilation, fits" => "at, fits";
    "conv2d_pool" "winner's column by the pooled width": "tap_on(pixel.col, PW, winner - above * WO" => "tap_on(pixel.col, PW, winner - above * QO";
    "conv2d_pool" "channels share a weight": "KH * KW * min(2u, last)" => "KH * KW * min(1u, last)";
    "conv2d_pool" "one share of the sum lost": "var share = 1u; share < SHARES" => "var share = 2u; share < SHARES";
    "conv2d_pool" "first image alone": "let n = i / (PO * QO);" => "let n = 0u;";
    "conv2d_pool" "bias decayed": "group.z, slice.f, sum)" => "group.z, 0u, sum)";
    "max_pool2d" "last maximum wins": "candidate > largest" => "candidate >= largest";
    "max_pool2d" "NaN: the last one wins": "& !is_nan(largest)" => "";
    "max_pool2d" "zero padding wins": "best == NOWHERE ||" => "";
    "max_pool2d" "argmax by output width": "best = h * W + v" => "best = h * WO + v";
    "max_pool2d" "gradient to every place under the window": "if saved_argmax[at] == row * W + col" => "if true";
    "max_pool2d" "gradient added to what was there": "dx[group.z * size + i] = finish" => "dx[group.z * size + i] += finish";
    "max_pool2d" "ending: of the first maximum": "group.z, i, largest" => "group.z, 0u, largest";
    "max_pool2d" "ending: of the first pixel": "group.z, i, returned" => "group.z, 0u, returned";
    "max_pool2d" "overlapping windows overwrite": "sum += g[at]" => "sum = g[at]";
    "norm" "variance about zero": "let off = x[place(replica, r, k)] - middle;" => "let off = x[place(replica, r, k)] - 0.0 * middle;";
    "norm" "epsilon forgotten": "sqrt(variance + EPSILON)" => "sqrt(variance)";
    "norm" "frozen gradient without gamma": "* frozen_gamma[group.z * C + c] * g[at]" => "* g[at]";
    "norm" "channels of the first group": "r % GROUPS * (C / GROUPS) + k / S" => "k / S";
    "norm" "every batch statistic of the first channel": "(k / S * C + r) * S + k % S" => "(k / S * C) * S + k % S";
    "norm" "gradient as if the mean were given": "(h - plain - (" => "(h - (";
    "norm" "gradient as if rstd were given": "(saved_x[at] - middle) * scale * along" => "0.0 * along";
    "norm" "parameters' gradient of the first examples": "p < N * S; p += LANES" => "p < min(N * S, LANES); p += LANES";
    "norm" "beta's gradient is gamma's": "dbeta[group.z * C + c] = plain" => "dbeta[group.z * C + c] = along";
    "norm" "runs: the last one as long as the others": "min((number + 1u) * run, K)" => "(number + 1u) * run";
    "norm" "runs: elements of the first statistic": "share(group.z, i / RUNS, mine, run.y)) / f32(run.y - run.x)" => "share(group.z, 0u, mine, run.y)) / f32(run.y - run.x)";
    "norm" "runs: squares about zero": "mine, run.y, own));" => "mine, run.y, 0.0 * own));";
    "norm" "runs: means with other weights": "weighted += f32(run.y - run.x) *" => "weighted += f32(run.y) *";
    "norm" "runs: squares within the runs alone": "f32(run.y - run.x) * apart * apart" => "0.0 * apart";
    "norm" "runs: epsilon forgotten": "/ f32(K) + EPSILON)" => "/ f32(K))";
    "norm" "runs: y of the first run alone": "let run = run_of(i % RUNS);\n    let scalars" => "let run = run_of(0u);\n    let scalars";
    "norm" "ending: of the first element": "y[at] = finish(scalars, group.z, i, normalized)" => "y[at] = finish(scalars, group.z, 0u, normalized)";
    "norm" "ending: of the first element, given": "given_y[at] = finish(finish_scalars(group.z), group.z, i, " => "given_y[at] = finish(finish_scalars(group.z), group.z, 0u, ";
    "norm" "runs: ending of the first replica": "let at = group.z * N * C * S + i;\n        let c = channel(group.z, r, k);\n        let normalized = (x[at] - middle) * scale * gamma[c] + beta[c];\n        y[at] = finish(scalars, group.z, i, normalized);\n    }\n    // Every run" => "let at = group.z * N * C * S + i;\n        let c = channel(group.z, r, k);\n        let normalized = (x[at] - middle) * scale * gamma[c] + beta[c];\n        y[at] = finish(scalars, 0u, i, normalized);\n    }\n    // Every run";
    "norm" "batch: gradient as if the mean were given": "(g[at] - means.x - " => "(g[at] - ";
    "norm" "batch: gradient as if rstd were given": "- normalized * means.y)" => ")";
    "norm" "batch: gradient without gamma": "scale * weight * (g[at]" => "scale * (g[at]";
    "norm" "batch: beta's gradient is gamma's": "batch_dbeta[group.z * C + c] = plain" => "batch_dbeta[group.z * C + c] = along";
    "norm" "batch: sums of the first elements": "for (var k = mine; k < end; k += LANES) {\n        let at = place(replica, c, k);" => "for (var k = mine; k < min(end, LANES); k += LANES) {\n        let at = place(replica, c, k);";
    "norm" "batch, runs: sums of the first channel": "batch_shares(group.z, i / RUNS, run.x" => "batch_shares(group.z, 0u, run.x";
    "norm" "batch, runs: rstd of the first channel": "kept_rstd[group.z * C + i / RUNS]" => "kept_rstd[group.z * C]";
    "norm" "batch, runs: the last one left out": "number < RUNS; number += LANES) {\n        let at = first + 4u * number;" => "number < RUNS - 1u; number += LANES) {\n        let at = first + 4u * number;";
    "norm" "batch, runs: beta's gradient is gamma's": "joined_dbeta[group.z * C + c] = plain" => "joined_dbeta[group.z * C + c] = along";
    "pad" "a thread's fourth element lost": "k < 4u; k++" => "k < 3u; k++";
    "pad" "one element too many": "k < PART / INNER" => "k <= PART / INNER";
    "pad" "no zeros between": "groups_on % STEP == 0u" => "true";
    "pad" "reflection repeats the edge": "BEFORE - p, REFLECT" => "BEFORE - p - 1u, REFLECT";
    "pad" "farthest reflection not returned": "last - j <= AFTER" => "last - j < AFTER";
    "pad" "edge returned once": "p < BEFORE; p++" => "p < min(BEFORE, 1u); p++";
    "pointwise" "terms of e^x - 1 left out": "for (var n = 9; n > 1; n--)" => "for (var n = 5; n > 1; n--)";
    "pointwise" "e^x - 1 by a difference near 0": "x * series, abs(x) < Float(0.5)" => "x * series, abs(x) < Float(0.0)";
    "pointwise" "terms of ln(1 + x) left out": "for (var n = 15; n > 0; n -= 2)" => "for (var n = 9; n > 0; n -= 2)";
    "pointwise" "tanh without its sign": "sign(x) * (-e" => "(-e";
    "pointwise" "sign of 0": "x != Float(0.0)), x)" => "x != Float(-1.0)), x)";
    "pointwise" "softplus of one side": "+ rectify(x)" => "+ x";
    "pointwise" "error function far out by its series": "size < Float(0.5)" => "size < Float(5.0)";
    "pointwise" "angle reduced in two parts": "- k * Float(7.5497899e-8)" => "";
    "pointwise" "cosine a quarter early": "return turned(x, 1i)" => "return turned(x, 2i)";
    "pointwise" "sine of the lower half plane": "select(size, -size, quarter >= Whole(2i))" => "size";
    "pointwise" "powers of 0": "y == Float(0.0)), Float(1.0) / abs(x)" => "y == Float(0.0)), Float(0.0)";
    "pointwise" "NaN: to the power of 0": "(y == Float(0.0)) | (x == Float(1.0))" => "x == Float(1.0)";
    "pointwise" "the smaller of two": "((b < a) | nan_in(b))" => "((b <= a + Float(0.1)) | nan_in(b))";
    "pointwise" "every replica the first's": "let own = replica * (" => "let own = 0u * (";
    "pointwise" "every replica the first's scalar": "[replica]" => "[0]";
    "pointwise" "axis not wrapped around": " % X1_EXTENT0" => "";
    "pointwise" "axis repeated elsewhere": "i / X1_DIV0" => "i / 1u";
    "pointwise" "outer axis without its stride": "* X1_STRIDE0 +" => "* 1u +";
    "pointwise" "four elements as one": "+ 1u, replica)" => "+ 0u, replica)";
    "pointwise" "table below its first": "clamp(floor(index), 0.0," => "clamp(floor(index), 1.0,";
    "pointwise" "table past its last": "min(u32(clamp(floor(index), 0.0, f32(last))), last)" => "u32(max(floor(index), 0.0)) % X1_COUNT";
    "pointwise" "block of draws": "now, at)" => "now, at + 1u)";
    "pointwise" "word of a block": "[at % 4u]" => "[0]";
    "pointwise" "chance of the word after": ">= Word(T0)" => "> Word(T0 + 9999999u)";
    "pointwise" "step to come": "step[2u * replica + 1u]" => "step[2u * replica]";
    "pointwise" "last element left out": "if at >= N {" => "if at + 1u >= N {";
    "pointwise" "NaN: larger of one": "((b > a) | nan_in(b)) & !nan_in(a)" => "(b > a)";
    "pointwise" "NaN: ReLU drops it": "bits > Whole(-8388608i)" => "bits > Whole(0i)";
    "pointwise" "NaN: less than it": "return (a < b) & !(nan_in(a) | nan_in(b))" => "return !(a >= b)";
    "pointwise" "NaN: ln of a negative number": "select(log(x), not_a_number(x), x < Float(0.0))" => "log(abs(x))";
    "pointwise" "NaN: sigmoid of it": "keep_nan(Float(1.0) / (Float(1.0) + exp(-clamp(x, Float(-80.0), Float(80.0)))), x)" => "Float(1.0) / (Float(1.0) + exp(-clamp(x, Float(-80.0), Float(80.0))))";
    "heads" "the first part for all": "let c = four_of(group.z, 3u, 2u, i);" => "let c = four_of(group.z, 3u, 0u, i);";
    "heads" "the first head for all": "let h = i / D / T % HEADS;" => "let h = 0u * HEADS;";
    "heads" "steps of time beside each other": "((n * T + t) * parts + part)" => "((n * T + t) + part * T)";
    "heads" "back: a part twice": "of_three[first + beside(3u, 2u, i[k])] = c[k]" => "of_three[first + beside(3u, 1u, i[k])] = c[k]";
    "heads" "back of two: the last element left out": "if i[k] < SIZE {\n            of_two[" => "if i[k] + 1u < SIZE {\n            of_two[";
    "permute" "threads have three elements": "(4u * ELEMENTWISE)" => "(3u * ELEMENTWISE)";
    "permute" "one axis steps as its neighbour": "at += rest % E4 * S4" => "at += rest % E4 * S5";
    "permute" "outermost axis left out": "return at + rest * S0" => "return at";
    "quadratic" "half forgotten": "return 0.5 * off * off" => "return off * off";
    "quadratic" "both: a thread's share": "let sum = tree_sum(lane, share_of(row, lane, LANES));\n    if lane == 0u {\n        losses" => "let sum = share_of(row, lane, LANES);\n    if lane == 0u {\n        losses";
    "quadratic" "short: slopes of the first example": "example * K + k, slope_of(row, k)" => "example * K + k, slope_of(group.z * N, k)";
    "recurrent" "last term of a product lost": "k < H; k++" => "k < H - 1u; k++";
    "recurrent" "four terms twice": "row + k + 4u, four_states(before + k + 4u)" => "row + k, four_states(before + k)";
    "recurrent" "the third gate by the second's rows": "at + 2u * H * H" => "at + H * H";
    "recurrent" "time runs forward alone": "T - 1u - step, REVERSE == 1u" => "T - 1u - step, false";
    "recurrent" "every replica the first's weights": "let weights = group.z * GATES" => "let weights = 0u * GATES";
    "recurrent" "states made where others read": "let after = H - before;" => "let after = before;";
    "recurrent" "no barrier between steps": "        }\n        workgroupBarrier();\n    }\n}" => "        }\n    }\n}";
    "recurrent" "tanh's series": "-0.33333333 + x2" => "-0.3 + x2";
    "recurrent" "NaN: 0 times it is 0": "return if_finite(0.0, x)" => "return 0.0";
    "recurrent" "NaN: tanh loses it": "unless_nan(select(far, near, abs(x) < 0.25), x)" => "select(far, near, abs(x) < 0.25)";
    "recurrent" "last slope not carried": "j < ROWS; j++" => "j < ROWS - 1u; j++";
    "recurrent" "four slopes twice": "four_slopes(j + 12u)" => "four_slopes(j + 8u)";
    "recurrent" "shared: a slice of a product lost": "for (var slice = 0u; slice < SLICES; slice++) {\n                product" => "for (var slice = 1u; slice < SLICES; slice++) {\n                product";
    "recurrent" "shared: a slice of what is carried lost": "for (var slice = 0u; slice < SLICES; slice++) {\n                total" => "for (var slice = 1u; slice < SLICES; slice++) {\n                total";
    "recurrent" "shared: products of the rows made first alone": "made[first + lane] = product;" => "made[lane] = product;";
    "recurrent" "shared: carried to the units made first alone": "made[first + lane] = total;" => "made[lane] = total;";
    "recurrent" "shared: one gate's product for the next": "sums.y = made[unit + H];" => "sums.y = made[unit];";
    "recurrent" "shared: the last gate's product lost": "sums.w = made[unit + 3u * H];" => "sums.w = made[unit + 2u * H];";
    "recurrent" "LSTM: candidate by a sigmoid": "let g = squashed(" => "let g = opened(";
    "recurrent" "LSTM: lets in what it keeps": "let c = left + i * g" => "let c = left + f * g";
    "recurrent" "LSTM: c of the step itself": "kept_past(earlier, unit)" => "kept_past(at, unit)";
    "recurrent" "LSTM: nothing left of c": "Back(all, all, dc * f)" => "Back(all, all, 0.0)";
    "recurrent" "LSTM: slope of tanh c": "(1.0 - open * open)" => "(1.0 - open)";
    "recurrent" "LSTM: a thread's units share what is left": "left[part] = onward" => "left[0] = onward";
    "recurrent" "GRU: no bias within the reset": "let q = given.b.z + given.sums.z;" => "let q = given.sums.z;";
    "recurrent" "GRU: keeps what it renews": "(1.0 - z) * n + z * given.h" => "z * n + (1.0 - z) * given.h";
    "recurrent" "GRU: update gate's slope without the state": "(before.h - n)" => "(-n)";
    "recurrent" "GRU: candidate carried past the reset": "vec4(open, dz, dn * r, 0.0)" => "vec4(open, dz, dn, 0.0)";
    "recurrent" "GRU: nothing past W": "return past + carried;" => "return carried;";
    "recurrent" "plain: by tanh alone": "if RELU == 1u {\n        return" => "if false {\n        return";
    "recurrent" "plain: tanh's slope": "dh * (1.0 - y * y)" => "dh * (1.0 - y)";
    "recurrent" "plain: state of the step itself": "kept_h[earlier * H + unit]" => "kept_h[at * H + unit]";
    "recurrent" "steps: always the first": "let step = dispatched.x;" => "let step = 0u;";
    "recurrent" "steps: the first goes on from what was there": "h[at + 3u]), begun)" => "h[at + 3u]), true)";
    "recurrent" "steps: a slice of a product lost": "for (var slice = 0u; slice < SLICES; slice++) {\n        entered" => "for (var slice = 1u; slice < SLICES; slice++) {\n        entered";
    "recurrent" "steps: a slice of what is carried lost": "for (var slice = 0u; slice < SLICES; slice++) {\n        sum" => "for (var slice = 1u; slice < SLICES; slice++) {\n        sum";
    "recurrent" "steps: a pair is its first twice": "(group.y * PAIRS + pair) * 2u + which" => "(group.y * PAIRS + pair) * 2u";
    "recurrent" "steps: the third gate by the second's rows": "row + 2u * gate + four" => "row + gate + four";
    "recurrent" "steps: every replica the first's weights": "(group.z * GATES * H + own.unit)" => "(own.unit)";
    "recurrent" "steps: every replica's gradient by the first's weights": "group.z * ROWS * (H / 4u)" => "0u * ROWS * (H / 4u)";
    "recurrent" "steps: a slice's rows twice": "row += TOGETHER * SLICES" => "row += (TOGETHER - 1u) * SLICES";
    "recurrent" "steps: last rows lost": "while row < ROWS {" => "while row + SLICES < ROWS {";
    "recurrent" "steps: two units of four": "unit % 4u) * PITCH" => "unit % 2u) * PITCH";
    "recurrent" "steps: nothing past W": "= gradients.past;\n    }\n}" => "= 0.0;\n    }\n}";
    "recurrent" "steps: the past of the step itself": "before.past = kept_past(earlier" => "before.past = kept_past(at";
    "recurrent" "NaN: ReLU holds it back": "(bitcast<i32>(y) > 0i) | is_nan(y)" => "bitcast<i32>(y) > 0i";
    "reduce" "last partial sum lost": "p < OUTER * INNER" => "p < OUTER * INNER - 1u";
    "reduce" "half the tree": "half = LANES / 2u" => "half = LANES / 4u";
    "reduce" "barrier in the tree missing": "        workgroupBarrier();\n    }\n    let sum" => "    }\n    let sum";
    "reduce" "columns: the last term left out": "if p >= OUTER" => "if p + 1u >= OUTER";
    "reduce" "columns: half of a team lost": "half = TEAM / 2u" => "half = TEAM / 4u";
    "reduce" "columns: of eight threads' shares one twice": "(low.y + low.w)" => "(low.y + low.z)";
    "reduce" "columns: factor forgotten": "let sum = times(FACTOR, partial[lane])" => "let sum = partial[lane]";
    "reduce" "factor forgotten": "return times(FACTOR, tree_sum" => "return times(1.0, tree_sum";
    "reduction" "last element lost": "k < end; k += step) {\n        let value" => "k < end - 1u; k += step) {\n        let value";
    "reduction" "variance about zero": "middle = tree_sum(lane, plain_share(first, lane, LANES, K)) / f32(K);" => "middle = 0.0 * tree_sum(lane, plain_share(first, lane, LANES, K));";
    "reduction" "reduced axes step alike": "k / K2 % K1 * KS1" => "k / K2 % K1 * KS2";
    "reduction" "last of equal extremes": "places[lane + half] < places[lane]" => "places[lane + half] > places[lane]";
    "reduction" "minimum of a thread is its maximum": "select(value, -value, KIND == MINIMUM)" => "value";
    "reduction" "mean not divided": "value /= f32(K);" => "value *= 1.0;";
    "reduction" "norm's slope at 0": "(above / result), 0.0, result == 0.0)" => "(above / result), 0.0, false)";
    "reduction" "gradient to all from the extreme on": "== at.y;" => "<= at.y;";
    "reduction" "NaN: an infinite log-sum-exp": "middle, is_nan(if_finite(0.0, middle))" => "middle, is_nan(middle)";
    "reduce" "the last run left out": "share >= C * RUNS" => "share >= C * RUNS - 1u";
    "reduce" "runs that reach into the next": "end = min(first + run, OUTER * INNER)" => "end = min(first + run + 1u, OUTER * INNER)";
    "reduction" "runs: of the first result alone": "kept_place(i / RUNS)" => "kept_place(0u)";
    "reduction" "runs: the last one as long as the others": "min((number + 1u) * run, K)" => "(number + 1u) * run";
    "reduction" "runs: means with other weights": "weighted += f32(run.y - run.x) *" => "weighted += f32(run.y) *";
    "reduction" "runs: variance within the runs alone": "sum += made + f32(run.y - run.x) *" => "sum += made + 0.0 *";
    "reduction" "runs: exponentials of different largest": "made * exp(own - middle)" => "made";
    "reduction" "runs: the first one's extreme": "made_found[runs + min(lane, RUNS - 1u)]" => "made_found[runs]";
    "shuffle" "one round": "ROUNDS: u32 = 6u" => "ROUNDS: u32 = 1u";
    "shuffle" "no cycle walking": "while value >= N" => "while value >= N * 8u";
    "shuffle" "the same order each epoch": "let epoch = step[2u * group.z] / EPOCH_STEPS" => "let epoch = 0u * EPOCH_STEPS * step[2u * group.z]";
    "slice" "threads have three elements": "(4u * ELEMENTWISE)" => "(3u * ELEMENTWISE)";
    "slice" "start forgotten": "START + k * STEP" => "k * STEP";
    "slice" "step forgotten": "k * STEP * INNER" => "k * INNER";
    "softmax" "maximum not subtracted": "sum += exp(x[at] - largest)" => "sum += exp(x[at])";
    "softmax" "only the first 64 classes": "k < K; k += step) {\n        let at = first + k * INNER;\n        sum += exp" => "k < min(K, LANES); k += step) {\n        let at = first + k * INNER;\n        sum += exp";
    "softmax" "gradient's sum without y": "sum += g[at] * saved_y[at]" => "sum += g[at]";
    "softmax" "teams: elements past a row's end counted": "select(vec4(0.0), held, there)" => "held";
    "softmax" "teams: the first row for all": "* TEAMS + lane / TEAM;" => "* TEAMS;";
    "softmax" "teams: the largest of the first lane's elements": "larger(larger(held.x, held.y), larger(held.z, held.w))" => "held.x";
    "softmax" "teams: a last lane left out": "for (var half = TEAM / 2u; half > 0u; half /= 2u) {\n        if lane % TEAM < half {\n            shares[lane] += shares[lane + half];" => "for (var half = TEAM / 2u; half > 1u; half /= 2u) {\n        if lane % TEAM < half {\n            shares[lane] += shares[lane + half];";
    "softmax" "teams: gradient without its sum": "held[i] * (upstream[i] - sum)" => "held[i] * upstream[i]";
    "softmax" "row of the place before": "row / INNER * INNER) * K + row % INNER" => "row / INNER * INNER) * K";
    "epoch_metrics" "kept totals begin anew": "place == 0u && KEEPS == 0u" => "place == 0u";
    "epoch_metrics" "totals never begin anew": "place == 0u && KEEPS == 0u" => "place == 0u && KEEPS == 1u";
    "epoch_metrics" "half of the threads' rows lost": "half = LANES / 2u" => "half = LANES / 4u";
    "epoch_metrics" "NaN: the first thread's first bad row": "min(first_bad[lane], first_bad[lane + half])" => "first_bad[lane]";
    "epoch_metrics" "never starts anew": "if place == 0u" => "if place == 77u";
    "epoch_metrics" "rows past the end counted": "return min(batch, COUNT - min(COUNT, place * batch))" => "return batch";
    "epoch_metrics" "last maximum answers": "candidate > largest" => "candidate >= largest";
    "epoch_metrics" "NaN: its class answers rightly": "(given.best == label) & !is_nan(given.score)" => "given.best == label";
    "epoch_metrics" "guard asleep": "== 0x7F800000u;" => "== 0x7F900000u;";
    "epoch_metrics" "a later step overwrites the guard": "&& guarded == 0u" => "";
    "epoch_metrics" "the epoch's first loss lost": "sums.x + sums.w" => "sums.w";
    "epoch_metrics" "block never joins the sum": "place % BLOCK == BLOCK - 1u ||" => "";
    "epoch_metrics" "predictions of every step in one place": "group.z * COUNT + place * N + n" => "group.z * COUNT + n";
    "upsample" "corners aligned": "(2u * o + 1u) * source - min((2u * o + 1u) * source, to)" => "2u * o * source";
    "upsample" "rows mixed by columns' shares": "(1.0 - r.share) * above + times(r.share, below)" => "(1.0 - c.share) * above + times(c.share, below)";
    "upsample" "gradient of the first pixels alone": "if c.second == col {" => "if false {";
    "upsample" "NaN: 0 times it is 0": "if factor == 0.0 {" => "if false {";
    "upsample" "a nearest place too few": "((i + 1u) * to + source - 1u) / source" => "((i + 1u) * to) / source";
};

/// The kernel with a broken source. Leaked: a test process ends soon.
fn broken(kernel: &'static Kernel, mutant: &Mutant) -> &'static Kernel {
    let source = kernel.source.replacen(mutant.from, mutant.to, 1);
    Box::leak(Box::new(kernel.with_source(String::leak(source))))
}

/// The first disagreement that the mutant causes.
fn caught(mutant: &Mutant, device: &Device) -> Option<String> {
    let row = TABLE.iter().find(|row| row.stem == mutant.stem).unwrap();
    for case in (row.cases)() {
        for replicas in [1, 3] {
            let sound = Prepared::new(&case, replicas).unwrap();
            let mut all = vec![inputs(&case, replicas)];
            if mutant.what.starts_with(UNITS) {
                all[0] = all[0].iter().map(in_f16).collect();
            }
            if mutant.what.starts_with(NAN) {
                all = given_of(row, &case, &sound, replicas);
            }
            let all: Vec<_> = all
                .into_iter()
                .map(|given| (truth(&sound, &given).unwrap(), given))
                .collect();
            for mut plan in device.variants(sound.plan().clone()) {
                let mut changed = false;
                for launch in plan.programs.values_mut().flatten() {
                    if launch.kernel.source.contains(mutant.from) {
                        launch.kernel = broken(launch.kernel, mutant);
                        changed = true;
                    }
                }
                if !changed {
                    continue;
                }
                let executor = device.executor(plan).unwrap_or_else(|e| {
                    panic!("{} ({}) does not compile: {e}", mutant.stem, mutant.what)
                });
                let mut session = sound.session(executor).unwrap();
                for (wanted, given) in &all {
                    let found = without_tiny(sound.run(&mut session, given).unwrap());
                    let comparison = compare(&case, &found, wanted, allowed(&case, Side::Gpu));
                    if comparison.failure.is_some() {
                        return comparison.failure;
                    }
                }
            }
        }
    }
    None
}

/// The sentinel of a training run stops at a broken kernel and names the launch.
#[test]
fn the_sentinel_stops_at_a_broken_kernel() {
    let Some(device) = checked_gpu() else { return };
    let mutant = MUTANTS
        .iter()
        .find(|m| m.what == "half a tile multiplied")
        .unwrap();
    let row = TABLE.iter().find(|row| row.stem == "matmul").unwrap();
    // Half a tile is all there is to multiply where the shared axis is short.
    let case = &(row.cases)().into_iter().find(|c| c.terms > 16).unwrap();
    let given = inputs(case, 2);
    // The variant that the mutant breaks.
    let by_tiles = |launch: &Launch| {
        let mut variants = 0..launch.variants();
        variants
            .find(|&variant| launch.done(variant).kernel.name == "matmul")
            .unwrap()
    };
    for (kernel, sound) in [(None, true), (Some(mutant), false)] {
        let prepared = Prepared::new(case, 2).unwrap();
        let mut plan = prepared.plan().clone().choose(by_tiles);
        for launch in plan.programs.values_mut().flatten() {
            launch.label = "8.dense forward".into();
            if let Some(mutant) = kernel {
                launch.kernel = broken(launch.kernel, mutant);
            }
        }
        let executor = device.executor(plan).unwrap();
        let mut session = prepared.session(executor).unwrap();
        prepared.run(&mut session, &given).unwrap();
        let verified = session.run_verified(prepared.program, 0);
        assert_eq!(verified.is_ok(), sound, "{verified:?}");
        if let Err(e) = verified {
            assert!(e.to_string().starts_with("8.dense forward (matmul"), "{e}");
        }
    }
}

#[test]
fn every_mutant_is_caught() {
    let Some(device) = checked_gpu() else { return };
    let mut table = String::from(
        "# Mutants\n\nKernels broken on purpose, and the first disagreement the suite saw.\n\
         Written by `WGRAD_WRITE_RESULTS=1 cargo test --test mutants`.\n\n",
    );
    writeln!(
        table,
        "Adapter: {}\n\n| op | what is broken | caught by |\n|---|---|---|",
        device.info().name
    )
    .unwrap();
    let mixed = || match mixed_gpu()? {
        Device::Gpu(opened) => Some(Device::Gpu(opened.with_checks())),
        cpu => Some(cpu),
    };
    let has_units = mixed().is_some();
    let wanted = std::env::var("WGRAD_MUTANTS").unwrap_or_default();
    let mutants: Vec<&Mutant> = MUTANTS
        .iter()
        .filter(|m| has_units || !m.what.starts_with(UNITS))
        .filter(|m| m.stem.contains(&wanted) || m.what.contains(&wanted))
        .collect();
    for mutant in MUTANTS {
        let row = TABLE.iter().find(|row| row.stem == mutant.stem);
        let row = row.unwrap_or_else(|| panic!("no op {}", mutant.stem));
        // Composed kernels are those of the cases.
        let composed = || {
            let cases = (row.cases)().into_iter();
            let plans = cases.map(|case| plan_of(&case, 1).unwrap());
            plans.flat_map(|plan| plan.programs["run"].clone())
        };
        let there = row.kernels.iter().any(|k| k.source.contains(mutant.from))
            || composed().any(|launch| launch.kernel.source.contains(mutant.from));
        assert!(
            there,
            "{}: `{}` is not in the shader",
            mutant.stem, mutant.from
        );
    }
    // Most of the time goes into compiling broken shaders, by one thread each.
    let next = AtomicUsize::new(0);
    let work = || {
        let (device, mixed) = (checked_gpu().unwrap(), mixed());
        let device_for = |mutant: &Mutant| match &mixed {
            Some(mixed) if mutant.what.starts_with(UNITS) => mixed,
            _ => &device,
        };
        let mine = std::iter::from_fn(|| Some(next.fetch_add(1, Ordering::Relaxed)));
        let mine = mine.map_while(|i| {
            let mutant = mutants.get(i)?;
            Some((i, caught(mutant, device_for(mutant))))
        });
        mine.collect()
    };
    let workers = std::thread::available_parallelism().map_or(1, |n| n.get().min(4));
    let mut found: BTreeMap<usize, Option<String>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let lists = threads.into_iter().map(|t| t.join().unwrap());
        lists.flat_map(|list: Vec<_>| list).collect()
    });
    let mut alive = Vec::new();
    for (i, mutant) in mutants.iter().enumerate() {
        match found.remove(&i).flatten() {
            Some(by) => {
                let by = by.replace('|', "\\|");
                writeln!(table, "| {} | {} | {by} |", mutant.stem, mutant.what).unwrap();
            }
            None => alive.push(format!("{}: {}", mutant.stem, mutant.what)),
        }
    }
    assert!(alive.is_empty(), "not caught: {alive:#?}");
    assert!(MUTANTS.len() >= 40);
    println!("{} mutants, all caught", mutants.len());
    if wanted.is_empty() && std::env::var_os("WGRAD_WRITE_RESULTS").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/results/mutants.md");
        std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/results")).unwrap();
        std::fs::write(path, table).unwrap();
    }
}
